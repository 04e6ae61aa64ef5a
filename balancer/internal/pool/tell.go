package pool

import "github.com/grpcsteady/steady/resolver/endpoint"

// maxNews bounds what waits for an observer that hangs.
const maxNews = 4096

// wake has the policy in force look at the endpoints again. mu is held.
func (p *Pool) wake() {
	if p.current != nil {
		p.current.wake()
	}
}

// tell has the channel told of a decision, in the order of decisions. Observers are the user's code, and the lock of
// a call or of a connection may be held here, so they run on a goroutine of their own, which ends when all is told.
// Nobody waits for it: an observer may close the channel. mu is held.
func (p *Pool) tell(c endpoint.Change) {
	if p.handle == nil || len(p.news) >= maxNews {
		return
	}
	p.news = append(p.news, c)
	if !p.telling {
		p.telling = true
		go p.spread()
	}
}

// spread tells what there is to tell.
func (p *Pool) spread() {
	ended := false
	defer func() {
		if !ended { // the observer has ended the goroutine: the next decision begins another one
			p.mu.Lock()
			p.telling = false
			p.mu.Unlock()
		}
	}()
	for {
		p.mu.Lock()
		if len(p.news) == 0 {
			p.telling, p.news, ended = false, nil, true
			p.mu.Unlock()
			return
		}
		c := p.news[0]
		p.news = p.news[1:]
		p.mu.Unlock()
		p.handle.Notify(c)
	}
}

package steady

import (
	"sync"
	"sync/atomic"
)

// Memo is where an observer keeps what it has looked up for a method of a channel, such as the counters with
// that method's labels, so that it need not look it up on every event. It lives as long as the method's
// state does. The methods of nil do nothing.
type Memo struct {
	mu      sync.Mutex // orders writers
	entries atomic.Pointer[[]memoEntry]
}

type memoEntry struct{ owner, value any }

// Get returns what owner has kept, or nil. owner must be comparable; the observer's own pointer will do.
func (m *Memo) Get(owner any) any {
	if m == nil {
		return nil
	}
	if list := m.entries.Load(); list != nil {
		for i := range *list {
			if (*list)[i].owner == owner {
				return (*list)[i].value
			}
		}
	}
	return nil
}

// Keep keeps value for owner unless there is one already, and returns the one that is kept.
func (m *Memo) Keep(owner, value any) any {
	if m == nil {
		return value
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if kept := m.Get(owner); kept != nil {
		return kept
	}
	var list []memoEntry
	if old := m.entries.Load(); old != nil {
		list = append(list, *old...)
	}
	list = append(list, memoEntry{owner, value})
	m.entries.Store(&list)
	return value
}

package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	"google.golang.org/grpc/resolver"

	"github.com/grpcsteady/steady/proto/document"
	"github.com/grpcsteady/steady/resolver/endpoint"
)

// asker asks for one name, and remembers what a host had, by family, so that one question that fails does not
// change what the others say. One goroutine uses it.
type asker struct {
	Lookup
	name  name
	first bool // only the first priority counts
	hosts map[string]families
}

// families are the addresses of one host.
type families struct {
	v4, v6 family
}

type family struct {
	addrs []netip.Addr
	known bool // there was an answer, if only that there is none
}

// ask returns the endpoints behind the name, and what went wrong beside. Without endpoints, absent tells whether
// the error means that there are none.
func (a *asker) ask(ctx context.Context) ([]resolver.Endpoint, error) {
	var list []resolver.Endpoint
	var err error
	if a.name.port == 0 {
		list, err = a.service(ctx)
	} else {
		var f families
		f, err = a.host(ctx, a.name.host)
		a.hosts = map[string]families{a.name.host: f}
		list = f.endpoints(a.name.port)
	}
	if len(list) > document.MaxEndpoints {
		return nil, fmt.Errorf("%d endpoints, want at most %d", len(list), document.MaxEndpoints)
	}
	return list, err
}

// host asks for both families of a host. Without addresses there is an error.
func (a *asker) host(ctx context.Context, host string) (families, error) {
	before := a.hosts[host]
	var six family
	var sixErr error
	var wg sync.WaitGroup
	wg.Go(func() { six, sixErr = a.family(ctx, "ip6", host, before.v6) })
	four, fourErr := a.family(ctx, "ip4", host, before.v4)
	wg.Wait()
	f := families{four, six}
	switch {
	case len(four.addrs)+len(six.addrs) > 0:
		if absent(fourErr) {
			fourErr = nil
		}
		if absent(sixErr) {
			sixErr = nil
		}
		return f, errors.Join(fourErr, sixErr)
	case fourErr == nil || absent(fourErr) && sixErr != nil: // what is no answer says more than one that is empty
		return f, sixErr
	default:
		return f, fourErr
	}
}

func (a *asker) family(ctx context.Context, network, host string, before family) (family, error) {
	addrs, err := a.LookupNetIP(ctx, network, host)
	switch {
	case absent(err) || err == nil && len(addrs) == 0:
		if err == nil {
			err = &net.DNSError{Err: "no address", Name: host, IsNotFound: true}
		}
		return family{known: true}, explain(err, a.name.server)
	case err != nil:
		return before, explain(err, a.name.server)
	}
	seen := make(map[netip.Addr]bool, len(addrs))
	f := family{known: true}
	for _, ip := range addrs {
		if ip = ip.Unmap(); !seen[ip] {
			seen[ip] = true
			f.addrs = append(f.addrs, ip)
		}
	}
	return f, nil
}

// endpoints makes one endpoint of a host that has at most one address in each family, and otherwise one of each
// address: nobody says which belong together.
func (f *families) endpoints(port uint16) []resolver.Endpoint {
	p := strconv.Itoa(int(port))
	text := func(ip netip.Addr) string { return net.JoinHostPort(ip.String(), p) }
	if len(f.v4.addrs) == 1 && len(f.v6.addrs) == 1 {
		return []resolver.Endpoint{endpoint.New(text(f.v6.addrs[0]), text(f.v4.addrs[0]))}
	}
	var out []resolver.Endpoint
	for _, ip := range slices.Concat(f.v6.addrs, f.v4.addrs) {
		out = append(out, endpoint.New(text(ip)))
	}
	return out
}

// atOnce bounds the questions for the hosts of an SRV answer that are under way.
const atOnce = 8

// service asks for SRV records, and then for their hosts.
func (a *asker) service(ctx context.Context) ([]resolver.Endpoint, error) {
	_, records, err := a.LookupSRV(ctx, "", "", a.name.host)
	if err != nil {
		return nil, explain(err, a.name.server)
	}
	records = sorted(records)
	if len(records) == 0 {
		return nil, &net.DNSError{Err: "the service is not to be had", Name: a.name.host, Server: a.name.server, IsNotFound: true}
	}
	if len(records) > document.MaxEndpoints {
		return nil, fmt.Errorf("%d SRV records, want at most %d", len(records), document.MaxEndpoints)
	}
	found, errs := a.all(ctx, records)
	list := a.collect(records, found)
	if len(list) == 0 {
		return nil, firstOf(errs)
	}
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil || absent(err) }) // one that left
	return list, firstOf(errs)
}

// sorted returns the records that say where somebody is, in the order of their priorities.
func sorted(records []*net.SRV) []*net.SRV {
	records = slices.DeleteFunc(slices.Clone(records), func(r *net.SRV) bool {
		return r == nil || r.Target == "." || r.Target == "" || r.Port == 0
	})
	slices.SortStableFunc(records, func(x, y *net.SRV) int { return int(x.Priority) - int(y.Priority) })
	return records
}

// firstOf returns the error that says most: a thousand hosts fail for one reason.
func firstOf(errs []error) error {
	for _, err := range errs {
		if err != nil && !absent(err) {
			return err
		}
	}
	if len(errs) > 0 {
		return errs[0]
	}
	return nil
}

// all asks for the hosts of all records, each once.
func (a *asker) all(ctx context.Context, records []*net.SRV) (map[string]families, []error) {
	found := make(map[string]families)
	var names []string
	for _, r := range records {
		h := strings.ToLower(r.Target)
		if _, listed := found[h]; !listed {
			found[h] = families{}
			names = append(names, h)
		}
	}
	errs := make([]error, len(names))
	var mu sync.Mutex // guards found
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for i, h := range names {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			f, err := a.host(ctx, h)
			errs[i] = err
			mu.Lock()
			defer mu.Unlock()
			found[h] = f
		})
	}
	wg.Wait()
	a.hosts = found
	return found, errs
}

// collect makes endpoints of records in the order of their priorities.
func (a *asker) collect(records []*net.SRV, found map[string]families) []resolver.Endpoint {
	var list []resolver.Endpoint
	taken := make(map[string]bool)
	shares := sharesOf(records, found)
	rank, at := -1, -1
	for i, r := range records {
		f := found[strings.ToLower(r.Target)]
		es := f.endpoints(r.Port)
		if len(es) == 0 {
			continue
		}
		if int(r.Priority) != at {
			rank, at = rank+1, int(r.Priority)
		}
		if a.first && rank > 0 {
			break
		}
		for _, e := range es {
			k := endpoint.Key(e)
			if taken[k] {
				continue
			}
			taken[k] = true
			e = endpoint.WithWeight(e, shares[i])
			if rank > 0 {
				e = endpoint.WithPriority(e, min(rank, document.MaxPriority))
			}
			list = append(list, e)
		}
	}
	return list
}

// sharesOf returns the weight of each endpoint of each record. A record's weight is its host's: where a host has
// several addresses that are endpoints of their own, each gets its part. RFC 2782 wants a very small share for a
// weight of 0 beside others, and equal ones where all are 0.
func sharesOf(records []*net.SRV, found map[string]families) []uint32 {
	const fine = 12 // divisible by 2, 3, 4 and 6; times 65,535 is below the most that a weight may be
	weighty, split, none := false, false, false
	parts := make([]int, len(records))
	for i, r := range records {
		f := found[strings.ToLower(r.Target)]
		parts[i] = len(f.endpoints(r.Port))
		split = split || parts[i] > 1
		weighty = weighty || r.Weight > 0
		none = none || r.Weight == 0
	}
	scale := 1
	if split || weighty && none {
		scale = fine
	}
	out := make([]uint32, len(records))
	for i, r := range records {
		w := int(r.Weight) * scale
		switch {
		case !weighty:
			w = scale
		case w == 0:
			w = 1
		}
		out[i] = uint32(max(w/max(parts[i], 1), 1)) //nolint:gosec // at most 12 times 65,535
	}
	return out
}

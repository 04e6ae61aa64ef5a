package kube

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc/resolver"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/grpcsteady/steady/resolver/endpoint"
)

// condition says what an endpoint may be used for; the higher the better.
type condition int

const (
	unready  condition = iota
	draining           // serving, but about to end: used if there is nothing better
	ready
)

func conditionOf(c discoveryv1.EndpointConditions) condition {
	switch {
	case c.Ready == nil || *c.Ready: // nil means true
		return ready
	case (c.Serving == nil || *c.Serving) && c.Terminating != nil && *c.Terminating:
		return draining
	default:
		return unready
	}
}

// found is an address of the service, as one slice has it.
type found struct {
	addr      string // with port
	owner     string // what all addresses of one pod have in common
	ipv6      bool
	condition condition
	zone      string
	hints     []string // zones that it is meant for
	weight    *uint32  // nil: not said
}

// view is what all slices of a service say together.
type view struct {
	endpoints []resolver.Endpoint // in the order of their names
	reason    error               // why there are none
	problems  []error             // what is wrong in the slices and was passed over
}

// unite makes endpoints of all slices of a service.
func unite(all []*discoveryv1.EndpointSlice, t Target, zone string) (v view) {
	// A pod that moves from one slice to another is in both for a while, and what the two say of it may differ:
	// the better counts, as in kube-proxy.
	best := map[string]found{}
	ports := map[string]bool{} // all that are offered
	missing := 0               // slices without the port
	foreign := 0               // slices whose addresses are no IPs
	for _, s := range all {
		if s.AddressType != discoveryv1.AddressTypeIPv4 && s.AddressType != discoveryv1.AddressTypeIPv6 {
			foreign++
			continue
		}
		port, err := portOf(s, t, ports)
		if err != nil {
			v.problems = append(v.problems, err)
		}
		if port == 0 {
			if len(s.Endpoints) > 0 {
				missing++
			}
			continue
		}
		weight, err := weightOf(s)
		if err != nil {
			v.problems = append(v.problems, err)
		}
		for i := range s.Endpoints {
			f, ok := read(s, &s.Endpoints[i], port)
			if !ok {
				continue
			}
			f.weight = weight
			if old, ok := best[f.addr]; !ok || old.condition < f.condition {
				best[f.addr] = f
			}
		}
	}
	byCondition := map[condition][]found{}
	for _, f := range best {
		byCondition[f.condition] = append(byCondition[f.condition], f)
	}
	usable := byCondition[ready]
	if len(usable) == 0 {
		usable = byCondition[draining]
	}
	if len(usable) > 0 {
		v.endpoints = group(hinted(usable, zone))
		return v
	}
	v.reason = reasonOf(len(all), len(byCondition[unready]), missing, foreign, t, ports)
	return v
}

func reasonOf(all, unready, missing, foreign int, t Target, ports map[string]bool) error {
	switch {
	case all == 0:
		return errors.New("no EndpointSlice has the label " + discoveryv1.LabelServiceName + "=" + t.Service +
			": does the Service exist, and has it a selector?")
	case unready > 0:
		return fmt.Errorf("none of its %d endpoints is ready", unready)
	case missing > 0 && t.Port == "":
		return fmt.Errorf("it has several ports, and the target must say which: %s", listed(ports))
	case missing > 0:
		return fmt.Errorf("it has no port %s, there are: %s (a number is the pods' port, not the Service's)", t.Port, listed(ports))
	case foreign == all:
		return errors.New("its EndpointSlices hold no IP addresses")
	default:
		return fmt.Errorf("its %d EndpointSlices are empty", all)
	}
}

func listed(ports map[string]bool) string {
	if len(ports) == 0 {
		return "none"
	}
	return strings.Join(slices.Sorted(maps.Keys(ports)), ", ")
}

// portOf returns the number of the target's port in a slice; 0: it has none. The number of a named port may
// differ between slices, when pods of two versions listen on two.
func portOf(s *discoveryv1.EndpointSlice, t Target, offered map[string]bool) (int32, error) {
	number := t.number()
	var tcp []int32
	for i := range s.Ports {
		p := &s.Ports[i]
		if p.Protocol != nil && *p.Protocol != corev1.ProtocolTCP || p.Port == nil {
			continue
		}
		name := ""
		if p.Name != nil {
			name = *p.Name
		}
		if name != "" && name == t.Port || number != 0 && *p.Port == number {
			return *p.Port, nil
		}
		tcp = append(tcp, *p.Port)
		text := strconv.Itoa(int(*p.Port))
		if name != "" {
			text = name + "=" + text
		}
		offered[text] = true
	}
	switch {
	case len(s.Ports) == 0 && number != 0: // a headless Service that names no port leaves it to the client
		return number, nil
	case t.Port == "" && len(tcp) == 1:
		return tcp[0], nil
	case len(s.Endpoints) == 0:
		return 0, nil
	case t.Port == "":
		return 0, fmt.Errorf("EndpointSlice %s has %d TCP ports, and the target says not which", s.Name, len(tcp))
	default:
		return 0, fmt.Errorf("EndpointSlice %s has no TCP port %s", s.Name, t.Port)
	}
}

func read(s *discoveryv1.EndpointSlice, e *discoveryv1.Endpoint, port int32) (f found, ok bool) {
	if len(e.Addresses) == 0 {
		return f, false
	}
	// Further addresses have no defined meaning.
	f.addr = net.JoinHostPort(e.Addresses[0], strconv.Itoa(int(port)))
	f.ipv6 = s.AddressType == discoveryv1.AddressTypeIPv6
	f.condition = conditionOf(e.Conditions)
	f.owner = f.addr
	switch r := e.TargetRef; {
	case r == nil:
	case r.UID != "":
		f.owner = string(r.UID)
	case r.Name != "":
		f.owner = r.Kind + "/" + r.Namespace + "/" + r.Name
	}
	if e.Zone != nil {
		f.zone = *e.Zone
	}
	if e.Hints != nil {
		for _, z := range e.Hints.ForZones {
			f.hints = append(f.hints, z.Name)
		}
	}
	return f, true
}

// hinted leaves those that are meant for the zone, as kube-proxy does: if every one has hints and one of them
// names it, and else all.
func hinted(all []found, zone string) []found {
	if zone == "" {
		return all
	}
	var ours []found
	for _, f := range all {
		if len(f.hints) == 0 {
			return all
		}
		if slices.Contains(f.hints, zone) {
			ours = append(ours, f)
		}
	}
	if len(ours) == 0 {
		return all
	}
	return ours
}

// group makes one endpoint of all addresses of a pod, IPv6 first: gRPC tries them by Happy Eyeballs (RFC 8305).
func group(all []found) []resolver.Endpoint {
	owned := map[string][]found{}
	for _, f := range all {
		owned[f.owner] = append(owned[f.owner], f)
	}
	out := make([]resolver.Endpoint, 0, len(owned))
	for _, addrs := range owned {
		slices.SortFunc(addrs, func(a, b found) int {
			if a.ipv6 != b.ipv6 {
				if a.ipv6 {
					return -1
				}
				return 1
			}
			return cmp.Compare(a.addr, b.addr)
		})
		var e resolver.Endpoint
		for _, f := range addrs {
			e.Addresses = append(e.Addresses, resolver.Address{Addr: f.addr})
		}
		if w := weightOfAll(addrs); w != nil {
			e = endpoint.WithWeight(e, *w)
		}
		if zone := addrs[0].zone; zone != "" {
			e = endpoint.WithZone(e, zone)
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b resolver.Endpoint) int { return cmp.Compare(endpoint.Key(a), endpoint.Key(b)) })
	return out
}

// weightOfAll returns the largest weight that is said of a pod's addresses.
func weightOfAll(addrs []found) (w *uint32) {
	for _, f := range addrs {
		if f.weight != nil && (w == nil || *f.weight > *w) {
			w = f.weight
		}
	}
	return w
}

// same says whether a channel would notice a difference.
func same(a, b []resolver.Endpoint) bool {
	return slices.EqualFunc(a, b, func(a, b resolver.Endpoint) bool {
		return a.Attributes.Equal(b.Attributes) &&
			slices.EqualFunc(a.Addresses, b.Addresses, func(a, b resolver.Address) bool { return a.Addr == b.Addr })
	})
}

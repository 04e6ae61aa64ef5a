package kube

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/grpcsteady/steady/resolver/endpoint"
)

// made is an EndpointSlice in short: "4" or "6" or "f" for its addresses, its ports "name=number", and endpoints
// "pod address condition zone hints", of which the last two may be missing. Pod "-": no targetRef.
type made struct {
	family    string
	ports     string
	weight    string
	endpoints []string
}

func (m made) slice(name string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: name}}
	s.AddressType = map[string]discoveryv1.AddressType{
		"": discoveryv1.AddressTypeIPv4, "6": discoveryv1.AddressTypeIPv6, "f": discoveryv1.AddressTypeFQDN,
	}[m.family]
	if m.weight != "" {
		s.Annotations = map[string]string{WeightAnnotation: m.weight}
	}
	if m.ports == "" {
		m.ports = "grpc=50051"
	}
	for p := range strings.FieldsSeq(m.ports) {
		name, number, _ := strings.Cut(p, "=")
		number, udp := strings.CutSuffix(number, "/udp")
		var n int32
		if _, err := fmt.Sscan(number, &n); err != nil {
			continue // "none": a slice without ports
		}
		port := discoveryv1.EndpointPort{Name: &name, Port: &n}
		if udp {
			port.Protocol = new(corev1.ProtocolUDP)
		}
		s.Ports = append(s.Ports, port)
	}
	for _, text := range m.endpoints {
		f := append(strings.Fields(text), "", "", "", "")
		e := discoveryv1.Endpoint{Addresses: []string{f[1]}}
		if f[0] != "-" {
			e.TargetRef = &corev1.ObjectReference{Kind: "Pod", Name: f[0], UID: types.UID("u" + f[0])}
		}
		switch f[2] {
		case "ready":
			e.Conditions = discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)}
		case "unready":
			e.Conditions = discoveryv1.EndpointConditions{Ready: new(false), Serving: new(false), Terminating: new(false)}
		case "draining":
			e.Conditions = discoveryv1.EndpointConditions{Ready: new(false), Serving: new(true), Terminating: new(true)}
		case "ending": // terminating, and its probe fails
			e.Conditions = discoveryv1.EndpointConditions{Ready: new(false), Serving: new(false), Terminating: new(true)}
		}
		if f[3] != "" && f[3] != "-" {
			e.Zone = &f[3]
		}
		if f[4] != "" {
			e.Hints = &discoveryv1.EndpointHints{}
			for z := range strings.SplitSeq(f[4], ",") {
				e.Hints.ForZones = append(e.Hints.ForZones, discoveryv1.ForZone{Name: z})
			}
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

func describe(v view) string {
	var out []string
	for _, e := range v.endpoints {
		var addrs []string
		for _, a := range e.Addresses {
			addrs = append(addrs, a.Addr)
		}
		s := strings.Join(addrs, "+")
		if w, said := endpoint.Weight(e); said {
			s += fmt.Sprint("*", w)
		}
		if z := endpoint.Zone(e); z != "" {
			s += "@" + z
		}
		out = append(out, s)
	}
	if v.reason != nil {
		out = append(out, "none: "+v.reason.Error())
	}
	for _, p := range v.problems {
		out = append(out, "problem: "+p.Error())
	}
	return strings.Join(out, "; ")
}

func TestUnite(t *testing.T) {
	for name, tt := range map[string]struct {
		give []made
		port string
		zone string
		want string
	}{
		"all slices": {
			give: []made{{endpoints: []string{"1 10.0.0.1 ready"}}, {endpoints: []string{"2 10.0.0.2 ready"}}},
			port: "grpc", want: "10.0.0.1:50051; 10.0.0.2:50051",
		},
		"only ready ones": {
			give: []made{{endpoints: []string{"1 10.0.0.1 ready", "2 10.0.0.2 unready", "3 10.0.0.3 draining", "4 10.0.0.4 ending"}}},
			port: "grpc", want: "10.0.0.1:50051",
		},
		"no condition is ready": {
			give: []made{{endpoints: []string{"1 10.0.0.1"}}}, port: "grpc", want: "10.0.0.1:50051",
		},
		"those that end but still serve, if there is nothing else": {
			give: []made{{endpoints: []string{"2 10.0.0.2 unready", "3 10.0.0.3 draining", "4 10.0.0.4 ending"}}},
			port: "grpc", want: "10.0.0.3:50051",
		},
		"a pod in two slices: the better counts": {
			give: []made{{endpoints: []string{"1 10.0.0.1 unready"}}, {endpoints: []string{"1 10.0.0.1 ready"}}, {endpoints: []string{"1 10.0.0.1 draining"}}},
			port: "grpc", want: "10.0.0.1:50051",
		},
		"an address that a new pod has taken over": {
			give: []made{{endpoints: []string{"old 10.0.0.1 ending"}}, {endpoints: []string{"new 10.0.0.1 ready"}}},
			port: "grpc", want: "10.0.0.1:50051",
		},
		"both families of a pod are one endpoint": {
			give: []made{
				{endpoints: []string{"1 10.0.0.1 ready", "2 10.0.0.2 ready"}},
				{family: "6", endpoints: []string{"1 fd00::1 ready", "2 fd00::2 ready"}},
			},
			port: "grpc", want: "[fd00::1]:50051+10.0.0.1:50051; [fd00::2]:50051+10.0.0.2:50051",
		},
		"without targetRef addresses stand alone": {
			give: []made{{endpoints: []string{"- 10.0.0.1 ready"}}, {family: "6", endpoints: []string{"- fd00::1 ready"}}},
			port: "grpc", want: "10.0.0.1:50051; [fd00::1]:50051",
		},
		"a family that is not ready": {
			give: []made{{endpoints: []string{"1 10.0.0.1 ready"}}, {family: "6", endpoints: []string{"1 fd00::1 unready"}}},
			port: "grpc", want: "10.0.0.1:50051",
		},
		"a port's number differs between slices": {
			give: []made{{ports: "grpc=50051 m=9", endpoints: []string{"1 10.0.0.1 ready"}}, {ports: "m=9 grpc=50052", endpoints: []string{"2 10.0.0.2 ready"}}},
			port: "grpc", want: "10.0.0.1:50051; 10.0.0.2:50052",
		},
		"a number": {
			give: []made{{ports: "grpc=50051 m=9090", endpoints: []string{"1 10.0.0.1 ready"}}}, port: "9090", want: "10.0.0.1:9090",
		},
		"not over UDP": {
			give: []made{{ports: "grpc=50051/udp grpc2=50051", endpoints: []string{"1 10.0.0.1 ready"}}}, port: "50051", want: "10.0.0.1:50051",
		},
		"only UDP": {
			give: []made{{ports: "grpc=50051/udp", endpoints: []string{"1 10.0.0.1 ready"}}}, port: "grpc",
			want: "none: it has no port grpc, there are: none (a number is the pods' port, not the Service's); problem: EndpointSlice 0 has no TCP port grpc",
		},
		"a headless service without ports": {
			give: []made{{ports: "none", endpoints: []string{"1 10.0.0.1 ready"}}}, port: "50051", want: "10.0.0.1:50051",
		},
		"the only port there is": {
			give: []made{{ports: "x=7 u=8/udp", endpoints: []string{"1 10.0.0.1 ready"}}}, want: "10.0.0.1:7",
		},
		"which port?": {
			give: []made{{ports: "x=7 y=8", endpoints: []string{"1 10.0.0.1 ready"}}},
			want: "none: it has several ports, and the target must say which: x=7, y=8; problem: EndpointSlice 0 has 2 TCP ports, and the target says not which",
		},
		"the port in one slice only": {
			give: []made{{ports: "x=7", endpoints: []string{"1 10.0.0.1 ready"}}, {ports: "y=8", endpoints: []string{"2 10.0.0.2 ready"}}},
			port: "y", want: "10.0.0.2:8; problem: EndpointSlice 0 has no TCP port y",
		},
		"an empty slice without ports is no problem": {
			give: []made{{ports: "none"}, {endpoints: []string{"1 10.0.0.1 ready"}}}, port: "grpc", want: "10.0.0.1:50051",
		},
		"weights": {
			give: []made{
				{weight: "3", endpoints: []string{"1 10.0.0.1 ready"}}, {weight: "0", endpoints: []string{"2 10.0.0.2 ready"}},
				{endpoints: []string{"3 10.0.0.3 ready"}},
			},
			port: "grpc", want: "10.0.0.1:50051*3; 10.0.0.2:50051*0; 10.0.0.3:50051",
		},
		"a bad weight is none": {
			give: []made{{weight: "1000001", endpoints: []string{"1 10.0.0.1 ready"}}}, port: "grpc",
			want: `10.0.0.1:50051; problem: EndpointSlice 0: annotation grpcsteady.github.io/weight: "1000001", want 0 to 1000000; 1 is used`,
		},
		"the weight of a pod's two families is the larger": {
			give: []made{{weight: "3", endpoints: []string{"1 10.0.0.1 ready"}}, {family: "6", weight: "2", endpoints: []string{"1 fd00::1 ready"}}},
			port: "grpc", want: "[fd00::1]:50051+10.0.0.1:50051*3",
		},
		"zones": {
			give: []made{{endpoints: []string{"1 10.0.0.1 ready a b", "2 10.0.0.2 ready b b"}}}, port: "grpc",
			want: "10.0.0.1:50051@a; 10.0.0.2:50051@b",
		},
		"hints": {
			give: []made{{endpoints: []string{"1 10.0.0.1 ready a a", "2 10.0.0.2 ready b b,c", "3 10.0.0.3 ready c c"}}},
			port: "grpc", zone: "c", want: "10.0.0.2:50051@b; 10.0.0.3:50051@c",
		},
		"hints that not all have count for nothing": {
			give: []made{{endpoints: []string{"1 10.0.0.1 ready a a", "2 10.0.0.2 ready b"}}},
			port: "grpc", zone: "a", want: "10.0.0.1:50051@a; 10.0.0.2:50051@b",
		},
		"hints of those that are not ready are not asked for": {
			give: []made{{endpoints: []string{"1 10.0.0.1 ready a a", "2 10.0.0.2 ready b b", "3 10.0.0.3 unready b"}}},
			port: "grpc", zone: "a", want: "10.0.0.1:50051@a",
		},
		"hints for others only": {
			give: []made{{endpoints: []string{"1 10.0.0.1 ready a a"}}}, port: "grpc", zone: "z", want: "10.0.0.1:50051@a",
		},
		"names are no addresses": {
			give: []made{{family: "f", endpoints: []string{"- db.example.com ready"}}}, port: "grpc",
			want: "none: its EndpointSlices hold no IP addresses",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var all []*discoveryv1.EndpointSlice
			for i, m := range tt.give {
				all = append(all, m.slice(fmt.Sprint(i)))
			}
			target := Target{Service: "orders", Namespace: "shop", Port: tt.port}
			got := describe(unite(all, target, tt.zone))
			if got != tt.want {
				t.Errorf("\n got %s\nwant %s", got, tt.want)
			}
			// A store has no order.
			rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			if again := unite(all, target, tt.zone); len(again.problems) < 2 && describe(again) != tt.want {
				t.Errorf("in another order %s", describe(again))
			}
		})
	}
}

func TestMalformedEndpoints(t *testing.T) {
	s := made{endpoints: []string{"1 10.0.0.1 ready"}}.slice("a")
	s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{}, discoveryv1.Endpoint{TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: "x"}, Addresses: []string{"10.0.0.9", "10.0.0.10"}})
	s.Ports = append(s.Ports, discoveryv1.EndpointPort{})
	if got := describe(unite([]*discoveryv1.EndpointSlice{s}, Target{Service: "orders", Port: "grpc"}, "")); got != "10.0.0.1:50051; 10.0.0.9:50051" {
		t.Error(got)
	}
}

func BenchmarkUnite1000(b *testing.B) {
	var all []*discoveryv1.EndpointSlice
	for i := range 10 {
		var m made
		for j := range 100 {
			m.endpoints = append(m.endpoints, fmt.Sprintf("p%d-%d 10.0.%d.%d ready a", i, j, i, j))
		}
		all = append(all, m.slice(fmt.Sprint(i)))
	}
	b.ReportAllocs()
	for b.Loop() {
		if v := unite(all, Target{Service: "orders", Port: "grpc"}, ""); len(v.endpoints) != 1000 {
			b.Fatal(len(v.endpoints))
		}
	}
}

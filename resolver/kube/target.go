package kube

import (
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/grpc/resolver"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Scheme is the scheme of the targets.
const Scheme = "kube"

// want is what every complaint about a target ends with.
const want = `want "kube:///service.namespace:port", with a port's number or name`

// Target is what a target names.
type Target struct {
	Service   string
	Namespace string // "": the pod's own
	// Port is the number or the name of a port as EndpointSlices have it: a number is that which the pods listen
	// on (targetPort), not the Service's. "": the only port there is.
	Port string
}

// ParseTarget reads the part of a target behind "kube:///": service, namespace and port, of which the last two
// may be left out. What cluster DNS appends is understood and means nothing: orders.shop.svc.cluster.local:50051
// is orders.shop:50051, so that a target for gRPC's own dns becomes one of this package by its scheme alone.
func ParseTarget(s string) (Target, error) {
	host, port, hasPort := strings.Cut(s, ":")
	if hasPort {
		if err := checkPort(port); err != nil {
			return Target{}, fmt.Errorf("kube: port %q: %w; %s", port, err, want)
		}
	}
	labels := strings.Split(host, ".")
	for i, l := range labels {
		if i == len(labels)-1 && i > 2 && l == "" {
			break // the final dot of a name that is complete
		}
		if problems := validation.IsDNS1123Label(l); len(problems) > 0 {
			part := "namespace"
			switch {
			case i == 0:
				part = "service"
			case i > 1:
				part = "domain"
			}
			return Target{}, fmt.Errorf("kube: %s %q: %s; %s", part, l, problems[0], want)
		}
	}
	t := Target{Service: labels[0], Port: port}
	if len(labels) > 1 {
		t.Namespace = labels[1]
	}
	if len(labels) > 2 && labels[2] != "svc" {
		return Target{}, fmt.Errorf("kube: %q behind the namespace, there can only be svc and the cluster's domain; %s", labels[2], want)
	}
	return t, nil
}

func checkPort(port string) error {
	if port == "" {
		return fmt.Errorf("is empty")
	}
	if strings.Trim(port, "0123456789") == "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || port[0] == '0' {
			return fmt.Errorf("must be 1 to 65535")
		}
		return nil
	}
	if problems := validation.IsDNS1123Label(port); len(problems) > 0 {
		return fmt.Errorf("%s", problems[0])
	}
	return nil
}

// String returns the shortest target that means the same, without scheme.
func (t Target) String() string {
	s := t.Service
	if t.Namespace != "" {
		s += "." + t.Namespace
	}
	if t.Port != "" {
		s += ":" + t.Port
	}
	return s
}

// number returns the port if it is one, else 0.
func (t Target) number() int32 {
	n, err := strconv.ParseUint(t.Port, 10, 16)
	if err != nil {
		return 0
	}
	return int32(n)
}

// targetOf reads a channel's target. What a URL can carry beside a path has no meaning here.
func targetOf(t resolver.Target) (Target, error) {
	u := t.URL
	switch {
	case u.Host != "" || u.User != nil:
		return Target{}, fmt.Errorf("kube: authority %q: the cluster comes from options of the builder; %s", u.Host, want)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return Target{}, fmt.Errorf("kube: %q: a target has no parameters; %s", t.String(), want)
	}
	return ParseTarget(t.Endpoint())
}

// authority is what servers are asked for and what their certificates must name: the target as it is written,
// without a port's name, which is no part of a host.
func authority(t resolver.Target) string {
	name := t.Endpoint()
	host, port, ok := strings.Cut(name, ":")
	if ok && strings.Trim(port, "0123456789") != "" {
		return host
	}
	return name
}

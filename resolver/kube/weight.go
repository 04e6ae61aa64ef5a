package kube

import (
	"fmt"
	"strconv"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// WeightAnnotation is the annotation of an EndpointSlice that says the weight of each of its endpoints, 0 to
// [MaxWeight]; 0 takes them out. Default: 1.
//
// It is read from the slice and not from pods, which would take the right to read all pods of the namespace. The
// EndpointSlice controller of Kubernetes keeps an annotation on a slice for as long as it keeps the slice, and gives
// none to a new one: so it is for slices that you or a controller of yours write.
const WeightAnnotation = "grpcsteady.github.io/weight"

// MaxWeight is the largest weight.
const MaxWeight = 1_000_000

// weightOf returns the weight that a slice says; nil: it says none.
func weightOf(s *discoveryv1.EndpointSlice) (*uint32, error) {
	text, ok := s.Annotations[WeightAnnotation]
	if !ok {
		return nil, nil
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n > MaxWeight {
		return nil, fmt.Errorf("EndpointSlice %s: annotation %s: %q, want 0 to %d; 1 is used", s.Name, WeightAnnotation, text, MaxWeight)
	}
	w := uint32(n)
	return &w, nil
}

// Package interop holds tests of steady with real third parts. It is a module of its own, so that none of
// them becomes a dependency of the library.
//
// Now: grpc-go's own interop client and server, with all interceptors of steady on, both ways; go-grpc-middleware
// around steady; xDS with go-control-plane; etcd's own resolver with an etcd (.ci/heavy/etcd); and, in promql, the
// expressions of docs/metrics.md in a Prometheus.
package interop

// Package kube resolves a Kubernetes Service to its pods by watching its EndpointSlices.
//
//	conn, err := grpc.NewClient("kube:///orders.shop:grpc", grpc.WithResolvers(kube.Builder()), ...)          // plain gRPC
//	conn, err := grpc.NewClient("kube:///orders.shop:grpc", out.DialOptions(steady.Resolvers(kube.Builder()), ...)...) // steady
//
// It is a module of its own, so that client-go becomes a dependency of those alone who want it. Nothing is
// registered: the builder is given to the channels that want it.
//
// # Targets
//
// kube:///service.namespace:port. Without a namespace it is the pod's own (of the ServiceAccount, or $POD_NAMESPACE), or
// that of the kubeconfig's context. The port is the name of one of the Service's ports, or a number, which is that
// of the pods (targetPort) and not the Service's: EndpointSlices know no other. Without a port it is the only one there
// is. orders.shop.svc.cluster.local:50051 means the same as orders.shop:50051, so that a target changes from dns
// to kube by its scheme. Servers are asked for under the name that the target has, without the port's name.
//
// # What is published
//
// All slices of the Service together, and each pod once. An endpoint that is ready is used; one that is not is left
// out. Those that terminate and still serve are used while no ready one is left, as kube-proxy does it. The IPv4
// and the IPv6 address of a pod (by targetRef) are one endpoint, so that gRPC tries both, IPv6 first. Zones arrive as
// the zone of resolver/endpoint. Hints for zones are heeded if [WithZone] says where we are. A weight is the annotation
// [WeightAnnotation] of a slice. Slices with names instead of addresses (FQDN) have no defined meaning and are passed over.
//
// The list is in the order of addresses, in every client: use a policy that spreads calls, or with pick_first set
// its shuffleAddressList, or all clients call the same pod.
//
// Changes are gathered for 100 ms, and a list that is equal to the last one is not published again. An update that the
// channel does not take is repeated with growing waits.
//
// # When things fail
//
// While the API server can not be reached the last list stays, for as long as that takes; the watch is resumed where
// it was, or begins anew with a list (410 Gone), asking again after 0.5 to 30 s, jittered. [OnError] is told.
// Until there has been a first list, calls are told, with target and reason. A list without any usable endpoint leaves the
// last good one in force for a grace time ([WithGrace]), and then takes it down.
//
// A channel that goes idle (30 minutes without a call, grpc.WithIdleTimeout) gives up its watch and has to list again
// when it wakes up: one that must work through an outage of the API server that began before should not go idle.
//
// # Rights
//
// list and watch of endpointslices in the namespace of the Service, nothing else: rbac.yaml, beside this file, is the
// manifest. Without them calls fail with Unavailable and the API server's own words about what is missing.
//
// # Rules and policies
//
// There is no annotation that pushes a document. It would sit on the Service, so every client would need the
// right to read Services, and ConfigMaps of another namespace, where RBAC can't tell those that hold documents from
// the others; and whoever may annotate a Service would set deadlines, retries and breakers of all its clients. The
// client's rules belong to the client: mount a ConfigMap into its pod, steady.Load it and Watch it. That takes no rights,
// needs no API server while it runs, and is refused with file and line if it is bad.
package kube

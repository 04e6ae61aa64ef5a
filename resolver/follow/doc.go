// Package follow lets live channels follow a document: it decorates resolver builders, so that what a
// resolver says about endpoints reaches the channel together with the balancing policies of the document in
// force, and so that a document which a resolver pushes reaches the rules.
//
// It is the machinery behind steady.Load; who uses that never meets it.
//
//	hub := new(follow.Hub)
//	hub.Set(doc.ForSteady())
//	conn, err := grpc.NewClient(target, grpc.WithResolvers(hub.Decorate(open, follow.Standard()...)...))
//	hub.Set(changed.ForSteady())
//	hub.Push() // the live channel has the new policies
//
// Why a decorator: gRPC fixes its default service config when a channel is made, and looks at nothing later
// but at what its resolver says. A decorated resolver says what the one inside says, and adds to a state
// without a service config that of the document. So it survives idle mode, in which gRPC closes the resolver
// and builds it anew.
//
// It is not for channels whose balancing comes from an xDS control plane: their states pass as they are.
package follow

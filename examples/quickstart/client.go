package main

import (
	_ "embed"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	_ "github.com/grpcsteady/steady/balancer/leastrequest" // which orders.yaml names
	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/proto/document"
)

// The client side, to copy: a document of rules, an Outbound that holds it, a channel that follows it.

//go:embed orders.yaml
var ordersYAML []byte

// newOutbound reads the rules from the binary, so that it runs from anywhere. A service reads its file with
// steady.Load("orders.yaml"), and go out.Watch(ctx) puts each change of it in force.
func newOutbound(opts ...steady.Option) (*steady.Outbound, error) {
	doc, err := document.Read("orders.yaml", ordersYAML)
	if err != nil {
		return nil, err // orders.yaml:12:20: methodConfig[0]... : what is wrong, and what is allowed
	}
	return steady.FromDocument(doc, opts...)
}

// connect opens a channel to the shop's servers whose calls follow the rules.
func connect(target string, observer steady.Observer, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	out, err := newOutbound(steady.WithObserver(observer))
	if err != nil {
		return nil, err
	}
	return grpc.NewClient(target, out.DialOptions(append(opts,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
	)...)...)
}

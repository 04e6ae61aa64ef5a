// Package resolvertest is what the tests of resolvers share: a stand-in for gRPC that keeps what it is told, and
// checks that every resolver has to pass on real channels.
package resolvertest

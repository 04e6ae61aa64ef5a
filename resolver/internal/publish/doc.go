// Package publish is what the resolvers of this module share: handing what they found to a channel, again with a
// backoff where gRPC or a policy refuses it, and saying errors where somebody hears them.
//
// It is internal: whoever writes a resolver of his own finds the rules in docs/resolvers.md.
package publish

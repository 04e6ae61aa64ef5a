// Package pool is what steady's balancing policies share: the endpoints of a channel with what was learned of
// them, and the machinery between gRPC and a policy's own choice.
//
// A [Pool] belongs to the channel (it is kept in the channel's [endpoint.Handle]) and outlives policies, so that
// idle mode and a reload lose nothing. An [Endpoint] counts its calls, successes and latency and knows whether
// it is ejected, found ill or warming up. A policy is a [Strategy]: it turns the endpoints that may be picked
// now, with their weights, into a [Chooser]. Everything else is done here, on gRPC's endpointsharding and
// pick_first, which bring Happy Eyeballs, reconnection and client-side health checks:
//
//	resolver's list ─▶ Pool.Update ─▶ endpointsharding ─▶ pick_first, one for each endpoint
//	                                        │ states
//	picks ◀── Picker ◀── Strategy.Chooser ◀─┴─ rebuild: ready, not ejected, not ill, weighted
//	  └─ done ─▶ in-flight, latency, window, failures in a row ─▶ ejection ─▶ rebuild
//
// Locks, in this order: gRPC's own, policy.mu, Pool.mu. Picks take none, and nor do their ends, but for a failure that
// may be one too many. The observer of decisions is called with none held, in order, on a goroutine of the pool's.
package pool

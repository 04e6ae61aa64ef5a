// Package steady makes the calls of a gRPC channel follow rules: a deadline, retries with jitter under a
// budget, a circuit breaker, gates of the user's own, a fallback. One sentence explains it: a call follows a
// rule; the driver makes attempts; each attempt passes the gates, is picked an endpoint, and its end is told
// to all of them.
//
//	out, err := steady.NewOutbound([]steady.Rule{{
//		Methods:  []string{"/orders.v1.Orders/"},
//		Deadline: &deadline.Config{Default: 2 * time.Second},
//		Retry:    &retry.Config{},   // a zero field is its documented default
//		Breaker:  &breaker.Config{}, // nil would be off
//	}})
//	conn, err := grpc.NewClient(target, out.DialOptions(grpc.WithTransportCredentials(creds))...)
//
// # Documents
//
// Rules, balancing policies and settings for connections can stand in one file, which [Load] reads and
// [Outbound.Watch] follows while calls are under way.
//
// # Order
//
// fallback (in the caller's own context) -> deadline -> retry -> for each attempt: breaker -> the user's
// gates -> gRPC. A refused attempt is never repeated and never counted as a failure.
//
// # What may be retried
//
// Nothing is sent twice that nobody said may be sent twice: see [Rule.Retry]. Where retries are limited for
// that reason, [RetryLimited] says so when the rules are loaded.
//
// # Starting
//
// Begin with Mode: [ModeObserve]. Everything is computed and told to observers, and no call is changed.
//
// # When not to use it
//
// With a service mesh that retries already, switch one of the two off: attempts multiply. A call that must
// not be cut, such as a long poll, is given a rule of its own without Deadline.
package steady

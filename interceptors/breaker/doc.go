// Package breaker stops calling a service that is down, and finds out by a few probes when it is back.
//
// A [Breaker] is closed at first: every call is admitted and its result is counted. It opens when one of
// three rules of its [Config] holds: so many failures in a row, so large a share of failures, or so large a
// share of slow calls within a sliding window. Open, it refuses everything with [ErrOpen], which costs
// neither a lock nor an allocation. After the open time it is half-open: an exact number of probes is let
// through; enough successes close it, the first failure opens it again, for longer.
//
//	closed --rule holds--> open --open time over, next caller--> half-open --successes--> closed
//	                        ^                                        |
//	                        +---------- a probe fails: longer -------+
//
// Beside these, an operator may force it open or closed, until Reset.
//
// Every change of state, and every Reset, begins a new generation. A result belongs to the generation that
// admitted its call; if that is over, the result changes nothing, so a straggler from before the outage can
// neither close nor open anything.
//
// # Many endpoints behind one breaker
//
// A crashed host may fail a hundred calls at once, in an unbroken row, while its four neighbours are well.
// So a failure may name its source: failures in a row open the breaker only if they come from two sources,
// or one was without a source, or there is only one. The ratio is taken without the failures of the worst of
// several endpoints, half of the minimum of calls must be left without them, until that one has gone on failing for a
// whole window. Taking out a single sick endpoint is the job of the balancer.
//
// # When not to use it
//
// Not for a single host among many: eject it in the balancer. Not to limit load: a breaker knows of failures,
// not of capacity. Not where an error is the caller's fault: report such ends as success, or one caller's
// bad requests shut everybody out.
//
// # Example
//
//	b, err := breaker.New(breaker.Config{OpenTime: 2 * time.Second})
//	...
//	token, err := b.Allow()
//	if err != nil {
//		return cached, nil // breaker.ErrOpen
//	}
//	defer func() { token.Done(err) }()
//	reply, err = call(ctx)
package breaker

// Package steadytest shows how a gRPC service, client or gate behaves when servers are sick, in milliseconds
// and at exact instants.
//
// Three parts, which work alone and together:
//
//   - [Run] opens a bubble of virtual time, in which an hour of outage passes at once. [Main] fails a package
//     that leaves goroutines behind.
//   - A [Fleet] is a set of real gRPC servers on a [Network] in memory, whose replicas fail, hang, slow down,
//     crash, drain or fall silent when the test says so, and remember each call they saw. [Load] is the
//     traffic.
//   - [TestGate] holds a breaker, limiter or any other gate against the contract that steady's driver counts
//     on.
//
// A test of a client against a fleet of which one replica is sick:
//
//	func TestMain(m *testing.M) { steadytest.Main(m) }
//
//	func TestSickReplica(t *testing.T) {
//		steadytest.Run(t, func(t *testing.T) {
//			fleet := steadytest.NewFleet(t, steadytest.Replicas("a", "b", "c"))
//			fleet.Replica("b").Behave(steadytest.Failing(codes.Unavailable, 0.6))
//			conn := fleet.Dial(out.DialOptions()...)
//			result := steadytest.Load{Rate: 200, For: time.Minute, Call: steadytest.Get(conn)}.Run(t.Context())
//			if result.Availability() < 0.999 {
//				t.Errorf("%v; calls by replica: %v", result, fleet.Count())
//			}
//		})
//	}
//
// Inside a bubble everything must be made inside it, and every call needs a deadline: see [Run]. The fleet,
// the network and the load work outside of bubbles too, in real time.
//
// It is not for benchmarks of networks (there is none: no latency, no loss but what a script says), and not
// for what depends on real sockets, such as proxies or TCP keepalive; test those on loopback.
package steadytest

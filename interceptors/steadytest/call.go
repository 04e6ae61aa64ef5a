package steadytest

import (
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Call is a call as it arrived at a replica. With a client that retries or hedges, each attempt is a Call.
type Call struct {
	// Replica is the name of the replica that saw the call.
	Replica string
	// Number counts the calls this replica saw, from 1, through restarts and [Fleet.Forget].
	Number int
	// Method is the full method name, "/steady.echo.v1.Echo/Get".
	Method string
	// Stream is true for calls of other than unary methods.
	Stream bool
	// Metadata is what the client sent. Read it only.
	Metadata metadata.MD
	// Client is the client's address, "client:1" for the first connection of [Fleet.Dial].
	Client string
	// Arrived is when the call arrived, in virtual time inside a bubble.
	Arrived time.Time
	// HasDeadline tells whether the call carried a deadline, and Remaining how much of it was left on
	// arrival. Remaining is 0 without a deadline. On the wire a deadline is a duration of at most eight
	// digits, so more than 99,999,999 ns lose up to a microsecond.
	HasDeadline bool
	Remaining   time.Duration
	// Request is the message of a unary call, for scripts that decide by it; nil for streams and in records.
	Request any

	rand *rand.Rand
	live *liveCall
}

// Rand is the call's own source of random numbers, made of the fleet's seed, the replica's name and the
// call's Number: what a call draws does not depend on the calls beside it. It is for one goroutine, and nil
// in a [Record].
func (c Call) Rand() *rand.Rand { return c.rand }

// Record is a call and what became of it.
type Record struct {
	Call
	// Ended tells whether the replica has answered; the fields below are zero until then. A call that was
	// cut off ends when its handler returns.
	Ended bool
	// Code is the status the server's outermost interceptor returned. A client that gave up first saw
	// another one.
	Code codes.Code
	// Err is the error behind Code, nil for success.
	Err error
	// Took is the time from arrival to end.
	Took time.Duration
}

// codeOf reads errors as gRPC's server does: a context's error by its meaning, a foreign one as UNKNOWN.
func codeOf(err error) codes.Code {
	if s, ok := status.FromError(err); ok {
		return s.Code()
	}
	return status.FromContextError(err).Code()
}

// newRand mixes the three parts so that neighbouring numbers share nothing: the generator alone would start
// neighbouring seeds at neighbouring states.
func newRand(seed uint64, replica string, number int) *rand.Rand {
	h := seed
	for _, b := range []byte(replica) {
		h = mix(h ^ uint64(b))
	}
	h = mix(h ^ uint64(number)) //nolint:gosec // only its bits matter
	return rand.New(rand.NewPCG(h, mix(h)))
}

// mix is the finalizer of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

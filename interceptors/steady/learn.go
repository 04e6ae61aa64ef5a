package steady

import (
	"time"

	"google.golang.org/grpc/codes"

	"github.com/grpcsteady/steady/balancer/attempt"
)

// teach tells the picker how the attempt ended, so that balancer and breaker go by one judgement.
func (t *try) teach(v Verdict, e ending, at time.Time) {
	if t.att.Sent() == attempt.SentNo {
		return // it never reached the endpoint
	}
	o := attempt.Outcome{At: at, Pushback: e.pushback.Wait}
	switch v {
	case VerdictSuccess:
		o.Result = attempt.Success
	case VerdictFailure:
		o.Result = attempt.Failure
	case VerdictSuspect:
		o.Result = attempt.Suspect
	default:
		if e.code != codes.Unavailable || !e.began {
			return
		}
		o.Result = attempt.Failure // a stream that broke says nothing of the service, and something of the endpoint
	}
	t.att.Tell(o)
}

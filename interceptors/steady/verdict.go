package steady

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/grpcsteady/steady/interceptors/retry"
)

// Verdict is what the end of an attempt says about the health of the server.
type Verdict uint8

const (
	// VerdictDefault, returned by a classifier, leaves the decision to the rule.
	VerdictDefault Verdict = iota
	// VerdictSuccess: the server did its work, even if the answer is an error of the caller's making.
	VerdictSuccess
	// VerdictFailure: the server is not able to do its work.
	VerdictFailure
	// VerdictSuspect feeds failure ratios, never a count of consecutive failures: a plain error of a Go
	// handler arrives as UNKNOWN and may mean anything.
	VerdictSuspect
	// VerdictNothing says nothing about the server: the caller went away, or nothing was ever sent.
	VerdictNothing
)

var verdictNames = [...]string{"default", "success", "failure", "suspect", "nothing"}

// String returns default, success, failure, suspect or nothing.
func (v Verdict) String() string {
	if int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return "unknown"
}

// Classifier reads what gRPC's code does not say, for example an error inside a reply. It gets the full
// method name, the reply (nil for streams and for attempts that failed) and the error, must be safe for
// concurrent use, and returns VerdictDefault for whatever it has no opinion about. Its verdict decides what
// breakers and gates count; whether an attempt is repeated is still decided by its code.
type Classifier func(method string, reply any, err error) Verdict

// ending is what is known of the end of an attempt.
type ending struct {
	code     codes.Code
	local    bool           // made by this process before or after the wire, such as a message over the size limit
	canceled bool           // the caller went away
	enough   bool           // the attempt had its timeout, or the method's learned median, to run
	began    bool           // a stream delivered a message before its end
	cut      bool           // ended by the attempt's own timeout
	own      bool           // the attempt had a timeout of its own, and the call has time left
	unsent   bool           // provably never left the client
	would    bool           // a would-have end: the attempt is still running, and gRPC may be writing to it
	pushback retry.Pushback // what the server asked for
}

// judge gives the default verdict of an error. It is the one place that knows what gRPC's codes mean.
func (r *compiled) judge(e ending) Verdict {
	switch {
	case e.code == codes.OK:
		return VerdictSuccess
	case e.canceled, e.code == codes.Canceled, e.local:
		return VerdictNothing
	case e.code == codes.DeadlineExceeded && !e.enough:
		return VerdictNothing
	case e.code == codes.Unavailable && e.began:
		return VerdictNothing // a hundred watches that end with one restart are not a hundred failures
	case r.failOn != 0:
		if r.failOn.has(e.code) {
			return VerdictFailure
		}
		return VerdictSuccess
	}
	switch e.code {
	case codes.Unavailable, codes.Internal, codes.DataLoss, codes.DeadlineExceeded:
		return VerdictFailure
	case codes.ResourceExhausted:
		if e.pushback.Set {
			return VerdictFailure
		}
		return VerdictNothing // it may be the quota of one tenant
	case codes.Unknown:
		return VerdictSuspect
	default:
		return VerdictSuccess
	}
}

// codeOf returns the code of an error as gRPC would send it: the errors of a context count as theirs, even
// if an interceptor below returned them bare.
func codeOf(err error) codes.Code {
	if err == nil {
		return codes.OK
	}
	if s, ok := status.FromError(err); ok {
		return s.Code()
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	default:
		return codes.Unknown
	}
}

// honest gives the bare io.EOF that gRPC returns of a unary call its meaning: a transparent retry of gRPC's lost its
// connection, or was refused, while the request was sent again. It is no status, and its text says nothing.
func honest(err error) error {
	if err == io.EOF { //nolint:errorlint // this very value
		return errLost
	}
	return err
}

var errLost = status.Error(codes.Unavailable, "the connection was lost while the call was sent")

// localPrefixes are the beginnings of the messages grpc-go gives errors that it makes itself about a
// message, not about a server. They have no type and no code of their own; a test holds these against the
// grpc-go in go.mod.
var localPrefixes = []string{
	"grpc: error while marshaling",
	"grpc: error while compressing",
	"grpc: error unmarshalling",
	"grpc: failed to unmarshal",
	"grpc: message too large",
	"trying to send message larger than max",
	"grpc: trying to send message larger than max",
	"grpc: received message larger than max",
	"grpc: received message after decompression larger than max",
}

// isLocal reports whether grpc-go made the error here, about the message.
func isLocal(code codes.Code, err error) bool {
	if code != codes.Internal && code != codes.ResourceExhausted {
		return false
	}
	s, ok := status.FromError(err)
	return ok && slices.ContainsFunc(localPrefixes, func(p string) bool { return strings.HasPrefix(s.Message(), p) })
}

const (
	pushbackKey = "grpc-retry-pushback-ms"
	attemptsKey = "grpc-previous-rpc-attempts"
)

// pushbackOf returns when the server wants to see us again: its trailer first, then a RetryInfo among the
// details of its status.
func pushbackOf(err error, trailer metadata.MD) retry.Pushback {
	if v := trailer[pushbackKey]; len(v) > 0 {
		return retry.ParsePushback(v)
	}
	s, ok := status.FromError(err)
	if !ok || len(s.Proto().GetDetails()) == 0 {
		return retry.Pushback{}
	}
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			wait := info.GetRetryDelay().AsDuration()
			return retry.Pushback{Set: true, Wait: max(wait, 0), Stop: wait < 0}
		}
	}
	return retry.Pushback{}
}

// maxRetryAfter bounds what we promise or believe of a time to come back.
const maxRetryAfter = time.Hour

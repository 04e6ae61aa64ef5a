package pool

import (
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
)

// ended learns from the end of a call. What it says about the endpoint's health is left to the driver if there
// is one: it knows the rule, the classifier and whether the caller had left the server any time.
func (e *Endpoint) ended(info balancer.DoneInfo, driven bool, s *Settings, start int64, stream bool) {
	learns := start != 0 && !stream
	if driven && !learns && (s.Reports.Expiry == 0 || info.ServerLoad == nil) {
		return
	}
	if info.Err == nil && !learns && info.ServerLoad == nil && e.window.Load() == nil && e.trouble.bits.Load() == 0 {
		e.row.Store(0) // nobody asks when it was
		return
	}
	now := e.pool.now()
	if info.ServerLoad != nil && s.Reports.Expiry > 0 {
		e.reports(info.ServerLoad, now, s.Reports)
	}
	if learns {
		switch status.Code(info.Err) {
		case codes.OK, codes.NotFound, codes.AlreadyExists, codes.InvalidArgument, codes.FailedPrecondition, codes.OutOfRange, codes.Aborted:
			e.observe(now, start, s.Latency) // who asks for what is not there has it answered all the same
		default:
			e.waited(now, start, s.Latency) // to refuse is quicker than to do
		}
	}
	if !driven {
		e.guess(info, now)
	}
}

// guess judges the end of a call that no driver accounts for, by its code alone.
func (e *Endpoint) guess(info balancer.DoneInfo, now int64) {
	if info.Err == nil {
		e.succeeded(now)
		return
	}
	if !info.BytesSent {
		return // a connection that was just closing: gRPC takes another one
	}
	switch status.Code(info.Err) {
	case codes.Canceled:
	case codes.Internal:
		if !isLocal(info.Err) {
			e.failed(now, pushback(info), true)
		}
	case codes.Unavailable, codes.DataLoss:
		e.failed(now, pushback(info), true)
	case codes.ResourceExhausted:
		if wait := pushback(info); wait > 0 {
			e.failed(now, wait, true)
		} // without, it may be the quota of one tenant
	case codes.DeadlineExceeded, codes.Unknown:
		// It may have been the caller's own impatience, or anything. The ratio is held against the others',
		// which suffer from the same callers.
		e.failed(now, 0, false)
	default:
		e.succeeded(now) // the server did its work; the fault is the caller's
	}
}

// localPrefixes are the beginnings of the messages of errors that gRPC makes here, about a message: the server has
// no part in them. They have no code of their own; a test calls gRPC for them.
var localPrefixes = [...]string{
	"grpc: error while marshaling", "grpc: error while compressing", "grpc: error unmarshalling", "grpc: failed to unmarshal",
}

func isLocal(err error) bool {
	s, _ := status.FromError(err)
	for _, p := range localPrefixes {
		if strings.HasPrefix(s.Message(), p) {
			return true
		}
	}
	return false
}

const pushbackKey = "grpc-retry-pushback-ms"

// pushback returns how long the server asked to be left alone: its trailer first, then a RetryInfo.
func pushback(info balancer.DoneInfo) time.Duration {
	if v := info.Trailer[pushbackKey]; len(v) > 0 {
		return pushbackOf(info.Trailer)
	}
	s, ok := status.FromError(info.Err)
	if !ok || len(s.Proto().GetDetails()) == 0 {
		return 0
	}
	for _, d := range s.Details() {
		if r, ok := d.(*errdetails.RetryInfo); ok {
			return max(r.GetRetryDelay().AsDuration(), 0)
		}
	}
	return 0
}

func pushbackOf(md metadata.MD) time.Duration {
	v := md[pushbackKey]
	ms, err := strconv.ParseUint(v[0], 10, 32)
	if err != nil || len(v) > 1 {
		return 0 // negative or nonsense: it says not to retry, not when to come back
	}
	return time.Duration(ms) * time.Millisecond
}

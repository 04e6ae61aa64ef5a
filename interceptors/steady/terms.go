package steady

import (
	"context"
	"time"

	"github.com/grpcsteady/steady/interceptors/deadline"
)

// budget returns the deadline in force for a call, where it came from, and whether it is tighter than the
// context's. A stream gets neither a default nor a cap.
func (r *compiled) budget(ctx context.Context, now time.Time, within time.Duration, stream bool) (time.Time, deadline.Origin, bool) {
	caller, has := ctx.Deadline()
	if !r.deadline && within == 0 {
		return caller, deadline.OriginCaller, false
	}
	limit, origin := caller, deadline.OriginCaller
	if r.deadline {
		cfg := r.Deadline
		if within > 0 || stream { // the call's own wish stands above default and cap, not above the reserve
			cfg = r.reserveOnly
		}
		kept, reserved := caller, false
		if has {
			kept, reserved = r.keepBack(ctx, now, caller)
		}
		if limit, origin = cfg.Call(now, kept, false); reserved && origin == deadline.OriginCaller {
			origin = deadline.OriginReserve
		}
	}
	if within > 0 {
		if d := now.Add(within); limit.IsZero() || d.Before(limit) {
			limit, origin = d, deadline.OriginCaller
		}
	}
	return limit, origin, !limit.IsZero() && (!has || limit.Before(caller))
}

// keepBack keeps this hop's reserve back from the deadline that came in with the server call we work for. A
// tighter one that the handler gave the call itself leaves more than that already; a later one has nothing to do
// with what came in.
func (r *compiled) keepBack(ctx context.Context, now, caller time.Time) (time.Time, bool) {
	h := hopFrom(ctx)
	if h == nil || h.deadline.IsZero() || caller.After(h.deadline) {
		return caller, false
	}
	if kept, _ := r.reserveOnly.Call(now, h.deadline, true); kept.Before(caller) {
		return kept, true
	}
	return caller, false
}

package steady_test

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
)

// TestWhatComesAfterACancelSaysNothing: whatever an attempt ends with once its caller is gone, it is no failure, is
// not tried again and takes nothing from the budget.
func TestWhatComesAfterACancelSaysNothing(t *testing.T) {
	rec := new(recorder)
	out := outbound(t, retryRule(""), wide, steady.WithObserver(rec))
	unary, _ := out.Interceptors()
	ctx, cancel := context.WithCancel(t.Context())
	_ = unary(ctx, get, &req{}, &reply{}, nil, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
		cancel()
		return unavailable("the connection was closed")
	})
	attempts := of[steady.AttemptEnded](rec)
	if len(attempts) != 1 || attempts[0].Verdict != steady.VerdictNothing || len(of[steady.Retried](rec)) != 0 {
		t.Errorf("%d attempts, first %+v, %d retries told", len(attempts), attempts[0], len(of[steady.Retried](rec)))
	}
	if b := out.Snapshot().Channels[0].Budget; b.Retries != 0 {
		t.Errorf("budget %+v", b)
	}
	runtime.KeepAlive(unary) // a channel lives as long as its interceptors
}

// TestNoAttemptAfterACancel: a caller that goes away during a wait is not called for any more.
func TestNoAttemptAfterACancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := always(answer{err: unavailable("down"), from: "a"})
		c := newClient(t, s, []steady.Rule{{Methods: []string{""}, Retry: &retry.Config{
			InitialBackoff: time.Second, Jitter: retry.NoJitter,
		}}}, wide)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(300*time.Millisecond, cancel)
		_, err := c.call(ctx, get)
		wantCode(t, err, codes.Canceled)
		if n := len(s.attempts()); n != 1 {
			t.Errorf("%d attempts, want 1", n)
		}
	})
}

// unannounced is a context that ends without having said when.
type unannounced struct{ context.Context }

func (unannounced) Deadline() (time.Time, bool) { return time.Time{}, false }

// TestADeadlineThatNobodyAnnounced, and that ends a wait, leaves the server's last word to the caller.
func TestADeadlineThatNobodyAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := always(answer{err: unavailable("down"), from: "a"})
		c := newClient(t, s, []steady.Rule{{Methods: []string{""}, Retry: &retry.Config{
			InitialBackoff: time.Second, Jitter: retry.NoJitter,
		}}}, wide)
		_, err := c.call(unannounced{within(t, 300*time.Millisecond)}, get)
		wantCode(t, err, codes.Unavailable)
		if took := time.Since(s.start); took != 300*time.Millisecond || len(s.attempts()) != 1 {
			t.Errorf("took %v and %d attempts", took, len(s.attempts()))
		}
	})
}

// TestALaterDeadlineHasNothingToDoWithWhatCameIn: work that a handler does on its own account, beyond its answer.
func TestALaterDeadlineHasNothingToDoWithWhatCameIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := always(answer{from: "a"})
		c := newClient(t, s, []steady.Rule{{Methods: []string{""}, Deadline: &deadline.Config{ReserveShare: 0.5}}})
		in, err := steady.NewInbound(nil)
		if err != nil {
			t.Fatal(err)
		}
		server, _ := in.Interceptors()
		_, err = server(within(t, time.Second), &req{}, &grpc.UnaryServerInfo{FullMethod: get}, func(ctx context.Context, _ any) (any, error) {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			return c.call(ctx, get)
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := s.attempts()[0].deadline; got != 10*time.Second {
			t.Errorf("the call got %v, want its own 10 s", got)
		}
	})
}

// TestNoFallbackForACallerWhoIsGone, not even if it was a gate that noticed.
func TestNoFallbackForACallerWhoIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		c := newClient(t, always(answer{from: "a"}), nil, steady.WithGate("q", &queue{wait: time.Hour}),
			steady.Fallback(get, func(context.Context, *req, error) (*reply, error) { asked++; return &reply{}, nil }))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, err := c.call(ctx, get)
		wantCode(t, err, codes.Canceled)
		if asked != 0 {
			t.Errorf("asked %d times", asked)
		}
		if _, err := c.call(within(t, time.Second), get); err != nil || asked != 1 { // out of time is another matter
			t.Errorf("%v, asked %d times", err, asked)
		}
	})
}

// TestObserveAnswersNothing: a fallback is part of what a rule does.
func TestObserveAnswersNothing(t *testing.T) {
	rec := new(recorder)
	c := newClient(t, always(answer{err: unavailable("down"), from: "a"}), []steady.Rule{{Methods: []string{""}, Mode: steady.ModeObserve}},
		steady.WithObserver(rec), steady.Fallback(get, func(context.Context, *req, error) (*reply, error) {
			t.Error("asked")
			return &reply{}, nil
		}))
	_, err := c.call(t.Context(), get)
	wantCode(t, err, codes.Unavailable)
}

// TestOptionsOfARefusedCallStayAsTheyAre: nothing was received, so there is nothing to hand over.
func TestOptionsOfARefusedCallStayAsTheyAre(t *testing.T) {
	c := newClient(t, always(answer{from: "a"}), nil, steady.WithGate("q", gateFunc(func(context.Context) (func(error), error) {
		return nil, unavailable("closed")
	})))
	header, trailer, p := metadata.Pairs("h", "mine"), metadata.Pairs("t", "mine"), peer.Peer{Addr: addr("mine")}
	_, err := c.call(t.Context(), get, grpc.Header(&header), grpc.Trailer(&trailer), grpc.Peer(&p))
	wantCode(t, err, codes.Unavailable)
	if len(header.Get("h")) != 1 || len(trailer.Get("t")) != 1 || p.Addr != addr("mine") {
		t.Errorf("header %v, trailer %v, peer %v", header, trailer, p.Addr)
	}
}

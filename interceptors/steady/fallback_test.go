package steady_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/steady"
)

type (
	req   = echov1.EchoRequest
	reply = echov1.EchoResponse
)

// TestCachedReplyWhileOpen is the guide's fallback: the last good answer, while the breaker is open.
func TestCachedReplyWhileOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		cache := make(map[string]*reply)
		rec := new(recorder)
		healthy := true
		c := newClient(t, newStub(func(int) answer {
			if healthy {
				return answer{from: "fresh"}
			}
			return answer{err: unavailable("down"), from: "fresh"}
		}), breakerRule(countOnly), steady.WithObserver(rec),
			steady.OnSuccess(get, func(_ context.Context, in *req, out *reply) {
				mu.Lock()
				defer mu.Unlock()
				cache[in.GetText()] = proto.Clone(out).(*reply)
			}),
			steady.Fallback(get, func(_ context.Context, in *req, cause error) (*reply, error) {
				mu.Lock()
				defer mu.Unlock()
				if r, ok := cache[in.GetText()]; ok {
					return r, nil
				}
				return nil, cause
			}))
		if _, err := c.call(t.Context(), get); err != nil {
			t.Fatal(err)
		}
		healthy = false
		for range 6 { // five failures, then a refusal
			got, err := c.call(t.Context(), get)
			if err != nil || got.GetText() != "fresh" {
				t.Fatalf("%v, %v: want the cached reply and no error", got, err)
			}
		}
		if got := state(t, c.out); got != breaker.Open {
			t.Fatalf("breaker %v", got)
		}
		fell := of[steady.FellBack](rec)
		if len(fell) != 6 || fell[5].Err != nil || !errors.Is(fell[5].Cause, breaker.ErrOpen) {
			t.Errorf("%d events, last %+v", len(fell), fell[len(fell)-1])
		}
		ended := of[steady.CallEnded](rec)
		if last := ended[len(ended)-1]; !last.FellBack || last.Code != codes.OK || last.Attempts != 0 {
			t.Errorf("%+v", last)
		}
	})
}

func TestFallbackThatCannotHelp(t *testing.T) {
	for name, fn := range map[string]func(context.Context, *req, error) (*reply, error){
		"fails":         func(context.Context, *req, error) (*reply, error) { return nil, errors.New("cache down") },
		"panics":        func(context.Context, *req, error) (*reply, error) { panic("cache broken") },
		"returns nil":   func(context.Context, *req, error) (*reply, error) { return nil, nil },
		"joins nothing": func(_ context.Context, _ *req, cause error) (*reply, error) { return nil, cause },
	} {
		t.Run(name, func(t *testing.T) {
			rec := new(recorder)
			c := newClient(t, always(answer{err: unavailable("the original"), from: "a"}), nil,
				steady.Fallback(get, fn), steady.WithObserver(rec))
			_, err := c.call(t.Context(), get)
			if status.Convert(err).Message() != "the original" {
				t.Errorf("%v, want the original error", err)
			}
			if fell := of[steady.FellBack](rec); len(fell) != 1 || fell[0].Err == nil {
				t.Errorf("events %+v", fell)
			}
		})
	}
}

func TestWhoGetsNoFallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		s := always(answer{})
		c := newClient(t, s, []steady.Rule{{Methods: []string{""}, Deadline: &deadline.Config{Default: time.Second}}},
			steady.Fallback(get, func(context.Context, *req, error) (*reply, error) { asked++; return &reply{}, nil }))
		s.become(func(int) answer { return answer{err: status.Error(codes.NotFound, "x"), from: "a"} })
		_, err := c.call(t.Context(), get)
		wantCode(t, err, codes.NotFound)

		s.become(func(int) answer { return answer{after: time.Hour, from: "a"} })
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		_, err = c.call(ctx, get)
		wantCode(t, err, codes.Canceled)
		if asked != 0 {
			t.Errorf("asked %d times: neither the caller's fault nor his cancel is answered", asked)
		}
		if _, err = c.call(t.Context(), get); err != nil || asked != 1 {
			t.Errorf("%v, asked %d: out of time is answered", err, asked)
		}
	})
}

// TestFallbackRunsInTheCallersContext: the deadline that ended the call does not end its fallback.
func TestFallbackRunsInTheCallersContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, always(answer{after: time.Hour, from: "a"}),
			[]steady.Rule{{Methods: []string{""}, Deadline: &deadline.Config{Default: time.Second}}},
			steady.Fallback(get, func(ctx context.Context, _ *req, _ error) (*reply, error) {
				return &reply{Text: "cached"}, ctx.Err()
			}))
		got, err := c.call(t.Context(), get)
		if err != nil || got.GetText() != "cached" {
			t.Errorf("%v, %v", got, err)
		}
	})
}

// TestFallbackOfPlainStructs: replies need not be protocol buffers.
func TestFallbackOfPlainStructs(t *testing.T) {
	type in struct{ Key string }
	type out struct{ Value string }
	const method = "/json.Service/Get"
	o, err := steady.NewOutbound(nil, steady.Fallback(method, func(_ context.Context, i *in, _ error) (*out, error) {
		return &out{Value: i.Key + "!"}, nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	unary, _ := o.Interceptors()
	var got out
	s := always(answer{err: unavailable("x")})
	if err := unary(t.Context(), method, &in{Key: "k"}, &got, nil, s.invoke); err != nil || got.Value != "k!" {
		t.Errorf("%+v, %v", got, err)
	}
}

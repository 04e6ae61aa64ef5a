package steady_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// TestStreamModel plays random interleavings of send, receive, close, cancel, Header, Context and attempts that fail
// or fall silent, and holds them against what a stream promises:
//   - every attempt receives a prefix of what was sent, in order and unchanged;
//   - the application receives the answers of one attempt, each once and in order;
//   - it gets a success only if every attempt but the last failed before its first answer, and then the last one
//     received everything;
//   - an error is that of the last attempt, after which no other follows a cancel, or the application's own cancel;
//   - gates, attempts and the call end once each, however it came.
func TestStreamModel(t *testing.T) {
	for seed := range uint64(400) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) { playStream(t, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

func playStream(t *testing.T, random *rand.Rand) {
	// The plan: each attempt takes some messages and fails, or echoes to the end.
	const most = 4
	messages := random.IntN(12)
	var plan []cut
	for len(plan) < random.IntN(most+2) {
		code := codes.Unavailable
		if random.IntN(6) == 0 {
			code = codes.Aborted // not one to retry on
		}
		hang := random.IntN(4) == 0
		if hang {
			code = codes.DeadlineExceeded // it is ended here
		}
		plan = append(plan, cut{
			after: random.IntN(messages + 1), header: random.IntN(3) == 0, hang: hang, err: status.Error(code, fmt.Sprint(len(plan)+1)),
		})
	}
	tp := &tap{plan: func(n int) *cut {
		if n > len(plan) {
			return nil
		}
		return &plan[n-1]
	}}
	var open atomic.Int64
	gate := gateFunc(func(context.Context) (func(error), error) {
		open.Add(1)
		return func(error) { open.Add(-1) }, nil
	})
	rules := streamRule()
	rules[0].Retry = &retry.Config{MaxAttempts: most, InitialBackoff: 10 * time.Millisecond}
	rules[0].Deadline = &deadline.Config{FirstMessage: time.Second, Idle: time.Second, Send: time.Second}
	rec := new(recorder)
	_, client := tapFleet(t, tp, rules, steady.WithGate("count", gate), steady.WithObserver(rec))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	s, err := client.Chat(ctx)
	if err != nil {
		t.Fatal(err) // the plan fails attempts that are open
	}
	seeds := [3]uint64{random.Uint64(), random.Uint64(), random.Uint64()}
	cancels := random.IntN(5) == 0
	header := random.IntN(4) == 0
	commits := random.IntN(6) == 0
	var sent []string
	sender := make(chan struct{})
	go func() {
		defer close(sender)
		r := rand.New(rand.NewPCG(seeds[0], 1))
		m := new(req) // used again, as applications do
		for i := range messages {
			if r.IntN(2) == 0 {
				time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
			}
			m.Text = fmt.Sprint(i)
			if err := s.Send(m); err != nil {
				if err != io.EOF { //nolint:errorlint // bare, as gRPC promises
					t.Errorf("send: %v", err)
				}
				return
			}
			sent = append(sent, m.Text)
		}
		if err := s.CloseSend(); err != nil {
			t.Errorf("CloseSend: %v", err)
		}
	}()
	if cancels {
		go func() {
			time.Sleep(time.Duration(rand.New(rand.NewPCG(seeds[1], 1)).IntN(60)) * time.Millisecond)
			cancel()
		}()
	}
	if commits {
		go func() {
			time.Sleep(time.Duration(rand.New(rand.NewPCG(seeds[1], 2)).IntN(1500)) * time.Millisecond)
			if s.Context() == nil {
				t.Error("no context")
			}
		}()
	}
	headerGiven := make(chan bool, 1)
	if header {
		go func() {
			md, err := s.Header()
			if err != nil {
				t.Errorf("header: %v", err)
			}
			headerGiven <- md != nil
		}()
	} else {
		headerGiven <- false
	}
	r := rand.New(rand.NewPCG(seeds[2], 1))
	var got []string
	for {
		if r.IntN(2) == 0 {
			time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
		}
		in, recvErr := s.Recv()
		if recvErr != nil {
			err = recvErr
			break
		}
		if int(in.GetNumber()) != len(got)+1 {
			t.Fatalf("answer %d after %d", in.GetNumber(), len(got))
		}
		got = append(got, in.GetText())
	}
	<-sender
	given := <-headerGiven
	cancel()
	time.Sleep(2 * time.Second) // the last to cancel or commit is done
	synctest.Wait()

	all := make([]string, messages)
	for i := range all {
		all[i] = fmt.Sprint(i)
	}
	attempts := tp.texts()
	for i, a := range attempts {
		if len(a) > messages || !slices.Equal(a, all[:len(a)]) {
			t.Errorf("attempt %d received %q", i+1, a)
		}
	}
	if len(got) > messages || !slices.Equal(got, all[:len(got)]) {
		t.Errorf("answers %q", got)
	}
	// What the model expects of the plan.
	wantAttempts, wantCode := 0, codes.OK
	for wantAttempts < most {
		wantAttempts++
		if wantAttempts > len(plan) {
			wantCode = codes.OK
			break
		}
		c := plan[wantAttempts-1]
		wantCode = status.Code(c.err)
		if wantCode != codes.Unavailable && wantCode != codes.DeadlineExceeded {
			break
		}
	}
	code := status.Code(err)
	if err == io.EOF { //nolint:errorlint // bare, as gRPC promises
		code = codes.OK
	}
	switch {
	case cancels && code == codes.Canceled:
	case cancels && len(attempts) > 0 && len(attempts) < wantAttempts && code == status.Code(plan[len(attempts)-1].err):
		// The attempt failed at the instant of the cancel, and nobody was there any more for another one.
	case given && wantAttempts != len(attempts): // the header of an attempt that failed later was given out
		if c := plan[len(attempts)-1]; !c.header || status.Code(c.err) != code {
			t.Errorf("%v after %d attempts and a header, plan %+v", err, len(attempts), plan)
		}
	case commits && wantAttempts != len(attempts): // the stream of an attempt that failed later was given out
		if c := plan[len(attempts)-1]; status.Code(c.err) != code || len(attempts) > wantAttempts {
			t.Errorf("%v after %d attempts and Context, plan %+v", err, len(attempts), plan)
		}
	case code != wantCode || len(attempts) != wantAttempts:
		t.Errorf("%v after %d attempts, want %v after %d; plan %+v", err, len(attempts), wantCode, wantAttempts, plan)
	case code == codes.OK && (len(got) != messages || len(attempts[len(attempts)-1]) != messages):
		t.Errorf("%d answers to %d messages", len(got), messages)
	}
	ended, made := of[steady.CallEnded](rec), len(of[steady.AttemptEnded](rec))
	if len(ended) != 1 {
		t.Fatalf("told %d ends", len(ended))
	}
	// A cancel that comes between the server's last word and its reading ends the stream for gRPC.
	told := ended[0].Code == code || cancels && ended[0].Code == codes.Canceled
	if !told || ended[0].Attempts != made || made != len(attempts) && !cancels || open.Load() != 0 {
		t.Errorf("%v: told %+v, %d attempts; %d slots are taken", err, *ended[0], made, open.Load())
	}
}

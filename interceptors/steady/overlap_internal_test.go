package steady

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// TestTwoAttemptsAtOnce runs two attempts of one call at the same time and takes one: each has its own
// reply, header, trailer and peer, and what the loser writes late reaches nobody. Run it with -race.
func TestTwoAttemptsAtOnce(t *testing.T) {
	for _, name := range []string{"proto", "dynamicpb"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				out, err := NewOutbound(nil)
				if err != nil {
					t.Fatal(err)
				}
				var reply proto.Message = new(wrapperspb.StringValue)
				if name == "dynamicpb" {
					reply = dynamicpb.NewMessage((&wrapperspb.StringValue{}).ProtoReflect().Descriptor())
				}
				var header, trailer metadata.MD
				finished := 0
				invoke := func(ctx context.Context, _ string, req, into any, _ *grpc.ClientConn, opts ...grpc.CallOption) error {
					n := req.(*wrapperspb.StringValue).GetValue()
					codec, err := codecOf(opts)
					if err != nil {
						return err
					}
					if _, err := codec.Marshal(req); err != nil {
						return err
					}
					attempt := ctx.Value(numberKey{}).(int)
					time.Sleep(time.Duration(attempt) * time.Second)
					for _, o := range opts {
						switch o := o.(type) {
						case grpc.HeaderCallOption:
							*o.HeaderAddr = metadata.Pairs("attempt", fmt.Sprint(attempt))
						case grpc.TrailerCallOption:
							*o.TrailerAddr = metadata.Pairs("attempt", fmt.Sprint(attempt))
						}
					}
					data, err := proto.Marshal(wrapperspb.String(fmt.Sprint(n, attempt)))
					if err != nil {
						return err
					}
					return codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer(data)}, into)
				}
				unary := func(ctx context.Context) *call {
					b := out.bind(nil)
					ch := b.channel(nil)
					return &call{
						ch: ch, m: ch.method("/x.Y/Z", false), rule: out.table.Load().none, name: "/x.Y/Z", ctx: ctx, invoke: invoke,
						req: wrapperspb.String("hello "), reply: reply, start: time.Now(), overlap: true,
					}
				}
				c := unary(t.Context())
				c.begin([]grpc.CallOption{grpc.Header(&header), grpc.Trailer(&trailer), grpc.OnFinish(func(error) { finished++ })})
				tries := []*try{&c.first, {}}
				done := make(chan *try)
				for i, tr := range tries {
					tr.prepare(context.WithValue(c.ctx, numberKey{}, i+1), c, i+1, time.Now())
					go func() {
						tr.run()
						done <- tr
					}()
				}
				winner := <-done
				c.made, c.last = 1, winner
				if err := c.end(winner, winner.err); err != nil {
					t.Fatal(err)
				}
				<-done // the loser ends a second later, and writes only to its own
				got := reply.ProtoReflect().Get(reply.ProtoReflect().Descriptor().Fields().ByNumber(1)).String()
				if got != "hello 1" || header.Get("attempt")[0] != "1" || trailer.Get("attempt")[0] != "1" || finished != 1 {
					t.Errorf("reply %q, header %v, trailer %v, OnFinish %d times", got, header.Get("attempt"), trailer.Get("attempt"), finished)
				}
			})
		})
	}
}

type numberKey struct{}

func TestCodecOf(t *testing.T) {
	encoding.RegisterCodec(upper{})
	for _, tt := range []struct {
		name string
		opts []grpc.CallOption
		want string
		code codes.Code
	}{
		{"default", nil, "proto", codes.OK},
		{"subtype", []grpc.CallOption{grpc.CallContentSubtype("upper")}, "upper", codes.OK},
		{"forced", []grpc.CallOption{grpc.ForceCodec(upper{})}, "upper", codes.OK},
		{"the last wins", []grpc.CallOption{grpc.ForceCodec(upper{}), grpc.ForceCodecV2(encoding.GetCodecV2("proto"))}, "proto", codes.OK},
		{"unknown", []grpc.CallOption{grpc.CallContentSubtype("nobody")}, "", codes.Internal},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := codecOf(tt.opts)
			if status.Code(err) != tt.code {
				t.Fatal(err)
			}
			if err == nil && c.Name() != tt.want {
				t.Errorf("%s, want %s", c.Name(), tt.want)
			}
		})
	}
	lifted, err := codecOf([]grpc.CallOption{grpc.ForceCodec(upper{})})
	if err != nil {
		t.Fatal(err)
	}
	data, err := lifted.Marshal("x")
	if err != nil || string(data.Materialize()) != "X" {
		t.Errorf("%q, %v", data.Materialize(), err)
	}
	var out string
	if err := lifted.Unmarshal(data, &out); err != nil || out != "X" {
		t.Errorf("%q, %v", out, err)
	}
}

type upper struct{}

func (upper) Marshal(any) ([]byte, error) { return []byte("X"), nil }
func (upper) Unmarshal(data []byte, v any) error {
	*v.(*string) = string(data)
	return nil
}
func (upper) Name() string { return "upper" }

// FuzzReadAttempts: whatever a peer sends, it is a small natural number.
func FuzzReadAttempts(f *testing.F) {
	for _, s := range []string{"", "0", "1", "-1", "1e30", "99999999999999999999", "abc", " 1", "+1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n := readAttempts([]string{s}); n < 0 || n > maxEarlier {
			t.Errorf("%q gave %d", s, n)
		}
	})
}

// FuzzMatch: any method name finds a rule, and the same one each time.
func FuzzMatch(f *testing.F) {
	tab, err := compile([]Rule{{Methods: []string{"/a.B/"}}, {Methods: []string{"/a.B/C"}}}, ModeEnforce)
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{"", "/", "//", "/a.B/C", "/a.B/D", "a.B/C", "/a.B/C/D"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, named := tab.match(s)
		if c == nil || named != (s == "/a.B/C") {
			t.Errorf("%q: %v, named %v", s, c, named)
		}
	})
}

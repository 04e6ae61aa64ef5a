package document_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/proto/document"
	steadyv1 "github.com/grpcsteady/steady/proto/steady/v1"
)

// knob is a field of a mechanism's Config and its key in a document.
type knob struct{ field, key string }

// sections are the mechanisms' configs, each knob by both of its names, and where they stand in a document.
var sections = []struct {
	name   string
	in     string // %s is the section
	config any    // pointer to a zero config
	knobs  []knob
}{
	{"breaker", "methodConfig: [{name: [{}], breaker: {%s}}]", new(breaker.Config), []knob{
		{"ConsecutiveFailures", "consecutiveFailures"}, {"FailureRatio", "failureRatio"}, {"SlowRatio", "slowRatio"}, {"SlowAfter", "slowAfter"},
		{"MinimumCalls", "minimumCalls"}, {"Window", "window"}, {"Buckets", "buckets"}, {"OpenTime", "openTime"}, {"MaxOpenTime", "maxOpenTime"},
		{"OpenMultiplier", "openMultiplier"}, {"OpenJitter", "openJitter"}, {"Probes", "probes"}, {"Successes", "successes"},
	}},
	{"deadline", "methodConfig: [{name: [{}], deadline: {%s}}]", new(deadline.Config), []knob{
		{"Default", "default"}, {"Max", "max"}, {"AttemptTimeout", "attemptTimeout"}, {"AttemptShare", "attemptShare"},
		{"Reserve", "reserve"}, {"ReserveShare", "reserveShare"},
		{"FirstMessage", "firstMessage"}, {"Idle", "idle"}, {"Send", "send"},
	}},
	{"retry", "methodConfig: [{name: [{}], retryPolicy: {%s}}]", new(retry.Config), []knob{
		{"MaxAttempts", "maxAttempts"}, {"InitialBackoff", "initialBackoff"}, {"MaxBackoff", "maxBackoff"},
		{"Multiplier", "backoffMultiplier"}, {"MaxElapsed", "maxElapsed"},
	}},
	{"budget", "retryBudget: {%s}", new(retry.BudgetConfig), []knob{
		{"Ratio", "ratio"}, {"MinPerSecond", "minPerSecond"}, {"Interval", "interval"}, {"MaxRatio", "maxRatio"},
	}},
}

// Values on both sides of every bound there is. -1 is a value of its own; 0 is no value: a document refuses
// it where a Config takes it for its default.
var (
	someTimes = []time.Duration{
		-1, 1, time.Microsecond, time.Millisecond - 1, time.Millisecond, 5 * time.Millisecond, 25 * time.Millisecond, 100*time.Millisecond - 1,
		100 * time.Millisecond, time.Second - 1, time.Second, 5 * time.Second, 10 * time.Second, 29 * time.Second, 30 * time.Second, 31 * time.Second,
		time.Minute, time.Minute + 1, 10 * time.Minute, 10*time.Minute + 1, time.Hour, time.Hour + 1, 24 * time.Hour, 24*time.Hour + 1, 1000 * time.Hour,
	}
	someWholes  = []int{-2, -1, 1, 2, 3, 5, 6, 100, 101, 1000, 1001, 1_000_000, 1_000_001}
	someNumbers = []float64{-2, -1, -0.5, 1e-9, 0.05, 0.5, 0.51, 1, 1.01, 2, 10, 10.01, 1000, 1000.1}
)

// TestRangesAgree: what a document may say is what the mechanism takes, no more and no less. The two floors
// can not import one another, so a test holds them together.
func TestRangesAgree(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for _, s := range sections {
		t.Run(s.name, func(t *testing.T) {
			good := 0
			for range 2000 {
				config := reflect.New(reflect.TypeOf(s.config).Elem())
				var said []string
				for range 1 + random.IntN(3) {
					k := s.knobs[random.IntN(len(s.knobs))]
					f := config.Elem().FieldByName(k.field)
					if !f.IsZero() {
						continue
					}
					switch f.Interface().(type) {
					case time.Duration:
						d := someTimes[random.IntN(len(someTimes))]
						text := d.String()
						if d == -1 {
							text = "none"
						}
						f.SetInt(int64(d))
						said = append(said, k.key+": "+text)
					case int:
						n := someWholes[random.IntN(len(someWholes))]
						f.SetInt(int64(n))
						said = append(said, fmt.Sprintf("%s: %d", k.key, n))
					case float64:
						x := someNumbers[random.IntN(len(someNumbers))]
						f.SetFloat(x)
						said = append(said, fmt.Sprintf("%s: %v", k.key, x))
					default:
						t.Fatalf("%s is %v", k.field, f.Type())
					}
				}
				want := config.Interface().(interface{ Validate() error }).Validate()
				_, got := document.Read("x.yaml", []byte(fmt.Sprintf(s.in, strings.Join(said, ", "))))
				if (want == nil) != (got == nil) {
					t.Fatalf("%v: the mechanism says %v, the document %v", said, want, got)
				}
				if want == nil {
					good++
				}
			}
			if good < 50 {
				t.Errorf("only %d good ones", good)
			}
		})
	}
}

// TestNoKnobIsForgotten: every field of a mechanism's config is in the schema and above, so that a new one
// can not be left out of documents by oversight.
func TestNoKnobIsForgotten(t *testing.T) {
	words := map[string]int{"breaker": 0, "deadline": 1, "retry": 1, "budget": 0} // Feasibility, Jitter
	for _, s := range sections {
		if got, want := len(s.knobs)+words[s.name], reflect.TypeOf(s.config).Elem().NumField(); got != want {
			t.Errorf("%s: %d knobs of %d", s.name, got, want)
		}
	}
}

// TestEveryKnobIsRead walks the schema: testdata/full.yaml has every field of it, and each is in the config.
func TestEveryKnobIsRead(t *testing.T) {
	d, err := document.Load("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[protoreflect.FullName]bool)
	var walk func(m protoreflect.Message)
	walk = func(m protoreflect.Message) {
		m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			seen[f.FullName()] = true
			switch {
			case f.Message() == nil || f.Message().ParentFile().Path() != steadyv1.File_steady_v1_config_proto.Path():
			case f.IsList():
				for i := range v.List().Len() {
					walk(v.List().Get(i).Message())
				}
			default:
				walk(v.Message())
			}
			return true
		})
	}
	walk(d.Config.ProtoReflect())
	fields := 0
	var each func(list protoreflect.MessageDescriptors)
	each = func(list protoreflect.MessageDescriptors) {
		for i := range list.Len() {
			m := list.Get(i)
			each(m.Messages())
			for j := range m.Fields().Len() {
				fields++
				if f := m.Fields().Get(j); !seen[f.FullName()] {
					t.Errorf("%s is not read, or not in testdata/full.yaml", f.FullName())
				}
			}
		}
	}
	each(steadyv1.File_steady_v1_config_proto.Messages())
	if fields < 50 {
		t.Errorf("%d fields walked", fields)
	}
}

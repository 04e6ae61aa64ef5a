package pool

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	steadyv1 "github.com/grpcsteady/steady/proto/steady/v1"
)

// The defaults are those that proto/steady/v1/balancing.proto tells its readers.
func TestDefaults(t *testing.T) {
	none := Settings{
		Ejection: Ejection{
			Consecutive: 5, Ratio: 0.8, Margin: 0.1, MinimumCalls: 20, Window: 10 * time.Second,
			Base: 30 * time.Second, Max: 300 * time.Second, Share: 0.3,
		},
		SlowStart: SlowStart{Window: 30 * time.Second, MinShare: 0.1, Aggression: 1},
		Panic:     0.5,
		Failover:  Failover{MinAvailable: 0.7, Hold: 10 * time.Second},
	}
	if got := SettingsOf(new(steadyv1.LeastRequest), nil); got != none {
		t.Errorf("nothing said:\n got %+v\nwant %+v", got, none)
	}
	full := &steadyv1.Weighted{Ejection: &steadyv1.Ejection{}, SlowStart: &steadyv1.SlowStart{}, ActiveCheck: &steadyv1.ActiveCheck{}}
	want := none
	want.Check = Check{Interval: 5 * time.Second, Timeout: 2 * time.Second, Fall: 3, Rise: 2, Jitter: 0.1}
	if got := SettingsOf(full, nil); got != want {
		t.Errorf("empty messages:\n got %+v\nwant %+v", got, want)
	}
	if got, want := LatencyOf(&steadyv1.Latency{}), (Latency{Decay: 10 * time.Second, Penalty: 5 * time.Second}); got != want {
		t.Errorf("latency %+v, want %+v", got, want)
	}
	if got, want := ReportsOf(&steadyv1.LoadReports{}), (Reports{Blackout: 10 * time.Second, Expiry: 3 * time.Minute, ErrorPenalty: 1}); got != want {
		t.Errorf("load reports %+v, want %+v", got, want)
	}
	if LatencyOf(nil) != (Latency{}) || ReportsOf(nil) != (Reports{}) {
		t.Error("latency and load reports are off when they are left out")
	}
}

func TestWhatIsSaidCounts(t *testing.T) {
	off, part := new(-1.0), new(0.25)
	s := SettingsOf(&steadyv1.ConsistentHash{
		Ejection: &steadyv1.Ejection{
			Mode: steadyv1.Mode_MODE_OBSERVE, ConsecutiveFailures: proto.Int32(-1), SuccessRatio: off, Margin: part,
			MinimumCalls: proto.Uint32(7), Window: durationpb.New(time.Minute), BaseTime: durationpb.New(time.Hour), MaxShare: part,
		},
		SlowStart:   &steadyv1.SlowStart{Window: durationpb.New(-time.Second), MinShare: part, Aggression: proto.Float64(2)},
		ActiveCheck: &steadyv1.ActiveCheck{Service: "s", Interval: durationpb.New(time.Second), Fall: proto.Uint32(1), Rise: proto.Uint32(4), Jitter: off},
		Failover:    &steadyv1.Failover{MinAvailable: part, Hold: durationpb.New(-time.Second)},
	}, off)
	want := Settings{
		Ejection: Ejection{
			Observe: true, Margin: 0.25, MinimumCalls: 7, Window: time.Minute, Base: time.Hour, Max: time.Hour, Share: 0.25,
		},
		SlowStart: SlowStart{MinShare: 0.25, Aggression: 2},
		Check:     Check{Service: "s", Interval: time.Second, Timeout: time.Second, Fall: 1, Rise: 4},
		Failover:  Failover{MinAvailable: 0.25},
	}
	if s != want {
		t.Errorf(" got %+v\nwant %+v", s, want)
	}
	if s := SettingsOf(&steadyv1.Weighted{Ejection: &steadyv1.Ejection{Mode: steadyv1.Mode_MODE_OFF}}, part); !s.Ejection.Off || s.Panic != 0.25 {
		t.Errorf("mode off, panic threshold a quarter: %+v", s)
	}
}

func TestSlowStartCurve(t *testing.T) {
	for _, tt := range []struct {
		s    SlowStart
		at   time.Duration
		want float64
	}{
		{SlowStart{}, 0, 1},
		{SlowStart{Window: 30 * time.Second, MinShare: 0.1, Aggression: 1}, -time.Second, 0.1},
		{SlowStart{Window: 30 * time.Second, MinShare: 0.1, Aggression: 1}, 0, 0.1},
		{SlowStart{Window: 30 * time.Second, MinShare: 0.1, Aggression: 1}, 3 * time.Second, 0.1},
		{SlowStart{Window: 30 * time.Second, MinShare: 0.1, Aggression: 1}, 15 * time.Second, 0.5},
		{SlowStart{Window: 30 * time.Second, MinShare: 0.1, Aggression: 1}, 30 * time.Second, 1},
		{SlowStart{Window: 100 * time.Second, MinShare: 0.1, Aggression: 2}, 25 * time.Second, 0.5},
		{SlowStart{Window: 100 * time.Second, MinShare: 0.1, Aggression: 0.5}, 50 * time.Second, 0.25},
		{SlowStart{Window: 100 * time.Second, MinShare: 0.3, Aggression: 0.5}, 50 * time.Second, 0.3},
	} {
		if got := tt.s.grown(tt.at); got < tt.want-1e-9 || got > tt.want+1e-9 {
			t.Errorf("%+v at %v: %v, want %v", tt.s, tt.at, got, tt.want)
		}
	}
}

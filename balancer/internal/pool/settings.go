package pool

import (
	"math"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	steadyv1 "github.com/grpcsteady/steady/proto/steady/v1"
)

// Settings are what a policy is told about the endpoints in general, with every default filled in. They are
// comparable.
type Settings struct {
	Ejection  Ejection
	SlowStart SlowStart
	Check     Check
	Latency   Latency
	Reports   Reports
	Failover  Failover
	Panic     float64 // share of endpoints that must be available; 0: ejections and checks always count
	Bounded   bool    // the calls in flight of all endpoints together are counted
}

// Ejection says when an endpoint is taken out; see steady.v1.Ejection.
type Ejection struct {
	Off, Observe bool
	Consecutive  int     // 0: off
	Ratio        float64 // 0: off
	Margin       float64
	MinimumCalls int
	Window       time.Duration
	Base, Max    time.Duration
	Share        float64
}

// SlowStart says how weights grow; see steady.v1.SlowStart. A window of 0: they do not.
type SlowStart struct {
	Window     time.Duration
	MinShare   float64
	Aggression float64
}

// Check says how endpoints are asked for their health; see steady.v1.ActiveCheck. An interval of 0: not at all.
type Check struct {
	Service           string
	Interval, Timeout time.Duration
	Fall, Rise        int
	Jitter            float64
}

// Latency says how the time of answers is averaged; see steady.v1.Latency. A decay of 0: it is not learned.
type Latency struct{ Decay, Penalty time.Duration }

// Failover says when a group of backups gets calls; see steady.v1.Failover.
type Failover struct {
	MinAvailable float64
	Hold         time.Duration
}

// Reports says how load reports become weights; see steady.v1.LoadReports. An expiry of 0: they are ignored.
type Reports struct {
	Blackout, Expiry time.Duration
	ErrorPenalty     float64
}

// Common is what the configurations of all policies have in common.
type Common interface {
	GetEjection() *steadyv1.Ejection
	GetSlowStart() *steadyv1.SlowStart
	GetActiveCheck() *steadyv1.ActiveCheck
	GetPanicThreshold() float64
	GetFailover() *steadyv1.Failover
}

// SettingsOf fills in the defaults of a configuration that document.ReadPolicy has checked.
func SettingsOf(c Common, panicThreshold *float64) Settings {
	return Settings{
		Ejection:  ejectionOf(c.GetEjection()),
		SlowStart: slowStartOf(c.GetSlowStart()),
		Check:     checkOf(c.GetActiveCheck()),
		Panic:     ratio(panicThreshold, 0.5),
		Failover:  failoverOf(c.GetFailover()),
	}
}

func failoverOf(c *steadyv1.Failover) Failover {
	if c == nil {
		c = new(steadyv1.Failover)
	}
	return Failover{MinAvailable: ratio(c.MinAvailable, 0.7), Hold: duration(c.GetHold(), 10*time.Second)}
}

func ejectionOf(c *steadyv1.Ejection) Ejection {
	if c == nil {
		c = new(steadyv1.Ejection)
	}
	e := Ejection{
		Off:          c.GetMode() == steadyv1.Mode_MODE_OFF,
		Observe:      c.GetMode() == steadyv1.Mode_MODE_OBSERVE,
		Consecutive:  5,
		Ratio:        ratio(c.SuccessRatio, 0.8),
		Margin:       ratio(c.Margin, 0.1),
		MinimumCalls: whole(c.MinimumCalls, 20),
		Window:       duration(c.GetWindow(), 10*time.Second),
		Base:         duration(c.GetBaseTime(), 30*time.Second),
		Share:        ratio(c.MaxShare, 0.3),
	}
	if c.ConsecutiveFailures != nil {
		e.Consecutive = max(int(c.GetConsecutiveFailures()), 0)
	}
	e.Max = duration(c.GetMaxTime(), max(300*time.Second, e.Base))
	return e
}

func slowStartOf(c *steadyv1.SlowStart) SlowStart {
	if c == nil {
		c = new(steadyv1.SlowStart)
	}
	return SlowStart{
		Window:     duration(c.GetWindow(), 30*time.Second),
		MinShare:   ratio(c.MinShare, 0.1),
		Aggression: ratio(c.Aggression, 1),
	}
}

func checkOf(c *steadyv1.ActiveCheck) Check {
	if c == nil {
		return Check{}
	}
	every := duration(c.GetInterval(), 5*time.Second)
	return Check{
		Service:  c.GetService(),
		Interval: every,
		Timeout:  duration(c.GetTimeout(), min(2*time.Second, every)),
		Fall:     whole(c.Fall, 3),
		Rise:     whole(c.Rise, 2),
		Jitter:   ratio(c.Jitter, 0.1),
	}
}

// LatencyOf fills in the defaults; nil: off.
func LatencyOf(c *steadyv1.Latency) Latency {
	if c == nil {
		return Latency{}
	}
	return Latency{Decay: duration(c.GetDecay(), 10*time.Second), Penalty: duration(c.GetFailurePenalty(), 5*time.Second)}
}

// ReportsOf fills in the defaults; nil: off.
func ReportsOf(c *steadyv1.LoadReports) Reports {
	if c == nil {
		return Reports{}
	}
	return Reports{
		Blackout:     duration(c.GetBlackout(), 10*time.Second),
		Expiry:       duration(c.GetExpiry(), 3*time.Minute),
		ErrorPenalty: ratio(c.ErrorPenalty, 1),
	}
}

// duration returns what a document says; none becomes 0.
func duration(d *durationpb.Duration, otherwise time.Duration) time.Duration {
	if d == nil {
		return otherwise
	}
	return max(d.AsDuration(), 0)
}

// ratio returns what a document says; -1 becomes 0.
func ratio(f *float64, otherwise float64) float64 {
	if f == nil {
		return otherwise
	}
	return max(*f, 0)
}

func whole(n *uint32, otherwise int) int {
	if n == nil {
		return otherwise
	}
	return int(*n)
}

// grown returns the share of its weight that an endpoint has at age t.
func (s SlowStart) grown(t time.Duration) float64 {
	if s.Window == 0 || t >= s.Window {
		return 1
	}
	share := float64(max(t, 0)) / float64(s.Window)
	if s.Aggression != 1 {
		share = math.Pow(share, 1/s.Aggression)
	}
	return max(s.MinShare, share)
}

package healthsvc_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/grpcsteady/steady/healthsvc"
)

func TestNewNamesWhatIsWrong(t *testing.T) {
	check := func(opts ...healthsvc.CheckOption) healthsvc.Option {
		return healthsvc.WithCheck("db", &dep{}, opts...)
	}
	for _, tt := range []struct {
		opt  healthsvc.Option
		want string
	}{
		{check(healthsvc.Every(0)), `healthsvc: check "db": Every is 0s, want 10ms to 1h0m0s`},
		{check(healthsvc.Every(2 * time.Hour)), `healthsvc: check "db": Every is 2h0m0s, want 10ms to 1h0m0s`},
		{check(healthsvc.Suspect(6 * time.Second)), `healthsvc: check "db": Suspect is 6s, want 10ms to 5s`},
		{check(healthsvc.Timeout(-1)), `healthsvc: check "db": Timeout is -1ns, want 10ms to 1h0m0s`},
		{check(healthsvc.Grace(-1)), `healthsvc: check "db": Grace is -1ns, want 0s to 1h0m0s`},
		{check(healthsvc.Rise(0)), `healthsvc: check "db": Rise is 0, want 1 to 1000`},
		{check(healthsvc.Fall(1001)), `healthsvc: check "db": Fall is 1001, want 1 to 1000`},
		{check(healthsvc.Jitter(1.1)), `healthsvc: check "db": Jitter is 1.1, want 0 (none) to 1`},
		{check(healthsvc.Jitter(math.NaN())), `healthsvc: check "db": Jitter is NaN, want 0 (none) to 1`},
		{healthsvc.WithCheck("", &dep{}), `healthsvc: name of a check is empty, want 1 to 1024 bytes`},
		{healthsvc.WithCheck(strings.Repeat("x", 1025), &dep{}), `healthsvc: name of a check has 1025 bytes, want 1 to 1024`},
		{healthsvc.WithCheck("\xff", &dep{}), `healthsvc: name of a check is "\xff", want UTF-8`},
		{healthsvc.WithCheck("x", nil), `healthsvc: check "x": Checker is <nil>, want one`},
		{healthsvc.WithCheck("x", healthsvc.Func(nil)), `healthsvc: check "x": Func is nil, want a function`},
		{healthsvc.WithCheck("x", healthsvc.SQL(nil)), `healthsvc: check "x": SQL: db is nil, want a *sql.DB`},
		{healthsvc.WithCheck("x", healthsvc.TCP("host")), `healthsvc: check "x": TCP: address is "host", want host:port`},
		{healthsvc.WithCheck("x", healthsvc.HTTP(nil, "host/x")), `healthsvc: check "x": HTTP: address is "host/x", want http://host/path or https://host/path`},
		{healthsvc.WithCheck("x", healthsvc.GRPC(nil, "")), `healthsvc: check "x": GRPC: conn is nil, want a channel`},
		{healthsvc.WithCheck("x", healthsvc.DiskFree("", healthsvc.Bytes(1))), `healthsvc: check "x": DiskFree: path is empty, want a path`},
		{healthsvc.WithCheck("x", healthsvc.DiskFree("/", healthsvc.Bytes(0))), `healthsvc: check "x": DiskFree: Bytes is 0, want more`},
		{healthsvc.WithCheck("x", healthsvc.DiskFree("/", healthsvc.Percent(101))), `healthsvc: check "x": DiskFree: Percent is 101, want above 0 up to 100`},
		{healthsvc.WithCheck("x", healthsvc.DiskFree("/", healthsvc.Amount{})), `healthsvc: check "x": DiskFree: amount is zero, want Bytes or Percent`},
		{healthsvc.WithService("x", "nobody"), `healthsvc: service "x": dependency is "nobody", want the name of a check or service`},
		{healthsvc.WithService("readiness"), `healthsvc: service is "readiness", want another name: this one is taken`},
		{healthsvc.WithService("x", "x"), `healthsvc: service "x": dependency is "x", want no circle`},
		{healthsvc.WithReadiness("nobody"), `healthsvc: readiness: dependency is "nobody", want the name of a check, or of a service with dependencies`},
		{healthsvc.WithDrainWait(-1), `healthsvc: DrainWait is -1ns, want 0s to 1h0m0s`},
		{healthsvc.WithStopLimit(2 * time.Hour), `healthsvc: StopLimit is 2h0m0s, want 0s to 1h0m0s`},
		{healthsvc.WithMaxWatches(0), `healthsvc: MaxWatches is 0, want 1 to 1000000`},
		{healthsvc.WithMaxUnknownWatches(-1), `healthsvc: MaxUnknownWatches is -1, want 0 to 1000000`},
		{healthsvc.WithObserver(nil), `healthsvc: Observer is <nil>, want one`},
		{healthsvc.WithRandom(nil), `healthsvc: Random is nil, want a function`},
	} {
		if _, err := healthsvc.New(tt.opt); err == nil || err.Error() != tt.want {
			t.Errorf("got  %v\nwant %s", err, tt.want)
		}
	}
}

func TestNewTellsAllOfIt(t *testing.T) {
	_, err := healthsvc.New(
		healthsvc.WithCheck("a", &dep{}), healthsvc.WithCheck("a", &dep{}, healthsvc.Rise(-1), healthsvc.Fall(-1)), healthsvc.WithMaxWatches(-1))
	if err == nil || strings.Count(err.Error(), "\n") != 3 || !strings.Contains(err.Error(), `check is "a" twice, want each name once`) {
		t.Errorf("got %v", err)
	}
	_, err = healthsvc.New(healthsvc.WithService("a", "b"), healthsvc.WithService("b", "c"), healthsvc.WithService("c", "a"), healthsvc.WithService("c"))
	if err == nil || !strings.Contains(err.Error(), `service is "c" twice`) {
		t.Errorf("got %v", err)
	}
	_, err = healthsvc.New(healthsvc.WithService("a", "b"), healthsvc.WithService("b", "c"), healthsvc.WithService("c", "a"))
	if err == nil || !strings.Contains(err.Error(), `service "c": dependency is "a", want no circle`) {
		t.Errorf("got %v", err)
	}
	_, err = healthsvc.New(healthsvc.WithCheck("a", &dep{}), healthsvc.WithService("a"))
	if err == nil || !strings.Contains(err.Error(), `service is "a", want another name: a check is called so`) {
		t.Errorf("got %v", err)
	}
}

func TestAddServiceErrors(t *testing.T) {
	h := newHealth(t, healthsvc.WithCheck("db", &dep{}))
	for _, tt := range []struct{ name, dep string }{{"", "db"}, {"liveness", "db"}, {"db", "db"}, {"x", "nobody"}, {"x", ""}, {"x", "readiness"}, {strings.Repeat("x", 2000), "db"}} {
		if err := h.AddService(tt.name, tt.dep); err == nil || !strings.Contains(err.Error(), "want") {
			t.Errorf("%.10q: %v", tt.name, err)
		}
	}
}

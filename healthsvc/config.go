package healthsvc

import (
	"errors"
	"fmt"
	"time"
)

const (
	minInterval = 10 * time.Millisecond
	maxInterval = time.Hour
	maxInARow   = 1000

	// maxName is how long the name of a check, service or watchdog may be, and so the longest name that a
	// client can ask for with success. gRPC's own full names of services are far below.
	maxName = 1024
)

// checkConfig is what the options of one check come to.
type checkConfig struct {
	name    string
	checker Checker
	class   Class

	every   time.Duration
	suspect time.Duration // 0: a fifth of every
	timeout time.Duration
	jitter  float64
	rise    int
	fall    int
	grace   time.Duration
}

func newCheckConfig(name string, c Checker) checkConfig {
	return checkConfig{
		name: name, checker: c,
		every: 5 * time.Second, timeout: 2 * time.Second, jitter: 0.1, rise: 2, fall: 3, grace: 30 * time.Second,
	}
}

// A CheckOption shapes one check of [WithCheck].
type CheckOption func(*checkConfig)

// Every sets how long a check rests from the end of one probe to the begin of the next while nothing is in
// doubt, before jitter. Default 5 s, as nginx and HAProxy users set it; range 10 ms to 1 h.
func Every(d time.Duration) CheckOption { return func(c *checkConfig) { c.every = d } }

// Suspect sets how long a check rests while its last probe spoke against its state, and while it starts: the
// faster interval on suspicion that HAProxy calls fastinter. Default: a fifth of Every, which settles a
// suspicion of three probes within half an interval, while a dependency that stays down is asked no more
// often than one that is well. Range 10 ms to Every; 0 is the default.
func Suspect(d time.Duration) CheckOption { return func(c *checkConfig) { c.suspect = d } }

// Timeout sets how long a probe may take. Longer is a failure, even if it succeeds in the end. Default 2 s,
// range 10 ms to 1 h.
func Timeout(d time.Duration) CheckOption { return func(c *checkConfig) { c.timeout = d } }

// Jitter sets by which share each rest is made shorter or longer at random, so that the checks of many
// processes do not meet at their dependency. Default 0.1: plus or minus 10 %. Range 0 (none) to 1.
func Jitter(share float64) CheckOption { return func(c *checkConfig) { c.jitter = share } }

// Rise sets after how many good probes in a row a check that is down is up again. The first good probe of a
// check's life needs no company. Default 2, as HAProxy's; range 1 to 1,000.
func Rise(n int) CheckOption { return func(c *checkConfig) { c.rise = n } }

// Fall sets after how many failed probes in a row a check is down. Default 3, as HAProxy's; range 1 to 1,000.
func Fall(n int) CheckOption { return func(c *checkConfig) { c.fall = n } }

// Grace sets for how long after the start failures do not count, until a probe was good once: the check is
// starting, which is not up either, but no alarm. Default 30 s, after which the usual liveness probe begins;
// range 0 (none) to 1 h.
func Grace(d time.Duration) CheckOption { return func(c *checkConfig) { c.grace = d } }

// Degrading makes a check that is reported when it is down, and takes down only names that declare it.
// Default: critical, which takes readiness down.
func Degrading() CheckOption { return func(c *checkConfig) { c.class = ClassDegrading } }

// withDefaults fills in what depends on other fields.
func (c checkConfig) withDefaults() checkConfig {
	if c.suspect == 0 {
		c.suspect = max(c.every/5, minInterval)
	}
	return c
}

func (c checkConfig) validate(f *findings) {
	what := fmt.Sprintf("check %q: ", c.name)
	f.name("check", c.name)
	if c.checker == nil {
		f.add(what+"Checker", c.checker, "one")
	} else if v, ok := c.checker.(interface{ Validate() error }); ok {
		if err := v.Validate(); err != nil {
			*f = append(*f, fmt.Errorf("healthsvc: %s%w", what, err))
		}
	}
	f.span(what+"Every", c.every, minInterval, maxInterval)
	if c.every >= minInterval && c.every <= maxInterval {
		f.span(what+"Suspect", c.suspect, minInterval, c.every)
	}
	f.span(what+"Timeout", c.timeout, minInterval, maxInterval)
	f.span(what+"Grace", c.grace, 0, maxInterval)
	f.count(what+"Rise", c.rise, 1, maxInARow)
	f.count(what+"Fall", c.fall, 1, maxInARow)
	if !(c.jitter >= 0 && c.jitter <= 1) { // true for NaN
		f.add(what+"Jitter", c.jitter, "0 (none) to 1")
	}
}

// rest returns how long to wait for the next probe; u is random, from 0 to below 1.
func (c *checkConfig) rest(doubt bool, u float64) time.Duration {
	d := c.every
	if doubt {
		d = c.suspect
	}
	if !(u >= 0 && u < 1) {
		u = 0.5
	}
	return d + time.Duration(float64(d)*c.jitter*(2*u-1))
}

// findings collects all that is wrong, so that one reading mends it.
type findings []error

func (f *findings) err() error { return errors.Join(*f...) }

func (f *findings) add(field string, value any, want string) {
	*f = append(*f, fmt.Errorf("healthsvc: %s is %v, want %s", field, value, want))
}

func (f *findings) span(field string, v, least, most time.Duration) {
	if v < least || v > most {
		f.add(field, v, fmt.Sprintf("%v to %v", least, most))
	}
}

func (f *findings) count(field string, v, least, most int) {
	if v < least || v > most {
		f.add(field, v, fmt.Sprintf("%d to %d", least, most))
	}
}

func (f *findings) name(what, name string) {
	if err := validName(what, name); err != nil {
		*f = append(*f, err)
	}
}

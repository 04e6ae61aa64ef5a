package document

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// numberRange is what a number may be.
type numberRange struct {
	least, most float64
	above       bool // least itself is not allowed
	off         bool // -1 is allowed
	clamp       bool // gRPC takes more; see Lenient
}

func (s numberRange) allow(f float64) bool {
	return s.off && f == off || f <= s.most && (f > s.least || f == s.least && !s.above)
}

func (s numberRange) String() string {
	out := strconv.FormatFloat(s.least, 'f', -1, 64) + " to " + strconv.FormatFloat(s.most, 'f', -1, 64)
	if s.above {
		out = "above " + strconv.FormatFloat(s.least, 'f', -1, 64) + ", up to " + strconv.FormatFloat(s.most, 'f', -1, 64)
	}
	if s.off {
		out += ", or -1 to switch it off"
	}
	return out
}

// timeRange is what a duration may be.
type timeRange struct {
	least, most time.Duration
	none        bool // none is allowed
	clamp       bool // gRPC takes more; see Lenient
}

func (s timeRange) allow(d time.Duration) bool {
	return s.none && d == offTime || d >= s.least && d <= s.most
}

func (s timeRange) String() string {
	out := fmt.Sprintf("%s to %s", short(s.least), short(s.most))
	if s.most == forever {
		out = "at least " + short(s.least)
	}
	if s.none {
		out += ", or none"
	}
	return out
}

// short is a duration without the zero minutes and seconds that Go writes.
func short(d time.Duration) string {
	switch {
	case d >= time.Hour && d%time.Hour == 0:
		return strconv.Itoa(int(d/time.Hour)) + "h"
	case d >= time.Minute && d%time.Minute == 0:
		return strconv.Itoa(int(d/time.Minute)) + "m"
	}
	return d.String()
}

const (
	ms      = time.Millisecond
	day     = 24 * time.Hour
	forever = time.Duration(math.MaxInt64)
)

// numbers has every number of the schema. The mechanisms hold the same bounds in their Validate; a test
// compares them, since this floor can not import that one's.
var numbers = map[protoreflect.FullName]numberRange{
	"steady.v1.RetryThrottling.max_tokens":             {least: 0, most: 1000, above: true},
	"steady.v1.RetryThrottling.token_ratio":            {least: 0.001, most: 1000, clamp: true},
	"steady.v1.RetryBudget.ratio":                      {least: 0, most: 10, above: true, off: true},
	"steady.v1.RetryBudget.min_per_second":             {least: 0, most: 1000, above: true, off: true},
	"steady.v1.RetryBudget.max_ratio":                  {least: 0, most: 10, above: true},
	"steady.v1.MethodConfig.max_request_message_bytes": {least: 0, most: math.MaxUint32, clamp: true},
	"steady.v1.MethodConfig.max_response_message_bytes": {
		least: 0, most: math.MaxUint32, clamp: true,
	},
	"steady.v1.RetryPolicy.max_attempts":       {least: 1, most: 5, clamp: true},
	"steady.v1.RetryPolicy.backoff_multiplier": {least: 1, most: 10, clamp: true},
	"steady.v1.Deadline.attempt_share":         {least: 0, most: 1, above: true},
	"steady.v1.Deadline.reserve_share":         {least: 0, most: 0.5, above: true, off: true},
	"steady.v1.Breaker.consecutive_failures":   {least: 1, most: 1_000_000, off: true},
	"steady.v1.Breaker.failure_ratio":          {least: 0, most: 1, above: true, off: true},
	"steady.v1.Breaker.slow_ratio":             {least: 0, most: 1, above: true},
	"steady.v1.Breaker.minimum_calls":          {least: 1, most: 1_000_000},
	"steady.v1.Breaker.buckets":                {least: 1, most: 100},
	"steady.v1.Breaker.open_multiplier":        {least: 1, most: 10},
	"steady.v1.Breaker.open_jitter":            {least: 0, most: 1, above: true, off: true},
	"steady.v1.Breaker.probes":                 {least: 1, most: 1000},
	"steady.v1.Breaker.successes":              {least: 1, most: 1000},

	"steady.v1.LeastRequest.choice_count":      {least: 2, most: 10, clamp: true}, // gRFC A48 clamps it too
	"steady.v1.LeastRequest.panic_threshold":   {least: 0, most: 1, above: true, off: true},
	"steady.v1.Weighted.panic_threshold":       {least: 0, most: 1, above: true, off: true},
	"steady.v1.ConsistentHash.panic_threshold": {least: 0, most: 1, above: true, off: true},
	"steady.v1.ConsistentHash.max_load":        {least: 1.05, most: 10},
	"steady.v1.Failover.min_available":         {least: 0, most: 1, above: true},
	"steady.v1.LoadReports.error_penalty":      {least: 0, most: 100, above: true, off: true},
	"steady.v1.Ejection.consecutive_failures":  {least: 1, most: 1_000_000, off: true},
	"steady.v1.Ejection.success_ratio":         {least: 0, most: 1, above: true, off: true},
	"steady.v1.Ejection.margin":                {least: 0, most: 1, above: true},
	"steady.v1.Ejection.minimum_calls":         {least: 1, most: 1_000_000},
	"steady.v1.Ejection.max_share":             {least: 0, most: 1, above: true},
	"steady.v1.SlowStart.min_share":            {least: 0, most: 1, above: true},
	"steady.v1.SlowStart.aggression":           {least: 0.1, most: 10},
	"steady.v1.ActiveCheck.fall":               {least: 1, most: 1000},
	"steady.v1.ActiveCheck.rise":               {least: 1, most: 1000},
	"steady.v1.ActiveCheck.jitter":             {least: 0, most: 0.5, above: true, off: true},
}

// durations has every duration of the schema, likewise.
var durations = map[protoreflect.FullName]timeRange{
	"steady.v1.Channel.connect_timeout":     {least: 100 * ms, most: 10 * time.Minute},
	"steady.v1.Keepalive.time":              {least: 10 * time.Second, most: day},
	"steady.v1.Keepalive.timeout":           {least: time.Second, most: 10 * time.Minute},
	"steady.v1.RetryBudget.interval":        {least: time.Second, most: 10 * time.Minute},
	"steady.v1.MethodConfig.timeout":        {least: ms, most: day, clamp: true},
	"steady.v1.RetryPolicy.initial_backoff": {least: ms, most: time.Minute, clamp: true},
	"steady.v1.RetryPolicy.max_backoff":     {least: ms, most: 10 * time.Minute, clamp: true},
	"steady.v1.RetryPolicy.max_elapsed":     {least: ms, most: forever, none: true},
	"steady.v1.Deadline.default":            {least: ms, most: day, none: true},
	"steady.v1.Deadline.max":                {least: ms, most: forever},
	"steady.v1.Deadline.attempt_timeout":    {least: ms, most: day},
	"steady.v1.Deadline.reserve":            {least: 1, most: time.Minute, none: true},
	"steady.v1.Deadline.first_message":      {least: ms, most: day, none: true},
	"steady.v1.Deadline.idle":               {least: ms, most: day},
	"steady.v1.Deadline.send":               {least: ms, most: day},
	"steady.v1.Breaker.slow_after":          {least: 1, most: forever},
	"steady.v1.Breaker.window":              {least: 100 * ms, most: time.Hour},
	"steady.v1.Breaker.open_time":           {least: ms, most: time.Hour},
	"steady.v1.Breaker.max_open_time":       {least: ms, most: day},

	"steady.v1.Latency.decay":           {least: 100 * ms, most: 10 * time.Minute},
	"steady.v1.Latency.failure_penalty": {least: ms, most: 5 * time.Minute},
	"steady.v1.Failover.hold":           {least: ms, most: time.Hour, none: true},
	"steady.v1.LoadReports.blackout":    {least: ms, most: time.Hour, none: true},
	"steady.v1.LoadReports.expiry":      {least: time.Second, most: time.Hour},
	"steady.v1.Ejection.window":         {least: 100 * ms, most: time.Hour},
	"steady.v1.Ejection.base_time":      {least: ms, most: time.Hour},
	"steady.v1.Ejection.max_time":       {least: ms, most: day},
	"steady.v1.SlowStart.window":        {least: 100 * ms, most: time.Hour, none: true},
	"steady.v1.ActiveCheck.interval":    {least: 100 * ms, most: time.Hour},
	"steady.v1.ActiveCheck.timeout":     {least: ms, most: time.Hour},
}

package retry_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/grpcsteady/steady/interceptors/retry"
)

func TestParsePushback(t *testing.T) {
	stop := retry.Pushback{Set: true, Stop: true}
	wait := func(d time.Duration) retry.Pushback { return retry.Pushback{Set: true, Wait: d} }
	for _, tt := range []struct {
		name string
		give []string
		want retry.Pushback
	}{
		{"absent", nil, retry.Pushback{}},
		{"absent, not nil", []string{}, retry.Pushback{}},
		{"at once", []string{"0"}, wait(0)},
		{"a wait", []string{"250"}, wait(250 * ms)},
		{"leading zeros", []string{"000250"}, wait(250 * ms)},
		{"a day", []string{"86400000"}, wait(24 * time.Hour)},
		{"longer than a day", []string{"86400001"}, stop},
		{"negative", []string{"-1"}, stop},
		{"negative zero", []string{"-0"}, stop},
		{"empty", []string{""}, stop},
		{"word", []string{"abc"}, stop},
		{"sign", []string{"+5"}, stop},
		{"space before", []string{" 5"}, stop},
		{"space after", []string{"5 "}, stop},
		{"fraction", []string{"5.0"}, stop},
		{"exponent", []string{"1e30"}, stop},
		{"hexadecimal", []string{"0x10"}, stop},
		{"underscore", []string{"1_000"}, stop},
		{"unit", []string{"5ms"}, stop},
		{"digits of another script", []string{"٥"}, stop},
		{"zero byte", []string{"5\x00"}, stop},
		{"largest int64", []string{"9223372036854775807"}, stop},
		{"int64 overflow", []string{"9223372036854775808"}, stop},
		{"wraps to 0 in 64 bits", []string{"18446744073709551616"}, stop},
		{"overflows as a Duration only", []string{"9223372036855"}, stop},
		{"a megabyte", []string{strings.Repeat("9", 1<<20)}, stop},
		{"a megabyte of zeros", []string{strings.Repeat("0", 1<<20)}, stop},
		{"two", []string{"5", "5"}, stop},
		{"one and nothing", []string{"5", ""}, stop},
		{"nothing twice", []string{"", ""}, stop},
		{"joined", []string{"5,5"}, stop},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := retry.ParsePushback(tt.give); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func FuzzParsePushback(f *testing.F) {
	for _, s := range []string{"", "0", "5", "-1", "+5", " 5", "5.0", "1e30", "abc", "86400000", "9223372036854775808", "٥"} {
		f.Add(1, s)
	}
	f.Add(0, "")
	f.Add(2, "5")
	f.Fuzz(func(t *testing.T, n int, value string) {
		values := make([]string, min(max(n, 0), 8))
		for i := range values {
			values[i] = value
		}
		got := retry.ParsePushback(values)
		switch {
		case len(values) == 0:
			if got != (retry.Pushback{}) {
				t.Fatalf("no value: %+v", got)
			}
		case got.Stop:
			if got != (retry.Pushback{Set: true, Stop: true}) {
				t.Fatalf("%d of %q: %+v", n, value, got)
			}
			// Nothing that is plainly a wait of up to a day is turned into a stop.
			if v, err := strconv.Atoi(value); len(values) == 1 && err == nil && strconv.Itoa(v) == value && v >= 0 && v <= 86_400_000 {
				t.Fatalf("%q stopped", value)
			}
		default:
			if len(values) != 1 || !got.Set || got.Wait < 0 || got.Wait > 24*time.Hour {
				t.Fatalf("%d of %q: %+v", n, value, got)
			}
			digits := strings.TrimLeft(value, "0")
			if digits == "" {
				digits = "0"
			}
			if back := strconv.FormatInt(got.Wait.Milliseconds(), 10); back != digits {
				t.Fatalf("%q read as %v", value, got.Wait)
			}
		}
	})
}

package healthsvc_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/grpcsteady/steady/healthsvc"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// get asks the handler, mounted as users mount it.
func get(h http.Handler, method, path string) *http.Response {
	mux := http.NewServeMux()
	mux.Handle("/health", h)
	mux.Handle("/health/", h)
	mux.Handle("/internal/", http.StripPrefix("/internal", h))
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(method, path, http.NoBody))
	return w.Result()
}

// TestHTTPGolden: the exact answer of each path in each situation stands in testdata. UPDATE_GOLDEN=1 writes it.
func TestHTTPGolden(t *testing.T) {
	situations := []struct {
		name string
		do   func(h *healthsvc.Health, db, cache, disk *dep, dog *healthsvc.Watchdog)
	}{
		{"starting", func(_ *healthsvc.Health, db, _, _ *dep, _ *healthsvc.Watchdog) { db.set(errDown) }},
		{"cache-starting", func(*healthsvc.Health, *dep, *dep, *dep, *healthsvc.Watchdog) {}},
		{"up", func(*healthsvc.Health, *dep, *dep, *dep, *healthsvc.Watchdog) {}},
		{"degraded", func(_ *healthsvc.Health, _, cache, _ *dep, _ *healthsvc.Watchdog) {
			cache.set(errors.New(`dial tcp "cache:6379": <refused>`))
		}},
		{"down", func(_ *healthsvc.Health, db, _, _ *dep, _ *healthsvc.Watchdog) {
			time.AfterFunc(s, func() {
				db.act(func(context.Context) error { time.Sleep(3 * time.Millisecond); return errDown })
			})
		}},
		{"lost-one", func(_ *healthsvc.Health, db, _, _ *dep, _ *healthsvc.Watchdog) {
			time.AfterFunc(59*s, func() { db.set(errDown) })
		}},
		{"stalled", func(_ *healthsvc.Health, _, _, _ *dep, dog *healthsvc.Watchdog) {}},
		{"suspended", func(h *healthsvc.Health, _, _, _ *dep, _ *healthsvc.Watchdog) { _ = h.Suspend() }},
	}
	for _, tt := range situations {
		steadytest.Run(t, func(t *testing.T) {
			db, cache, disk := &dep{}, &dep{}, &dep{}
			grace := 30 * s
			if tt.name == "starting" {
				grace = time.Hour
			}
			h := newHealth(t,
				healthsvc.WithCheck("database", db, healthsvc.Jitter(0), healthsvc.Grace(grace)),
				healthsvc.WithCheck("cache", cache, healthsvc.Jitter(0), healthsvc.Degrading(), healthsvc.Grace(time.Hour)),
				healthsvc.WithCheck("disk", disk, healthsvc.Jitter(0)))
			dog, err := h.Watchdog("loop", 50*s)
			if err != nil {
				t.Fatal(err)
			}
			if tt.name != "stalled" {
				time.AfterFunc(30*s, dog.Feed)
			}
			switch tt.name {
			case "starting":
				db.set(errDown)
			case "cache-starting": // which is no reason yet to call the process degraded
				cache.set(errDown)
			}
			h.Start()
			if tt.name != "starting" {
				time.Sleep(time.Millisecond)
			}
			tt.do(h, db, cache, disk, dog)
			time.Sleep(60*s + s/2)
			for _, details := range []bool{false, true} {
				var b strings.Builder
				handler := h.Handler()
				if details {
					handler = h.Handler(healthsvc.Details())
				}
				for _, path := range []string{"/health", "/health/live", "/health/ready", "/health/startup"} {
					r := get(handler, http.MethodGet, path)
					body, _ := io.ReadAll(r.Body)
					if r.Header.Get("Content-Type") != "application/json" || r.Header.Get("Cache-Control") != "no-store" || r.Header.Get("Content-Length") != strconv.Itoa(len(body)) {
						t.Errorf("%s: header %v", path, r.Header)
					}
					b.WriteString(path + " " + strconv.Itoa(r.StatusCode) + " " + string(body))

					r = get(handler, http.MethodHead, "/internal"+path)
					if none, _ := io.ReadAll(r.Body); len(none) != 0 || r.Header.Get("Content-Length") != strconv.Itoa(len(body)) {
						t.Errorf("HEAD %s: %q, %v", path, none, r.Header)
					}
				}
				name := tt.name
				if details {
					name += "-details"
				}
				golden(t, filepath.Join("testdata", name+".txt"), b.String())
			}
		})
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", file, got, want)
	}
}

func TestHTTPMethodsAndPaths(t *testing.T) {
	h := newHealth(t)
	for _, tt := range []struct {
		method, path string
		want         int
	}{
		{"POST", "/health", 405}, {"DELETE", "/health/live", 405}, {"OPTIONS", "/health/ready", 405},
		{"GET", "/health/", 404}, {"GET", "/health/nobody", 404}, {"POST", "/health/nobody", 404}, {"GET", "/health/live/", 404},
		{"GET", "/health/ready", 503}, {"HEAD", "/health/ready", 503}, {"GET", "/health/live", 200}, // not started
	} {
		r := get(h.Handler(), tt.method, tt.path)
		if r.StatusCode != tt.want || r.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s %s: %d, %v, want %d", tt.method, tt.path, r.StatusCode, r.Header, tt.want)
		}
		if allow := r.Header.Get("Allow"); (allow == "GET, HEAD") != (tt.want == 405) {
			t.Errorf("%s %s: Allow %q", tt.method, tt.path, allow)
		}
	}
}

type badError struct{}

func (badError) Error() string { panic("no words") }

// TestErrorThatPanics: an error of the user's costs its words, and no answer.
func TestErrorThatPanics(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		h := newHealth(t, healthsvc.WithCheck("x", &dep{err: badError{}}), healthsvc.WithObserver(healthsvc.SlogObserver(slog.New(slog.DiscardHandler))))
		h.Start()
		time.Sleep(s / 2)
		body, _ := io.ReadAll(get(h.Handler(healthsvc.Details()), "GET", "/health/ready").Body)
		if !strings.Contains(string(body), "panicked") {
			t.Errorf("%s", body)
		}
	})
}

// FuzzHandler: whatever is asked, there are four paths, and each answers in one of its two ways.
func FuzzHandler(f *testing.F) {
	for _, path := range []string{"/health", "/health/live", "/health/ready/", "/health//ready", "/health/%2e", "*", "", "/health?x=\xff"} {
		f.Add("GET", path)
	}
	h := newHealth(f)
	handler := h.Handler(healthsvc.Details())
	f.Fuzz(func(t *testing.T, method, path string) {
		r := httptest.NewRequest("GET", "/", http.NoBody)
		r.Method, r.URL.Path = method, path
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		want := map[string]int{"/health": 503, "/health/ready": 503, "/health/startup": 503, "/health/live": 200}[path]
		switch {
		case want == 0:
			want = 404
		case method != "GET" && method != "HEAD":
			want = 405
		}
		if w.Code != want {
			t.Errorf("%q %q: %d, want %d", method, path, w.Code, want)
		}
	})
}

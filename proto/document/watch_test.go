package document_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grpcsteady/steady/proto/document"
	steadyv1 "github.com/grpcsteady/steady/proto/steady/v1"
)

// watched is a file under watch in a bubble: the clock is virtual, the file is real.
type watched struct {
	t    *testing.T
	dir  string
	path string

	mu   sync.Mutex
	told []string
}

func (w *watched) report(d *document.Document, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := "error"
	if err == nil {
		text = d.Config.Mode.String()
	} else if d != nil {
		w.t.Error("a document with an error")
	}
	w.told = append(w.told, text)
}

// expect lets time pass, and then compares all that was told since the last time.
func (w *watched) expect(after time.Duration, want ...string) {
	w.t.Helper()
	time.Sleep(after)
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if fmt.Sprint(w.told) != fmt.Sprint(want) {
		w.t.Errorf("told %v, want %v", w.told, want)
	}
	w.told = nil
}

func (w *watched) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// write writes in place.
func (w *watched) write(text string) {
	w.t.Helper()
	w.must(os.WriteFile(w.path, []byte(text), 0o600))
}

const (
	enforce = "mode: enforce"
	observe = "mode: observe"
	off     = "mode: off"
	round   = 1300 * time.Millisecond // the longest wait, and the file's time to settle
)

var (
	enforced = steadyv1.Mode_MODE_ENFORCE.String()
	observed = steadyv1.Mode_MODE_OBSERVE.String()
	isOff    = steadyv1.Mode_MODE_OFF.String()
)

// watch runs a scenario beside Watch, and sees that Watch ends with its context.
func watch(t *testing.T, scenario func(w *watched), opts ...document.WatchOption) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &watched{t: t, dir: t.TempDir()}
		w.path = filepath.Join(w.dir, "rules.yaml")
		w.write(enforce)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- document.Watch(ctx, w.path, w.report, opts...) }()
		w.expect(0, enforced)
		scenario(w)
		cancel()
		synctest.Wait()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Error("Watch goes on after its context")
		}
	})
}

func TestWatchInPlace(t *testing.T) {
	watch(t, func(w *watched) {
		w.expect(time.Minute)
		w.write(observe)
		w.expect(round, observed)
		w.write(off + "    ") // of the same size
		w.expect(round, isOff)
		w.expect(time.Minute)
	})
}

func TestWatchAtomicRename(t *testing.T) {
	watch(t, func(w *watched) {
		next := filepath.Join(w.dir, "next")
		w.must(os.WriteFile(next, []byte(observe), 0o600))
		w.must(os.Rename(next, w.path))
		w.expect(round, observed)
	})
}

func TestWatchDeletion(t *testing.T) {
	watch(t, func(w *watched) {
		w.must(os.Remove(w.path))
		w.expect(round, "error")
		w.expect(time.Minute) // told once
		w.write(enforce)
		w.expect(round, enforced) // all is well again
	})
}

// TestWatchConfigMap: kubelet swaps a link to a folder; the file's own link never changes.
func TestWatchConfigMap(t *testing.T) {
	watch(t, func(w *watched) {
		volume := func(name, text string) {
			w.must(os.Mkdir(filepath.Join(w.dir, name), 0o700))
			w.must(os.WriteFile(filepath.Join(w.dir, name, "rules.yaml"), []byte(text), 0o600))
			w.must(os.Symlink(name, filepath.Join(w.dir, "..data_tmp")))
			w.must(os.Rename(filepath.Join(w.dir, "..data_tmp"), filepath.Join(w.dir, "..data")))
		}
		volume("..1", enforce)
		w.must(os.Remove(w.path))
		w.must(os.Symlink(filepath.Join("..data", "rules.yaml"), w.path))
		w.expect(time.Minute) // the same bytes
		volume("..2", observe)
		w.must(os.RemoveAll(filepath.Join(w.dir, "..1")))
		w.expect(round, observed)
	})
}

func TestWatchBadDocument(t *testing.T) {
	watch(t, func(w *watched) {
		w.write("mode: offf")
		w.expect(round, "error")
		w.expect(time.Minute)
		w.write("mode: [")
		w.expect(round, "error") // another one
		w.write(enforce)
		w.expect(round, enforced)
	})
}

// TestWatchSlowWriter: a prefix of a document is often a document. Nothing counts before it stays so.
func TestWatchSlowWriter(t *testing.T) {
	watch(t, func(w *watched) {
		for i := range 40 {
			w.write(off + "\n" + strings.Repeat("#", i))
			w.expect(50 * time.Millisecond)
		}
		w.write(observe)
		w.expect(round, observed)
	})
}

func TestWatchGoneAndBackBetweenLooks(t *testing.T) {
	watch(t, func(w *watched) {
		for range 5 {
			w.write("")
			w.expect(30 * time.Millisecond)
			w.write(enforce)
			w.expect(round)
		}
	})
}

func TestWatchOnDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &watched{t: t, dir: t.TempDir()}
		w.path = filepath.Join(w.dir, "rules.yaml")
		w.write(enforce)
		now := make(chan struct{})
		var wg sync.WaitGroup
		defer wg.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		wg.Go(func() {
			_ = document.Watch(ctx, w.path, w.report, document.Every(time.Hour), document.OnDemand(now), document.Reading(document.Lenient()))
		})
		w.expect(0, enforced)
		w.write(observe + "\nnewer: true")
		w.expect(time.Minute)
		now <- struct{}{}
		w.expect(100*time.Millisecond, observed)
		now <- struct{}{}
		w.expect(time.Minute) // nothing new
		close(now)
		w.write(off)
		w.expect(3*time.Hour, isOff)
	})
}

func TestWatchSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &watched{t: t, dir: t.TempDir()}
		w.path = filepath.Join(w.dir, "rules.yaml")
		w.write(enforce)
		d, err := document.Load(w.path)
		w.must(err)
		var wg sync.WaitGroup
		defer wg.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		wg.Go(func() { _ = document.Watch(ctx, w.path, w.report, document.Since(d)) })
		w.expect(time.Minute) // in force already
		w.write(observe)
		w.expect(round, observed)
		wg.Go(func() { _ = document.Watch(ctx, w.path, w.report, document.Since(d)) })
		w.expect(0, observed) // changed between Load and Watch
	})
}

func TestWatchRefuses(t *testing.T) {
	nop := func(*document.Document, error) {}
	if err := document.Watch(t.Context(), "x", nop, document.Every(time.Millisecond)); err == nil {
		t.Error("looks every millisecond")
	}
	if err := document.Watch(t.Context(), "x", nil); err == nil {
		t.Error("reports to nobody")
	}
}

package healthsvc

import (
	"context"
	"log/slog"
)

// maxLogged is how many names one line of the log may have.
const maxLogged = 10

// SlogObserver returns an observer that writes transitions: checks that change their state, names that begin
// or cease to serve, phases, watchdogs. A probe is no line, however it ended. Nil logs to slog.Default.
func SlogObserver(logger *slog.Logger) Observer {
	if logger == nil {
		logger = slog.Default()
	}
	return &slogObserver{logger}
}

type slogObserver struct{ *slog.Logger }

// Observe writes an event.
func (l *slogObserver) Observe(e Event) {
	ctx := context.Background()
	switch e := e.(type) {
	case *CheckChanged:
		level := slog.LevelInfo
		if e.To == Down {
			level = slog.LevelWarn
		}
		attrs := []slog.Attr{
			slog.String("check", e.Check), slog.String("class", e.Class.String()),
			slog.String("from", e.From.String()), slog.String("to", e.To.String()),
		}
		if e.Err != nil {
			attrs = append(attrs, slog.String("error", text(e.Err)))
		}
		l.LogAttrs(ctx, level, "health check changed", attrs...)
	case *ServingChanged:
		if len(e.NotServing) > 0 {
			l.LogAttrs(ctx, slog.LevelWarn, "not serving", slog.Int("services", len(e.NotServing)), slog.Any("names", few(e.NotServing)), slog.String("reason", e.Reason))
		}
		if len(e.Serving) > 0 {
			l.LogAttrs(ctx, slog.LevelInfo, "serving", slog.Int("services", len(e.Serving)), slog.Any("names", few(e.Serving)), slog.String("reason", e.Reason))
		}
	case *PhaseChanged:
		l.LogAttrs(ctx, slog.LevelInfo, "health phase changed", slog.String("from", e.From.String()), slog.String("to", e.To.String()))
	case *WatchdogChanged:
		if e.Stalled {
			l.LogAttrs(ctx, slog.LevelError, "watchdog not fed in time", slog.String("watchdog", e.Watchdog), slog.Duration("limit", e.Limit))
			return
		}
		l.LogAttrs(ctx, slog.LevelInfo, "watchdog fed again", slog.String("watchdog", e.Watchdog))
	}
}

func few(names []string) []string { return names[:min(len(names), maxLogged)] }

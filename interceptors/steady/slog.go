package steady

import (
	"context"
	"log/slog"
)

// SlogObserver returns an observer that writes what an operator wants to read: changes of breakers, limited
// retries, exchanged and refused rules, injected faults, and calls that failed although a rule did what it
// could. What happens on every call is no log line. Nil logs to slog.Default.
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
	case *BreakerChanged:
		l.LogAttrs(ctx, slog.LevelWarn, "circuit breaker changed",
			slog.String("channel", e.Channel), slog.String("rule", e.Rule), slog.String("method", e.Method),
			slog.String("from", e.Change.From.String()), slog.String("to", e.Change.To.String()),
			slog.String("reason", e.Change.Reason), slog.Duration("open_for", e.Change.OpenFor), slog.Bool("would_have", e.WouldHave))
	case *RetryLimited:
		l.LogAttrs(ctx, slog.LevelWarn, "retries limited to attempts that never left the client",
			slog.String("rule", e.Rule), slog.Int("methods", len(e.Methods)), slog.Bool("undescribed", e.Undescribed),
			slog.String("remedy", "set idempotency_level in the proto, or RetryOn or Idempotent in a rule that names the method or service"))
	case *Reloaded:
		attrs := []slog.Attr{slog.Int("rules", e.Rules)}
		if e.Source != "" {
			attrs = append(attrs, slog.String("source", e.Source))
		}
		if e.Channel != "" {
			attrs = append(attrs, slog.String("channel", e.Channel))
		}
		if e.Err != nil {
			l.LogAttrs(ctx, slog.LevelError, "rules refused, the old ones stay in force", append(attrs, slog.Any("error", e.Err))...)
			return
		}
		l.LogAttrs(ctx, slog.LevelInfo, "rules in force", append(attrs, slog.String("mode", e.Mode.String()))...)
	case *Ignored:
		l.LogAttrs(ctx, slog.LevelWarn, "part of a document has no effect",
			slog.String("channel", e.Channel), slog.String("source", e.Source), slog.String("key", e.Key), slog.String("reason", e.Reason))
	case *EndpointChanged:
		l.LogAttrs(ctx, slog.LevelWarn, "endpoint changed",
			slog.String("channel", e.Channel), slog.String("endpoint", e.Endpoint), slog.Bool("out", e.Out),
			slog.String("reason", e.Reason), slog.Duration("for", e.For), slog.Bool("would_have", e.WouldHave))
	case *FaultInjected:
		l.LogAttrs(ctx, slog.LevelWarn, "fault injected on purpose",
			slog.String("fault", e.Fault), slog.String("channel", e.Channel), slog.String("method", e.Method), slog.Bool("server", e.Server))
	case *FellBack:
		if e.Err != nil {
			l.LogAttrs(ctx, slog.LevelError, "fallback failed", slog.String("method", e.Method), slog.Any("error", e.Err), slog.Any("cause", e.Cause))
		}
	case *CallEnded:
		if _, told := e.Err.(*CallError); told { //nolint:errorlint // the driver's own error, as it returned it
			l.LogAttrs(ctx, slog.LevelWarn, "call failed", slog.String("channel", e.Channel), slog.String("story", Explain(e.Err)))
		}
	}
}

// Promql holds the PromQL in docs/metrics.md against a real Prometheus: it makes traffic whose numbers are known,
// shows the metrics of it to a Prometheus that it starts, and asks every expression of the page. Each must give an
// answer, and the one that the traffic gives reason to expect.
//
//	go run ./promql -prometheus "$(command -v prometheus)" -data "$(mktemp -d)"
//
// It takes about half a minute, ends what it has started, and exits with 1 if an answer is wrong.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	program := flag.String("prometheus", "prometheus", "the Prometheus server to start")
	docs := flag.String("docs", "../../docs/metrics.md", "the page with the expressions")
	data := flag.String("data", "", "an empty folder for the data of Prometheus")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *program, *docs, *data); err != nil {
		stop()
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // what was deferred is done
	}
}

// scrapes is how often Prometheus must have read before it is asked.
const scrapes = 15

func run(ctx context.Context, program, docs, data string) (err error) {
	text, err := os.ReadFile(docs)
	if err != nil {
		return err
	}
	rows := questions(string(text))
	if err := complete(rows); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	t, err := startTraffic(ctx)
	if err != nil {
		return err
	}
	defer t.stop()
	p, err := startPrometheus(ctx, program, data, t.addr)
	if err != nil {
		return err
	}
	defer p.stop()
	if err := p.waitFor(ctx, fmt.Sprintf(`count_over_time(up{job="steady"}[5m]) >= %d`, scrapes)); err != nil {
		return err
	}
	base, err := p.query(ctx, rounds)
	if err != nil {
		return err
	}
	if len(base) != 1 || base[0].value <= 0 {
		return fmt.Errorf("no traffic was seen: %v", base)
	}
	wrong := 0
	for _, r := range rows {
		found, err := p.query(ctx, r.expression)
		if err == nil {
			err = expected[r.question].check(found, base[0].value)
		}
		verdict := "ok  "
		if err != nil {
			verdict = "BAD "
			wrong++
		}
		fmt.Printf("%s %-34s %s\n", verdict, r.question, r.expression)
		for _, s := range found {
			fmt.Printf("       %-60s %.4g\n", s.labels(), s.value)
		}
		if err != nil {
			fmt.Printf("       %v\n", err)
		}
	}
	fmt.Printf("%d expressions, %d wrong\n", len(rows), wrong)
	if wrong > 0 {
		return fmt.Errorf("%d of %d expressions do not say what they should", wrong, len(rows))
	}
	return nil
}

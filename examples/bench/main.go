package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/grpcsteady/steady/examples/bench/pairs"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// Exit codes.
const (
	exitOK          = 0
	exitError       = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// config is what the flags say.
type config struct {
	json bool
	pick *regexp.Regexp
	opts pairs.Options
}

// quickOptions make a row take a second, and on a busy machine not much more than the limit.
var quickOptions = pairs.Options{Pairs: 41, Batch: 5 * time.Millisecond, Limit: 1250 * time.Millisecond}

func parse(args []string, stderr io.Writer) (config, error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	var c config
	pick := flags.String("row", "", "measure only rows whose \"row vs peer\" matches this `regexp`")
	flags.BoolVar(&c.json, "json", false, "print one JSON object for each row")
	quick := flags.Bool("quick", false, "measure shorter: under 90 seconds for all rows")
	if err := flags.Parse(args); err != nil {
		return config{}, err
	}
	if flags.NArg() > 0 {
		err := fmt.Errorf("unknown argument %q", flags.Arg(0))
		_, _ = fmt.Fprintln(stderr, err)
		return config{}, err
	}
	var err error
	if c.pick, err = regexp.Compile(*pick); err != nil {
		_, _ = fmt.Fprintln(stderr, "-row:", err)
		return config{}, err
	}
	if *quick {
		c.opts = quickOptions
	}
	return c, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	if err != nil {
		return exitUsage
	}
	var chosen []pairs.Row
	for _, row := range allRows() {
		if c.pick.MatchString(row.String()) {
			chosen = append(chosen, row)
		}
	}
	if len(chosen) == 0 {
		_, _ = fmt.Fprintf(stderr, "no row matches %q\n", c.pick)
		return exitUsage
	}
	err = c.bench(ctx, chosen, stdout, stderr)
	switch {
	case err == nil:
		return exitOK
	case ctx.Err() != nil:
		_, _ = fmt.Fprintln(stderr, "interrupted")
		return exitInterrupted
	default:
		_, _ = fmt.Fprintln(stderr, err)
		return exitError
	}
}

// bench measures rows and prints each as soon as it is done. What is not a row goes to stderr with -json, so
// that stdout holds objects only.
func (c config) bench(ctx context.Context, rows []pairs.Row, stdout, stderr io.Writer) error {
	talk := stdout
	if c.json {
		talk = stderr
	}
	if err := head(talk, c.opts); err != nil {
		return err
	}
	if !c.json {
		if err := pairs.WriteHead(stdout); err != nil {
			return err
		}
	}
	counts := map[string]int{}
	var notes []string
	for _, row := range rows {
		result, err := pairs.Measure(ctx, row, c.opts)
		if err != nil {
			return err
		}
		verdict := pairs.Judge(result)
		counts[pairs.Word(row, verdict)]++
		if verdict.Why != "" {
			notes = append(notes, fmt.Sprintf("  %s: %s", row, verdict.Why))
		}
		write := pairs.WriteLine
		if c.json {
			write = pairs.WriteJSON
		}
		if err := write(stdout, result, verdict); err != nil {
			return err
		}
	}
	return foot(talk, counts, notes)
}

// head says where and how it is measured.
func head(w io.Writer, opts pairs.Options) error {
	m := pairs.MeasureMachine(opts)
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s/%s, %d threads; %s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH,
		runtime.GOMAXPROCS(0), strings.Join(versions(), ", "))
	for _, brick := range m.Bricks {
		fmt.Fprintf(&b, "%s %.3g ns (reference machine %.3g); ", brick.Name, brick.NS, brick.Reference)
	}
	fmt.Fprintf(&b, "two threads do %.2f times the work of one\n", m.Speedup)
	fmt.Fprintf(&b, "Targets are from the reference machine. A budget is its target times the machine's factor, the\n"+
		"geometric mean of the bricks: %.2f now, measured again beside every row.\n\n", m.Factor())
	_, err := io.WriteString(w, b.String())
	return err
}

// foot sums the verdicts up and gives their reasons.
func foot(w io.Writer, counts map[string]int, notes []string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%d budgets hold, %d do not, %d refused, %d rows without a budget\n",
		counts["yes"], counts["NO"], counts["refused"], counts["-"])
	for _, n := range notes {
		b.WriteString(n + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// peers are the modules whose versions matter to a reader.
var peers = []string{
	"github.com/avast/retry-go/v5",
	"github.com/cenkalti/backoff/v5",
	"github.com/failsafe-go/failsafe-go",
	"github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus",
	"github.com/grpc-ecosystem/go-grpc-middleware/v2",
	"github.com/sony/gobreaker/v2",
	"google.golang.org/grpc",
}

// versions reads the versions out of the binary, so that they are never out of date. A test binary has none.
func versions() []string {
	var out []string
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if slices.Contains(peers, m.Path) {
				out = append(out, strings.TrimPrefix(m.Path, "github.com/")+" "+m.Version)
			}
		}
	}
	if len(out) == 0 {
		return []string{"versions of the peers unknown"}
	}
	return out
}

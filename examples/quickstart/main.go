// Quickstart shows what rules are worth: it calls a fleet of five real gRPC servers, three of which are sick,
// first with plain gRPC and then with steady, under the same load of calls and streams and the same deadline, and
// compares.
//
//	go run ./examples/quickstart        # a table, and how to read it
//	go run ./examples/quickstart -json  # {"plain": {...}, "steady": {...}} on stdout, nothing else
//
// It takes about 17 seconds, tells its progress on stderr, and exits with 0; with 130 after Ctrl-C, which
// stops it cleanly at any time; with 1 on an error.
//
// client.go, server.go and orders.yaml, the rules, are what to copy. guide.go writes the usual advice on breakers,
// retries and timeouts down as rules, and the tests beside it show each of its numbers at its second.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"google.golang.org/grpc"

	ordersv1 "github.com/grpcsteady/steady/examples/quickstart/orders/v1"
)

// settings are the size of the demonstration. Tests make it shorter.
type settings struct {
	rate   int           // calls per second
	each   time.Duration // how long each of the two runs begins calls
	period time.Duration // of the server that comes and goes
	seed   uint64        // of the faults
}

func defaults() settings {
	return settings{rate: 540, each: 7500 * time.Millisecond, period: 1875 * time.Millisecond, seed: 1}
}

const (
	exitError       = 1
	exitUsage       = 2
	exitInterrupted = 130 // as shells count: 128 + SIGINT
)

func main() { os.Exit(run(os.Args[1:], defaults(), os.Stdout, os.Stderr)) }

// run is the program but for the process around it.
func run(args []string, s settings, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	flags.SetOutput(stderr)
	asJSON := flags.Bool("json", false, "print one JSON object instead of the table")
	if err := flags.Parse(args); err != nil {
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	return show(ctx, s, *asJSON, stdout, stderr)
}

func show(ctx context.Context, s settings, asJSON bool, stdout, stderr io.Writer) int {
	if !asJSON {
		intro(stdout, s)
	}
	c, err := compare(ctx, s, stderr)
	switch {
	case ctx.Err() != nil:
		_, _ = fmt.Fprintln(stderr, "quickstart: interrupted")
		return exitInterrupted
	case err != nil:
		_, _ = fmt.Fprintln(stderr, "quickstart:", err)
		return exitError
	case asJSON:
		err = json.NewEncoder(stdout).Encode(c)
	default:
		_, _ = fmt.Fprintln(stderr)
		table(stdout, c)
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "quickstart:", err)
		return exitError
	}
	return 0
}

// compare makes both runs, one after the other.
func compare(ctx context.Context, s settings, progress io.Writer) (c comparison, err error) {
	c.Plain, err = measure(ctx, s, "plain gRPC", progress, connectPlain)
	if err != nil || ctx.Err() != nil {
		return c, err
	}
	c.Steady, err = measure(ctx, s, "steady", progress, connectSteady)
	return c, err
}

func connectSteady(target string, count *counts, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	return connect(target, count, opts...)
}

type connector func(target string, count *counts, opts ...grpc.DialOption) (*grpc.ClientConn, error)

// measure makes one run against a fleet of its own.
func measure(ctx context.Context, s settings, name string, progress io.Writer, open connector) (result, error) {
	f, err := startFleet(ctx, s.seed, s.period)
	if err != nil {
		return result{}, err
	}
	defer f.stop()
	var count counts
	conn, err := open(target(f.addrs), &count, reach()...)
	if err != nil {
		return result{}, err
	}
	defer func() { _ = conn.Close() }() // all calls have ended
	l := &load{rate: s.rate, duration: s.each, client: ordersv1.NewOrdersClient(conn)}
	done, told := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(told)
		l.progress(progress, name, done)
	}()
	l.run(ctx)
	close(done)
	<-told
	return l.result(&count), nil
}

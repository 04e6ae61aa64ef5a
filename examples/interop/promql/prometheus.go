package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// monitor is a Prometheus that reads one target every second.
type monitor struct {
	addr string
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
	end  error         // how; written before done is closed
}

func startPrometheus(ctx context.Context, program, dir, target string) (*monitor, error) {
	config := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf("global: {scrape_interval: 1s}\nscrape_configs:\n- job_name: steady\n  static_configs: [{targets: [%q]}]\n", target)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	lis, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0") // a port that is free
	if err != nil {
		return nil, err
	}
	p := &monitor{addr: lis.Addr().String(), log: filepath.Join(dir, "prometheus.log"), done: make(chan struct{})}
	if err := lis.Close(); err != nil {
		return nil, err
	}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	p.cmd = exec.Command(program, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "tsdb"), "--web.listen-address="+p.addr) //nolint:noctx // the program that the caller named; it is ended by stop
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(err, out.Close())
	}
	go func() {
		defer close(p.done)
		p.end = errors.Join(p.cmd.Wait(), out.Close())
	}()
	return p, nil
}

// stop ends the server, in order if it can.
func (p *monitor) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// waitFor asks until the answer is not empty.
func (p *monitor) waitFor(ctx context.Context, expression string) error {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		found, err := p.query(ctx, expression)
		if err == nil && len(found) > 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-p.done:
			text, _ := os.ReadFile(p.log)
			return fmt.Errorf("prometheus has ended: %w\n%s", p.end, text)
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("waiting for %s: %w", expression, ctx.Err()), err)
		}
	}
}

// query evaluates an expression now.
func (p *monitor) query(ctx context.Context, expression string) ([]sample, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.addr+"/api/v1/query?query="+url.QueryEscape(expression), nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var body struct {
		Status, Error string
		Data          struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any // time and value
			}
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		return nil, fmt.Errorf("%s: %w", resp.Status, err)
	}
	if body.Status != "success" {
		return nil, fmt.Errorf("%s: %s", expression, body.Error)
	}
	var found []sample
	for _, r := range body.Data.Result {
		text, _ := r.Value[1].(string)
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, err
		}
		found = append(found, sample{r.Metric, v})
	}
	return found, nil
}

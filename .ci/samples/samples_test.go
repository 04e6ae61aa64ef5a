// Package samples holds the code in README.md against the compiler: every Go block is built as a program of
// its own in a fresh module, as a reader would who copies it.
package samples

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var block = regexp.MustCompile("(?s)```go\n(.*?)```")

func TestReadmeSamplesCompile(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := block.FindAllStringSubmatch(string(text), -1)
	if len(blocks) < 3 {
		t.Fatalf("README.md has %d Go blocks, want at least 3", len(blocks))
	}
	dir := t.TempDir()
	for i, b := range blocks {
		if !strings.HasPrefix(b[1], "package main") {
			t.Errorf("block %d is no whole program", i+1)
			continue
		}
		sub := filepath.Join(dir, "sample"+string(rune('1'+i)))
		if err := os.Mkdir(sub, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(sub, "main.go"), []byte(b[1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(name string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
	}
	run("go", "mod", "init", "example.com/sample")
	run("go", "mod", "edit", "-require=github.com/grpcsteady/steady@v0.0.0", "-replace=github.com/grpcsteady/steady="+root)
	run("go", "mod", "tidy")
	run("go", "vet", "./...")
}

// TestReadmeBeginsWithTheTwoCommands that do everything on a fresh machine.
func TestReadmeBeginsWithTheTwoCommands(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	head := string(text[:min(len(text), 400)])
	for _, want := range []string{"go run ./examples/quickstart", "go test -race -shuffle=on ./..."} {
		if !strings.Contains(head, want) {
			t.Errorf("the top of README.md does not name %q", want)
		}
	}
}

package floorplan

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A tree is what the laws look at. It is plain data, so that a test can make
// one that breaks a law.
type tree struct {
	files        []string // all files of the repository, slash-separated
	sources      []source // the Go files among them
	modules      []gomod
	contributing string // the text of CONTRIBUTING.md
}

// A source is one Go file.
type source struct {
	file    string
	imports []string
	grpc    []string // names used of package google.golang.org/grpc, sorted
}

func (s source) dir() string {
	if d := path.Dir(s.file); d != "." {
		return d
	}
	return ""
}
func (s source) test() bool { return strings.HasSuffix(s.file, "_test.go") }

// A gomod is one go.mod.
type gomod struct {
	dir     string // "" at the root
	path    string
	require []requirement
}

type requirement struct {
	path     string
	indirect bool
}

// load reads the repository at root: what git tracks, and what it would track
// if it were added now.
func load(root string) (*tree, error) {
	out, err := run(root, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	if err != nil {
		return nil, err
	}
	t := &tree{}
	for f := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
		// A file deleted but not yet committed is still listed.
		if _, err := os.Stat(filepath.Join(root, f)); err != nil {
			continue
		}
		t.files = append(t.files, f)
		switch {
		case slices.Contains(strings.Split(f, "/"), "testdata"):
		case path.Ext(f) == ".go":
			s, err := parse(root, f)
			if err != nil {
				return nil, err
			}
			t.sources = append(t.sources, s)
		case path.Base(f) == "go.mod":
			m, err := readMod(root, f)
			if err != nil {
				return nil, err
			}
			t.modules = append(t.modules, m)
		}
	}
	text, err := os.ReadFile(filepath.Join(root, "CONTRIBUTING.md"))
	t.contributing = string(text)
	return t, err
}

func parse(root, file string) (source, error) {
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, file), nil, parser.SkipObjectResolution)
	if err != nil {
		return source{}, err
	}
	s := source{file: file}
	name := "" // under which the file knows package grpc
	for _, spec := range f.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return s, fmt.Errorf("%s: %w", file, err)
		}
		s.imports = append(s.imports, p)
		if p == "google.golang.org/grpc" {
			name = "grpc"
			if spec.Name != nil {
				name = spec.Name.Name
			}
		}
	}
	if name == "" {
		return s, nil
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if id, ok := sel.X.(*ast.Ident); ok && id.Name == name {
				s.grpc = append(s.grpc, sel.Sel.Name)
			}
		}
		return true
	})
	slices.Sort(s.grpc)
	s.grpc = slices.Compact(s.grpc)
	return s, nil
}

func readMod(root, file string) (gomod, error) {
	out, err := run(root, "go", "mod", "edit", "-json", file)
	if err != nil {
		return gomod{}, err
	}
	var m struct {
		Module  struct{ Path string }
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal(out, &m); err != nil {
		return gomod{}, fmt.Errorf("%s: %w", file, err)
	}
	g := gomod{path: m.Module.Path}
	if d := path.Dir(file); d != "." {
		g.dir = d
	}
	for _, r := range m.Require {
		g.require = append(g.require, requirement{path: r.Path, indirect: r.Indirect})
	}
	return g, nil
}

func run(dir, name string, args ...string) ([]byte, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, stderr.String())
	}
	return out, nil
}

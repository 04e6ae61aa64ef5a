package floorplan

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Each law returns one line for each breach, with the place and the reason.

// arrows: a folder imports what its row allows, and every folder has a row.
func arrows(t *tree) (breaches []string) {
	for _, s := range t.sources {
		r, ok := find(s.dir())
		if !ok {
			breaches = append(breaches, fmt.Sprintf("%s: folder %q is not in the floor plan: add its row", s.file, s.dir()))
			continue
		}
		if s.test() {
			// A test may need the test kit or a peer from any floor; Go itself
			// forbids the cycles that matter.
			continue
		}
		for _, imp := range s.imports {
			if why := forbidden(r, s.dir(), imp); why != "" {
				breaches = append(breaches, fmt.Sprintf("%s imports %s: %s", s.file, imp, why))
			}
		}
	}
	return breaches
}

func forbidden(r room, dir, imp string) string {
	ours, isOurs := local(imp)
	switch {
	case !isOurs && std(imp):
		return ""
	case !isOurs:
		if slices.ContainsFunc(r.ext, func(p string) bool { return p == "*" || within(imp, p) }) {
			return ""
		}
		if len(r.ext) == 0 {
			return "floor 0 and the tools are standard library only"
		}
		return "not among the dependencies of this folder"
	case within(ours, dir), within(ours, strings.TrimSuffix(r.path, "/...")):
		return ""
	case !slices.ContainsFunc(r.may, func(p string) bool { return matches(p, ours) }):
		return fmt.Sprintf("the row of %s (floor %d) has no arrow to it", r.path, r.floor)
	}
	return ""
}

// downwards: the plan itself has arrows that point down, or to a row further
// up in the same floor's list, so that it can have no cycle.
func downwards(rows []room) (breaches []string) {
	at := map[string]int{}
	for i, r := range rows {
		at[r.path] = i
	}
	for i, r := range rows {
		for _, m := range r.may {
			if m == "..." {
				continue
			}
			j, ok := at[m]
			switch {
			case !ok:
				breaches = append(breaches, fmt.Sprintf("%s may import %s, which has no row", r.path, m))
			case rows[j].floor > r.floor, rows[j].floor == r.floor && j >= i:
				breaches = append(breaches, fmt.Sprintf("%s (floor %d) may import %s (floor %d): the arrow points up", r.path, r.floor, m, rows[j].floor))
			}
		}
	}
	return breaches
}

// acyclic: the top folders as a whole import each other in one direction.
func acyclic(t *tree) (breaches []string) {
	edges := map[string]map[string]string{} // folder -> folder -> a file that does it
	for _, s := range t.sources {
		if s.test() {
			continue
		}
		from, _, _ := strings.Cut(s.file, "/")
		for _, imp := range s.imports {
			ours, ok := local(imp)
			to, _, _ := strings.Cut(ours, "/")
			if !ok || to == from {
				continue
			}
			if edges[from] == nil {
				edges[from] = map[string]string{}
			}
			edges[from][to] = s.file
		}
	}
	const open, done = 1, 2
	state := map[string]int{}
	var visit func(n string, trail []string)
	visit = func(n string, trail []string) {
		state[n] = open
		trail = append(trail, n)
		for _, to := range sortedKeys(edges[n]) {
			switch state[to] {
			case open:
				breaches = append(breaches, fmt.Sprintf("folders in a circle: %s -> %s (%s)", strings.Join(trail, " -> "), to, edges[n][to]))
			case done:
			default:
				visit(to, trail)
			}
		}
		state[n] = done
	}
	for _, n := range sortedKeys(edges) {
		if state[n] == 0 {
			visit(n, nil)
		}
	}
	return breaches
}

// topLevel: nothing lies at the top but the closed list, no package on a
// shelf, and no go.mod where the plan has none.
func topLevel(t *tree) (breaches []string) {
	seen := map[string]bool{}
	for _, f := range t.files {
		name, _, _ := strings.Cut(f, "/")
		if !slices.Contains(top, name) && !seen[name] {
			breaches = append(breaches, fmt.Sprintf("%s: the top level is a closed list", name))
		}
		seen[name] = true
	}
	for _, name := range []string{"go.mod", "go.sum", "LICENSE", "CONTRIBUTING.md", "buf.yaml", "buf.gen.yaml"} {
		if !seen[name] {
			breaches = append(breaches, name+" is missing")
		}
	}
	for _, s := range t.sources {
		if slices.Contains(shelves, s.dir()) {
			breaches = append(breaches, fmt.Sprintf("%s: %q is a shelf, it holds folders and no package", s.file, s.dir()))
		}
	}
	for _, m := range t.modules {
		if m.dir != "" && !slices.Contains(ownModules, m.dir) {
			breaches = append(breaches, fmt.Sprintf("%s: is not planned as a module of its own", path.Join(m.dir, "go.mod")))
		}
		if want := path.Join(module, m.dir); m.path != want {
			breaches = append(breaches, fmt.Sprintf("%s: module %s, want %s", path.Join(m.dir, "go.mod"), m.path, want))
		}
	}
	for _, s := range t.sources {
		for _, own := range ownModules {
			if within(s.file, own) && !slices.ContainsFunc(t.modules, func(m gomod) bool { return m.dir == own }) {
				breaches = append(breaches, fmt.Sprintf("%s: %s must be a module of its own, or its dependencies enter everybody's go.mod", s.file, own))
			}
		}
	}
	return breaches
}

// stability: what of gRPC may change in any release stays where it is cheap to
// follow. Modules of their own are built with their own version and are free.
func stability(t *tree) (breaches []string) {
	users := map[string]bool{} // files of interceptors/steady with experimental names
	for _, s := range t.sources {
		if s.test() || slices.ContainsFunc(ownModules, func(own string) bool { return within(s.file, own) }) {
			continue
		}
		if !slices.ContainsFunc(experimentalIn, func(d string) bool { return within(s.file, d) }) {
			for _, imp := range s.imports {
				if slices.ContainsFunc(experimental, func(p string) bool { return within(imp, p) }) {
					breaches = append(breaches, fmt.Sprintf("%s imports %s: experimental packages stay under %s", s.file, imp, strings.Join(experimentalIn, ", ")))
				}
			}
		}
		for _, name := range s.grpc {
			switch {
			case !slices.Contains(experimentalNames, name), s.dir() == "interceptors/steadytest":
			case name == "WithResolvers" && within(s.file, "examples"):
			case s.dir() == experimentalNamesIn:
				users[s.file] = true
			default:
				breaches = append(breaches, fmt.Sprintf("%s uses grpc.%s: experimental names stay in one file of %s", s.file, name, experimentalNamesIn))
			}
		}
	}
	if len(users) > 1 {
		breaches = append(breaches, fmt.Sprintf("experimental names of package grpc are in %s: keep them in one file", strings.Join(sortedKeys(users), ", ")))
	}
	return breaches
}

// reasons: every direct requirement of every go.mod has a row in
// CONTRIBUTING.md, `| module | go.mod folder | reason |`, and no row outlives
// its requirement.
func reasons(t *tree) (breaches []string) {
	rows := map[[2]string]string{}
	for line := range strings.SplitSeq(t.contributing, "\n") {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 3 || !strings.HasPrefix(strings.TrimSpace(cells[0]), "`") {
			continue
		}
		mod, dir := strings.Trim(cells[0], " `"), strings.Trim(cells[1], " `")
		if strings.Contains(strings.SplitN(mod, "/", 2)[0], ".") {
			rows[[2]string{mod, dir}] = strings.TrimSpace(cells[2])
		}
	}
	for _, m := range t.modules {
		dir := m.dir
		if dir == "" {
			dir = "."
		}
		known := map[string]bool{}
		for _, r := range m.require {
			known[r.path] = true
			// What is ours, and what a nested module gets with the root, needs
			// no second reason.
			if _, ours := local(r.path); ours || r.indirect || m.dir != "" && rows[[2]string{r.path, "."}] != "" {
				continue
			}
			if len(rows[[2]string{r.path, dir}]) < 20 {
				breaches = append(breaches, fmt.Sprintf("%s requires %s: CONTRIBUTING.md gives no reason for it", path.Join(dir, "go.mod"), r.path))
			}
		}
		for key := range rows {
			if key[1] == dir && !known[key[0]] {
				breaches = append(breaches, fmt.Sprintf("CONTRIBUTING.md has a reason for %s in %s, which does not require it", key[0], path.Join(dir, "go.mod")))
			}
		}
	}
	slices.Sort(breaches)
	return breaches
}

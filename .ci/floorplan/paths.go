package floorplan

import (
	"maps"
	"slices"
	"strings"
)

// find returns the row of a folder: the longest path that matches.
func find(dir string) (found room, ok bool) {
	for _, r := range plan {
		if matches(r.path, dir) && (!ok || len(r.path) > len(found.path)) {
			found, ok = r, true
		}
	}
	return found, ok
}

// matches says whether a path of the plan, which may end in "...", is dir.
func matches(pattern, dir string) bool {
	if pattern == "..." {
		return true
	}
	if tree, ok := strings.CutSuffix(pattern, "/..."); ok {
		return within(dir, tree)
	}
	return dir == pattern
}

// within says whether p is prefix or lies below it.
func within(p, prefix string) bool {
	return p == prefix || prefix != "" && strings.HasPrefix(p, prefix+"/")
}

// local cuts the module's path off one of our own import paths.
func local(imp string) (dir string, ok bool) {
	if imp == module {
		return "", true
	}
	return strings.CutPrefix(imp, module+"/")
}

// std says whether an import path is of the standard library: those have no
// dot in the first element.
func std(imp string) bool {
	first, _, _ := strings.Cut(imp, "/")
	return !strings.Contains(first, ".")
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

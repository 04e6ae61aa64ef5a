# What .ci/run and .ci/full share: where things are, pinned tools, and a runner
# that goes on after a failed step and tells all of it at the end.
# shellcheck shell=bash

root=$(git -C "$(dirname "${BASH_SOURCE[0]}")" rev-parse --show-toplevel)
cd "$root"

# Tools are kept outside the tree, a folder for each version.
tools=${STEADY_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/steady-tools}

buf_version=1.75.0
golangci_version=2.15.0
govulncheck_version=1.9.0

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM

# tool NAME VERSION PACKAGE puts a Go tool at that version into the path.
tool() {
	local dir=$tools/$1-$2
	if [[ ! -x $dir/$1 ]]; then
		echo "installing $1 $2 into $dir"
		mkdir -p "$dir"
		(cd "$scratch" && GOFLAGS='' GOBIN=$dir go install "$3@v$2")
	fi
	PATH=$dir:$PATH
}

# tool_buf takes the ready-made binary where npm is at hand (seconds against
# minutes), and builds it where not.
tool_buf() {
	local dir=$tools/buf-$buf_version
	if [[ ! -x $dir/buf && ! -x $dir/node_modules/.bin/buf ]] && command -v npm >/dev/null; then
		echo "installing buf $buf_version into $dir"
		mkdir -p "$dir"
		npm install --silent --no-fund --no-audit --ignore-scripts --prefix "$dir" "@bufbuild/buf@$buf_version" &&
			"$dir/node_modules/.bin/buf" --version >/dev/null 2>&1 || rm -rf "$dir"
	fi
	if [[ -x $dir/node_modules/.bin/buf ]]; then
		PATH=$dir/node_modules/.bin:$PATH
	else
		tool buf "$buf_version" github.com/bufbuild/buf/cmd/buf
	fi
}

# modules prints the folder of each go.mod, the root first.
modules() {
	git ls-files -z --cached --others --exclude-standard '*go.mod' | xargs -0 -n1 dirname | sort -u
}

# nested prints the folders of all modules but the root.
nested() { modules | grep -vx '\.' || true; }

# skip REASON ends a step that cannot be done here; the summary says so.
skip() {
	echo "skipped: $1"
	echo "$1" >"$scratch/skipped"
	exit 0
}

summary=()
failed=0

# step NAME COMMAND... runs a command in a subshell under errexit, times it and
# remembers how it ended. The subshell must not stand in a condition: there
# bash would ignore errexit in all of it.
step() {
	local name=$1 began=$SECONDS rc line
	shift
	printf '\n=== %s\n' "$name"
	rm -f "$scratch/skipped"
	set +e
	(
		set -euo pipefail
		"$@"
	)
	rc=$?
	set -e
	# Interrupted is not failed: stop here.
	if ((rc == 130)); then exit 130; fi
	if ((rc != 0)); then
		failed=$((failed + 1))
		line="FAIL    $name"
	elif [[ -e $scratch/skipped ]]; then
		line="skipped $name ($(<"$scratch/skipped"))"
	else
		line="ok      $name"
	fi
	line=$(printf '%-60s %4d s' "$line" $((SECONDS - began)))
	echo "--- $line"
	summary+=("$line")
}

# finish prints what every step came to and exits with it.
finish() {
	printf '\n=== summary\n'
	printf '%s\n' "${summary[@]}"
	printf '%d steps, %d failed, %d s\n' "${#summary[@]}" "$failed" "$SECONDS"
	exit $((failed > 0))
}

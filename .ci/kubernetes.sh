# What .ci/heavy/kube and .ci/heavy/etcd share: a real etcd and a real
# kube-apiserver, built from the Go module proxy into the folder of tools, and a
# network namespace of one's own to run them in.
# shellcheck shell=bash

etcd_version=3.7.3
kubernetes_version=1.37.2

tools=${STEADY_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/steady-tools}
etcd=$tools/etcd-$etcd_version/etcd
kube_apiserver=$tools/kube-apiserver-$kubernetes_version/kube-apiserver

# build_etcd takes a minute where nothing is cached. Its server is no program
# that go install accepts: its go.mod has replacements.
build_etcd() {
	if [[ -x $etcd ]]; then return; fi
	echo "building etcd $etcd_version into ${etcd%/*}"
	local dir=$STEADY_SCRATCH/build-etcd
	mkdir -p "$dir" "${etcd%/*}"
	(
		cd "$dir"
		export GOFLAGS='' GOWORK=off
		go mod init build
		go get -tool "go.etcd.io/etcd/server/v3@v$etcd_version"
		go build -trimpath -ldflags='-s -w' -o "$etcd.new" go.etcd.io/etcd/server/v3
	) >"$dir/log" 2>&1 || {
		tail -n 20 "$dir/log"
		return 1
	}
	mv "$etcd.new" "$etcd"
}

# build_kube_apiserver takes six minutes on 2 cores where nothing is cached.
build_kube_apiserver() {
	if [[ -x $kube_apiserver ]]; then return; fi
	echo "building kube-apiserver $kubernetes_version into ${kube_apiserver%/*}"
	local dir=$STEADY_SCRATCH/build-kubernetes mod
	mkdir -p "$dir" "${kube_apiserver%/*}"
	(
		cd "$dir"
		export GOFLAGS='' GOWORK=off
		mod=$(go mod download -json "k8s.io/kubernetes@v$kubernetes_version" | sed -n 's/.*"GoMod": "\(.*\)",*/\1/p')
		# Kubernetes replaces the modules of its staging folder by that folder; as
		# modules of their own they are v0 with the same minor version and patch.
		{
			printf 'module build\n\ngo 1.26.0\n\nrequire k8s.io/kubernetes v%s\n\nreplace (\n' "$kubernetes_version"
			sed -n '/^replace (/,/^)/p' "$mod" | awk -v v="v0.${kubernetes_version#1.}" '$2 == "=>" { print "\t" $1 " => " $1 " " v }'
			echo ')'
		} >go.mod
		go get "k8s.io/kubernetes/cmd/kube-apiserver@v$kubernetes_version"
		minor=${kubernetes_version#1.}
		version=k8s.io/component-base/version
		go build -trimpath -o "$kube_apiserver.new" \
			-ldflags="-s -w -X $version.gitVersion=v$kubernetes_version -X $version.gitMajor=1 -X $version.gitMinor=${minor%.*}" \
			k8s.io/kubernetes/cmd/kube-apiserver
	) >"$dir/log" 2>&1 || {
		tail -n 20 "$dir/log"
		return 1
	}
	mv "$kube_apiserver.new" "$kube_apiserver"
}

# apart COMMAND... runs it in namespaces of its own: 127.0.0.1 and all of
# 198.18.0.0/24 and fd00:c612::1 are its alone, and so is /run, where a pod has
# its token. What it has started ends with it, whatever happens. It needs no root
# where the kernel lets users have namespaces.
apart() {
	local user=()
	if [[ $(id -u) != 0 ]]; then user=(--user --map-root-user); fi
	# shellcheck disable=SC2016 # expanded inside
	unshare "${user[@]}" --net --mount --pid --fork --kill-child --mount-proc bash -euc '
		PATH=$PATH:/usr/sbin:/sbin
		ip link set lo up
		ip route add local 198.18.0.0/24 dev lo
		ip -6 address add fd00:c612::1/128 dev lo nodad 2>/dev/null || true # no IPv6 here: the test does without
		mount -t tmpfs none /run
		exec "$@"' apart "$@"
}

# can_be_apart says why not, and ends the job, if it is so.
can_be_apart() {
	local why
	if ! why=$(apart true 2>&1); then
		echo "no network namespace of our own: $(tail -n 1 <<<"$why")"
		exit 77
	fi
}

#!/usr/bin/env bash
# Drives the example with the programs that ask real servers for their health: grpcurl, grpc-health-probe,
# HAProxy and nginx. It breaks and mends each dependency, drains a server by SIGTERM, and fails when one of the
# programs sees something else than it should. Under a minute once the tools are there.
#
#	examples/health/check.sh
#
# Needs Go, bash and curl. grpcurl and grpc-health-probe are installed at pinned versions outside the tree,
# HAProxy and nginx are unpacked there from Debian's packages; where that is not possible and the machine has none
# of its own, their part is skipped, and a line says so.
set -euo pipefail

grpcurl_version=1.9.4
probe_version=0.4.61

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tools=${STEADY_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/steady-tools}
work=$(mktemp -d)
pids=() # of what this script started, and nothing else is ever ended

finish() {
	local pid
	for pid in "${pids[@]}"; do
		kill -CONT "$pid" 2>/dev/null || true
		kill -KILL "$pid" 2>/dev/null || true
	done
	wait 2>/dev/null || true
	if [[ -n ${shm:-} ]]; then rm -rf "$shm"; fi
	rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

failed=0
checks=0
# is WHAT GOT WANT
is() {
	checks=$((checks + 1))
	if [[ $2 == "$3" ]]; then
		printf 'ok    %s: %s\n' "$1" "$2"
	else
		printf 'FAIL  %s: %s, want %s\n' "$1" "$2" "$3"
		failed=$((failed + 1))
	fi
}

# becomes WHAT WANT COMMAND... asks until the answer is the one that must come, for at most 20 s.
becomes() {
	local what=$1 want=$2 got='' until=$((SECONDS + 20))
	shift 2
	while got=$("$@" 2>/dev/null) || true; [[ $got != "$want" ]] && ((SECONDS < until)); do sleep 0.1; done
	is "$what" "$got" "$want"
}

install() { # NAME VERSION PACKAGE
	local dir=$tools/$1-$2
	if [[ ! -x $dir/$1 ]]; then
		echo "installing $1 $2 into $dir"
		mkdir -p "$dir"
		(cd "$work" && GOFLAGS='' GOBIN=$dir go install "$3@v$2")
	fi
	PATH=$dir:$PATH
}

# debian NAME PACKAGES... makes a command of one of Debian's programs. It is unpacked outside the tree and not
# installed, so that this needs no root and starts no service; where that is not possible, the machine's own serves.
debian() {
	local name=$1 dir=$tools/debian-$1 libs
	shift
	if [[ ! -x $dir/usr/sbin/$name ]] && command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; then
		echo "unpacking Debian's $name into $dir"
		mkdir -p "$work/deb-$name" "$dir"
		(cd "$work/deb-$name" && apt-get download -qq -o APT::Sandbox::User=root "$@" &&
			for deb in *.deb; do dpkg-deb -x "$deb" "$dir"; done) >"$work/apt" 2>&1 || rm -rf "$dir"
	fi
	if [[ -x $dir/usr/sbin/$name ]]; then
		libs=$(find "$dir/usr/lib" -maxdepth 1 -name '*-linux-gnu*' -type d 2>/dev/null | head -1 || true)
		command="env LD_LIBRARY_PATH=$libs $dir/usr/sbin/$name"
		$command -v >/dev/null 2>&1 && return
	fi
	command=$(PATH=$PATH:/usr/sbin command -v "$name") && $command -v >/dev/null 2>&1
}

install grpcurl $grpcurl_version github.com/fullstorydev/grpcurl/cmd/grpcurl
install grpc-health-probe $probe_version github.com/grpc-ecosystem/grpc-health-probe
(cd "$here" && go build -o "$work/health" .)

# serve NAME FLAGS... starts a server and sets NAME_pid, NAME_grpc and NAME_http.
serve() {
	local name=$1 log=$work/$1.out until=$((SECONDS + 20)) kind addr
	shift
	: >"$log"
	"$work/health" -dir "$work/$name" -grpc 127.0.0.1:0 -http 127.0.0.1:0 -every 500ms "$@" >"$log" 2>>"$work/$name.log" &
	pids+=($!)
	printf -v "${name}_pid" %s $!
	while [[ $(wc -l <"$log") -lt 2 ]]; do
		((SECONDS < until)) || { echo "$name does not start:" && cat "$work/$name.log" && exit 1; }
		sleep 0.1
	done
	while read -r kind addr; do printf -v "${name}_$kind" %s "$addr"; done <"$log"
}

# What the programs say, in a word.
probe() { # ADDRESS FLAGS...: the exit code
	local rc=0 addr=$1
	shift
	grpc-health-probe -addr "$addr" -connect-timeout 2s -rpc-timeout 2s "$@" >"$work/probe" 2>&1 || rc=$?
	echo $rc
}
http() { curl -s -o "$work/body" -w '%{http_code}' "http://$1"; }
json() { curl -s "http://$1" | grep -o "\"$2\":{\"status\":\"[a-z]*\"" | cut -d'"' -f6; }
curl_check() { # ADDRESS SERVICE FLAGS...
	local addr=$1 service=$2
	shift 2
	grpcurl -plaintext -max-time 3 "$@" -d "{\"service\":\"$service\"}" "$addr" grpc.health.v1.Health/Check 2>&1 |
		grep -oE 'SERVING|NOT_SERVING|Code: [A-Za-z]+' | head -1
}

shm=''
disk=()
if [[ -w /dev/shm ]]; then
	# A file system in memory, which others fill by little: the margin is a sixteenth of what is free, at most
	# 64 MiB, and what fills it is twice as much.
	shm=$(mktemp -d /dev/shm/steady-health-XXXXXX)
	free=$(df -B1 --output=avail "$shm" | tail -1)
	margin=$((free / 16 < 64 << 20 ? free / 16 : 64 << 20))
	if ((margin > 1 << 20)); then
		disk=(-disk "$shm" -disk-free $((free - margin)))
	fi
fi
serve far
serve near -downstream "$far_grpc" "${disk[@]}"
orders=orders.v1.Orders

echo '--- serving'
becomes 'grpc-health-probe of the server' 0 probe "$near_grpc"
becomes 'grpc-health-probe of shipping' 0 probe "$near_grpc" -service shipping
for name in readiness liveness startup $orders storage; do
	is "grpc-health-probe of $name" "$(probe "$near_grpc" -service $name)" 0
done
is 'grpc-health-probe of an unknown service' "$(probe "$near_grpc" -service nobody)" 3
grep -q NotFound "$work/probe" || is 'its words' "$(<"$work/probe")" '... NotFound ...'
is 'grpcurl with reflection' "$(curl_check "$near_grpc" $orders)" SERVING
cat >"$work/health.proto" <<'PROTO'
syntax = "proto3";
package grpc.health.v1;
message HealthCheckRequest { string service = 1; }
message HealthCheckResponse {
  enum ServingStatus { UNKNOWN = 0; SERVING = 1; NOT_SERVING = 2; SERVICE_UNKNOWN = 3; }
  ServingStatus status = 1;
}
message HealthListRequest {}
message HealthListResponse { map<string, HealthCheckResponse> statuses = 1; }
service Health {
  rpc Check(HealthCheckRequest) returns (HealthCheckResponse);
  rpc List(HealthListRequest) returns (HealthListResponse);
  rpc Watch(HealthCheckRequest) returns (stream HealthCheckResponse);
}
PROTO
is 'grpcurl with the proto' "$(curl_check "$near_grpc" $orders -import-path "$work" -proto health.proto)" SERVING
is 'grpcurl of an unknown service' "$(curl_check "$near_grpc" nobody)" 'Code: NotFound'
is 'grpcurl List' "$(grpcurl -plaintext -import-path "$work" -proto health.proto "$near_grpc" grpc.health.v1.Health/List | grep -c '"status": "SERVING"')" 7
is 'HTTP readiness' "$(http "$near_http/health/ready")" 200
is 'HTTP liveness' "$(http "$near_http/health/live")" 200
is 'an order' "$(grpcurl -plaintext -d '{"id":"o-1"}' "$near_grpc" $orders/Get | grep -o lamp)" lamp

# A Watch over all that follows; what it was told is compared at the end.
told=SERVING
grpcurl -plaintext -d "{\"service\":\"$orders\"}" "$near_grpc" grpc.health.v1.Health/Watch >"$work/watch" 2>&1 &
watch=$!
pids+=($watch)

echo '--- the database is locked by somebody else'
"$work/health" -dir "$work/near" -lock 1m >"$work/lock" &
lock=$!
pids+=($lock)
becomes 'grpc-health-probe of readiness' 4 probe "$near_grpc" -service readiness
is 'grpc-health-probe of liveness' "$(probe "$near_grpc" -service liveness)" 0
is 'grpc-health-probe of startup' "$(probe "$near_grpc" -service startup)" 0
is 'grpcurl' "$(curl_check "$near_grpc" $orders)" NOT_SERVING
is 'HTTP readiness' "$(http "$near_http/health/ready")" 503
is 'HTTP names the check' "$(json "$near_http/health/ready" database)" down
is 'HTTP liveness' "$(http "$near_http/health/live")" 200
is 'its neighbour' "$(probe "$far_grpc")" 0
kill -TERM $lock && wait $lock
becomes 'grpc-health-probe, unlocked' 0 probe "$near_grpc" -service readiness
told+=' NOT_SERVING SERVING'

echo '--- the downstream server hangs: no reason to take this one out'
kill -STOP "$far_pid"
becomes 'grpc-health-probe of shipping' 4 probe "$near_grpc" -service shipping
is 'grpc-health-probe of readiness' "$(probe "$near_grpc" -service readiness)" 0
is 'HTTP' "$(http "$near_http/health") $(json "$near_http/health" downstream)" '200 down'
is 'grpc-health-probe of the hung server itself, timeout' "$(probe "$far_grpc")" 2
kill -CONT "$far_pid"
becomes 'grpc-health-probe of shipping, mended' 0 probe "$near_grpc" -service shipping

if ((${#disk[@]})); then
	echo '--- the disk fills up'
	head -c $((2 * margin)) /dev/zero >"$shm/ballast"
	becomes 'grpc-health-probe of storage' 4 probe "$near_grpc" -service storage
	is 'grpc-health-probe of readiness' "$(probe "$near_grpc" -service readiness)" 0
	is 'HTTP names the check' "$(json "$near_http/health" disk)" down
	rm "$shm/ballast"
	becomes 'grpc-health-probe of storage, mended' 0 probe "$near_grpc" -service storage
else
	echo 'skipped: filling a disk (no room in /dev/shm)'
fi

echo '--- TLS'
serve safe -tls
becomes 'grpc-health-probe with TLS' 0 probe "$safe_grpc" -tls -tls-ca-cert "$work/safe/cert.pem" -tls-server-name localhost
is 'grpc-health-probe with TLS of an unknown service' "$(probe "$safe_grpc" -tls -tls-ca-cert "$work/safe/cert.pem" -tls-server-name localhost -service nobody)" 3
is 'grpc-health-probe with TLS and no trust' "$(probe "$safe_grpc" -tls -tls-server-name localhost)" 2
is 'grpc-health-probe without TLS' "$(probe "$safe_grpc")" 2

# port prints a port that was free a moment ago, for programs that cannot take any.
port() {
	local p
	while p=$((20000 + RANDOM % 20000)); (exec 3<>"/dev/tcp/127.0.0.1/$p") 2>/dev/null; do :; done
	echo $p
}

if debian haproxy haproxy liblua5.3-0 libopentracing-c-wrapper0 libopentracing1; then
	haproxy=$command
	echo "--- HAProxy $($haproxy -v | head -1 | cut -d' ' -f3), which asks /health/ready"
	front=$(port)
	stats=$(port)
	cat >"$work/haproxy.cfg" <<CFG
global
    maxconn 1000
defaults
    mode tcp
    timeout connect 1s
    timeout client  1m
    timeout server  1m
listen orders
    bind 127.0.0.1:$front
    option httpchk GET /health/ready
    http-check expect status 200
    default-server check inter 300ms fall 2 rise 2
    server near $near_grpc port ${near_http##*:}
    server far $far_grpc port ${far_http##*:}
listen stats
    mode http
    bind 127.0.0.1:$stats
    stats enable
    stats uri /stats
CFG
	$haproxy -c -q -f "$work/haproxy.cfg"
	$haproxy -db -f "$work/haproxy.cfg" >"$work/haproxy.log" 2>&1 &
	pids+=($!)
	server() { curl -s "http://127.0.0.1:$stats/stats;csv" | awk -F, -v s="$1" '$1 == "orders" && $2 == s { print $18 }'; }
	becomes 'HAProxy on near' UP server near
	becomes 'HAProxy on far' UP server far
	"$work/health" -dir "$work/near" -lock 1m >"$work/lock" &
	lock=$!
	pids+=($lock)
	becomes 'HAProxy on near, its database locked' DOWN server near
	is 'HAProxy on far' "$(server far)" UP
	is 'a call through HAProxy' "$(grpcurl -plaintext -max-time 3 -d '{"id":"o-1"}' 127.0.0.1:"$front" $orders/Get | grep -o lamp)" lamp
	kill -TERM $lock && wait $lock
	becomes 'HAProxy on near, unlocked' UP server near
	told+=' NOT_SERVING SERVING'
else
	echo 'skipped: HAProxy (no Debian package to unpack, and none installed)'
	server() { echo skipped; }
fi

through_nginx=''
if debian nginx nginx; then
	nginx="$command -e $work/nginx.log -p $work"
	echo "--- $($nginx -v 2>&1 | cut -d' ' -f3), which asks nobody and goes to the next server on an error"
	front=$(port)
	cat >"$work/nginx.conf" <<CFG
master_process off;
daemon off;
pid $work/nginx.pid;
error_log $work/nginx.log;
events { worker_connections 100; }
http {
    access_log off;
    client_body_temp_path $work/nginx-body;
    proxy_temp_path $work/nginx-proxy;
    fastcgi_temp_path $work/nginx-fastcgi;
    uwsgi_temp_path $work/nginx-uwsgi;
    scgi_temp_path $work/nginx-scgi;
    upstream orders {
        zone orders 64k;
        server $near_grpc max_fails=3 fail_timeout=5s;
        server $far_grpc max_fails=3 fail_timeout=5s;
    }
    upstream probes { server $near_http; }
    server {
        listen 127.0.0.1:$front http2;
        location / {
            grpc_pass grpc://orders;
            grpc_connect_timeout 1s;
            grpc_next_upstream error timeout non_idempotent;
            grpc_next_upstream_tries 3;
        }
        location = /ready { proxy_pass http://probes/health/ready; }
    }
}
CFG
	$nginx -t -q -c "$work/nginx.conf"
	$nginx -c "$work/nginx.conf" >"$work/nginx.out" 2>&1 &
	nginx_pid=$!
	pids+=($nginx_pid)
	order() { grpcurl -plaintext -max-time 3 -d '{"id":"o-1"}' 127.0.0.1:"$front" $orders/Get | grep -o lamp; }
	becomes 'a call through nginx' lamp order
	is 'the probe through nginx' "$(curl -s --http2-prior-knowledge -o "$work/body" -w '%{http_code}' "http://127.0.0.1:$front/ready")" 200
	through_nginx=yes
else
	echo 'skipped: nginx (no Debian package to unpack, and none installed)'
fi

echo '--- SIGTERM: told, still served, then gone'
kill -TERM "$near_pid"
becomes 'grpc-health-probe while it drains' 4 probe "$near_grpc"
is 'a call while it drains' "$(grpcurl -plaintext -max-time 3 -d '{"id":"o-1"}' "$near_grpc" $orders/Get | grep -o lamp)" lamp
is 'HTTP liveness while it drains' "$(http "$near_http/health/live")" 200
becomes 'HAProxy on the one that drains' "$([[ $(server far) == skipped ]] && echo skipped || echo DOWN)" server near
rc=0
wait "$near_pid" || rc=$?
is 'exit code of the server' $rc 0
is 'grpc-health-probe afterwards' "$(probe "$near_grpc")" 2
if [[ -n $through_nginx ]]; then
	answers=0
	for _ in 1 2 3 4 5 6 7 8; do [[ $(order) == lamp ]] && answers=$((answers + 1)); done
	is 'calls through nginx with one server gone' $answers 8
	kill -TERM "$nginx_pid"
	wait "$nginx_pid" || true
fi
rc=0
wait $watch || rc=$?
is 'the Watch was told' "$(grep -oE 'SERVING|NOT_SERVING|Code: [A-Za-z]+' "$work/watch" | tr '\n' ' ')" "$told NOT_SERVING Code: Unavailable "

echo
if ((failed)); then
	echo "$failed of $checks failed; what the server wrote:"
	cat "$work/near.log"
	exit 1
fi
echo "all $checks as they should be, $SECONDS s"

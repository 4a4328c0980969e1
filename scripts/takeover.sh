#!/bin/bash
# What players notice of a new server that takes over from the one that runs, again and again.
#
#   scripts/takeover.sh [SESSIONS] [TAKEOVERS]    1000 10
#
# So many players of one film of 2 Mbit/s, half of them over UDP and half over TCP, all in two
# headend-loadgen. While they play, one server after the other takes over. Printed: how long nothing
# was sent in each takeover, the lateness of pictures as 99th percentile and maximum, packets lost,
# doubled or out of order, and sessions that ended. It fails when a takeover does, when a packet is
# missing or doubled, or when a session ended. The times only mean something on a machine that does
# nothing else: 50 ms is the aim for the gap. A packet that comes twice counts as reordered.
#
#   TAKEOVER_SECONDS=60      how long the players play
#   TAKEOVER_STEP=3          seconds between two takeovers
#   MEASURE_KEEP=DIR         keeps reports and the logs of the servers there
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/measure-lib.sh

sessions="${1:-1000}"
takeovers="${2:-10}"
seconds="${TAKEOVER_SECONDS:-60}"
step="${TAKEOVER_STEP:-3}"

measure_begin takeover
film_of_2_mbit $((seconds + 30))
measure_build
mkdir -m 700 "$work/state"
server_options=(--state "$work/state")

server_start
first_admin="$admin"
load() {
    "$programs/headend-loadgen" --json "$@" --duration "${seconds}s" "${url}vod/film.mp4"
}
load -n $((sessions / 2)) --transport udp >"$work/udp.json" 2>"$work/udp.log" &
udp_pid=$!
load -n $((sessions - sessions / 2)) --transport tcp >"$work/tcp.json" 2>"$work/tcp.log" &
tcp_pid=$!

playing() { curl -s "${first_admin}metrics" | awk '/^headend_sessions\{.*playing/ { n += $2 } END { print n + 0 }'; }
for _ in {1..300}; do
    (($(playing) < sessions)) || break
    sleep 0.1
done
say "$(playing) sessions play"

failed=0
for ((n = 1; n <= takeovers; n++)); do
    sleep "$step"
    old=$server_pid
    log="$work/server-$n.log"
    address="${url#rtsp://}"
    admin_address="${first_admin#http://}"
    "${MEASURE_SERVER:-$programs/headend}" serve "$work/films" --listen "${address%/}" \
        --admin "${admin_address%/}" --rtp-port 0 --shards "cpu:$server_cpu" --workers "cpu:$other_cpu" --log text \
        --state "$work/state" --takeover >"$log" 2>&1 &
    server_pid=$!
    if wait "$old"; then
        for _ in {1..100}; do
            grep -q 'HE-I413' "$log" && break
            sleep 0.05
        done
        say "takeover $n: $(grep -o 'sessions=[0-9]* gap_ms=.*_ms=[0-9]*' "$log" || true)"
    else
        say "takeover $n failed:"
        tail -5 "$log" >&2
        failed=1
        break
    fi
done
wait "$udp_pid" || true
wait "$tcp_pid" || true

for kind in udp tcp; do
    jq -r --arg kind "$kind" '
        (.media.video.lateness) as $late
        | "\($kind): lateness p99 \($late.p99_ms) ms, max \($late.max_ms) ms; lost \(.total.lost), " +
          "reordered or doubled \(.total.reordered); sessions failed \(.sessions.failed), " +
          "ended by the server \(.sessions.ended_by_server)"' "$work/$kind.json"
    jq -e '(.total.lost == 0) and (.total.reordered == 0) and (.sessions.failed == 0)
           and (.sessions.ended_by_server == 0)' "$work/$kind.json" >/dev/null || failed=1
done
exit "$failed"

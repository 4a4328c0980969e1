#!/bin/bash
# What a change of a path's source costs: the time of a switch, and the CPU of a path that is fed
# by a relay beside the same path read directly.
#
#   scripts/switch.sh [SWITCHES] [READERS] [SECONDS]    100 switches of each kind, 200 readers, 10 s
#
# First benches/switch publishes both sources of a path, reads it over TCP, and asks the API for one
# source after the other: from the request to the first packet of the new source, which includes the
# HTTP of the request. Then rounds in turn: headend-loadgen publishes a film and reads it, the path
# once with `fallback`, so that each packet passes a relay, and once without. CPU 0 serves, the other
# one does all else. In the end: the times beside their budgets, and the medians of microseconds of
# the server's CPU a packet, with their spread. The figures only mean something on a machine that
# does nothing else; nothing is judged here.
#
#   SWITCH_RUNS=3        rounds of each kind
#   SWITCH_RAMP=200      readers started per second
#   MEASURE_KEEP=DIR     keeps reports and the log of the server there
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/measure-lib.sh

switches="${1:-100}"
readers="${2:-200}"
seconds="${3:-10}"
runs="${SWITCH_RUNS:-3}"
ramp="${SWITCH_RAMP:-200}"

measure_begin switch
measure_build
bench=$(cargo build --release -p headend --bench switch --message-format=json-render-diagnostics |
    sed -n 's|.*"executable":"\([^"]*/switch-[0-9a-f]*\)".*|\1|p' | tail -1)

cat >"$work/fallback.toml" <<TOML
[path."live/a"]
fallback = ["live/b"]
standby = true
switch_interval = "100ms"
TOML

say "$switches switches of each kind, $(uptime | sed 's/.*load/load/')"
server_options=(-c "$work/fallback.toml")
server_start
rtsp="${url#rtsp://}"
api="${admin#http://}"
times=$(taskset -c "$other_cpu" "$bench" --rtsp "${rtsp%/}" --admin "${api%/}" --switches "$switches")
server_stop

# cpu REPORT: microseconds of the server's CPU a packet.
cpu() { jq -r '.server.us_per_packet // empty' "$1"; }

# median_and_spread FILE
median_and_spread() {
    sort -n "$1" | awk '{ v[NR] = $1 } END {
        if (NR == 0) { print "no figures"; exit }
        m = NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2
        printf "median %.2f us, %.2f to %.2f us in %d rounds\n", m, v[1], v[NR], NR }'
}

: >"$work/relay"
: >"$work/direct"
for ((run = 1; run <= runs; run++)); do
    for kind in relay direct; do
        say "$kind, round $run of $runs: $readers readers for $seconds s"
        server_options=()
        [[ $kind == direct ]] || server_options=(-c "$work/fallback.toml")
        server_start
        play_url "${url}live/a" "$work/$kind-$run.json" --publish "${url}live/a" --bit-rate=2M \
            -n "$readers" --transport udp --duration "${seconds}s" --ramp "$ramp"
        server_stop
        cpu "$work/$kind-$run.json" >>"$work/$kind"
    done
done

echo "from :switch to the first packet of the new source, both sources live:"
echo "$times"
echo "CPU of the server a packet, $readers readers:"
echo "   relay  $(median_and_spread "$work/relay")"
echo "  direct  $(median_and_spread "$work/direct")"

#!/bin/bash
# What a live path costs the server beside what it costs at all, and how long its packets take.
#
#   scripts/live.sh [READERS] [SECONDS] [TRANSPORT..]    1000 readers, 10 s, udp and then tcp
#
# The load is a film of 2 Mbit/s at 25 pictures a second, a key picture every two seconds, eight
# times as large as the others. A round is headend with a publisher and all readers, both in
# headend-loadgen, and then benches/floor sending the same pictures in the same runs (over TCP: a
# picture a send) from memory that is hot, to a receiver of the same kind. CPU 0 sends; the other one
# publishes, receives and runs the worker. In the end: each round, and medians with their spread
# beside the budgets of src/DESIGN.md section 10. The time from publisher to reader is that of the
# last of many sends for most: it is to be read beside the floor's. The figures only mean something
# on a machine that does nothing else; nothing is judged here.
#
#   LIVE_RUNS=3          rounds
#   LIVE_RAMP=200        readers started per second
#   LIVE_FILM="--bit-rate=2M"   what is published: options of headend-loadgen --publish, with "="
#   MEASURE_KEEP=DIR     keeps reports and the log of the server there
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/measure-lib.sh

readers="${1:-1000}"
seconds="${2:-10}"
transports=("${@:3}")
((${#transports[@]} > 0)) || transports=(udp tcp)
ramp="${LIVE_RAMP:-200}"
runs="${LIVE_RUNS:-3}"
read -ra film <<<"${LIVE_FILM:---bit-rate=2M}"

measure_begin live
measure_build

for transport in "${transports[@]}"; do
    for ((run = 1; run <= runs; run++)); do
        say "$transport, round $run of $runs: $readers readers for $seconds s," \
            "$(uptime | sed 's/.*load/load/')"
        server_start
        # Two seconds more: readers that catch up with the present are no part of it.
        play_url "${url}live/film" "$work/$transport-$run-server.json" \
            --publish "${url}live/film" "${film[@]}" -n "$readers" --transport "$transport" \
            --duration "$((seconds + 2))s" --ramp "$ramp"
        server_stop
        "$floor" "${film[@]/#/--live=}" -n "$readers" --seconds "$seconds" \
            --transport "$transport" --cpu "$server_cpu" --drain-cpu "$other_cpu" \
            --via sendmsg --via uring --server "$work/$transport-$run-server.json" \
            --json "$work/$transport-$run-floor.json" >&2
    done
done
"$floor" --live --rounds "$work"

#!/bin/bash
# What a packet costs the server beside what it costs at all: CPU per packet, server / floor.
#
#   scripts/floor.sh [SESSIONS] [SECONDS] [TRANSPORT..]    1000 sessions, 20 s, udp and then tcp
#
# The load is a film of 2 Mbit/s: H.264 at 25 fps with B-frames, and AAC. A round is headend playing
# it to headend-loadgen, and then benches/floor sending the same packets in the same bursts (over
# TCP: a frame a send) to a receiver of the same kind: see there. CPU 0 sends, the other one receives
# and runs the worker. In the end: each round, and medians with their spread beside the budgets of
# src/DESIGN.md section 10. The ratios only mean something on a machine that does nothing else;
# nothing is judged here.
#
#   FLOOR_RUNS=3         rounds
#   FLOOR_RAMP=200       sessions started per second
#   MEASURE_KEEP=DIR     keeps reports and the log of the server there
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/measure-lib.sh

sessions="${1:-1000}"
seconds="${2:-20}"
transports=("${@:3}")
((${#transports[@]} > 0)) || transports=(udp tcp)
ramp="${FLOOR_RAMP:-200}"
runs="${FLOOR_RUNS:-3}"

measure_begin floor
# Long enough for those that start first.
film_of_2_mbit $((sessions / ramp + seconds + 10))
measure_build

for transport in "${transports[@]}"; do
    for ((run = 1; run <= runs; run++)); do
        say "$transport, round $run of $runs: $sessions sessions for $seconds s," \
            "$(uptime | sed 's/.*load/load/')"
        server_start
        play "$work/$transport-$run-server.json" -n "$sessions" --transport "$transport" \
            --duration "${seconds}s" --ramp "$ramp"
        server_stop
        "$floor" --film "$film_path" -n "$sessions" --seconds "$seconds" --ramp "$ramp" \
            --transport "$transport" --cpu "$server_cpu" --drain-cpu "$other_cpu" \
            --via sendmsg --via uring --server "$work/$transport-$run-server.json" \
            --json "$work/$transport-$run-floor.json" >&2
    done
done
"$floor" --rounds "$work"

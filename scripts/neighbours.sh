#!/bin/bash
# How late an innocent player's packets are beside connections that flood the server with requests.
#
#   scripts/neighbours.sh [CONNECTIONS..]    0 1 50 200 1000
#
# One player over UDP watches a film of 2 Mbit/s while so many connections pipeline OPTIONS as fast
# as they are taken, all in headend-loadgen. CPU 0 serves, the other one floods and receives; the
# kernel says when a packet came. For each number: the lateness of the player's pictures as median,
# 99th percentile and maximum, and how many requests were answered meanwhile. The aim is a 99th
# percentile within 10 ms at 200. The figures only mean something on a machine that does nothing
# else; nothing is judged here.
#
#   NEIGHBOURS_SECONDS=20    how long each number is measured
#   NEIGHBOURS_RUNS=1        rounds
#   MEASURE_KEEP=DIR         keeps reports and the log of the server there
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/measure-lib.sh

floods=("$@")
((${#floods[@]} > 0)) || floods=(0 1 50 200 1000)
seconds="${NEIGHBOURS_SECONDS:-20}"
runs="${NEIGHBOURS_RUNS:-1}"

measure_begin neighbours
film_of_2_mbit $((seconds + 10))
measure_build

# row REPORT CONNECTIONS: one line of the table.
row() {
    jq -r --arg flood "$2" '
        (.media.video.lateness) as $late
        | [$flood, $late.p50_ms, $late.p99_ms, $late.max_ms,
           ((.flooded.answers // 0) / .window.run_seconds | floor), (.flooded.closed // 0),
           .total.lost]
        | @tsv' "$1"
}

rows=()
for ((run = 1; run <= runs; run++)); do
    for flood in "${floods[@]}"; do
        say "round $run of $runs: $flood connections for $seconds s, $(uptime | sed 's/.*load/load/')"
        server_start
        report="$work/$flood-$run.json"
        play "$report" -n 1 --transport udp --duration "${seconds}s" --flood "$flood"
        server_stop
        rows+=("$(row "$report" "$flood")")
    done
done
printf 'connections\tp50 ms\tp99 ms\tmax ms\tanswers/s\tclosed\tlost\n'
printf '%s\n' "${rows[@]}"

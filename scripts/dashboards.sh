#!/bin/bash
# How late players are while people look at the dashboard.
#
#   scripts/dashboards.sh [SESSIONS] [SECONDS] [PAGES]    1000 sessions, 20 s, 10 pages
#
# SESSIONS players of a film of 2 Mbit/s over UDP play in alternating rounds: by themselves, and while
# PAGES dashboards are open. A dashboard here is what a page asks for, without a browser: the feed of
# numbers, and each two seconds the tables of sessions and paths, the checks, the log and the limits.
# CPU 0 serves, the other one runs players, worker and pages. Printed: lateness of each round, medians
# of both kinds, and how much the pages were sent. Nothing is judged here. Needs curl and jq.
#
#   DASHBOARDS_RUNS=3    rounds of each kind
#   MEASURE_KEEP=DIR     keeps reports and the log of the server there
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/measure-lib.sh

sessions="${1:-1000}"
seconds="${2:-20}"
pages="${3:-10}"
runs="${DASHBOARDS_RUNS:-3}"

measure_begin dashboards
film_of_2_mbit $((sessions / 200 + seconds + 10))
measure_build

page_pids=()
close_pages() {
    ((${#page_pids[@]} == 0)) || kill "${page_pids[@]}" 2>/dev/null || true
    page_pids=()
}
trap 'close_pages; measure_end' EXIT

# page N: one dashboard, until it is ended. What it was sent is counted in $work/page-N-*.
page() {
    local feed
    taskset -c "$other_cpu" curl -sSN --max-time 600 "${admin}v1/feed" >"$work/page-$1-feed" &
    feed=$!
    trap 'kill $feed 2>/dev/null; exit' TERM
    while kill -0 "$feed" 2>/dev/null; do
        for what in sessions?limit=50 "paths?limit=50&max_age_s=2" doctor log limits; do
            taskset -c "$other_cpu" curl -sS --max-time 10 "${admin}v1/$what"
        done >>"$work/page-$1-tables"
        sleep 2 &
        wait $!
    done
}

# round REPORT: the players; what they report goes to $work/REPORT.json.
round() {
    play "$work/$1.json" -n "$sessions" --duration "${seconds}s"
}

server_start
for ((run = 1; run <= runs; run++)); do
    say "round $run of $runs: $sessions sessions for $seconds s, $(uptime | sed 's/.*load/load/')"
    round "alone-$run"
    for ((n = 1; n <= pages; n++)); do
        page "$n" &
        page_pids+=($!)
    done
    round "beside-$run"
    close_pages
done

# row NAME FILE..: medians over the rounds of lateness, and what was lost in all.
row() {
    local name=$1
    shift
    jq -rs --arg name "$name" '
        def median: sort | .[length / 2 | floor] * 100 | round / 100;
        [$name, ([.[].media.video.lateness.p50_ms] | median), ([.[].media.video.lateness.p99_ms] | median),
         ([.[].media.video.lateness.p999_ms] | median), ([.[].media.video.lateness.max_ms] | median),
         ([.[].total.lost] | add)] | @tsv' "$@"
}
{
    printf 'lateness of pictures\tp50 ms\tp99 ms\tp99.9 ms\tmax ms\tlost\n'
    for ((run = 1; run <= runs; run++)); do
        row "alone, round $run" "$work/alone-$run.json"
        row "$pages pages, round $run" "$work/beside-$run.json"
    done
    row "alone, medians" "$work"/alone-*.json
    row "$pages pages, medians" "$work"/beside-*.json
} | column -t -s "$(printf '\t')"
echo "the pages were sent $(cat "$work"/page-*-feed | grep -c '^event: sample') samples and" \
    "$(cat "$work"/page-*-tables | wc -c) bytes of tables"

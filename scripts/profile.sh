#!/bin/bash
# Where a shard's time goes: perf on its thread under the load of scripts/floor.sh.
#
#   scripts/profile.sh [SESSIONS] [SECONDS] [udp|tcp]      1000 sessions, 10 s, udp
#
# Software clock, so it works in a virtual machine; needs `perf` and the right to use it. Prints the
# share of the kernel and of the program, and the largest symbols of each.
#
#   MEASURE_KEEP=DIR     keeps perf.data and the report of headend-loadgen there
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/measure-lib.sh

sessions="${1:-1000}"
seconds="${2:-10}"
transport="${3:-udp}"
ramp=200

measure_begin profile
film_of_2_mbit $((sessions / ramp + seconds + 20))
measure_build
server_start
thread=$(grep -ls '^shard' "/proc/$server_pid"/task/*/comm | head -1 | cut -d/ -f5)
say "$sessions sessions over $transport, thread $thread"
play "$work/report.json" -n "$sessions" --transport "$transport" --ramp "$ramp" \
    --duration "$((seconds + 4))s" &
player=$!
sleep $((sessions / ramp + 2))
perf record --quiet --event cpu-clock --freq 1999 --tid "$thread" --output "$work/perf.data" \
    -- sleep "$seconds"
wait "$player"
server_stop

# Without the empty columns that some versions of perf append.
report() {
    perf report --input "$work/perf.data" --stdio --quiet "$@" 2>/dev/null | sed 's/[- ]*$//'
}
echo "where"
report --sort dso | grep -v '^$' | head -5
echo "symbols of the kernel"
report --sort dso,symbol | grep '\[k\]' | head -25 || true
echo "symbols of the program"
report --sort dso,symbol | grep '\[\.\]' | head -20 || true

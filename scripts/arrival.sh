#!/bin/bash
# How late the players of a node are while a job arrives there at full rate.
#
#   scripts/arrival.sh [SESSIONS] [SECONDS] [MIB]    500 sessions, 10 s, contents of 512 MiB
#
# A base and a node run on this machine. SESSIONS players of a film of 2 Mbit/s over UDP play from
# the node twice: by themselves, and while contents of MIB arrive one after the other, as fast as
# base and node can. What counts is that lateness stays what it was. CPU 0 runs the shard of the
# node; the other one runs players, worker and base, and the agent runs where there is room. Printed:
# lateness of both runs, and what arrived. Nothing is judged here. Needs jq.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/measure-lib.sh

sessions="${1:-500}"
seconds="${2:-10}"
mib="${3:-512}"

measure_begin arrival
film_of_2_mbit $((sessions / 200 + seconds + 10))
measure_build
headend="${MEASURE_SERVER:-$programs/headend}"
head -c "${mib}M" /dev/urandom >"$work/content.bin"

base_pid=
trap '[[ -z $base_pid ]] || kill "$base_pid" 2>/dev/null; measure_end' EXIT
taskset -c "$other_cpu" "$headend" base --listen 127.0.0.1:0 --data "$work/base" \
    >"$work/base.log" 2>&1 &
base_pid=$!
base=
for _ in {1..100}; do
    base=$(grep -Eso 'https?://127\.0\.0\.1:[0-9]+' "$work/base.log" | head -1 || true)
    [[ -z $base || ! -s $work/base/join.token ]] || break
    sleep 0.1
done
[[ -n $base ]] || { cat "$work/base.log" >&2; exit 1; }
token=$(cat "$work/base/provider.token")

server_role=(node --base "$base" --join "$(cat "$work/base/join.token")" --name node --media)
server_start
for _ in {1..100}; do
    ! "$headend" node ls --base "$base" --token "$token" | grep -q active || break
    sleep 0.1
done

say "$sessions sessions alone for $seconds s, $(uptime | sed 's/.*load/load/')"
play "$work/alone.json" -n "$sessions" --duration "${seconds}s"

say "$sessions sessions while contents of $mib MiB arrive"
play "$work/beside.json" -n "$sessions" --duration "${seconds}s" &
player_pid=$!
# Their ramp: 200 sessions a second.
sleep $((1 + sessions / 200))
began=$(date +%s%N)
count=0
while kill -0 "$player_pid" 2>/dev/null; do
    taskset -c "$other_cpu" "$headend" job push "$work/content.bin" --base "$base" \
        --token "$token" >>"$work/push.log"
    count=$((count + 1))
done
took=$(($(date +%s%N) - began))
wait "$player_pid"

print_lateness "players"
awk -v n="$count" -v mib="$mib" -v ns="$took" \
    'BEGIN { printf "%d contents of %d MiB in %.1f s: %.0f MB/s\n", n, mib, ns / 1e9, n * mib * 1.048576 / (ns / 1e9) }'

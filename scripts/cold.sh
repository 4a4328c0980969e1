#!/bin/bash
# What sessions on cold files cost the sessions on hot ones: lateness, alone and beside them.
#
#   scripts/cold.sh [HOT] [COLD] [ROUNDS]      200 hot sessions, 5 rounds of 20 cold ones
#
# The load is a film of 2 Mbit/s over UDP. HOT sessions play one title twice: by themselves, and
# while every few seconds COLD more sessions start, each on a file of its own that was put out of
# memory (posix_fadvise DONTNEED). What counts is that the lateness of the hot ones stays what it
# was, and that no shard takes a major fault: a shard that reads a page from the disk stands still
# for all its sessions. CPU 0 serves; the other one receives and runs the worker. Only ratios of
# one run mean something, on a machine that does nothing else; nothing is judged. Needs jq.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/measure-lib.sh

hot="${1:-200}"
cold="${2:-20}"
rounds="${3:-5}"
round_seconds=4
seconds=$((rounds * round_seconds + 2))

measure_begin cold
film_of_2_mbit $((seconds + 10))
hot_film="$film_path"
film_of_2_mbit 10
measure_build

# Copies, because links to one file would share its pages.
rm "$work/films/film.mp4"
cp "$hot_film" "$work/films/hot.mp4"
for ((i = 0; i < rounds * cold; i++)); do
    cp --reflink=never "$film_path" "$work/films/cold-$i.mp4"
done
sync -f "$work/films"
server_start

# Major faults of the server's shards, as the kernel counts them.
major_faults() {
    local sum=0 thread
    for thread in /proc/"$server_pid"/task/*; do
        if grep -q '^shard-' "$thread/comm"; then
            sum=$((sum + $(cut -d' ' -f12 "$thread/stat")))
        fi
    done
    echo "$sum"
}

say "$hot hot sessions alone for $seconds s, $(uptime | sed 's/.*load/load/')"
faults_start=$(major_faults)
play_url "${url}vod/hot.mp4" "$work/alone.json" -n "$hot" --duration "${seconds}s"
faults_alone=$(major_faults)

say "$hot hot sessions, and $cold cold ones every $round_seconds s"
play_url "${url}vod/hot.mp4" "$work/beside.json" -n "$hot" --duration "${seconds}s" &
hot_pid=$!
# Their ramp: 200 sessions a second.
sleep $((1 + hot / 200))
for ((round = 0; round < rounds; round++)); do
    urls=()
    for ((i = round * cold; i < (round + 1) * cold; i++)); do
        dd if="$work/films/cold-$i.mp4" iflag=nocache count=0 status=none
        urls+=("${url}vod/cold-$i.mp4")
    done
    play_url "${urls[0]}" "$work/cold-$round.json" -n "$cold" \
        --duration "$((round_seconds - 1))s" "${urls[@]:1}"
done
wait "$hot_pid"
faults_beside=$(major_faults)

print_lateness "hot sessions"
printf '%-28s %10d %10d\n' "major faults of shards" \
    $((faults_alone - faults_start)) $((faults_beside - faults_alone))
echo
echo "PLAY to first packet of the cold sessions, ms:"
for ((round = 0; round < rounds; round++)); do
    jq -r '"  p50 \(.first_packet.p50_ms)  p99 \(.first_packet.p99_ms)  lost \(.total.lost)"' \
        "$work/cold-$round.json"
done

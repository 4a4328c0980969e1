#!/bin/bash
# What sessions on cold files cost the sessions on hot ones: lateness, alone and beside them.
#
#   scripts/cold.sh [HOT] [COLD] [ROUNDS]      200 hot sessions, 5 rounds of 20 cold ones
#
# The load is a film of 2 Mbit/s over UDP (scripts/film.sh). HOT sessions play one title twice: by
# themselves, and while every few seconds COLD more sessions start, each on a file of its own that
# was put out of memory (posix_fadvise DONTNEED). What counts is that the lateness of the hot ones
# stays what it was, and that no shard takes a major fault: a shard that reads a page from the disk
# stands still for all its sessions. CPU 0 serves; the other one receives and runs the worker.
# Only ratios of one run mean something, on a machine that does nothing else; nothing is judged.
#
#   COLD_SERVER=FILE     measures this build of headend instead
#   COLD_KEEP=DIR        keeps the reports of headend-loadgen and the log of the server there
set -euo pipefail
cd "$(dirname "$0")/.."

hot="${1:-200}"
cold="${2:-20}"
rounds="${3:-5}"
round_seconds=4
seconds=$((rounds * round_seconds + 2))
server_cpu=0
other_cpu=$(($(nproc) > 1 ? 1 : 0))

say() { echo "cold: $*" >&2; }

hot_film=$(scripts/film.sh $(((seconds + 10 + 29) / 30 * 30)))
cold_film=$(scripts/film.sh 10)

say "building"
cargo build --release -p headend -p headend-loadgen --bins
programs="${CARGO_TARGET_DIR:-target}/release"

ulimit -n "$(ulimit -Hn)" || true
work=$(mktemp -d -p target/floor cold-XXXXXX)
server_pid=
finish() {
    if [[ -n $server_pid ]]; then
        kill "$server_pid" 2>/dev/null || true
        wait "$server_pid" 2>/dev/null || true
    fi
    if [[ -n ${COLD_KEEP:-} ]]; then
        mkdir -p "$COLD_KEEP"
        cp "$work"/*.txt "$work"/*.log "$COLD_KEEP" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap finish EXIT

# Copies, because links to one file would share its pages. On the disk, or they cannot be evicted.
mkdir "$work/films"
cp "$hot_film" "$work/films/hot.mp4"
for ((i = 0; i < rounds * cold; i++)); do
    cp --reflink=never "$cold_film" "$work/films/cold-$i.mp4"
done
sync -f "$work/films"

"${COLD_SERVER:-$programs/headend}" serve "$work/films" --listen 127.0.0.1:0 \
    --admin 127.0.0.1:0 --rtp-port 0 --shards "cpu:$server_cpu" --workers "cpu:$other_cpu" \
    --log text >"$work/server.log" 2>&1 &
server_pid=$!
url=
for _ in {1..100}; do
    url=$(grep -o 'rtsp://127.0.0.1:[0-9]*/' "$work/server.log" 2>/dev/null | head -1 || true)
    [[ -n $url ]] && break
    sleep 0.1
done
if [[ -z $url ]]; then
    say "the server did not start:"
    cat "$work/server.log" >&2
    exit 1
fi

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

play() { # SESSIONS SECONDS REPORT URL..
    local sessions="$1" duration="$2" report="$3"
    shift 3
    taskset -c "$other_cpu" "$programs/headend-loadgen" -n "$sessions" --transport udp \
        --duration "${duration}s" "$@" >"$report"
}

say "$hot hot sessions alone for $seconds s, $(uptime | sed 's/.*load/load/')"
faults_start=$(major_faults)
play "$hot" "$seconds" "$work/alone.txt" "${url}vod/hot.mp4"
faults_alone=$(major_faults)

say "$hot hot sessions, and $cold cold ones every $round_seconds s"
play "$hot" "$seconds" "$work/beside.txt" "${url}vod/hot.mp4" &
hot_pid=$!
# Their ramp: 200 sessions a second.
sleep $((1 + hot / 200))
for ((round = 0; round < rounds; round++)); do
    urls=()
    for ((i = round * cold; i < (round + 1) * cold; i++)); do
        dd if="$work/films/cold-$i.mp4" iflag=nocache count=0 status=none
        urls+=("${url}vod/cold-$i.mp4")
    done
    play "$cold" $((round_seconds - 1)) "$work/cold-$round.txt" "${urls[@]}" || true
done
wait "$hot_pid"
faults_beside=$(major_faults)

# The columns of headend-loadgen's table, from the right: max, p99.9, p99, p90, p50.
late() { # REPORT KIND COLUMN
    awk -v kind="$2" -v back="$3" '$1 == "late" && $2 == kind { print $(NF - back) }' "$1"
}
printf '\n%-28s %10s %10s %8s\n' "lateness of hot sessions" "alone ms" "beside ms" "ratio"
for kind in video audio; do
    for column in "p99 2" "p99.9 1" "max 0"; do
        read -r name back <<<"$column"
        alone=$(late "$work/alone.txt" $kind "$back")
        beside=$(late "$work/beside.txt" $kind "$back")
        awk -v l="$kind $name" -v a="$alone" -v b="$beside" \
            'BEGIN { printf "%-28s %10.2f %10.2f %8.2f\n", l, a, b, (a > 0 ? b / a : 0) }'
    done
done
printf '%-28s %10d %10d\n' "major faults of shards" \
    $((faults_alone - faults_start)) $((faults_beside - faults_alone))
echo
echo "the cold sessions of the last round:"
grep -E '^(sessions|time in ms)|^  (late|PLAY to packet)' "$work/cold-$((rounds - 1)).txt" || true

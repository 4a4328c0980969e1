#!/bin/bash
# How the cost of a session moves with their number: 100, 1,000, 5,000, 10,000 of a low-rate film.
#
#   scripts/curve.sh [SESSIONS..]
#
# The film is 64 kbit/s of H.264 at 4 fps and 16 kbit/s of AAC (8 kHz), over UDP: 12 sends a second
# and session, so that 10,000 fit on one core although every send carries little. For each point a
# server of its own is started and warmed up; the sessions are set up, play, and are torn down; then
# nothing may be left: sessions, connections, rows of the PollTable and descriptors are compared with
# those before. Cost is CPU of the server in the window in which all play; memory is the process's
# own (anonymous) at its largest, beyond that before. Printed: the table, what was left, and the cost
# of a session at 10,000 over that at 1,000. Nothing is judged here.
#
#   CURVE_FPS=4          pictures a second of the film
#   CURVE_SECONDS=15     how long all of them play
#   CURVE_RAMP=500       sessions started per second
#   MEASURE_KEEP=DIR     keeps reports, /metrics before and after, and the log of the server there
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/measure-lib.sh

points=("$@")
((${#points[@]} > 0)) || points=(100 1000 5000 10000)
seconds="${CURVE_SECONDS:-15}"
ramp="${CURVE_RAMP:-500}"
fps="${CURVE_FPS:-4}"
largest=$(printf '%s\n' "${points[@]}" | sort -n | tail -1)

own_kib() { sed -n 's/^RssAnon:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$server_pid/status"; }

# look FILE: what the server says of itself.
look() {
    curl -sf "${admin}metrics" >"$1"
    echo "own_kib $(own_kib)" >>"$1"
}

# Until the server has no sessions and connections any more; those without TEARDOWN time out.
wait_until_empty() {
    for _ in {1..120}; do
        if curl -sf "${admin}metrics" |
            awk '/^headend_(sessions|rtsp_connections)[ {]/ { sum += $NF } END { exit sum != 0 }'; then
            return
        fi
        sleep 0.5
    done
    say "sessions or connections are left after a minute"
}

measure_begin curve
film "64kbit-${fps}fps" $((largest / ramp + seconds + 20)) 160x120 "$fps" 64 8000 16
measure_build

for sessions in "${points[@]}"; do
    say "$sessions sessions for $seconds s, $(uptime | sed 's/.*load/load/')"
    server_start
    play "$work/warm.report" -n 10 --duration 3s
    wait_until_empty
    look "$work/$sessions.before"
    play "$work/$sessions.json" -n "$sessions" --duration "${seconds}s" --ramp "$ramp" &
    player=$!
    while kill -0 "$player" 2>/dev/null; do
        own_kib >>"$work/$sessions.peak"
        sleep 0.5
    done
    wait "$player"
    wait_until_empty
    look "$work/$sessions.after"
    server_stop
    cp "$work/server.log" "$work/$sessions-server.log"
    grep -E 'WARN|ERROR' "$work/server.log" | head -3 >&2 || true
done
"$floor" --curve "$work"

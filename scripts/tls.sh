#!/bin/bash
# What RTSPS costs the server beside interleaved RTSP: CPU for each packet.
#
#   scripts/tls.sh [SESSIONS] [SECONDS]      200 sessions, 15 s
#
# The load is that of scripts/floor.sh. A round is the film played interleaved to headend-loadgen,
# first without TLS and then with it, by the same server. The numbers only mean something on a machine
# that does nothing else; nothing is judged here. Needs jq.
#
#   TLS_RUNS=3           rounds
#   MEASURE_KEEP=DIR     keeps reports and the log of the server there
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/measure-lib.sh

sessions="${1:-200}"
seconds="${2:-15}"
ramp=100
measure_begin tls
film_of_2_mbit $((sessions / ramp + seconds + 10))
measure_build
"$programs/headend" cert self-signed --host 127.0.0.1 --out "$work" >"$work/tls.toml"
echo 'listen = ["127.0.0.1:0"]' >>"$work/tls.toml"
server_options=(-c "$work/tls.toml")

printf '%-8s %14s %14s %8s %12s %12s\n' round "tcp us/packet" "tls us/packet" ratio \
    "tcp p99 ms" "tls p99 ms"
for ((run = 1; run <= ${TLS_RUNS:-3}; run++)); do
    server_start
    secure=$(grep -so 'rtsps://127.0.0.1:[0-9]*/' "$work/server.log" | head -1)
    for way in tcp tls; do
        say "$way, round $run: $sessions sessions for $seconds s, $(uptime | sed 's/.*load/load/')"
        target=$url
        [[ $way == tcp ]] || target=$secure
        play_url "${target}vod/film.mp4" "$work/$way-$run.json" -n "$sessions" --transport tcp \
            --duration "${seconds}s" --ramp "$ramp"
    done
    server_stop
    cost() { jq '.server.us_per_packet' "$work/$1-$run.json"; }
    late() { jq '.media.video.lateness.p99_ms' "$work/$1-$run.json"; }
    awk -v r="$run" -v a="$(cost tcp)" -v b="$(cost tls)" -v l="$(late tcp)" -v m="$(late tls)" \
        'BEGIN { printf "%-8s %14.3f %14.3f %8.2f %12.2f %12.2f\n", r, a, b, b / a, l, m }'
done

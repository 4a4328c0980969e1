#!/bin/bash
# What RTSPS costs the server beside interleaved RTSP, and SRTP beside plain UDP: CPU for each packet.
#
#   scripts/tls.sh [SESSIONS] [SECONDS]      200 sessions, 15 s
#
# The load is that of scripts/floor.sh. A round is the film played to headend-loadgen by one server:
# interleaved without and with TLS, by UDP without SRTP and with each of its suites. The next round
# goes the other way round. headend-loadgen judges the headers of SRTP packets, which are in the
# clear, and decrypts nothing. The numbers only mean something on a machine that does nothing else;
# nothing is judged here. Needs jq.
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

# Each with what it is compared to.
ways=(tcp:tcp tls:tcp udp:udp srtp80:udp srtp32:udp gcm:udp)
declare -A suites=([srtp80]=AES_CM_128_HMAC_SHA1_80 [srtp32]=AES_CM_128_HMAC_SHA1_32
    [gcm]=AEAD_AES_128_GCM)

play_way() {
    local way=$1 target=${url}vod/film.mp4 transport=udp
    case $way in
        tcp) transport=tcp ;;
        tls) target=${secure}vod/film.mp4 transport=tcp ;;
        udp) ;;
        *) target="${secure}vod/film.mp4?srtp=${suites[$way]}" ;;
    esac
    say "$way, round $run: $sessions sessions for $seconds s, $(uptime | sed 's/.*load/load/')"
    play_url "$target" "$work/$way-$run.json" -n "$sessions" --transport "$transport" \
        --duration "${seconds}s" --ramp "$ramp"
}

of() { jq "$1" "$work/$2-$run.json"; }

printf '%-6s %-8s %12s %8s %10s %12s %8s\n' round way us/packet ratio "p99 ms" packets lost
for ((run = 1; run <= ${TLS_RUNS:-3}; run++)); do
    server_start
    secure=$(grep -so 'rtsps://127.0.0.1:[0-9]*/' "$work/server.log" | head -1)
    order=("${ways[@]}")
    if ((run % 2 == 0)); then
        mapfile -t order < <(printf '%s\n' "${ways[@]}" | tac)
    fi
    for pair in "${order[@]}"; do
        play_way "${pair%:*}"
    done
    server_stop
    for pair in "${ways[@]}"; do
        way=${pair%:*}
        cost=.server.us_per_packet
        awk -v r="$run" -v w="$way" -v a="$(of $cost "$way")" -v b="$(of $cost "${pair#*:}")" \
            -v l="$(of .media.video.lateness.p99_ms "$way")" \
            -v n="$(of .media.video.packets "$way")" -v m="$(of .media.video.lost "$way")" \
            'BEGIN { printf "%-6s %-8s %12.3f %8.2f %10.2f %12d %8d\n", r, w, a, a / b, l, n, m }'
    done
done

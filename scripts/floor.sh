#!/bin/bash
# What a packet costs the server beside what it costs at all: CPU per packet, server / floor.
#
#   scripts/floor.sh [SESSIONS] [SECONDS]      1000 sessions for 20 s unless told otherwise
#
# The load is a film of 2 Mbit/s: H.264 at 25 fps with B-frames, and AAC. First headend plays it to
# headend-loadgen over UDP, then benches/floor sends the same packets in the same bursts to a
# receiver of the same kind: see there. CPU 0 sends, the other one receives and runs the worker.
# The ratio only means something on a machine that does nothing else; nothing is judged here.
#
#   FLOOR_RAMP=200       sessions started per second
#   FLOOR_KEEP=DIR       keeps the report of headend-loadgen and the log of the server there
set -euo pipefail
cd "$(dirname "$0")/.."

sessions="${1:-1000}"
seconds="${2:-20}"
ramp="${FLOOR_RAMP:-200}"
server_cpu=0
other_cpu=$(($(nproc) > 1 ? 1 : 0))

say() { echo "floor: $*" >&2; }

# Long enough for those that start first, in steps of half a minute so that it is made once.
film_seconds=$(((sessions / ramp + seconds + 10 + 29) / 30 * 30))
film="target/floor/2mbit-${film_seconds}s.mp4"
if [[ ! -f $film ]]; then
    say "making $film"
    mkdir -p "$(dirname "$film")"
    # Noise keeps the encoder at its bit rate, whatever the picture.
    ffmpeg -hide_banner -loglevel error -nostdin -y \
        -f lavfi -i "testsrc2=size=960x540:rate=25:duration=$film_seconds,noise=alls=12:allf=t" \
        -f lavfi -i "aevalsrc=0.2*sin(2*PI*440*t)+0.1*random(0):s=48000:c=stereo:d=$film_seconds" \
        -map 0:v -map 1:a -c:v libx264 -profile:v main -pix_fmt yuv420p -preset ultrafast \
        -b:v 1880k -maxrate 1880k -bufsize 1880k -g 50 -keyint_min 50 -sc_threshold 0 -bf 2 \
        -c:a aac -b:a 120k -movflags +faststart "$film.part.mp4"
    mv "$film.part.mp4" "$film"
fi

say "building"
built=$(cargo build --release -p headend -p headend-loadgen --bins --bench floor \
    --message-format=json-render-diagnostics)
floor=$(sed -n 's|.*"executable":"\([^"]*/floor-[0-9a-f]*\)".*|\1|p' <<<"$built" | tail -1)
programs="${CARGO_TARGET_DIR:-target}/release"

ulimit -n "$(ulimit -Hn)" || true
work=$(mktemp -d)
server_pid=
finish() {
    if [[ -n $server_pid ]]; then
        kill "$server_pid" 2>/dev/null || true
        wait "$server_pid" 2>/dev/null || true
    fi
    if [[ -n ${FLOOR_KEEP:-} ]]; then
        mkdir -p "$FLOOR_KEEP"
        cp "$work"/*.json "$work"/*.log "$FLOOR_KEEP" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap finish EXIT

# Its output goes to a file: what a terminal costs is nobody's business here.
mkdir "$work/films"
ln "$film" "$work/films/film.mp4" 2>/dev/null || cp "$film" "$work/films/film.mp4"
"$programs/headend" serve "$work/films" --listen 127.0.0.1:0 --admin 127.0.0.1:0 --rtp-port 0 \
    --shards "cpu:$server_cpu" --workers "cpu:$other_cpu" --log text >"$work/server.log" 2>&1 &
server_pid=$!
url=
for _ in {1..100}; do
    url=$(grep -o 'rtsp://127.0.0.1:[0-9]*/' "$work/server.log" | head -1 || true)
    [[ -n $url ]] && break
    sleep 0.1
done
if [[ -z $url ]]; then
    say "the server did not start:"
    cat "$work/server.log" >&2
    exit 1
fi

say "$sessions sessions for $seconds s on the server, $(uptime | sed 's/.*load/load/')"
taskset -c "$other_cpu" "$programs/headend-loadgen" -n "$sessions" --transport udp \
    --duration "${seconds}s" --ramp "$ramp" --server-pid "$server_pid" --json \
    "${url}vod/film.mp4" >"$work/report.json"
kill "$server_pid"
wait "$server_pid" || true
server_pid=

say "the same at the floor"
"$floor" --film "$film" -n "$sessions" --seconds "$seconds" --ramp "$ramp" \
    --cpu "$server_cpu" --drain-cpu "$other_cpu" --via sendmsg --via uring \
    --server "$work/report.json"

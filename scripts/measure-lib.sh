#!/bin/bash
# What the measuring scripts share: building, a film, a server on CPU 0. Sourced, not run.
#
# The caller sets `set -euo pipefail`, stands in the root of the repository, and calls in this
# order: measure_begin NAME, measure_build, film .., server_start, server_stop. What is started is
# ended with the script, by its own id; all files are in $work, which is deleted then.

say() { echo "$measure_name: $*" >&2; }

# One CPU serves, another one receives and runs the worker.
measure_begin() {
    measure_name="$1"
    server_cpu=0
    other_cpu=$(($(nproc) > 1 ? 1 : 0))
    server_pid=
    url=
    admin=
    # What runs, with the folder of films as its next word, and more words for it.
    server_role=(serve)
    server_options=()
    # A connection for each session, on both sides.
    ulimit -n "$(ulimit -Hn)" || true
    # On the disk of the checkout: films are linked, and a memory file system cannot be evicted.
    mkdir -p target/floor
    work=$(mktemp -d -p target/floor run-XXXXXX)
    mkdir "$work/films"
    trap measure_end EXIT
    ((server_cpu != other_cpu)) || say "one CPU only: sender and receiver are in each other's way"
}

# MEASURE_KEEP=DIR keeps reports and logs.
measure_end() {
    server_stop
    if [[ -n ${MEASURE_KEEP:-} ]]; then
        mkdir -p "$MEASURE_KEEP"
        find "$work" -maxdepth 1 -type f -exec cp {} "$MEASURE_KEEP" \;
    fi
    rm -rf "$work"
}

# Sets `programs` (a folder) and `floor` (the program of benches/floor). MEASURE_PROGRAMS=DIR has them
# already: headend, headend-loadgen, floor.
measure_build() {
    if [[ -n ${MEASURE_PROGRAMS:-} ]]; then
        programs=$MEASURE_PROGRAMS
        floor=$MEASURE_PROGRAMS/floor
        return
    fi
    say "building"
    local built
    built=$(cargo build --release -p headend -p headend-loadgen --bins --bench floor \
        --message-format=json-render-diagnostics)
    floor=$(sed -n 's|.*"executable":"\([^"]*/floor-[0-9a-f]*\)".*|\1|p' <<<"$built" | tail -1)
    programs="${CARGO_TARGET_DIR:-target}/release"
}

# film NAME SECONDS SIZE RATE VIDEO_KBIT AUDIO_HZ AUDIO_KBIT: makes it unless it is there, and puts
# it into the folder that is served. Lengths are rounded up, so that a film serves many runs.
film() {
    local name=$1 seconds=$((($2 + 29) / 30 * 30)) size=$3 rate=$4 video=$5 hz=$6 audio=$7
    local path="target/floor/$name-${seconds}s.mp4"
    if [[ ! -f $path ]]; then
        say "making $path"
        mkdir -p "$(dirname "$path")"
        # Noise keeps the encoder at its bit rate, whatever the picture.
        ffmpeg -hide_banner -loglevel error -nostdin -y \
            -f lavfi -i "testsrc2=size=$size:rate=$rate:duration=$seconds,noise=alls=12:allf=t" \
            -f lavfi -i "aevalsrc=0.2*sin(2*PI*440*t)+0.1*random(0):s=$hz:d=$seconds" \
            -map 0:v -map 1:a -c:v libx264 -profile:v main -pix_fmt yuv420p -preset ultrafast \
            -b:v "${video}k" -maxrate "${video}k" -bufsize "${video}k" -g $((rate * 2)) \
            -keyint_min $((rate * 2)) -sc_threshold 0 -bf 2 -c:a aac -b:a "${audio}k" \
            -movflags +faststart "$path.part.mp4"
        mv "$path.part.mp4" "$path"
    fi
    ln -f "$path" "$work/films/film.mp4" 2>/dev/null || cp "$path" "$work/films/film.mp4"
    film_path="$path"
}

# The load of the budgets: 2 Mbit/s, 25 pictures a second with B-frames, AAC.
film_of_2_mbit() { film 2mbit "$1" 960x540 25 1880 48000 120; }

# Sets `server_pid`, `url` (rtsp://..) and `admin` (http://..). MEASURE_SERVER=FILE measures another
# build. Its output goes to a file: what a
# terminal costs is nobody's business here.
server_start() {
    "${MEASURE_SERVER:-$programs/headend}" "${server_role[@]}" "$work/films" --listen 127.0.0.1:0 --admin 127.0.0.1:0 \
        --rtp-port 0 --shards "cpu:$server_cpu" --workers "cpu:$other_cpu" --log text \
        "${server_options[@]}" \
        >"$work/server.log" 2>&1 &
    server_pid=$!
    for _ in {1..100}; do
        url=$(grep -so 'rtsp://127.0.0.1:[0-9]*/' "$work/server.log" | head -1 || true)
        admin=$(grep -so 'http://127.0.0.1:[0-9]*/' "$work/server.log" | head -1 || true)
        if [[ -n $url && -n $admin ]]; then
            return
        fi
        sleep 0.1
    done
    say "the server did not start:"
    cat "$work/server.log" >&2
    exit 1
}

server_stop() {
    if [[ -n $server_pid ]]; then
        kill "$server_pid" 2>/dev/null || true
        wait "$server_pid" 2>/dev/null || true
    fi
    server_pid=
}

# play REPORT OPTION..: headend-loadgen on the film, beside the server. Sessions that fail are in
# the report, and said.
play() { play_url "${url}vod/film.mp4" "$@"; }

# play_url URL REPORT OPTION..
play_url() {
    local what=$1 report=$2
    shift 2
    taskset -c "$other_cpu" "$programs/headend-loadgen" --server-pid "$server_pid" --json "$@" \
        "$what" >"$report" 2>"$report.log" || {
        say "headend-loadgen ended with $?:"
        tail -5 "$report.log" >&2
    }
}

# print_lateness WHOSE: a table of $work/alone.json and $work/beside.json, reports of the load
# generator. Needs jq.
print_lateness() {
    printf '\n%-28s %10s %10s %8s\n' "lateness of $1" "alone ms" "beside ms" "ratio"
    local kind column late
    for kind in video audio; do
        for column in p99 p999 max; do
            late=".media.$kind.lateness.${column}_ms"
            awk -v l="$kind $column" -v a="$(jq "$late" "$work/alone.json")" \
                -v b="$(jq "$late" "$work/beside.json")" \
                'BEGIN { printf "%-28s %10.2f %10.2f %8.2f\n", l, a, b, (a > 0 ? b / a : 0) }'
        done
    done
}

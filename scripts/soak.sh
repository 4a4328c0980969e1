#!/bin/bash
# Whether a server grows: mixed load for MINUTES, what it holds all the while, and a judgement.
#
#   scripts/soak.sh [MINUTES]           30 without
#
# The load, at once and again and again, by headend-loadgen and by real FFmpeg and GStreamer:
#
#   titles     UDP and TCP, over and over, with pauses, seeks and jumps; two real players
#   live       a publisher that stays, its readers; a path between two publishers, which is switched
#   flapping   publishers that come, are killed, and come again; readers who come before them
#   vanishing  clients that stop without a word (SIGSTOP until their sessions have timed out) and
#              clients that are killed; TCP clients that stop reading
#   line-up    a session that is tuned from channel to channel
#   config     a reload now and then
#
# Every SOAK_EVERY seconds a line: memory (resident, anonymous, mapped), descriptors, threads, rows of
# PollTables, connections, sessions, open titles, cached windows, tasks that wait, live readers and
# sources. Then the load leaves, and everything has to be back.
#
# The judgement, of each number: the samples of the first third are warm-up. Of the rest, medians of
# BLOCKS blocks; a line is fitted. Growth over the rest of the time may be three standard errors of
# the line, or what the number may have in any case (the column "may"): then there is none. Exit code
# 0: no growth, all is back. 1: growth, something is not back, or the server failed.
#
#   SOAK_EVERY=2            seconds between samples
#   SOAK_SESSIONS=60        sessions of each kind of viewer
#   SOAK_KEEP=DIR           keeps samples and logs there
#   SOAK_PROFILE=debug      of the debug build
set -euo pipefail
cd "$(dirname "$0")/.."

minutes="${1:-30}"
every="${SOAK_EVERY:-2}"
sessions="${SOAK_SESSIONS:-60}"
profile="${SOAK_PROFILE:-release}"
programs="${CARGO_TARGET_DIR:-target}/$profile"
[[ $minutes =~ ^[0-9]+$ && $minutes -ge 1 ]] || { echo "soak: MINUTES is a whole number" >&2; exit 2; }
# Sessions of vanished clients are over after this.
timeout_s=10

say() { echo "soak: $*" >&2; }

for tool in ffmpeg gst-launch-1.0 curl jq awk setsid; do
    command -v "$tool" >/dev/null || { say "$tool is missing (scripts/test-setup.sh)"; exit 2; }
done
case $profile in
release) cargo build --quiet --release -p headend -p headend-loadgen --bins ;;
debug) cargo build --quiet -p headend -p headend-loadgen --bins ;;
*) say "SOAK_PROFILE is release or debug"; exit 2 ;;
esac

ulimit -n "$(ulimit -Hn)" || true
work=$(mktemp -d)
server=
# Groups of processes that make load; each loop has its own, which is ended as a whole.
loads=()

finish() {
    leave
    if [[ -n $server ]]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    if [[ -n ${SOAK_KEEP:-} ]]; then
        mkdir -p "$SOAK_KEEP"
        cp "$work"/*.txt "$work"/*.log "$SOAK_KEEP" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap finish EXIT

# Ends all loads: stopped processes have to be let go first.
leave() {
    local group
    for group in "${loads[@]}"; do
        kill -TERM -- "-$group" 2>/dev/null || true
        kill -CONT -- "-$group" 2>/dev/null || true
    done
    for group in "${loads[@]}"; do
        wait "$group" 2>/dev/null || true
        kill -KILL -- "-$group" 2>/dev/null || true
    done
    loads=()
}

# ---------------------------------------------------------------- what is served

mkdir "$work/films"
make_film() {
    ffmpeg -hide_banner -loglevel error -nostdin -y \
        -f lavfi -i "testsrc2=size=640x360:rate=25:duration=$2" \
        -f lavfi -i "sine=frequency=440:duration=$2:sample_rate=48000" \
        -c:v libx264 -profile:v main -pix_fmt yuv420p -preset ultrafast -b:v 600k -g 50 -bf 0 \
        -c:a aac -b:a 64k -movflags +faststart "$work/films/$1.mp4"
}
make_film long 120
make_film short 12
cat >"$work/headend.toml" <<TOML
[server]
state_dir = "$work/state"
[rtsp]
session_timeout = "${timeout_s}s"
sessions_per_address_max = 16384
connections_per_address_max = 16384
[path."live/switched"]
fallback = ["live/b"]
standby = true
switch_interval = "100ms"
[path."live/late"]
hold = "5s"
[path.linear]
playlist = ["short.mp4", "long.mp4"]
[path.tv]
lineup = { 101 = "live/steady", 102 = "linear", 103 = "vod/long.mp4" }
TOML

"$programs/headend" serve "$work/films" -c "$work/headend.toml" --listen 127.0.0.1:0 \
    --admin 127.0.0.1:0 --rtp-port 0 --log json >"$work/banner.txt" 2>"$work/server.log" &
server=$!
for _ in {1..100}; do
    grep -q '^ready' "$work/banner.txt" && break
    kill -0 "$server" 2>/dev/null || { cat "$work/banner.txt" "$work/server.log" >&2; exit 1; }
    sleep 0.1
done
url=$(grep -o 'rtsp://127.0.0.1:[0-9]*/' "$work/banner.txt" | head -1)
admin=$(grep -o 'http://127.0.0.1:[0-9]*' "$work/banner.txt" | head -1)

# ---------------------------------------------------------------- load

# Each function is a loop of its own, in a process group of its own: `start NAME`.
start() {
    export -f "$1" loadgen published
    setsid bash -c "$1" >>"$work/$1.log" 2>&1 &
    loads+=($!)
}

loadgen() { "$programs/headend-loadgen" --shared-ports off --seed "$RANDOM" "$@" || true; }

# published PATH SECONDS: a film from FFmpeg, which stays so long.
published() {
    ffmpeg -hide_banner -loglevel error -nostdin -re -stream_loop -1 -i "$work/films/short.mp4" \
        -t "$2" -c copy -f rtsp -rtsp_transport tcp "$url$1" || true
}

titles() {
    while :; do
        loadgen -n "$sessions" --transport udp=2,tcp=1 --ramp 30 --duration 12s \
            --script "play 1s-3s; pause 500ms; seek 0%-80%; play 1s; jump 10%-90%; repeat" \
            "${url}vod/long.mp4=3" "${url}demo=1"
        loadgen -n $((sessions / 2)) --transport tcp=1,udp=1 --to-end "${url}vod/short.mp4"
    done
}
steady() {
    while :; do
        loadgen --publish "${url}live/steady" --sound -n $((sessions / 3)) --transport udp=1,tcp=1 \
            --duration 600s "${url}live/steady"
    done
}
readers() {
    while :; do
        loadgen -n $((sessions / 2)) --transport tcp=1,udp=1 --ramp 40 --duration 5s \
            "${url}live/steady" "${url}live/switched" "${url}linear"
    done
}
feed_a() { while :; do published live/switched 3600; sleep 1; done; }
feed_b() { while :; do published live/b 3600; sleep 1; done; }
flapping() {
    while :; do
        published live/flap 60 &
        publisher=$!
        loadgen -n 4 --duration 3s "${url}live/flap"
        # Without TEARDOWN.
        pkill -KILL -P "$publisher" || true
        wait "$publisher" || true
        loadgen --publish "${url}live/flap" --publish-transport tcp -n 3 --duration 2s "${url}live/flap"
        # Who waits for a source that comes later, or not at all.
        loadgen -n 3 --duration 2s "${url}live/late"
    done
}
vanishing() {
    while :; do
        for transport in udp tcp; do
            "$programs/headend-loadgen" --shared-ports off -n 8 --transport "$transport" \
                --duration 600s "${url}vod/long.mp4" "${url}live/steady" >/dev/null 2>&1 &
            client=$!
            sleep 3
            # Neither reads nor answers nor goes: its sessions time out.
            kill -STOP "$client"
            sleep $((timeout_s + 4))
            kill -KILL "$client"
            wait "$client" 2>/dev/null || true
        done
        "$programs/headend-loadgen" --shared-ports off -n 8 --transport udp=1,tcp=1 --duration 600s \
            "${url}vod/long.mp4" >/dev/null 2>&1 &
        client=$!
        sleep 2
        kill -KILL "$client"
        wait "$client" 2>/dev/null || true
        loadgen -n 4 --transport tcp --stall 4 --stall-after 1s --duration 6s "${url}vod/long.mp4"
    done
}
players() {
    while :; do
        ffmpeg -hide_banner -loglevel error -nostdin -rtsp_transport udp -t 8 \
            -i "${url}vod/long.mp4" -c copy -f null - || true
        ffmpeg -hide_banner -loglevel error -nostdin -rtsp_transport tcp -t 5 \
            -i "${url}live/switched" -c copy -f null - || true
        timeout -s KILL 6 ffmpeg -hide_banner -loglevel error -nostdin -rtsp_transport udp \
            -i "${url}live/steady" -c copy -f null - || true
        timeout 8 gst-launch-1.0 -q rtspsrc location="${url}vod/short.mp4" protocols=tcp ! fakesink || true
        timeout -s KILL 5 gst-launch-1.0 -q rtspsrc location="${url}linear" protocols=udp ! fakesink || true
    done
}
switches() {
    local source=0
    while :; do
        source=$((1 - source))
        curl -s -m 5 -X POST -H 'Content-Type: application/json' \
            -d "{\"to\": \"$source\", \"at\": \"now\"}" "$admin/v1/paths/live/switched:switch" || true
        sleep 3
        curl -s -m 5 -X POST "$admin/v1/config:reload" >/dev/null || true
        curl -s -m 5 "$admin/v1/sessions" >/dev/null || true
        sleep 2
    done
}
tuning() {
    while :; do
        ffmpeg -hide_banner -loglevel error -nostdin -rtsp_transport tcp -t 20 -i "${url}tv" \
            -c copy -f null - &
        viewer=$!
        for channel in 101 102 103 101 103; do
            sleep 3
            id=$(curl -s -m 5 "$admin/v1/sessions?path=tv" | jq -r '.sessions[0].id // empty') || true
            [[ -z $id ]] || curl -s -m 5 -X POST -H 'Content-Type: application/json' \
                -d "{\"channel\": $channel}" "$admin/v1/sessions/$id/events" || true
        done
        wait "$viewer" || true
    done
}

# ---------------------------------------------------------------- samples

columns=(seconds rss_kib anon_kib mapped_kib fds threads rows connections sessions titles windows
    window_kib tasks disk readers sources)
# What a number may grow in any case: noise of allocators, a title more in the cache.
allowances=(0 4096 3072 4096 4 2 4 4 4 2 64 8192 4 4 4 1)

# Sums of metrics, and the kernel's view: one line of numbers in the order of `columns`.
sample() {
    local metrics
    metrics=$(curl -s -m 10 "$admin/metrics") || return 1
    awk -v seconds="$1" -v fds="$(find "/proc/$server/fd" -mindepth 1 2>/dev/null | wc -l)" '
        FILENAME ~ /status$/ { kernel[$1] = $2; next }
        /^#/ { next }
        { name = $1; sub(/\{.*/, "", name); sum[name] += $NF }
        END {
            print seconds, kernel["VmRSS:"], kernel["RssAnon:"], kernel["RssFile:"], fds,
                sum["process_threads"], sum["headend_poll_table_entries"],
                sum["headend_rtsp_connections"], sum["headend_sessions"],
                sum["headend_titles_open"], sum["headend_windows_cached"],
                int(sum["headend_windows_cached_bytes"] / 1024), sum["headend_task_queue_depth"],
                sum["headend_tasks_waiting_for_disk"], sum["headend_path_readers"] + 0,
                sum["headend_source_up"] + 0
        }' "/proc/$server/status" - <<<"$metrics"
}

show() { printf '%8s ' "$@"; echo; }
heads=(s rss anon mapped fds threads rows conns sessions titles windows winKiB tasks disk readers sources)

# ---------------------------------------------------------------- the run

export programs work url admin sessions timeout_s
# One of each first: what is made at the first use is no growth.
loadgen -n 2 --duration 1s "${url}vod/long.mp4" "${url}vod/short.mp4" "${url}demo" >/dev/null 2>&1
sleep 1
before=$(sample 0)
say "$minutes minutes on $(nproc) CPUs, headend $("$programs/headend" --version | cut -d' ' -f2) ($profile)"
for load in titles steady readers feed_a feed_b flapping vanishing players switches tuning; do
    start "$load"
done

show "${heads[@]}"
began=$SECONDS
next=0
while ((SECONDS - began < minutes * 60)); do
    kill -0 "$server" 2>/dev/null || { say "the server has ended"; tail -5 "$work/server.log" >&2; exit 1; }
    line=$(sample $((SECONDS - began))) || { say "no answer to a scrape"; exit 1; }
    echo "$line" >>"$work/samples.txt"
    # A line a minute is enough to read.
    if ((SECONDS - began >= next)); then
        # shellcheck disable=SC2086
        show $line
        next=$((SECONDS - began + (minutes > 5 ? 60 : 15)))
    fi
    sleep "$every"
done

say "the load leaves"
leave
# Sessions of vanished clients end by their timeout, titles and sockets shortly after.
back=
for ((waited = 0; waited < timeout_s + 50; waited++)); do
    sleep 1
    after=$(sample $((SECONDS - began))) || { say "no answer to a scrape"; exit 1; }
    # Rows, connections, sessions and tasks as before; descriptors but for titles that stay open.
    if awk -v before="$before" -v after="$after" 'BEGIN {
        split(before, b); split(after, a)
        ok = a[15] <= b[15] && a[16] <= b[16] && a[7] <= b[7] && a[8] <= b[8] && a[9] <= b[9] && a[13] == 0 && a[14] == 0
        ok = ok && a[5] - a[10] <= b[5] - b[10]
        exit !ok }'; then
        back=yes
        break
    fi
done

# ---------------------------------------------------------------- the judgement

echo
judged=$(awk -v names="${columns[*]}" -v allowances="${allowances[*]}" '
    function median(values, count,   i, j, t) {
        for (i = 2; i <= count; i++) {
            t = values[i]
            for (j = i - 1; j >= 1 && values[j] > t; j--) values[j + 1] = values[j]
            values[j + 1] = t
        }
        return count % 2 ? values[(count + 1) / 2] : (values[count / 2] + values[count / 2 + 1]) / 2
    }
    { for (i = 1; i <= NF; i++) table[NR, i] = $i; fields = NF }
    END {
        split(names, name, " "); split(allowances, allowance, " ")
        first = int(NR / 3) + 1
        count = NR - first + 1
        blocks = 12
        if (count < 2 * blocks) { print "too few samples: " NR; exit 2 }
        printf "%-12s %12s %12s %12s %12s  %s\n", "number", "first third", "at the end", "growth", "may", ""
        for (c = 2; c <= fields; c++) {
            sx = sy = sxx = sxy = 0
            for (b = 0; b < blocks; b++) {
                from = first + int(b * count / blocks); to = first + int((b + 1) * count / blocks) - 1
                n = 0
                for (r = from; r <= to; r++) block[++n] = table[r, c]
                y[b] = median(block, n); x[b] = (table[from, 1] + table[to, 1]) / 2
                sx += x[b]; sy += y[b]; sxx += x[b] * x[b]; sxy += x[b] * y[b]
            }
            d = blocks * sxx - sx * sx
            slope = (blocks * sxy - sx * sy) / d
            base = (sy - slope * sx) / blocks
            rest = 0
            for (b = 0; b < blocks; b++) { e = y[b] - base - slope * x[b]; rest += e * e }
            error = sqrt(rest / (blocks - 2) * blocks / d)
            span = table[NR, 1] - table[first, 1]
            growth = slope * span
            may = 3 * error * span
            if (may < allowance[c]) may = allowance[c]
            grows = growth > may
            failed += grows
            printf "%-12s %12.0f %12.0f %12.1f %12.1f  %s\n", name[c], y[0], y[blocks - 1], growth, may,
                (grows ? "GROWS" : "does not grow")
        }
        exit failed > 0
    }' "$work/samples.txt") && grows=0 || grows=$?
echo "$judged"
echo
echo "before the load, and after it has left:"
show "${heads[@]}"
# shellcheck disable=SC2086
show $before
# shellcheck disable=SC2086
show $after
failures=$(curl -s "$admin/metrics" | awk '/^headend_panics_total/ { n += $NF } END { print n + 0 }')
errors=$(grep -c '"level":"ERROR"' "$work/server.log" || true)

status=0
((grows == 0)) || { say "something grows"; status=1; }
[[ -n $back ]] || { say "not everything is back after ${waited} s"; status=1; }
((failures == 0)) || { say "$failures panics"; status=1; }
((errors == 0)) || { say "$errors errors in the log"; grep '"level":"ERROR"' "$work/server.log" | tail -3 >&2; status=1; }
((status != 0)) || say "no growth, and all is back after $waited s"
exit "$status"

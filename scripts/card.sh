#!/bin/bash
# What a packet costs the server on a path that takes packets as a good network card does.
#
#   scripts/card.sh [-n SESSIONS] [-t SECONDS] [-f FILMS] [-r ROUNDS] [BUILD..]
#                   1000 sessions, 5 s, 1 film, 5 rounds, this checkout's build
#
# BUILD is a program with options, as one word: 'target/release/headend -c other.toml'. All builds
# and the floors are measured in turn, ROUNDS times; two builds are compared with each other.
#
# The server stands in a network namespace of its own, with a cable (veth) to a second one. nftables
# drops its RTP at the egress of the cable (netdev egress hook): behind the whole stack, where a driver
# would have taken the packet, still in one piece of up to 64 KiB, and before the other side does
# anything. RTSP and RTCP pass. So does the RTP of one more player, FFmpeg, and what it decodes (sound:
# what it gets) is compared with the file, frame by frame: a share of the packets is right bit for bit.
#
# Left out of a card's real cost: the driver's descriptors, the doorbell and the interrupts of what was
# sent; mapping pages for the device (IOMMU); and cutting a send into packets, for cards that cannot (USO).
# A card also keeps the memory of a send without a copy until the bytes are on the wire; here it
# comes back at once.
#
# The floors send the same film in the same turns and do nothing else (benches/floor): `gathered` is
# header and payload apart, as scripts/floor.sh has it; `image` is packets as they go on the wire, one
# piece of memory a send, copied and without a copy. CPU is that of the process by the scheduler's clock,
# from the end of the ramp on. Needs root (namespaces), nft and curl; takes about 9 s for each build and
# each floor of a round. Nothing is judged here.
#
#   CARD_RAMP=500        sessions started per second
#   CARD_FLOORS=..       ways of benches/floor, or none; default: "uring image image-zc"
#   CARD_MEMORY=KIND     memory of images at the floor: anonymous, huge, file
#   CARD_SCRIPT=STEPS    what viewers do, as headend-loadgen --script has it: 'seek 0%-80%; play 60s'
#                        gives each a place of its own
#   MEASURE_PROGRAMS=DIR takes headend-loadgen and floor from there and builds nothing
#   MEASURE_KEEP=DIR     keeps reports and the log of the server there
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/measure-lib.sh

sessions=1000 seconds=5 films=1 rounds=5
while getopts n:t:f:r: option; do
    case $option in
    n) sessions=$OPTARG ;;
    t) seconds=$OPTARG ;;
    f) films=$OPTARG ;;
    r) rounds=$OPTARG ;;
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
builds=("$@")
ramp="${CARD_RAMP:-500}"
read -ra floors <<<"${CARD_FLOORS-uring image image-zc}"
script=()
[[ -z ${CARD_SCRIPT:-} ]] || script=(--script "$CARD_SCRIPT")

measure_begin card
near="card-s-$$" far="card-c-$$"
card_end() {
    server_stop
    ip netns del "$near" 2>/dev/null || true
    ip netns del "$far" 2>/dev/null || true
    measure_end
}
trap card_end EXIT
film_of_2_mbit $((sessions / ramp + seconds + 10))
measure_build
((${#builds[@]} > 0)) || builds=("$programs/headend")

# Each film is a file of its own: copies of one name would be one title.
urls=()
for ((film = 1; film <= films; film++)); do
    cp "$film_path" "$work/films/film-$film.mp4"
    urls+=("rtsp://10.78.0.1:8554/vod/film-$film.mp4")
done

ip netns add "$near"
ip netns add "$far"
ip -n "$near" link add cable type veth peer name cable netns "$far"
ip -n "$near" address add 10.78.0.1/24 dev cable
ip -n "$far" address add 10.78.0.2/24 dev cable
# The checker has an address of its own: what really leaves is copied by the cable, the notice of a
# send without a copy says so, and the server copies on that route from then on.
ip -n "$near" address add 10.79.0.1/24 dev cable
ip -n "$far" address add 10.79.0.2/24 dev cable
for end in "$near" "$far"; do
    ip -n "$end" link set lo up
    ip -n "$end" link set cable up
done
# The checker's ports are no session's.
ip netns exec "$far" sysctl -q net.ipv4.ip_local_port_range="20000 60999"
ip netns exec "$near" nft -f - <<'NFT'
table netdev card {
    chain out {
        type filter hook egress device "cable" priority 0; policy accept;
        udp sport 8000 udp dport != 6970-6999 counter drop
    }
}
NFT

# Of what framemd5 wrote; side data may follow.
column_of_hashes() { awk -F', *' '!/^#/ { print $6 }'; }

# hashes STREAM INPUT..: of each frame in order: video decoded, sound as it came.
hashes() {
    local stream=$1
    shift
    local copy=()
    [[ $stream == a ]] && copy=(-c:a copy)
    ffmpeg -hide_banner -loglevel error -nostdin "$@" -map "0:$stream:0" "${copy[@]}" \
        -fps_mode passthrough -f framemd5 - | column_of_hashes
}
for stream in v a; do
    hashes "$stream" -t $((sessions / ramp + seconds + 9)) -i "$film_path" >"$work/$stream.file"
done

# sum_of METRIC LABEL: over all lines of a metric that have the label.
sum_of() { awk -v m="$1" -v l="$2" 'index($1, m "{") == 1 && index($1, l) { n += $2 } END { print n + 0 }' "$3"; }
cpu_ns() { cat /proc/"$1"/task/*/schedstat | awk '{ n += $1 } END { print n }'; }
sample() {
    ip netns exec "$near" curl -sf http://127.0.0.1:9997/metrics >"$work/metrics.$1"
    cpu_ns "$server_pid" >"$work/cpu.$1"
}
check_player() {
    ip netns exec "$far" taskset -c "$other_cpu" timeout 60 ffmpeg -hide_banner -loglevel error -nostdin \
        -min_port 6970 -max_port 6999 -rtsp_transport udp -t $((seconds + 1)) \
        -i "${urls[0]/10.78/10.79}" \
        -map 0:v:0 -fps_mode passthrough -f framemd5 "$work/v.$1" \
        -map 0:a:0 -c:a copy -f framemd5 "$work/a.$1" 2>"$work/check.$1.log" || true
}

# run_server BUILD LABEL ROUND: appends a line of figures to $work/figures.
run_server() {
    local words
    read -ra words <<<"$1"
    : >"$work/server.log"
    # All clients have one address, and most get nothing, which is no reason to thin their pictures.
    HEADEND__RTSP__SESSIONS_PER_ADDRESS_MAX=1048576 HEADEND__RTSP__CONNECTIONS_PER_ADDRESS_MAX=1048576 \
        HEADEND__VOD__QUALITY=off ip netns exec "$near" "${words[0]}" serve "$work/films" --listen 0.0.0.0:8554 \
        --admin 127.0.0.1:9997 --rtp-port 8000 --shards "cpu:$server_cpu" \
        --workers "cpu:$other_cpu" --log text "${words[@]:1}" >"$work/server.log" 2>&1 &
    server_pid=$!
    for _ in {1..100}; do
        ! ip netns exec "$near" curl -sfo /dev/null http://127.0.0.1:9997/metrics || break
        sleep 0.1
    done
    local length=$((seconds + 3)) name="$2-$3"
    ip netns exec "$far" taskset -c "$other_cpu" "$loadgen" --server-pid "$server_pid" --json \
        -n "$sessions" --ramp "$ramp" --duration "${length}s" --shared-ports off --blind \
        "${script[@]}" "${urls[@]}" \
        >"$work/$name.json" 2>"$work/$name.log" &
    local load=$!
    sleep $((sessions / ramp + 1))
    check_player "$name" &
    local player=$!
    sleep 1
    sample before
    sleep "$seconds"
    sample after
    wait "$player" || true
    wait "$load" || true
    server_stop
    local verdict=right stream
    for stream in v a; do
        column_of_hashes <"$work/$stream.$name" >"$work/$stream.got" || true
        local count
        count=$(wc -l <"$work/$stream.got")
        if ((count < 10 * seconds)); then
            verdict="$stream: $count frames"
        elif ! cmp -s "$work/$stream.got" <(head -n "$count" "$work/$stream.file"); then
            verdict="$stream: wrong"
        fi
    done
    difference() {
        echo $(($(sum_of "$1" "$2" "$work/metrics.after") - $(sum_of "$1" "$2" "$work/metrics.before")))
    }
    local packets sends zc copied
    packets=$(difference headend_rtp_packets_sent_total '"udp"')
    sends=$(difference headend_send_calls_total '"udp"')
    zc=$(difference headend_send_zerocopy_total '"udp"')
    copied=$(difference headend_send_zerocopy_copied_total '"udp"')
    local ns=$(($(cat "$work/cpu.after") - $(cat "$work/cpu.before")))
    show "$3" "$2" "$ns" "$packets" "$sends" "$zc" "$copied" \
        "check: $verdict; $(jq -r '.sessions | "\(.played) of \(.asked) play"' "$work/$name.json")"
}

# run_floor WAY ROUND
run_floor() {
    # The ring of the server before it closes its sockets a moment after the process.
    sleep 0.5
    ip netns exec "$near" "$floor" --film "$film_path" -n "$sessions" --seconds "$seconds" \
        --ramp "$ramp" --cpu "$server_cpu" --away 10.78.0.2 --via "$1" \
        --image-memory "${CARD_MEMORY:-anonymous}" --json "$work/floor.json" >"$work/floor-$1-$2.txt"
    local figures
    read -ra figures <<<"$(jq -r '.[0] | "\(.cpu_seconds * 1e9 | floor) \(.packets) \(.sends) \(.zerocopy) \(.zerocopy_copied)"' "$work/floor.json")"
    show "$2" "floor $1" "${figures[@]}" ""
}

# show ROUND WHO NS PACKETS SENDS ZC COPIED REST: prints a line and keeps it.
show() {
    printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" "$5" "$6" "$7" >>"$work/figures"
    awk -v r="$1" -v w="$2" -v ns="$3" -v p="$4" -v s="$5" -v z="$6" -v c="$7" -v rest="$8" 'BEGIN {
        printf "%-6s %-16s %8.3f us/packet %9d packets %6.2f a send; without a copy %5.1f %% of sends%s  %s\n",
            r, w, (p ? ns / p / 1e3 : 0), p, (s ? p / s : 0), (s ? 100 * z / s : 0),
            (c ? sprintf(", %d copied after all", c) : ""), rest }'
}

loadgen="$programs/headend-loadgen"
for ((build = 0; build < ${#builds[@]}; build++)); do
    say "server $build is ${builds[build]}"
done
for ((round = 1; round <= rounds; round++)); do
    for ((build = 0; build < ${#builds[@]}; build++)); do
        run_server "${builds[build]}" "server-$build" "$round"
    done
    for way in "${floors[@]}"; do
        run_floor "$way" "$round"
    done
done

# Ratios are those of one round, so that what the machine does to both is in neither.
awk -F'\t' '
function median(list, n,   i, j, t) {
    for (i = 2; i <= n; i++) for (j = i; j > 1 && list[j - 1] > list[j]; j--) {
        t = list[j]; list[j] = list[j - 1]; list[j - 1] = t }
    low = list[1]; high = list[n]
    return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
}
{
    if (!($2 in seen)) { seen[$2] = 1; order[++whos] = $2 }
    cost[$2, $1] = $3 / $4 / 1e3; rounds = $1 > rounds ? $1 : rounds
}
END {
    printf "\n%-34s %s\n", "median of the rounds", "(least .. largest)"
    for (k = 1; k <= whos; k++) {
        n = 0; for (r = 1; r <= rounds; r++) if ((order[k], r) in cost) list[++n] = cost[order[k], r]
        m = median(list, n)
        printf "%-34s %7.3f (%.3f .. %.3f) us of CPU a packet\n", order[k], m, low, high
    }
    for (k = 1; k <= whos; k++) for (j = 1; j <= whos; j++) {
        if (k == j || order[k] ~ /^floor/ || (order[j] !~ /^floor/ && j > k)) continue
        n = 0
        for (r = 1; r <= rounds; r++) if ((order[k], r) in cost && (order[j], r) in cost)
            list[++n] = cost[order[k], r] / cost[order[j], r]
        m = median(list, n)
        printf "%-34s %7.2f (%.2f .. %.2f)\n", order[k] " / " order[j], m, low, high
    }
}' "$work/figures"

#!/bin/bash
# How near distribution comes to what the links allow, beside curl, rsync, aria2 and mbuffer in the same lab.
#
#   scripts/distribution.sh [SCENARIO..]     b1 b2 b4 b5 b6 b7 b8 b9 b10 b11 b12 b13, storm; all but storm without one
#
# Hosts are network namespaces on a switch whose ports limit what is sent and received: root is
# needed. The scenarios and what is printed are in benches/distribution/main.rs. The bound is the
# time that the content takes on one link. Nothing is judged here.
#
#   DIST_MIB=64          size of the content
#   DIST_NODES=8         nodes
#   DIST_MBIT=200        limit of each link
#   DIST_DELAY_MS=0      delay of each cable in each direction
#   DIST_EVENTS=1        print what each job of b6, b7 and b8 reports
#   DIST_INSECURE=1      without TLS
#   DIST_FOLDER=/dev/shm where files are kept: a disk would be shared by all hosts
#   DIST_DISK=/var/tmp   where the ledgers of b11 are kept: their commits wait for this disk
#   DIST_SECONDS=60, DIST_SEED=1   length and faults of storm (scripts/storm.sh)
#   DIST_LEDGER_NODES=10000, DIST_LEDGER_JOBS=100   size of b11
set -euo pipefail
cd "$(dirname "$0")/.."

built=$(cargo build --release -p headend --bin headend --bench distribution \
    --message-format=json-render-diagnostics)
bench=$(sed -n 's|.*"executable":"\([^"]*/distribution-[0-9a-f]*\)".*|\1|p' <<<"$built" | tail -1)
headend="${CARGO_TARGET_DIR:-target}/release/headend"
only=$(IFS=,; echo "${*:-b1 b2 b4 b5 b6 b7 b8 b9 b10 b11 b12 b13}" | tr ' ' ',')
exec unshare -n "$bench" --headend "$(realpath "$headend")" --folder "${DIST_FOLDER:-/dev/shm}" \
    ${DIST_INSECURE:+--insecure} --mib "${DIST_MIB:-64}" --nodes "${DIST_NODES:-8}" --mbit "${DIST_MBIT:-200}" \
    ${DIST_EVENTS:+--events} --delay "${DIST_DELAY_MS:-0}" --only "$only" \
    --disk "${DIST_DISK:-/var/tmp}" --ledger-nodes "${DIST_LEDGER_NODES:-10000}" \
    --ledger-jobs "${DIST_LEDGER_JOBS:-100}" --seconds "${DIST_SECONDS:-60}" --seed "${DIST_SEED:-1}"

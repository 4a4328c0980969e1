#!/bin/bash
# Takes the pictures of README: the page for operators and a report of the load generator, under the
# load of 120 players for two minutes, in Debian's chromium. They are put into pictures/.
#
#   scripts/pictures.sh [SECONDS]      of load, 110 by default
#
# The test that takes them checks that each is below 200 kB.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-110}
mkdir -p pictures
cargo build --release --workspace
export HEADEND_BIN=$PWD/target/release/headend
export HEADEND_LOADGEN_BIN=$PWD/target/release/headend-loadgen
export HEADEND_PICTURES=$PWD/pictures HEADEND_PICTURE_SECONDS=$seconds
cargo test -p headend --test server -- dashboard::pictures --nocapture
ls -l pictures

#!/bin/bash
# The test command: everything that must hold before a change goes in. What CI runs.
#
#   scripts/test.sh                       all of it
#   scripts/test.sh PROGRAM..             set-up and these test programs, nothing else
#   scripts/test.sh PROGRAM.. -- PART..   of these, the tests whose names contain a PART
#
#   house     rules over the text of the repository
#   simulation  distribution in virtual time, a thousand seeds: scripts/simulate.sh runs more
#   server    the server over loopback: scripts/test.sh server -- conformance:: live::abuse
#   players   FFmpeg and GStreamer:      scripts/test.sh players -- interop::ffmpeg
#   alone     crowds, and allocations that are counted
#   load      five hundred sessions at once
#
# In this order: tools, format, lints, dependencies, documentation, unit and behaviour tests with
# real players, and the load test, which has the machine to itself.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { echo; echo "== $*"; }

step "what the tests need"
scripts/test-setup.sh

# Players wait for their media most of the time, so more of them run at once than there are cores.
# The number is bounded by what two cores decode in real time: a shared machine that gives little of
# itself at the moment runs fewer.
players_at_once() {
    local TIMEFORMAT=%3U seconds i
    seconds=$( { time for ((i = 0; i < 200000; i++)); do :; done; } 2>&1)
    local ms=$((10#${seconds/./}))
    # Usual are 300 to 500 ms of CPU.
    if ((ms < 1000)); then echo 8; elif ((ms < 2000)); then echo 4; else echo 2; fi
}
export RUST_TEST_THREADS="${RUST_TEST_THREADS:-$(players_at_once)}"
echo "tests at once: $RUST_TEST_THREADS"
# A socket for every stream of every session.
ulimit -n "$(ulimit -Hn)" || true

if (($# > 0)); then
    programs=()
    while (($# > 0)) && [[ $1 != -- ]]; do
        programs+=(--test "$1")
        shift
    done
    step "tests: ${programs[*]/--test/}"
    # The load generator is a program of its own: tests start it from beside the server.
    cargo build --workspace
    cargo test -p headend --no-fail-fast "${programs[@]}" "$@"
    exit
fi

step "format"
cargo fmt --all --check
step "lints"
cargo clippy --workspace --all-targets -- -D warnings
step "dependencies"
if cargo machete --version >/dev/null 2>&1; then
    cargo machete
else
    echo "cargo-machete is missing: unused dependencies are not looked for"
fi
if cargo deny --version >/dev/null 2>&1; then
    # Not advisories: a fault that becomes known would fail a change that has nothing to do with it.
    cargo deny check --hide-inclusion-graph licenses bans sources
else
    echo "cargo-deny is missing: licences and sources of dependencies are not checked"
fi
step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet

step "tests"
# The load generator is a program of its own: tests start it from beside the server.
cargo build --workspace
cargo test -p headend-loadgen
# Inputs that fuzzers found, by the bodies of the fuzz targets.
cargo test -p headend-fuzz
cargo test -p headend --lib --bins
cargo test -p headend --doc
# Every bench once, so that none is found broken when it is needed.
cargo test -p headend --bench pieces
# Everything but the load test, which comes last and alone.
cargo test -p headend --no-fail-fast --test house --test simulation --test server --test players \
    --test alone

step "load"
cargo test -p headend --test load -- --nocapture

echo
echo "all well"

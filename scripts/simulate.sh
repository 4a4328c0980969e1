#!/bin/bash
# Runs seeds of the simulation of distribution: any number of them, from any first one.
#
#   scripts/simulate.sh SEEDS [FIRST]     many seeds, each checked
#   scripts/simulate.sh 1 SEED            one seed again, shown step by step
#
# One seed is one run, to the last step. A seed that breaks a rule is named at the end, with the
# command that runs it again. OPTIMISED=1 builds the release profile first: for many thousands.
set -euo pipefail
cd "$(dirname "$0")/.."

if (($# < 1 || $# > 2)); then
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
fi
export SIMULATION_SEEDS="$1" SIMULATION_FIRST="${2:-1}"
profile=()
if [[ -n ${OPTIMISED:-} ]]; then
    profile=(--release)
fi
cargo test -p headend "${profile[@]}" --test simulation every_seed -- --nocapture

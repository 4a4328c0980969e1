#!/bin/bash
# Runs seeds of a simulation, of distribution or of a streaming node: any number, from any first one.
#
#   scripts/simulate.sh SEEDS [FIRST]          many seeds of distribution, each checked
#   scripts/simulate.sh 1 SEED                 one seed again, shown step by step
#   scripts/simulate.sh node SEEDS [FIRST]     the same of a node: shards, workers and clients
#   scripts/simulate.sh node 1 SEED
#   scripts/simulate.sh takeovers SEEDS [FIRST]    the same, with processes that take over
#
# One seed is one run, to the last step. A seed that breaks a rule is named at the end, with the
# command that runs it again. OPTIMISED=1 builds the release profile first: for many thousands.
set -euo pipefail
cd "$(dirname "$0")/.."

runs=every_seed
if [[ ${1:-} == node ]]; then
    runs=every_run_of_a_node
    shift
elif [[ ${1:-} == takeovers ]]; then
    runs=processes_take_over
    shift
fi
if (($# < 1 || $# > 2)); then
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
fi
export SIMULATION_SEEDS="$1" SIMULATION_FIRST="${2:-1}"
profile=()
if [[ -n ${OPTIMISED:-} ]]; then
    profile=(--release)
fi
cargo test -p headend "${profile[@]}" --test simulation "$runs" -- --nocapture

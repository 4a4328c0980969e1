#!/bin/bash
# Fuzzes the parsers of foreign bytes, guided by coverage: targets are the files of fuzz/fuzz_targets.
#
#   scripts/fuzz.sh                          all of them, a minute each
#   scripts/fuzz.sh rtsp_reader sdp_read --seconds 600
#   scripts/fuzz.sh --minimise [TARGET..]    fuzz/corpus anew: few inputs that reach as far as all
#
# The engine is libFuzzer by the crate libfuzzer-sys, built by cargo alone: the passes of LLVM that
# count edges are flags of the stable compiler, so neither a nightly one nor another tool is needed.
# A target begins with fuzz/corpus and what earlier runs found (target/fuzz/corpus). An input that
# fails is kept in target/fuzz/found; when its fault is mended, copy it to fuzz/corpus/TARGET/found-..
# and the tests replay it. Before anything else the canary's planted fault must be found.
#
# Printed: executions, edges covered and the outcome of each target, and the sum. Fails when one of
# them does. CARGO_BUILD_JOBS and JOBS (targets at once; 1) say how much of the machine it takes.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=60
# Inputs of a target that are kept in fuzz/corpus.
inputs_max=100
is_minimise=
targets=()
while (($# > 0)); do
    case $1 in
        --seconds) seconds="${2:?--seconds needs a number}"; shift ;;
        --minimise) is_minimise=yes ;;
        -*) echo "fuzz.sh: unknown option $1; see the head of this file" >&2; exit 2 ;;
        *) targets+=("$1") ;;
    esac
    shift
done
if ((${#targets[@]} == 0)); then
    for file in fuzz/fuzz_targets/*.rs; do
        name=$(basename "$file" .rs)
        [[ $name == canary ]] || targets+=("$name")
    done
fi
for name in "${targets[@]}"; do
    [[ -f fuzz/fuzz_targets/$name.rs ]] || { echo "fuzz.sh: no target $name" >&2; exit 2; }
done

command -v c++ >/dev/null || { echo "fuzz.sh: no C++ compiler, for libFuzzer: apt-get install g++" >&2; exit 2; }
work=target/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')
programs=$work/$host/fuzz
coverage=(
    -Cpasses=sancov-module
    -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares
)
bins=(--bin canary)
for name in "${targets[@]}"; do bins+=(--bin "$name"); done
# A build of its own: nothing of the ordinary one is built again because of its flags.
RUSTFLAGS="${coverage[*]}" CARGO_INCREMENTAL=0 cargo build --package headend-fuzz \
    --features engine --profile fuzz --target "$host" --target-dir "$work" "${bins[@]}"
mkdir -p "$work/log" "$work/found"

# fuzz TARGET SECONDS FOLDER..: new inputs go to the first folder.
fuzz() {
    local name=$1 time=$2 options
    shift 2
    options=$(sed -n 's|^//! Options: ||p' "fuzz/fuzz_targets/$name.rs")
    # shellcheck disable=SC2086
    "$programs/$name" -max_total_time="$time" -print_final_stats=1 -timeout=10 -rss_limit_mb=2048 \
        -artifact_prefix="$work/found/$name-" $options "$@" >"$work/log/$name" 2>&1
}

if [[ -n $is_minimise ]]; then
    for name in "${targets[@]}"; do
        fewer=$(mktemp -d)
        mkdir -p "$work/corpus/$name"
        # Edges, not how often they are taken: a tenth of the inputs, and they replay in seconds.
        fuzz "$name" 0 -merge=1 -set_cover_merge=1 -use_counters=0 "$fewer" \
            "fuzz/corpus/$name" "$work/corpus/$name" ||
            { echo "fuzz.sh: $name: see $work/log/$name" >&2; exit 1; }
        # What is there already first, then the others: each file of a commit costs every checkout.
        kept=$( { comm -12 <(ls "fuzz/corpus/$name") <(ls "$fewer")
            comm -13 <(ls "fuzz/corpus/$name") <(ls "$fewer"); } | awk -v n="$inputs_max" 'NR <= n')
        find "fuzz/corpus/$name" -type f ! -name 'found-*' -delete
        for input in $kept; do mv "$fewer/$input" "fuzz/corpus/$name/"; done
        rm -r "$fewer"
        printf '%-24s %5d inputs %8d bytes\n' "$name" \
            "$(find "fuzz/corpus/$name" -type f | wc -l)" \
            "$(find "fuzz/corpus/$name" -type f -printf '%s\n' | awk '{ sum += $1 } END { print sum + 0 }')"
    done
    exit
fi

# A search that does not see coverage needs years for it.
nothing=$(mktemp -d)
if fuzz canary 120 "$nothing" || ! grep -q "the planted fault was found" "$work/log/canary"; then
    echo "fuzz.sh: the canary's planted fault was not found: coverage does not guide, see $work/log/canary" >&2
    exit 1
fi
rm -rf "$nothing" "$work"/found/canary-*
echo "canary: the planted fault was found"

run() {
    local name=$1 outcome=well executions edges
    mkdir -p "$work/corpus/$name"
    fuzz "$name" "$seconds" "$work/corpus/$name" "fuzz/corpus/$name" || outcome=FAILED
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/log/$name")
    edges=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$work/log/$name" | tail -1)
    printf '%-24s %14d executions %7d edges  %s\n' "$name" "${executions:-0}" "${edges:-0}" "$outcome"
    if [[ $outcome == FAILED ]]; then
        grep -aE -A2 "panicked at|ERROR: libFuzzer|Test unit written" "$work/log/$name" |
            grep -av '^--$' | head -12 | sed 's/^/    /'
        return 1
    fi
}

results=$(mktemp)
running=0
for name in "${targets[@]}"; do
    { run "$name" || true; } | tee -a "$results" &
    running=$((running + 1))
    if ((running >= ${JOBS:-1})); then
        wait -n
        running=$((running - 1))
    fi
done
wait
awk '$3 == "executions" { all += $2; count++; failed += $NF == "FAILED" }
    END { printf "%-24s %14d executions of %d targets, %d failed\n", "sum", all, count, failed
          exit failed > 0 }' "$results" || { rm "$results"; exit 1; }
rm "$results"

#!/usr/bin/env bash
# Counts the instructions of the five hottest operations with callgrind and compares them with bench/instructions.baseline:
# wall time is noisy on a shared machine, instructions repeat to a thousandth. Fails if one grew beyond the tolerance.
#
# Usage: bench/instructions.sh             compare
#        bench/instructions.sh --update    write the baseline, after a change that is meant to cost what it costs
#   TOLERANCE   percent that is taken without a word (default 3)
set -euo pipefail
cd "$(dirname "$0")/.."

# Name, and how often it is repeated: the difference between once and so often is free of the preparation's cost.
operations="decode_put:2000 decode_append:200 commit_batch:200 store_apply:4000 node_put:100"
baseline=bench/instructions.baseline
tolerance=${TOLERANCE:-3}

command -v valgrind >/dev/null || { echo "valgrind is missing: install it" >&2; exit 2; }
cargo build --release --quiet --package raftkv-bench --bin instructions
program=${CARGO_TARGET_DIR:-target}/release/instructions
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# All instructions of a run that repeats an operation so often.
total() {
    valgrind --tool=callgrind --callgrind-out-file="$work/out" "$program" "$1" "$2" 2>"$work/messages" ||
        { cat "$work/messages" >&2; return 1; }
    sed -n 's/^\(summary\|totals\): //p' "$work/out" | head -n 1
}

for operation in $operations; do
    name=${operation%:*} count=${operation#*:}
    once=$(total "$name" 1)
    often=$(total "$name" $((count + 1)))
    echo "$name $(((often - once) / count))" | tee -a "$work/counted"
done

if [ "${1:-}" = --update ]; then
    { echo "# Instructions per call, from bench/instructions.sh --update; $(rustc --version)"; cat "$work/counted"; } >"$baseline"
    exit 0
fi
awk -v tolerance="$tolerance" '
    /^#/ { next }
    NR == FNR { known[$1] = $2; next }
    !($1 in known) { printf "%s has no baseline: run with --update\n", $1; failed = 1; next }
    { change = ($2 / known[$1] - 1) * 100 }
    change > tolerance { printf "%s grew by %.1f %%: %d, was %d\n", $1, change, $2, known[$1]; failed = 1 }
    change < -tolerance { printf "%s shrank by %.1f %%: run with --update to keep it\n", $1, -change }
    END { exit failed }
' "$baseline" "$work/counted"

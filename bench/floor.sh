#!/usr/bin/env bash
# Measures three nodes beside the floor, three processes that replicate and sync with nothing of what makes it safe, in turn,
# and prints medians as a Markdown table. Usage: bench/floor.sh    (settings as of bench/three-nodes.sh)
set -euo pipefail
cd "$(dirname "$0")/.."
source bench/figures.sh

rounds=${ROUNDS:-3}                # rounds of both; cells are medians
duration=${DURATION:-4s}           # measured time of each cell
warmup=${WARMUP:-1s}
matrix=${MATRIX:-"put:1 put:64 put:256 put:1024 get:1 get:64 get:256"}

cargo build --release --quiet --package raftkv-bench --bin floor
bin=${CARGO_TARGET_DIR:-target}/release
work=$(mktemp -d "${CARGO_TARGET_DIR:-target}/floor.XXXXXX")
floor=

stop() {
    if [ -n "$floor" ]; then kill "$floor" 2>/dev/null || true; fi
    rm -rf "$work"
}
trap stop EXIT
trap 'exit 130' INT TERM


measure_floor() {
    local cell clients connections result port=${FLOOR_PORT:-7499}
    "$bin/floor" --listen "127.0.0.1:$port" --directory "$work/floor" >"$work/ready" &
    floor=$!
    until grep -q processes "$work/ready"; do
        kill -0 "$floor" || exit 1
        sleep 0.1
    done
    for cell in $matrix; do
        clients=${cell#*:}
        connections=$((clients < 16 ? clients : 16))
        result=$("$bin/kvbench" "${cell%:*}" --target redis --endpoints "127.0.0.1:$port" --clients "$clients" \
            --connections "$connections" --duration "$duration" --warmup "$warmup" --keys 100000 --value-bytes 256 \
            --server-pids "$(sed 's/.*\[\(.*\)\]/\1/; s/ //g' "$work/ready")" --output json 2>/dev/null)
        number "$result" operations_per_second >>"$work/$cell.floor.rate"
        number "$result" server_cpu_us_per_operation >>"$work/$cell.floor.cpu"
    done
    kill "$floor"
    wait "$floor" 2>/dev/null || true
    floor=
    rm -rf "$work/floor"
}

# Of the rows `| put, 64 | ops/s | p50 | p99 | p99.9 | server CPU | ...`.
measure_nodes() {
    local cell row
    FEATURES=raftkv-client/redis ROUNDS=1 DURATION=$duration WARMUP=$warmup MATRIX=$matrix bench/three-nodes.sh 2>/dev/null >"$work/rows"
    for cell in $matrix; do
        row=$(grep "^| ${cell%:*}, ${cell#*:} |" "$work/rows")
        cut -d '|' -f 3 <<<"${row// /}" >>"$work/$cell.nodes.rate"
        cut -d '|' -f 7 <<<"${row// /}" >>"$work/$cell.nodes.cpu"
    done
}

for ((round = 0; round < rounds; round++)); do
    measure_nodes
    measure_floor
done
echo "| load, clients | three nodes: ops/s, server CPU µs | floor: ops/s, server CPU µs | of the floor |"
echo "|---|---|---|---|"
for cell in $matrix; do
    nodes=$(median "$work/$cell.nodes.rate")
    floor_rate=$(median "$work/$cell.floor.rate")
    printf '| %s, %s | %.0f, %.1f | %.0f, %.1f | %.0f %% |\n' "${cell%:*}" "${cell#*:}" "$nodes" \
        "$(median "$work/$cell.nodes.cpu")" "$floor_rate" "$(median "$work/$cell.floor.cpu")" \
        "$(awk "BEGIN { print 100 * $nodes / $floor_rate }")"
done

#!/usr/bin/env bash
# Measures a cluster of three nodes on this machine and prints medians as a Markdown table.
# Usage: bench/three-nodes.sh            (settings below can be set in the environment)
set -euo pipefail
cd "$(dirname "$0")/.."
source bench/figures.sh

rounds=${ROUNDS:-3}                # rounds of the whole matrix; cells are medians
duration=${DURATION:-10s}          # measured time of each cell
warmup=${WARMUP:-2s}
connections=${CONNECTIONS:-16}     # no more than clients
keys=${KEYS:-100000}
value_bytes=${VALUE_BYTES:-256}
base_port=${BASE_PORT:-7471}       # native ports: base, +1, +2; HTTP: +10, +11, +12
# Each cell is WORKLOAD:CLIENTS or WORKLOAD:CLIENTS:OPTION, where OPTION is one of
#   exactly-once       writes are numbered within sessions
#   follower-stopped   one follower does not run meanwhile (SIGSTOP)
#   rate=N             open loop: N operations a second, latency from when each was due
matrix=${MATRIX:-"put:1 put:16 put:64 put:256 put:1024 get:1 get:64 get:256 mixed:256"}

cargo build --release --quiet --package raftkv-server --bin server --package raftkv-client --bin kvbench --bin kvctl \
    ${FEATURES:+--features "$FEATURES"}   # of kvbench
bin=${CARGO_TARGET_DIR:-target}/release
mkdir -p "${CARGO_TARGET_DIR:-target}"
# Under target/ and not /tmp, which may be memory: a sync there costs nothing and the figures would lie.
work=$(mktemp -d "${CARGO_TARGET_DIR:-target}/three-nodes.XXXXXX")
pids=()

stop() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap stop EXIT
trap 'exit 130' INT TERM

native() { echo "127.0.0.1:$((base_port + $1 - 1))"; }
http() { echo "127.0.0.1:$((base_port + $1 + 9))"; }

start_node() {
    local node=$1 peers=() other
    for other in 1 2 3; do
        if [ "$other" != "$node" ]; then peers+=("node$other=$(native "$other")"); fi
    done
    "$bin/server" --id "node$node" --listen "$(native "$node")" --http "$(http "$node")" \
        --peers "$(IFS=,; echo "${peers[*]}")" --data-dir "$work/node$node" 2>"$work/node$node.log" &
    pids+=($!)
}

# One status line is all we need, so bash's own sockets do.
is_ready() {
    local address=$1 line
    exec 3<>"/dev/tcp/${address%:*}/${address#*:}" || return 1
    printf 'GET /readyz HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$address" >&3
    read -r -t 2 line <&3 || line=
    exec 3<&-
    [[ $line == *" 200 "* ]]
}

wait_until_ready() {
    local node deadline=$((SECONDS + 30))
    for node in 1 2 3; do
        until (is_ready "$(http "$node")") 2>/dev/null; do
            if ! kill -0 "${pids[node - 1]}" 2>/dev/null || [ "$SECONDS" -ge "$deadline" ]; then
                echo "node$node did not become ready; its log ends:" >&2
                tail -n 20 "$work/node$node.log" >&2
                exit 1
            fi
            sleep 0.1
        done
    done
}

# A figure of all operations' latency.
latency() { number "$(sed -n 's/.*"latency_us":{"all":{\([^}]*\)}.*/\1/p' <<<"$1")" "$2"; }

# The process of a node that does not lead.
follower() {
    local status node
    status=$("$bin/kvctl" --endpoints "$(native 1)" --output json status)
    for node in 1 2 3; do
        if [[ $status != *'"leader":"node'"$node"'"'* ]]; then echo "${pids[node - 1]}"; return; fi
    done
}

run_cell() {
    local workload clients option report cell="$work/$1" metric stopped="" more=()
    IFS=: read -r workload clients option <<<"$1"
    case "$option" in
        "") ;;
        exactly-once) more=(--writes exactly-once) ;;
        rate=*) more=(--rate "${option#rate=}") ;;
        follower-stopped) stopped=$(follower); kill -STOP "$stopped" ;;
        *) echo "unknown option in $1" >&2; exit 2 ;;
    esac
    if [ "$option" != exactly-once ]; then more+=(--writes at-most-once); fi
    # Keys are loaded once, before the first round: a preload per cell would only warm what is warm.
    report=$("$bin/kvbench" "$workload" --clients "$clients" --connections "$connections" --duration "$duration" \
        --warmup "$warmup" --keys "$keys" --value-bytes "$value_bytes" --preload never "${more[@]}" \
        --endpoints "$(native 1),$(native 2),$(native 3)" --server-pids "$(IFS=,; echo "${pids[*]}")" --output json)
    if [ -n "$stopped" ]; then kill -CONT "$stopped"; wait_until_ready; fi
    number "$report" operations_per_second >>"$cell.rate"
    for metric in p50 p99 p999; do latency "$report" "$metric" >>"$cell.$metric"; done
    number "$report" server_cpu_us_per_operation >>"$cell.server_cpu"
    number "$report" client_cpu_us_per_operation >>"$cell.client_cpu"
    if [[ $report != *'"errors":{}'* ]]; then
        echo "$1: $(sed -n 's/.*"errors":\({[^}]*}\).*/errors \1/p' <<<"$report")" >&2
    fi
}

for node in 1 2 3; do start_node "$node"; done
wait_until_ready
"$bin/kvbench" put --preload always --operations 1 --warmup 0s --keys "$keys" --value-bytes "$value_bytes" \
    --endpoints "$(native 1)" >/dev/null

for round in $(seq "$rounds"); do
    for cell in $matrix; do
        echo "round $round of $rounds: $cell clients" >&2
        run_cell "$cell"
    done
done

echo "| load, clients | ops/s | p50 ms | p99 ms | p99.9 ms | server CPU µs per op, all nodes | kvbench CPU µs per op |"
echo "|---|---|---|---|---|---|---|"
for cell in $matrix; do
    file="$work/$cell"
    printf '%s %s %s %s %s %s\n' "$(median "$file.rate")" "$(median "$file.p50")" "$(median "$file.p99")" \
        "$(median "$file.p999")" "$(median "$file.server_cpu")" "$(median "$file.client_cpu")" |
        LC_ALL=C awk -v cell="$cell" '{
            gsub(":", ", ", cell)
            printf "| %s | %.0f | %.2f | %.2f | %.2f | %.1f | %.1f |\n", cell, $1, $2 / 1000, $3 / 1000, $4 / 1000, $5, $6
        }'
done

#!/usr/bin/env bash
# Measures what one node's state costs in memory and at a restart, and prints a Markdown table: resident memory after a load
# and after kill -9, time from the start of the process until it is ready, and the same in a process limited to 1 GiB.
# Usage: bench/storage-limits.sh         (settings below can be set in the environment)
#
# The limit is a control group of the kernel (version 2 or 1) where one may be made: it counts the process's own memory and
# the page cache of its files, and the kernel kills what needs more. Elsewhere it is `prlimit --data`: private memory alone,
# which is stricter about what is mapped and not used, and says nothing about the page cache.
set -euo pipefail
cd "$(dirname "$0")/.."

sizes=${SIZES-"1000000 10000000"} # keys, one line of the table each
limited=${LIMITED:-10000000}       # keys of the limited process; 0: leave it out
limit_mib=${LIMIT_MIB:-1024}
value_bytes=${VALUE_BYTES:-256}
port=${PORT:-7571}                 # native; HTTP is the next one
flags=${FLAGS:-}                   # more flags of the server

if [ -z "${BIN_DIR:-}" ]; then
    cargo build --release --quiet --package raftkv-server --bin server --package raftkv-client --bin kvbench
    BIN_DIR=${CARGO_TARGET_DIR:-target}/release
fi
mkdir -p "${CARGO_TARGET_DIR:-target}"
# Under target/ and not /tmp, which may be memory.
work=$(mktemp -d "${CARGO_TARGET_DIR:-target}/storage-limits.XXXXXX")
pid=
group=

stop() {
    if [ -n "$pid" ]; then kill -9 "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; fi
    if [ -n "$group" ]; then rmdir "$group" 2>/dev/null || true; fi
    rm -rf "$work"
}
trap stop EXIT
trap 'exit 130' INT TERM

# A control group with the limit; its directory, or nothing.
make_group() {
    local directory
    directory=/sys/fs/cgroup/raftkv-limits.$$
    if [ -f /sys/fs/cgroup/cgroup.controllers ] && mkdir "$directory" 2>/dev/null; then
        if echo $((limit_mib << 20)) 2>/dev/null >"$directory/memory.max"; then echo "$directory"; return; fi
        rmdir "$directory"
    fi
    directory=/sys/fs/cgroup/memory/raftkv-limits.$$
    if mkdir "$directory" 2>/dev/null; then
        echo $((limit_mib << 20)) >"$directory/memory.limit_in_bytes"
        echo "$directory"
    fi
}

# Starts the node; `limited` as the second argument puts it under the limit.
start() {
    local data=$1 wrap=()
    if [ "${2:-}" = limited ] && [ -z "$group" ]; then wrap=(prlimit "--data=$((limit_mib << 20))"); fi
    (
        if [ "${2:-}" = limited ] && [ -n "$group" ]; then echo "$BASHPID" >"$group/cgroup.procs"; fi
        # shellcheck disable=SC2086 # flags are several words
        exec "${wrap[@]}" "$BIN_DIR/server" --id n1 --listen "127.0.0.1:$port" --http "127.0.0.1:$((port + 1))" \
            --data-dir "$data" $flags 2>>"$work/server.log"
    ) &
    pid=$!
}

is_ready() {
    local line
    exec 3<>"/dev/tcp/127.0.0.1/$((port + 1))" || return 1
    printf 'GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
    read -r -t 2 line <&3 || line=
    exec 3<&-
    [[ $line == *" 200 "* ]]
}

now_ms() { echo $(($(date +%s%N) / 1000000)); }

# Waits for it, and says how long it took since `$1` in ms.
wait_until_ready() {
    local since=$1 deadline=$((SECONDS + 300))
    until (is_ready) 2>/dev/null; do
        if ! kill -0 "$pid" 2>/dev/null || [ "$SECONDS" -ge "$deadline" ]; then
            echo "the node did not become ready; its log ends:" >&2
            tail -n 20 "$work/server.log" >&2
            exit 1
        fi
        sleep 0.01
    done
    echo $(($(now_ms) - since))
}

# Of the process: resident, of that its own (the rest is mapped files), and the most ever resident. MiB.
memory() { awk '/^VmRSS/ {r=$2} /^RssAnon/ {a=$2} /^VmHWM/ {h=$2} END {printf "%d (own %d, peak %d)", r/1024, a/1024, h/1024}' "/proc/$pid/status"; }
disk_mib() { du -sm "$1" | cut -f1; }

load() {
    "$BIN_DIR/kvbench" put --preload always --operations 1 --warmup 0s --keys "$1" --value-bytes "$value_bytes" \
        --endpoints "127.0.0.1:$port" --timeout 60s >/dev/null
}

# One line of the table.
measure() {
    local keys=$1 how=${2:-free} data="$work/data-$1-${2:-free}" since loaded first again after restarted
    since=$(now_ms)
    start "$data" "$how"
    first=$(wait_until_ready "$since")
    since=$(now_ms)
    load "$keys"
    loaded=$((($(now_ms) - since) / 1000))
    after=$(memory)
    kill -9 "$pid"
    wait "$pid" 2>/dev/null || true
    since=$(now_ms)
    start "$data" "$how"
    again=$(wait_until_ready "$since")
    restarted=$(memory)
    # It serves: random keys, for a moment.
    reads=$("$BIN_DIR/kvbench" get --preload never --duration 3s --warmup 0s --keys "$keys" --value-bytes "$value_bytes" \
        --clients 16 --endpoints "127.0.0.1:$port" --output json | sed -n 's/.*"operations_per_second":\([0-9.]*\).*/\1/p')
    local served
    served=$(memory)
    printf '| %s | %s | %s | %s | %s | %s | %s | %.0f | %s | %s |\n' "$keys" "$how" "$loaded" "$after" "$first" "$again" \
        "$restarted" "${reads:-0}" "$served" "$(disk_mib "$data")"
    kill -9 "$pid"
    wait "$pid" 2>/dev/null || true
    pid=
    rm -rf "$data"
}

echo "load average before: $(cut -d' ' -f1-3 /proc/loadavg), $(nproc) cores" >&2
echo "| keys | memory | load s | MiB after load | first start ms | ready after kill -9, ms | MiB then | gets/s, 16 clients | MiB then | disk MiB |"
echo "|---|---|---|---|---|---|---|---|---|---|"
for keys in $sizes; do measure "$keys"; done
if [ "$limited" -gt 0 ]; then
    group=$(make_group)
    measure "$limited" limited
    if [ -f "$group/memory.max_usage_in_bytes" ]; then
        echo "limit of $limit_mib MiB by a control group: $(($(cat "$group/memory.max_usage_in_bytes") >> 20)) MiB used at most," \
            "page cache included; $(sed -n 's/^oom_kill //p' "$group/memory.oom_control") processes killed by the kernel"
    elif [ -f "$group/memory.peak" ]; then
        echo "limit of $limit_mib MiB by a control group: $(($(cat "$group/memory.peak") >> 20)) MiB used at most, page cache" \
            "included; $(sed -n 's/^oom_kill //p' "$group/memory.events") processes killed by the kernel"
    else
        echo "limit of $limit_mib MiB by prlimit --data"
    fi
fi
echo "load average after: $(cut -d' ' -f1-3 /proc/loadavg)" >&2

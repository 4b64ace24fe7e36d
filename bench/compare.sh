#!/usr/bin/env bash
# Compares raftkv with etcd and Redis on this machine: builds what is measured, then runs `kvbench compare`.
# Usage: bench/compare.sh [flags of kvbench compare]
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release --quiet --package raftkv-server --bin server
cargo build --release --quiet --package raftkv-client --bin kvbench --features etcd,redis
# Beside the programs and not in /tmp, which may be memory: kvbench puts the data where it lies itself.
exec "${CARGO_TARGET_DIR:-target}/release/kvbench" compare "$@"

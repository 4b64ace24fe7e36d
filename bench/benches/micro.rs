//! Times of the operations that decide what a request costs. Each says what is expected, and why: a figure far from that
//! is a finding, whichever way.
//!
//! `cargo bench -p raftkv-bench`, or one of them: `cargo bench -p raftkv-bench -- store_get`.

use divan::Bencher;
use divan::counter::ItemsCount;
use raftkv_bench::{BATCH, Operation, consensus, frames, log, node, store};

fn main() {
    divan::main();
}

fn run(bencher: Bencher<'_, '_>, items: usize, operation: Operation) {
    bencher.counter(ItemsCount::new(items)).bench_local(operation);
}

/// Expected 45 ns: copying 290 bytes and their CRC-32C (17 ns), a header of a dozen bytes.
#[divan::bench]
fn encode_put(bencher: Bencher<'_, '_>) {
    run(bencher, 1, frames::encode_put());
}

/// Expected 130 ns, the copy into the buffer included: the checksum again, two reference counts, and the command's fields checked in place.
#[divan::bench]
fn decode_put(bencher: Bencher<'_, '_>) {
    run(bencher, 1, frames::decode_put());
}

/// Expected 40 ns per entry: one copy and one checksum over the whole; headers are a few bytes each.
#[divan::bench]
fn encode_append(bencher: Bencher<'_, '_>) {
    run(bencher, BATCH, frames::encode_append());
}

/// Expected 50 ns per entry: the copy into the buffer, the checksum, and a slice with its reference count per payload.
#[divan::bench]
fn decode_append(bencher: Bencher<'_, '_>) {
    run(bencher, BATCH, frames::decode_append());
}

/// Expected 300 ns per entry, all three nodes together: each entry is cloned for the log, for two followers and for the
/// hand-out, which is a reference count each; the messages of a batch are few.
#[divan::bench]
fn commit_batch(bencher: Bencher<'_, '_>) {
    run(bencher, BATCH, consensus::commit_batch());
}

/// Expected 100 to 150 µs whatever the number of entries up to 64: one sync of a zero-filled file (98 µs for 4 KiB on the
/// machine of the README), and 15 % more for 16 times the bytes.
#[divan::bench(args = [1, 64, 256], sample_count = 50, sample_size = 20)]
fn log_append(bencher: Bencher<'_, '_>, entries: usize) {
    // The target directory is on the disk that was built on; the temporary one may be memory.
    let operation = log::append(env!("CARGO_TARGET_TMPDIR").as_ref(), entries);
    run(bencher, entries, operation);
}

/// Expected 1.4 µs: an overwrite in a map of 100,000 keys misses the cache on its way down, the value is copied, the
/// effect hashed.
#[divan::bench]
fn store_apply(bencher: Bencher<'_, '_>) {
    run(bencher, 1, store::apply());
}

/// Expected 0.3 µs while the 4096 keys that come round stay in the cache, up to 1.5 µs when other load pushes them out.
#[divan::bench]
fn store_get(bencher: Bencher<'_, '_>) {
    run(bencher, 1, store::get());
}

/// Expected 300 ns per put: consensus with nobody to ask, a store whose few keys stay in the cache, and the bookkeeping of
/// requests that wait. What a put costs beyond that on a server is disk, sockets and hand-overs between threads.
#[divan::bench]
fn node_put(bencher: Bencher<'_, '_>) {
    run(bencher, BATCH, node::put());
}

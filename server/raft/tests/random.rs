//! Many random runs of whole groups (see `harness/chaos.rs`). `SEED=n` runs one seed again, `RUNS=n` runs so many
//! in each test.

mod harness;

use harness::chaos::{Totals, run};

/// Runs many seeds; the one that fails is printed.
fn runs(seeds: std::ops::Range<u64>, count: u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let only = number("SEED");
    let seeds = number("RUNS").map_or(seeds.clone(), |runs: u64| seeds.start..seeds.start + runs);
    let seeds = only.map_or(seeds, |seed: u64| seed..seed + 1);
    let mut totals = Totals::default();
    for seed in seeds {
        let Ok(one) = std::panic::catch_unwind(|| run(seed, count)) else {
            panic!("SEED={seed} fails with {count} nodes");
        };
        totals.elections += one.elections;
        totals.applied += one.applied;
        totals.confirmed_reads += one.confirmed_reads;
        totals.lease_reads += one.lease_reads;
        totals.changes += one.changes;
        totals.snapshots += one.snapshots;
    }
    println!("{totals:?}");
    let counts = [
        totals.elections,
        totals.applied,
        totals.confirmed_reads,
        totals.lease_reads,
        totals.changes,
        totals.snapshots,
    ];
    let is_idle = counts.contains(&0) && only.is_none();
    assert!(!is_idle, "the runs did nothing: {totals:?}");
}

#[test]
fn three_nodes_stay_safe_and_recover() {
    runs(0..100, 3);
}

#[test]
fn five_nodes_stay_safe_and_recover() {
    runs(1000..1060, 5);
}

#[test]
fn one_node_stays_safe_and_recovers() {
    runs(2000..2020, 1);
}

//! Each planted bug must be caught: a simulation that finds nothing proves nothing before it finds these.
//!
//! Here are the mutants that a random run of plain groups can catch; the rest need configurations that change, or hurt
//! availability alone, and have tests of their own or are left to the simulator of the whole system.
#![cfg(feature = "simulation")]

mod harness;

use std::panic::catch_unwind;

use harness::chaos::run;
use raftkv_raft::simulation::{MUTANTS, set_mutant};

const SEEDS: u64 = 600;

/// Does some seed fail with this mutant? Which one first?
fn killed_by(mutant: &'static str) -> Option<u64> {
    set_mutant(Some(mutant));
    let killer = (0..SEEDS).find(|seed| catch_unwind(|| run(*seed, 3 + seed % 2 * 2)).is_err());
    set_mutant(None);
    killer
}

#[test]
fn report() {
    std::panic::set_hook(Box::new(|_| {}));
    for (name, what) in MUTANTS {
        println!("{:?} {name}: {what}", killed_by(name));
    }
}

//! Many seeds on many threads. The hooks of the code under test are thread-local, so runs do not disturb each other.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::run::{Options, Outcome, Statistics, run};
use super::schedule::Scenario;
use super::speed::thread_cpu_seconds;

/// What a search saw.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Runs done.
    pub runs: u64,
    /// CPU time of all threads, seconds.
    pub cpu_seconds: f64,
    /// Sums over all runs.
    pub total: Statistics,
    /// Sums over all runs.
    pub marks: BTreeMap<&'static str, u64>,
    /// Failing seeds with their outcomes, ascending.
    pub failures: Vec<(u64, Outcome)>,
}

/// Runs all seeds of `seeds` on `jobs` threads, until `most_failures` have failed. Calls `progress` after each run.
#[must_use]
pub fn search(
    seeds: Range<u64>,
    jobs: usize,
    most_failures: usize,
    mutant: Option<&'static str>,
    progress: &(dyn Fn(&Outcome) + Sync),
) -> Found {
    let next = AtomicU64::new(seeds.start);
    let found = Mutex::new(Found::default());
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                let cpu_before = thread_cpu_seconds();
                while found
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .failures
                    .len()
                    < most_failures
                {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let outcome = run(&Scenario::from_seed(seed), Options { mutant, trace: None });
                    progress(&outcome);
                    found
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .add(seed, outcome);
                }
                let spent = thread_cpu_seconds() - cpu_before;
                found.lock().unwrap_or_else(PoisonError::into_inner).cpu_seconds += spent;
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.failures.sort_by_key(|(seed, _)| *seed);
    found
}

impl Found {
    fn add(&mut self, seed: u64, outcome: Outcome) {
        self.runs += 1;
        let (total, one) = (&mut self.total, &outcome.statistics);
        total.simulated_us += one.simulated_us;
        total.events += one.events;
        total.effects += one.effects;
        total.elections += one.elections;
        total.entries += one.entries;
        total.answered += one.answered;
        total.failed += one.failed;
        total.unknown += one.unknown;
        total.quorums_lost += one.quorums_lost;
        for (mark, count) in &outcome.marks {
            *self.marks.entry(mark).or_default() += count;
        }
        if !outcome.violations.is_empty() {
            self.failures.push((seed, outcome));
        }
    }
}

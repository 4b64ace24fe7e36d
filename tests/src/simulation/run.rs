//! One run of one scenario.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::Write;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use raftkv_raft::simulation::{set_buggify, set_mutant, take_marks};

use super::observer::Violation;
use super::random::{Stream, seed_of};
use super::schedule::Scenario;
use super::world::World;
use crate::linearizability::{StepLimit, check};

/// Every so many-th seed its whole history also goes through the general checker, which knows nothing of revisions'
/// place in the log.
const GENERAL_CHECK_EVERY: u64 = 3;
/// Beyond these the general checker may not come to a decision.
const GENERAL_CHECK_CLIENTS: usize = 8;
const GENERAL_CHECK_UNKNOWN: u64 = 40;

/// How a run is to be done, beside its scenario.
#[derive(Default)]
pub struct Options {
    /// The planted bug that is switched on.
    pub mutant: Option<&'static str>,
    /// Where a readable trace goes.
    pub trace: Option<Box<dyn Write>>,
}

/// What a run did, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Virtual time it covered, microseconds.
    pub simulated_us: u64,
    /// Things that happened.
    pub events: u64,
    /// Effects the nodes asked for.
    pub effects: u64,
    /// Those within the time that is swept.
    pub swept_effects: u64,
    /// Elections won.
    pub elections: u64,
    /// Entries decided.
    pub entries: u64,
    /// Operations answered.
    pub answered: u64,
    /// Operations certainly without effect.
    pub failed: u64,
    /// Operations whose outcome stayed unknown.
    pub unknown: u64,
    /// Runs that ended without a majority, because machines were lost while members changed.
    pub quorums_lost: u64,
}

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Equal for equal runs (I22).
    pub trace_hash: u64,
    /// The first broken invariants, in order; empty: none.
    pub violations: Vec<Violation>,
    /// How often each marked situation occurred.
    pub marks: BTreeMap<&'static str, u64>,
    /// In numbers.
    pub statistics: Statistics,
    /// Calls to each node's disk within the time that is swept; empty: nothing is.
    pub swept_disk_calls: Vec<u64>,
}

impl Outcome {
    /// The invariant that broke first.
    #[must_use]
    pub fn broken(&self) -> Option<&'static str> {
        self.violations.first().map(|violation| violation.invariant)
    }
}

/// Runs a scenario to its end, or to the first violation.
#[must_use]
pub fn run(scenario: &Scenario, options: Options) -> Outcome {
    silence_panics();
    set_mutant(options.mutant);
    let buggify = scenario
        .plan
        .buggify
        .then(|| seed_of(scenario.plan.seed, Stream::Buggify, 0));
    set_buggify(buggify);
    drop(take_marks());
    let mut world = World::new(scenario.clone(), options.trace);
    IS_SIMULATING.set(true);
    let ended = panic::catch_unwind(AssertUnwindSafe(|| world.run()));
    IS_SIMULATING.set(false);
    if ended.is_err() {
        let message = LAST_PANIC.take();
        world.observer.violate("panic", None, message);
    } else if world.observer.violations().is_empty() && suits_general_check(scenario, &world) {
        check_history(&mut world);
    }
    set_mutant(None);
    set_buggify(None);
    outcome(&world)
}

/// The general search is exponential in what is open at once: histories with many clients and unknown outcomes are left
/// to the check by the order of the log, which every run has passed already.
fn suits_general_check(scenario: &Scenario, world: &World) -> bool {
    scenario.plan.seed.is_multiple_of(GENERAL_CHECK_EVERY)
        // What was acknowledged before a recovery may be lost with it.
        && !world.was_recovered()
        && scenario.plan.workload.clients <= GENERAL_CHECK_CLIENTS
        && world.operations().unknown <= GENERAL_CHECK_UNKNOWN
}

fn check_history(world: &mut World) {
    if let Err(error) = check(&world.history(), StepLimit::default()).into_result() {
        world.observer.violate("I16", None, error.to_string());
    }
}

fn outcome(world: &World) -> Outcome {
    let counts = world.operations();
    Outcome {
        trace_hash: world.trace.hash(),
        violations: world.observer.violations().to_vec(),
        marks: take_marks(),
        swept_disk_calls: world.crossed().disk_calls.clone(),
        statistics: Statistics {
            simulated_us: world.now(),
            events: world.happened(),
            effects: world.effects_carried_out(),
            swept_effects: world.crossed().effects,
            elections: world.observer.elections(),
            entries: world.observer.decided_entries(),
            answered: counts.answered,
            failed: counts.failed,
            unknown: counts.unknown,
            quorums_lost: u64::from(world.is_quorum_lost()),
        },
    }
}

thread_local! {
    static IS_SIMULATING: Cell<bool> = const { Cell::new(false) };
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A panic of the system under test is a violation, reported with its run; it is not printed when it happens. Panics
/// of other threads are printed as ever.
fn silence_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if IS_SIMULATING.get() {
                LAST_PANIC.set(info.to_string().replace('\n', " "));
            } else {
                previous(info);
            }
        }));
    });
}

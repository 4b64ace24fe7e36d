//! The simulator as CI runs it: a modest number of seeds; `SIM_SEEDS` asks for more. Mutants, marks and whole sweeps run
//! through the binary `sim`.

use std::path::{Path, PathBuf};

use raftkv_tests::simulation::{Options, Scenario, mutants, run, search, shrink, sweep};

fn seeds() -> u64 {
    std::env::var("SIM_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(300)
}

#[test]
fn no_seed_breaks_an_invariant() {
    let found = search(0..seeds(), 2, 1, None, &|_| {});
    if let Some((seed, outcome)) = found.failures.first() {
        let file = std::env::temp_dir().join(format!("raftkv-seed-{seed}.json"));
        let smallest = shrink(&Scenario::from_seed(*seed), None, 200);
        let saved = smallest.save(&file).map(|()| file);
        panic!(
            "seed {seed}: {}\nreplay: cargo run --release -p raftkv-tests --bin sim -- --seed {seed} --trace\nshrunk: {saved:?}",
            outcome.violations[0]
        );
    }
    assert!(
        found.total.answered > 0,
        "clients were answered: {:?}",
        found.total
    );
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..12 {
        let scenario = Scenario::from_seed(seed);
        let first = run(&scenario, Options::default());
        let second = run(&scenario, Options::default());
        assert_eq!(first, second, "I22: seed {seed}");
    }
}

#[test]
fn different_seeds_give_different_traces() {
    let hash = |seed| run(&Scenario::from_seed(seed), Options::default()).trace_hash;
    assert_ne!(hash(1), hash(2));
}

#[test]
fn saved_schedules_hold() {
    for file in saved_schedules() {
        let scenario = Scenario::load(&file).expect("readable");
        let outcome = run(&scenario, Options::default());
        assert_eq!(outcome.violations, [], "{}", file.display());
    }
}

fn saved_schedules() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schedules");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder of saved schedules")
        .map(|entry| entry.expect("a directory entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    files
}

/// Every so many-th boundary; `SIM_STRIDE` asks for more, with 1 for all of them.
fn stride() -> usize {
    let asked = std::env::var("SIM_STRIDE").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(7)
}

#[test]
fn a_crash_at_any_boundary_breaks_nothing() {
    for sweep in sweep::all() {
        match sweep.run(stride(), None) {
            Ok(crossed) => {
                assert!(crossed.effects > 0, "{}: {crossed:?}", sweep.name);
                let has_disks = !sweep.disks.is_empty();
                assert!(
                    !has_disks || crossed.disk_calls > 0,
                    "{}: {crossed:?}",
                    sweep.name
                );
                println!("{}: {crossed:?}", sweep.name);
            }
            Err(failure) => {
                let point = failure.scenario.plan.crash_point;
                panic!("{}: {point:?}: {}", sweep.name, failure.what);
            }
        }
    }
}

#[test]
fn each_sweep_can_fail() {
    for sweep in sweep::all() {
        let failure = sweep.run(1, Some(sweep.finds)).err();
        let failure = failure.unwrap_or_else(|| panic!("{}: {} survived", sweep.name, sweep.finds));
        let point = failure.scenario.plan.crash_point;
        assert!(
            point.is_some(),
            "{}: {} needs no crash: {}",
            sweep.name,
            sweep.finds,
            failure.what
        );
    }
}

#[test]
fn planted_bugs_are_found() {
    for name in [
        "X02_vote_before_sync",
        "X10_ack_before_durable",
        "X22_wiped_disk_keeps_identity",
    ] {
        assert!(mutants::hunt(name, 400, 2).is_ok(), "{name} survived");
    }
}

#[test]
fn a_shrunk_failure_fails_alike_and_is_smaller() {
    let mutant = "X10_ack_before_durable";
    let kill = mutants::hunt(mutant, 400, 1).expect("found");
    let scenario = Scenario::from_seed(kill.seed);
    let smallest = shrink(&scenario, Some(mutant), 60);
    let options = Options {
        mutant: Some(mutant),
        trace: None,
    };
    assert_eq!(run(&smallest, options).broken(), Some(kill.invariant));
    assert!(smallest.steps.len() < scenario.steps.len());
}

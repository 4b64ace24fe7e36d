//! Crash-point sweep: a scripted scenario runs once to count its effects, then once per effect with a crash just before it.

use super::plan::{CrashPoint, Ending, Plan, StorePlan};
use super::run::{Options, Outcome, run};
use super::schedule::{Action, Asked, Remains, Scenario, Step};

/// The scripted scenarios.
#[must_use]
pub fn scenarios() -> Vec<(&'static str, Scenario)> {
    vec![
        (
            "three nodes form, elect, write; the leader dies and comes back",
            three_nodes(),
        ),
        ("one node forms alone and writes", one_node()),
        (
            "memory drains with nearly every batch, the log is cut and history trimmed behind it",
            draining(),
        ),
    ]
}

fn three_nodes() -> Scenario {
    let mut plan = scripted_plan(3, 1_500_000);
    plan.raft.tail_bytes = 200;
    plan.raft.max_append_entries = 2;
    let mut steps = operations(400_000, 12, 3);
    steps.extend((0..3).map(|node| Step {
        at_us: 900_000 + 40_000 * node as u64,
        action: Action::Crash {
            node,
            remains: if node == 1 {
                Remains::PageCache
            } else {
                Remains::Synced
            },
            down_us: 30_000,
        },
    }));
    steps.extend(operations(1_200_000, 6, 3));
    steps.sort_by_key(|step| step.at_us);
    Scenario { plan, steps }
}

fn one_node() -> Scenario {
    Scenario {
        plan: scripted_plan(1, 300_000),
        steps: operations(50_000, 10, 1),
    }
}

fn draining() -> Scenario {
    let mut plan = scripted_plan(2, 1_200_000);
    plan.store = StorePlan {
        overlay_bytes: 1_000,
        cache_bytes: 300,
        freeze_log_bytes: 200,
        log_tail_bytes: 100,
        log_tail_entries: 2,
        history_events: 6,
        seal_us: 300,
        drain_us: 2_000,
        lookup_us: 500,
        scan_pause_us: 50_000,
        scan_us: 5_000,
        ..StorePlan::default()
    };
    plan.workload.value_bytes = 300;
    Scenario {
        plan,
        steps: operations(400_000, 36, 2),
    }
}

fn scripted_plan(nodes: usize, length_us: u64) -> Plan {
    let mut plan = Plan::healthy(1);
    plan.nodes = nodes;
    plan.length_us = length_us;
    plan.ending = Ending::Settled;
    plan.disk.segment_size_bytes = 4096;
    plan
}

fn operations(from_us: u64, count: u64, nodes: usize) -> Vec<Step> {
    let kinds = [
        Asked::Put,
        Asked::Get,
        Asked::PutIf,
        Asked::Delete,
        Asked::PutTtl { ttl_ms: 100 },
        Asked::Put,
    ];
    (0..count)
        .map(|number| Step {
            at_us: from_us + number * 20_000,
            action: Action::Ask {
                client: number as usize % 3,
                asked: kinds[number as usize % kinds.len()],
                key: (number % 2) as u8,
                via: number as usize % nodes,
            },
        })
        .collect()
}

/// The scenario with a crash just before the so many-th effect.
#[must_use]
pub fn with_crash(scenario: &Scenario, effect: u64, remains: Remains) -> Scenario {
    let mut crashing = scenario.clone();
    crashing.plan.crash_point = Some(CrashPoint {
        effect,
        remains,
        down_us: 50_000,
    });
    crashing
}

/// Sweeps a scenario, every `stride`-th effect, with both kinds of crash; the first failure ends it. Returns how many
/// points were tried.
///
/// # Errors
/// The failing scenario and its outcome.
pub fn sweep(scenario: &Scenario, stride: usize) -> Result<u64, Box<(Scenario, Outcome)>> {
    let whole = run(scenario, Options::default());
    if !whole.violations.is_empty() {
        return Err(Box::new((scenario.clone(), whole)));
    }
    let mut tried = 0;
    for effect in (1..=whole.statistics.effects).step_by(stride) {
        for remains in [Remains::PageCache, Remains::Synced] {
            let crashing = with_crash(scenario, effect, remains);
            let outcome = run(&crashing, Options::default());
            if !outcome.violations.is_empty() {
                return Err(Box::new((crashing, outcome)));
            }
            tried += 1;
        }
    }
    Ok(tried)
}

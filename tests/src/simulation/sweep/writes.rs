//! Clusters form, write and drain.

use super::{Sweep, operations, scripted_plan};
use crate::simulation::plan::StorePlan;
use crate::simulation::schedule::{Action, Remains, Scenario, Step};

pub(super) fn sweeps() -> Vec<Sweep> {
    vec![
        Sweep {
            name: "three nodes form, elect, write; the leader dies and comes back",
            scenario: three_nodes(),
            disks: &[],
            marks: &["cluster founded"],
            finds: "X03_vote_forgotten_at_restart",
        },
        Sweep {
            name: "one node forms alone and writes",
            scenario: one_node(),
            disks: &[],
            marks: &["cluster founded"],
            finds: "X10_log_sync_skipped",
        },
        Sweep {
            name: "memory drains with nearly every batch, the log is cut and history trimmed behind it",
            scenario: draining(),
            disks: &[],
            marks: &[
                "generation drained",
                "log cut behind the base",
                "history given up through the log",
            ],
            finds: "history_not_synced_before_ingest",
        },
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

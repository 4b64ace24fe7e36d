//! A follower takes in a snapshot (S03, R48, R49): a crash leaves the old state or the new one, and it ends up level.

use super::{Sweep, swept_plan};
use crate::simulation::plan::{Plan, StorePlan};
use crate::simulation::schedule::{Action, Asked, LeaderFault, Remains, Scenario, Step};

/// Until then somebody hears nothing; from then on boundaries count.
const BACK_US: u64 = 1_000_000;
/// What it missed is in, and written behind.
const LEVEL_US: u64 = 1_600_000;

const MARKS: &[&str] = &[
    "peer needs a snapshot",
    "snapshot: received whole",
    "snapshot installed",
    "snapshot arrived at a peer",
];

pub(super) fn sweeps() -> Vec<Sweep> {
    vec![
        Sweep {
            name: "a follower that was down takes in a snapshot",
            scenario: after(Action::Crash {
                node: 2,
                remains: Remains::Synced,
                down_us: BACK_US - AWAY_US,
            }),
            disks: &[2],
            marks: MARKS,
            finds: "X20_log_begun_anew_before_the_switch",
        },
        Sweep {
            name: "a deposed leader takes in a snapshot over a log that conflicts with it",
            scenario: after(Action::Leader {
                fault: LeaderFault::Isolated,
                for_us: BACK_US - AWAY_US,
            }),
            disks: &[0, 1, 2],
            marks: MARKS,
            finds: "X20_log_begun_anew_before_the_switch",
        },
    ]
}

/// From then on somebody hears nothing.
const AWAY_US: u64 = 450_000;

/// While `gone` lasts, the others write more than the log keeps.
fn after(gone: Action) -> Scenario {
    let mut steps = vec![Step {
        at_us: AWAY_US,
        action: gone,
    }];
    steps.extend(writes(400_000, BACK_US - 20_000, 8_000));
    // It goes on beside the snapshot.
    steps.extend(writes(BACK_US, LEVEL_US, 25_000));
    steps.sort_by_key(|step| step.at_us);
    Scenario { plan: plan(), steps }
}

/// Little stays in the log, and a snapshot is several parts.
fn plan() -> Plan {
    let mut plan = swept_plan(3, 2_000_000, (BACK_US, LEVEL_US), &[0, 1, 2]);
    plan.raft.tail_bytes = 200;
    plan.store = StorePlan {
        overlay_bytes: 20_000,
        cache_bytes: 300,
        freeze_log_bytes: 4_000,
        log_tail_bytes: 2_000,
        log_tail_entries: 4,
        history_events: 20,
        seal_us: 300,
        drain_us: 1_000,
        lookup_us: 100,
        ..StorePlan::default()
    };
    plan.workload.value_bytes = 800;
    plan.workload.keys = 40;
    plan
}

fn writes(from_us: u64, until_us: u64, every_us: u64) -> Vec<Step> {
    let times = (from_us..until_us).step_by(every_us as usize);
    times
        .enumerate()
        .map(|(number, at_us)| Step {
            at_us,
            action: Action::Ask {
                client: number % 6,
                asked: Asked::Put,
                key: (number % 40) as u8,
                via: number % 3,
            },
        })
        .collect()
}

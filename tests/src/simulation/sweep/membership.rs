//! Members change (M02 to M06, R56 to R64): wherever a node dies, it comes to the same voters.
//!
//! Operators ask again, as people do: what they asked for may have ended with the node that they asked.

use raftkv_protocol::{Force, Promotion};

use super::{Sweep, operations, swept_plan};
use crate::simulation::operators::{Operation, SparesCome};
use crate::simulation::plan::Plan;
use crate::simulation::schedule::{Action, Remains, Scenario, Step};

/// The first time that the operator asks.
const ASKED_US: u64 = 700_000;
/// From then on boundaries do not count: whatever is left of the change by then is asked for again.
const DONE_US: u64 = 1_350_000;
const LENGTH_US: u64 = 3_000_000;

/// A joint configuration whose leader dies is left by the next one (M03).
const JOINT_BUG: &str = "X17_joint_left_by_its_own_leader_alone";

/// A node was let in, and votes in the end.
const CAME_TO_VOTE: &[&str] = &[
    "node let into a running cluster",
    "learner promoted",
    "joint configuration left",
];

pub(super) fn sweeps() -> Vec<Sweep> {
    vec![
        Sweep {
            name: "a node joins as a learner, and votes once it has caught up",
            scenario: joining(Promotion::CaughtUp),
            disks: &[3],
            marks: CAME_TO_VOTE,
            finds: JOINT_BUG,
        },
        Sweep {
            name: "a learner that is held is promoted when it is asked for",
            scenario: joining(Promotion::Asked),
            disks: &[3],
            marks: &[
                "node let into a running cluster",
                "change of members proposed",
                "joint configuration left",
            ],
            finds: JOINT_BUG,
        },
        Sweep {
            name: "a node whose disk was lost is replaced",
            scenario: replacing(),
            disks: &[2],
            marks: CAME_TO_VOTE,
            finds: JOINT_BUG,
        },
        Sweep {
            name: "the leader is removed",
            scenario: removing_the_leader(),
            disks: &[],
            marks: &[
                "leader hands over before it is removed",
                "joint configuration left",
            ],
            finds: JOINT_BUG,
        },
        Sweep {
            name: "a node that was formed alone grows to three",
            scenario: growing(),
            disks: &[1, 2],
            marks: &[
                "peer of a node that was formed alone let in",
                "learner promoted",
                "joint configuration left",
            ],
            finds: JOINT_BUG,
        },
    ]
}

fn joining(promotion: Promotion) -> Scenario {
    let mut plan = swept_plan(4, LENGTH_US, (ASKED_US, DONE_US), &[0, 1, 2, 3]);
    plan.operators.spares = 1;
    let operation = |via| Operation::Enter {
        node: 3,
        at: via,
        promotion,
        force: Force::No,
    };
    let mut steps = asked_again(operation);
    steps.extend(operations(400_000, 40, 4));
    scenario(plan, steps)
}

fn replacing() -> Scenario {
    let plan = swept_plan(3, LENGTH_US, (ASKED_US, DONE_US), &[0, 1, 2]);
    let mut steps = asked_again(|via| Operation::Enter {
        node: 2,
        at: via,
        promotion: Promotion::CaughtUp,
        force: Force::No,
    });
    steps.push(Step {
        at_us: ASKED_US - 100_000,
        action: Action::Wipe {
            node: 2,
            down_us: 20_000,
        },
    });
    steps.extend(operations(400_000, 40, 3));
    scenario(plan, steps)
}

fn removing_the_leader() -> Scenario {
    let mut others = vec![0, 1, 2, 3];
    others.retain(|&node| node != FIRST_LEADER);
    let plan = swept_plan(4, LENGTH_US, (ASKED_US, DONE_US), &others);
    let mut steps = asked_again(|_| Operation::Leave {
        node: FIRST_LEADER,
        force: Force::No,
    });
    steps.extend(operations(400_000, 40, 4));
    scenario(plan, steps)
}

/// Who leads these four nodes at first; that it does, a mark tells.
const FIRST_LEADER: usize = 3;

fn growing() -> Scenario {
    let from_us = 200_000;
    let mut plan = swept_plan(3, LENGTH_US, (from_us, from_us + 500_000), &[0, 1, 2]);
    plan.operators.spares = 2;
    plan.operators.spares_come = SparesCome::Named;
    let mut steps = operations(50_000, 40, 3);
    steps.push(Step {
        at_us: from_us,
        action: Action::Crash {
            node: 0,
            remains: Remains::Synced,
            down_us: 10_000,
        },
    });
    scenario(plan, steps)
}

/// The same again and again, each time of another node: one that is down hears nothing.
fn asked_again(operation: impl Fn(usize) -> Operation) -> Vec<Step> {
    let times = [0, 350_000, 700_000, 1_050_000, 1_400_000, 1_750_000];
    times
        .into_iter()
        .enumerate()
        .map(|(number, after_us)| Step {
            at_us: ASKED_US + after_us,
            action: Action::Operate {
                operation: operation(number % 3),
                via: number % 3,
                patience_us: 300_000,
            },
        })
        .collect()
}

fn scenario(plan: Plan, mut steps: Vec<Step>) -> Scenario {
    steps.sort_by_key(|step| step.at_us);
    Scenario { plan, steps }
}

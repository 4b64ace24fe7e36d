//! What operators do to a cluster: they hand leadership over, and change who its members are. From a random stream of its
//! own, so that the rest of a seed's scenario is what it was before there were operators.

use fastrand::Rng;
use raftkv_protocol::{Force, Promotion};
use serde::{Deserialize, Serialize};

use super::plan::{Ending, Plan};
use super::random::{Stream, exponential, log_uniform, stream};
use super::schedule::{Action, LeaderFault, NodeSet, Remains, Step};

/// How busy operators are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorPlan {
    /// Leadership is handed over so often; 0: never.
    pub transfers_per_minute: u64,
    /// Members are changed so often; 0: never.
    pub changes_per_minute: u64,
    /// Until then, microseconds.
    pub until_us: u64,
    /// So many of a hundred operations are followed by something that happens to the leader.
    pub strikes_percent: u64,
    /// So many of a hundred changes are forced: whether a majority of live nodes is left is not asked about.
    #[serde(default)]
    pub forced_percent: u64,
    /// Nodes move to other addresses so often; 0: never.
    #[serde(default)]
    pub moves_per_minute: u64,
    /// So many machines, the last ones, do not found the cluster.
    pub spares: usize,
    /// How they come in.
    pub spares_come: SparesCome,
}

/// How machines come in that do not found the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SparesCome {
    /// They are told to join it.
    #[default]
    Asking,
    /// The first machine founds a cluster alone; from its second start on it names them all as its peers, as they do.
    Named,
}

/// What an operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Leadership goes to this node; `None`: to whoever can take over soonest.
    Transfer {
        /// Its slot.
        to: Option<usize>,
    },
    /// A node is to be no member, if enough others hold the data.
    Leave {
        /// Its slot.
        node: usize,
        /// Even if too few of the others live?
        #[serde(default = "unforced")]
        force: Force,
    },
    /// A node is to be a member and vote: the next command towards that.
    Enter {
        /// Its slot.
        node: usize,
        /// If it has to start anew, it knocks there.
        at: usize,
        /// When it is to vote.
        promotion: Promotion,
        /// Even if it has not caught up, or too few live?
        #[serde(default = "unforced")]
        force: Force,
    },
    /// A majority is lost for ever: a cluster of one is made of this node's data directory, the others get empty disks and
    /// are told to join it.
    Recover {
        /// Its slot.
        node: usize,
        /// These come back with what they stored, and run beside it for a while.
        left_behind: NodeSet,
        /// For so long.
        for_us: u64,
    },
    /// A node is started under another address, with its identity and data.
    Move {
        /// Its slot.
        node: usize,
    },
}

/// Schedules from before changes could be forced mean this.
fn unforced() -> Force {
    Force::No
}

impl Operation {
    fn forced(self) -> Operation {
        match self {
            Operation::Leave { node, .. } => Operation::Leave {
                node,
                force: Force::Yes,
            },
            Operation::Enter {
                node, at, promotion, ..
            } => Operation::Enter {
                node,
                at,
                promotion,
                force: Force::Yes,
            },
            Operation::Transfer { .. } | Operation::Move { .. } | Operation::Recover { .. } => self,
        }
    }
}

/// Two of three runs have no operator. A calm run has none: its one leader must stay.
pub(super) fn draw_operators(plan: &mut Plan) {
    let rng = &mut stream(plan.seed, Stream::Operators, u64::MAX);
    if plan.ending == Ending::Calm || rng.u32(..3) != 0 {
        return;
    }
    let operators = &mut plan.operators;
    operators.strikes_percent = [0, 10, 50][rng.usize(..3)];
    operators.until_us = plan.length_us / 100 * rng.u64(50..=100);
    if rng.u32(..4) != 0 {
        operators.transfers_per_minute = log_uniform(rng, 4, 600);
    }
    if rng.u32(..4) != 0 {
        operators.changes_per_minute = log_uniform(rng, 15, 600);
        match rng.u32(..8) {
            0..3 => operators.spares = rng.usize(..plan.nodes),
            3 => {
                operators.spares = plan.nodes - 1;
                operators.spares_come = SparesCome::Named;
            }
            _ => {}
        }
        operators.forced_percent = [0, 0, 20, 100][rng.usize(..4)];
    }
    if rng.u32(..3) == 0 {
        operators.moves_per_minute = log_uniform(rng, 4, 120);
    }
}

/// In one of twelve runs a majority is lost for ever, and operators recover what one machine holds.
pub(super) fn draw_recovery(plan: &Plan) -> Vec<Step> {
    let rng = &mut stream(plan.seed, Stream::Operators, 7);
    if plan.ending == Ending::Calm || plan.swept.is_some() || rng.u32(..12) != 0 {
        return Vec::new();
    }
    let nodes = plan.nodes;
    let node = rng.usize(..nodes);
    let at_us = plan.length_us / 100 * rng.u64(20..70);
    let operation = Operation::Recover {
        node,
        left_behind: NodeSet(rng.u8(..)),
        for_us: log_uniform(rng, 10_000, 8_000_000),
    };
    let operate = |at_us, via, operation| Step {
        at_us,
        action: Action::Operate {
            operation,
            via,
            patience_us: 4_000_000,
        },
    };
    let mut steps = vec![operate(at_us, node, operation)];
    // Each machine is let in, and promoted, as soon as that can be.
    let mut later_us = at_us;
    while steps.len() < 4 * nodes && later_us < plan.length_us {
        later_us += exponential(rng, 600_000).max(1);
        let enters = Operation::Enter {
            node: rng.usize(..nodes),
            at: node,
            promotion: Promotion::CaughtUp,
            force: Force::No,
        };
        steps.push(operate(later_us, node, enters));
    }
    steps
}

pub(super) fn draw_operations(plan: &Plan) -> Vec<Step> {
    let rng = &mut stream(plan.seed, Stream::Operators, 0);
    let nodes = plan.nodes;
    let transfer = |rng: &mut Rng| Operation::Transfer {
        to: (rng.u32(..4) != 0).then(|| rng.usize(..nodes)),
    };
    let mut steps = repeat(plan, plan.operators.transfers_per_minute, rng, &transfer);
    let rng = &mut stream(plan.seed, Stream::Operators, 1);
    let change = |rng: &mut Rng| {
        let node = rng.usize(..nodes);
        match rng.u32(..5) {
            0..2 => Operation::Leave {
                node,
                force: Force::No,
            },
            _ => Operation::Enter {
                node,
                at: rng.usize(..nodes),
                promotion: match rng.u32(..4) {
                    0 => Promotion::Asked,
                    _ => Promotion::CaughtUp,
                },
                force: Force::No,
            },
        }
    };
    let strikes = &mut stream(plan.seed, Stream::Operators, 3);
    for transfer in steps.clone() {
        steps.extend(strike_after(
            &transfer,
            DEAFENING,
            plan.operators.strikes_percent,
            strikes,
        ));
    }
    let mut changes = repeat(plan, plan.operators.changes_per_minute, rng, &change);
    force_some(&mut changes, plan);
    let rng = &mut stream(plan.seed, Stream::Operators, 2);
    for change in &changes {
        steps.extend(strike_after(
            change,
            STRIKING,
            plan.operators.strikes_percent,
            rng,
        ));
    }
    steps.extend(changes);
    let rng = &mut stream(plan.seed, Stream::Operators, 5);
    let moves = |rng: &mut Rng| Operation::Move {
        node: rng.usize(..nodes),
    };
    steps.extend(repeat(plan, plan.operators.moves_per_minute, rng, &moves));
    let rng = &mut stream(plan.seed, Stream::Operators, 6);
    if plan.operators.spares_come == SparesCome::Named {
        steps.push(Step {
            at_us: rng.u64(..plan.length_us / 4),
            action: Action::Crash {
                node: 0,
                remains: Remains::Synced,
                down_us: log_uniform(rng, 1_000, 500_000),
            },
        });
    }
    steps
}

fn force_some(changes: &mut [Step], plan: &Plan) {
    let rng = &mut stream(plan.seed, Stream::Operators, 4);
    for change in changes {
        let is_forced = rng.u64(..100) < plan.operators.forced_percent;
        if let Action::Operate { operation, .. } = &mut change.action
            && is_forced
        {
            *operation = operation.forced();
        }
    }
}

/// The moments in which a change is half done are short: they are sought out.
fn strike_after(change: &Step, faults: &[LeaderFault], percent: u64, rng: &mut Rng) -> Option<Step> {
    let fault = faults[rng.usize(..faults.len())];
    let action = Action::Leader {
        fault,
        for_us: log_uniform(rng, 10_000, 3_000_000),
    };
    let at_us = change.at_us + log_uniform(rng, 100, 100_000);
    (rng.u64(..100) < percent).then_some(Step { at_us, action })
}

/// What leaves a change of members half done.
const STRIKING: &[LeaderFault] = &[
    LeaderFault::Crash(Remains::Synced),
    LeaderFault::Crash(Remains::PageCache),
    LeaderFault::Isolated,
    LeaderFault::Mute,
];

/// What leaves a leader unaware that it has handed over.
const DEAFENING: &[LeaderFault] = &[
    LeaderFault::Deaf,
    LeaderFault::Isolated,
    LeaderFault::Crash(Remains::Synced),
];

/// One kind of operation at random moments.
fn repeat(plan: &Plan, per_minute: u64, rng: &mut Rng, draw: &dyn Fn(&mut Rng) -> Operation) -> Vec<Step> {
    let mut steps = Vec::new();
    let Some(mean_us) = 60_000_000_u64.checked_div(per_minute) else {
        return steps;
    };
    let mut at_us = exponential(rng, mean_us);
    while at_us < plan.operators.until_us {
        let action = Action::Operate {
            operation: draw(rng),
            via: rng.usize(..plan.nodes),
            patience_us: log_uniform(rng, 50_000, 8_000_000),
        };
        steps.push(Step { at_us, action });
        at_us += exponential(rng, mean_us).max(1);
    }
    steps
}

//! The kinds of faults: an open list. Each kind either draws steps of a schedule or sets options of the plan.

use fastrand::Rng;
use serde::{Deserialize, Serialize};

use super::plan::Plan;
use super::random::log_uniform;
use super::schedule::{Action, DiskCall, LeaderFault, NodeSet, Remains};

/// A kind of fault. A run draws first which of them exist at all (swarm testing: all at once hides bugs).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum FaultKind {
    Crash,
    PowerLoss,
    CrashAtEffect,
    CrashInDisk,
    ClusterPowerFailure,
    Pause,
    ClockJump,
    ClockRate,
    OneWayCut,
    Isolation,
    Split,
    Bridge,
    SlowLink,
    CloggedLink,
    ConnectionReset,
    Loss,
    Doubling,
    Reordering,
    Replay,
    Corruption,
    ClientLoss,
    DiskStall,
    SlowDisk,
    FullDisk,
    WriteError,
    SyncError,
    ReadError,
    BitRot,
    Wipe,
    LeaderCrash,
    LeaderCut,
    LeaderStall,
    CrashInDrain,
    LowSpace,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [FaultKind; 34] = [
        FaultKind::Crash,
        FaultKind::PowerLoss,
        FaultKind::CrashAtEffect,
        FaultKind::CrashInDisk,
        FaultKind::ClusterPowerFailure,
        FaultKind::Pause,
        FaultKind::ClockJump,
        FaultKind::ClockRate,
        FaultKind::OneWayCut,
        FaultKind::Isolation,
        FaultKind::Split,
        FaultKind::Bridge,
        FaultKind::SlowLink,
        FaultKind::CloggedLink,
        FaultKind::ConnectionReset,
        FaultKind::Loss,
        FaultKind::Doubling,
        FaultKind::Reordering,
        FaultKind::Replay,
        FaultKind::Corruption,
        FaultKind::ClientLoss,
        FaultKind::DiskStall,
        FaultKind::SlowDisk,
        FaultKind::FullDisk,
        FaultKind::WriteError,
        FaultKind::SyncError,
        FaultKind::ReadError,
        FaultKind::BitRot,
        FaultKind::Wipe,
        FaultKind::LeaderCrash,
        FaultKind::LeaderCut,
        FaultKind::LeaderStall,
        FaultKind::CrashInDrain,
        FaultKind::LowSpace,
    ];

    /// Sets the options of a plan that this kind is about, if it is one that goes on all the time.
    pub(crate) fn tune(self, plan: &mut Plan, rng: &mut Rng) {
        let rate = |rng: &mut Rng| log_uniform(rng, 1_000, 300_000) as u32;
        let network = &mut plan.network;
        match self {
            FaultKind::Loss => network.lost_ppm = rate(rng),
            FaultKind::Doubling => network.doubled_ppm = rate(rng),
            FaultKind::Reordering => {
                network.reordered_ppm = rate(rng);
                network.reorder_us = log_uniform(rng, 1_000, 6_000_000);
            }
            FaultKind::Replay => network.replayed_ppm = rate(rng) / 2,
            FaultKind::Corruption => network.corrupted_ppm = rate(rng) / 10,
            FaultKind::ClientLoss => network.client_lost_ppm = rate(rng),
            FaultKind::ClockRate => plan.clock_drift_ppm = log_uniform(rng, 1_000, 50_000),
            // Time for clients to meet a leader that is none any more, and enough of them; where heartbeats are rare, also
            // within one of its rounds.
            FaultKind::LeaderCut => {
                plan.raft.election_timeout_us *= rng.u64(1..=5);
                if rng.bool() {
                    plan.raft.heartbeat_interval_us = plan.raft.election_timeout_us / 3;
                }
                let load = &mut plan.workload;
                load.operations_per_second = load.operations_per_second.max(rng.u64(20..200));
            }
            // These happen at moments: `draw` makes them.
            FaultKind::Crash
            | FaultKind::PowerLoss
            | FaultKind::CrashAtEffect
            | FaultKind::CrashInDisk
            | FaultKind::ClusterPowerFailure
            | FaultKind::Pause
            | FaultKind::ClockJump
            | FaultKind::OneWayCut
            | FaultKind::Isolation
            | FaultKind::Split
            | FaultKind::Bridge
            | FaultKind::SlowLink
            | FaultKind::CloggedLink
            | FaultKind::ConnectionReset
            | FaultKind::DiskStall
            | FaultKind::SlowDisk
            | FaultKind::FullDisk
            | FaultKind::WriteError
            | FaultKind::SyncError
            | FaultKind::ReadError
            | FaultKind::BitRot
            | FaultKind::Wipe
            | FaultKind::LeaderCrash
            | FaultKind::LeaderStall
            | FaultKind::CrashInDrain
            | FaultKind::LowSpace => {}
        }
    }

    /// How often it happens, at least and at most, per simulated minute and cluster; `None` for kinds that go on all
    /// the time.
    pub(crate) fn per_minute(self) -> Option<(u64, u64)> {
        match self {
            FaultKind::Loss
            | FaultKind::Doubling
            | FaultKind::Reordering
            | FaultKind::Replay
            | FaultKind::Corruption
            | FaultKind::ClientLoss => None,
            FaultKind::Crash
            | FaultKind::PowerLoss
            | FaultKind::CrashAtEffect
            | FaultKind::CrashInDisk
            | FaultKind::CrashInDrain => Some((2, 120)),
            FaultKind::ClusterPowerFailure => Some((1, 20)),
            FaultKind::Wipe | FaultKind::BitRot => Some((2, 10)),
            FaultKind::LeaderCrash | FaultKind::LeaderCut | FaultKind::LeaderStall => Some((6, 60)),
            FaultKind::Pause
            | FaultKind::ClockJump
            | FaultKind::ClockRate
            | FaultKind::OneWayCut
            | FaultKind::Isolation
            | FaultKind::Split
            | FaultKind::Bridge
            | FaultKind::SlowLink
            | FaultKind::CloggedLink
            | FaultKind::ConnectionReset
            | FaultKind::DiskStall
            | FaultKind::SlowDisk
            | FaultKind::FullDisk
            | FaultKind::WriteError
            | FaultKind::SyncError
            | FaultKind::ReadError
            | FaultKind::LowSpace => Some((2, 60)),
        }
    }

    /// Draws one fault of this kind; `None` for kinds that go on all the time.
    pub(crate) fn draw(self, rng: &mut Rng, nodes: usize) -> Option<Action> {
        let node = rng.usize(..nodes);
        let remains = if rng.bool() {
            Remains::PageCache
        } else {
            Remains::Synced
        };
        let down_us = log_uniform(rng, 1_000, 5_000_000);
        let for_us = log_uniform(rng, 5_000, 8_000_000);
        let ends = |rng: &mut Rng| (any_nodes(rng, nodes), any_nodes(rng, nodes));
        let disk_error = |call, rng: &mut Rng| Action::DiskError {
            node,
            call,
            after: rng.u32(..20),
            down_us,
        };
        Some(match self {
            FaultKind::Crash => Action::Crash {
                node,
                remains: Remains::PageCache,
                down_us,
            },
            FaultKind::PowerLoss => Action::Crash {
                node,
                remains: Remains::Synced,
                down_us,
            },
            FaultKind::CrashAtEffect => Action::CrashAtEffect {
                node,
                effects: log_uniform(rng, 1, 60) as u32,
                remains,
                down_us,
            },
            FaultKind::CrashInDisk => Action::CrashInDisk {
                node,
                calls: log_uniform(rng, 1, 40) as u32,
                remains,
                down_us,
            },
            FaultKind::CrashInDrain => Action::CrashInDrain {
                node,
                rows: log_uniform(rng, 1, 60) as u32,
                remains,
                down_us,
            },
            FaultKind::LowSpace => Action::LowSpace {
                node,
                permille: rng.u64(..1_300),
                for_us,
            },
            FaultKind::ClusterPowerFailure => Action::PowerFailure {
                down_us: log_uniform(rng, 1_000, 500_000),
            },
            FaultKind::Pause => Action::Pause { node, for_us },
            FaultKind::ClockJump => Action::ClockJump {
                node,
                by_us: log_uniform(rng, 1_000, 3_600_000_000),
            },
            FaultKind::ClockRate => Action::ClockRate {
                node,
                rate_ppm: log_uniform(rng, 500_000, 2_000_000),
                for_us,
            },
            FaultKind::OneWayCut => {
                let (from, to) = ends(rng);
                Action::Cut { from, to, for_us }
            }
            FaultKind::Isolation => Action::Split {
                half: NodeSet::one(node),
                bridge: NodeSet(0),
                for_us,
            },
            FaultKind::Split => Action::Split {
                half: any_nodes(rng, nodes),
                bridge: NodeSet(0),
                for_us,
            },
            FaultKind::Bridge => Action::Split {
                half: any_nodes(rng, nodes),
                bridge: NodeSet::one(node),
                for_us,
            },
            FaultKind::SlowLink => {
                let (from, to) = ends(rng);
                Action::SlowLink {
                    from,
                    to,
                    by_us: log_uniform(rng, 1_000, 2_000_000),
                    for_us,
                }
            }
            FaultKind::CloggedLink => {
                let (from, to) = ends(rng);
                Action::Clog { from, to, for_us }
            }
            FaultKind::ConnectionReset => Action::ResetConnections { node },
            FaultKind::DiskStall => Action::DiskStall { node, for_us },
            FaultKind::SlowDisk => Action::DiskSlow {
                node,
                by_us: log_uniform(rng, 1_000, 500_000),
                for_us,
            },
            FaultKind::FullDisk => Action::DiskFull {
                node,
                free_bytes: rng.u64(..40_000),
                for_us,
            },
            FaultKind::WriteError => disk_error(DiskCall::Write, rng),
            FaultKind::SyncError => disk_error(DiskCall::Sync, rng),
            FaultKind::ReadError => disk_error(DiskCall::Read, rng),
            FaultKind::BitRot => Action::BitRot { node },
            FaultKind::Wipe => Action::Wipe { node, down_us },
            FaultKind::LeaderCrash => Action::Leader {
                fault: LeaderFault::Crash(remains),
                for_us: down_us,
            },
            FaultKind::LeaderCut => {
                // The last one is the rarest to come out right, and what it shows nothing else does.
                let faults = [
                    LeaderFault::Isolated,
                    LeaderFault::Mute,
                    LeaderFault::Deaf,
                    LeaderFault::Lagging,
                    LeaderFault::Lagging,
                    LeaderFault::Lagging,
                ];
                Action::Leader {
                    fault: faults[rng.usize(..faults.len())],
                    for_us: log_uniform(rng, 100_000, 4_000_000),
                }
            }
            FaultKind::LeaderStall => {
                let fault = if rng.bool() {
                    LeaderFault::Paused
                } else {
                    LeaderFault::SlowClock
                };
                Action::Leader {
                    fault,
                    for_us: log_uniform(rng, 100_000, 4_000_000),
                }
            }
            FaultKind::Loss
            | FaultKind::Doubling
            | FaultKind::Reordering
            | FaultKind::Replay
            | FaultKind::Corruption
            | FaultKind::ClientLoss => return None,
        })
    }
}

/// Some nodes, at least one.
fn any_nodes(rng: &mut Rng, nodes: usize) -> NodeSet {
    let all = (1_u16 << nodes) - 1;
    NodeSet(rng.u16(1..=all) as u8)
}

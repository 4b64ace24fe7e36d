//! What is done to a cluster, as data: dropped step by step to shrink a failure, saved to replay it after the code that
//! drew it has changed.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::operators::Operation;
use super::plan::Plan;
use super::tenants::Call;

/// A set of nodes by their slot, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSet(pub u8);

impl NodeSet {
    /// Just this node.
    #[must_use]
    pub fn one(slot: usize) -> NodeSet {
        NodeSet(1 << slot)
    }

    /// These nodes.
    #[must_use]
    pub fn of(slots: &[usize]) -> NodeSet {
        NodeSet(slots.iter().fold(0, |set, slot| set | 1 << slot))
    }

    /// Is this node in it?
    #[must_use]
    pub fn contains(self, slot: usize) -> bool {
        self.0 & (1 << slot) != 0
    }
}

/// What a machine's disk still holds after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Remains {
    /// All that was written: the process died, the operating system did not.
    PageCache,
    /// What was synced; of the rest any part, torn at sector borders: the power failed.
    Synced,
}

/// Which call to a disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum DiskCall {
    Read,
    Write,
    Sync,
}

/// What happens to a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaderFault {
    /// Its process is killed.
    Crash(Remains),
    /// It neither hears nor is heard.
    Isolated,
    /// It hears and is not heard.
    Mute,
    /// It is heard and does not hear.
    Deaf,
    /// It hears late, and shortly after is not heard at all.
    Lagging,
    /// It does not run.
    Paused,
    /// Its clock is slow.
    SlowClock,
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Asked {
    /// A linearizable read.
    Get,
    /// A linearizable read that the leader may serve by its lease.
    LeaseGet,
    /// A local, possibly old read.
    StaleGet,
    /// A write.
    Put,
    /// A write under the condition that the key is as this client last saw it.
    PutIf,
    /// A write under the condition that the key is absent.
    PutAbsent,
    /// A delete.
    Delete,
    /// A delete under the condition that the key is as this client last saw it.
    DeleteIf,
    /// A write that expires, on keys of its own.
    PutTtl {
        /// After so many milliseconds of log time.
        ttl_ms: u64,
    },
    /// A linearizable read of a key that expires.
    GetTtl,
    /// A write that does not expire, of such a key.
    PutOverTtl,
    /// A delete of such a key.
    DeleteTtl,
    /// A listing of the latest state, page by page.
    List,
    /// The same, its first page by the leader's lease.
    LeaseList,
    /// A listing of a local, possibly old state.
    StaleList,
    /// Keys are counted, page by page.
    ListCount,
    /// A listing of an earlier state.
    ListPast {
        /// The revision, in thousandths of the highest that was shown.
        permille: u16,
    },
    /// A listing of the state as it was so long ago.
    ListAgo {
        /// In milliseconds of log time.
        ago_ms: u64,
    },
    /// A key as it was.
    GetPast {
        /// The revision, in thousandths of the highest that was shown.
        permille: u16,
    },
}

/// One thing done to the cluster. Faults that last carry their length, so that dropping the step drops its end with it.
///
/// An open list: what later parts bring joins here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Action {
    /// A client asks a node for something.
    Ask {
        client: usize,
        asked: Asked,
        key: u8,
        via: usize,
    },
    /// A tenant asks a node for something.
    Call { tenant: usize, call: Call, via: usize },
    /// An operator asks a node for something, and waits this long for it.
    Operate {
        operation: Operation,
        via: usize,
        patience_us: u64,
    },
    /// The process is killed and comes back later.
    Crash {
        node: usize,
        remains: Remains,
        down_us: u64,
    },
    /// The process is killed when it has carried out so many more effects.
    CrashAtEffect {
        node: usize,
        effects: u32,
        remains: Remains,
        down_us: u64,
    },
    /// The process is killed inside the so many-th next call to its disk.
    CrashInDisk {
        node: usize,
        calls: u32,
        remains: Remains,
        down_us: u64,
    },
    /// All machines lose power at once.
    PowerFailure { down_us: u64 },
    /// The process does not run for a while; the disk and the sockets' buffers go on.
    Pause { node: usize, for_us: u64 },
    /// The node's monotonic clock leaps forward.
    ClockJump { node: usize, by_us: u64 },
    /// The node's clock runs at another rate.
    ClockRate { node: usize, rate_ppm: u64, for_us: u64 },
    /// Nothing from these nodes arrives at those, one way.
    Cut { from: NodeSet, to: NodeSet, for_us: u64 },
    /// The nodes fall into two halves that do not hear each other; those in `bridge` hear and are heard by all.
    Split {
        half: NodeSet,
        bridge: NodeSet,
        for_us: u64,
    },
    /// Messages from these nodes to those are late by this much more.
    SlowLink {
        from: NodeSet,
        to: NodeSet,
        by_us: u64,
        for_us: u64,
    },
    /// Messages from these nodes to those pile up, and all arrive in random order at the end.
    Clog { from: NodeSet, to: NodeSet, for_us: u64 },
    /// Something happens to whoever leads at that moment.
    Leader { fault: LeaderFault, for_us: u64 },
    /// All connections of the node break; it lives on.
    ResetConnections { node: usize },
    /// Every write and sync of the node's disk waits until the end of this.
    DiskStall { node: usize, for_us: u64 },
    /// Every sync of the node's disk takes this much longer.
    DiskSlow { node: usize, by_us: u64, for_us: u64 },
    /// The node's disk has only this much room left.
    DiskFull {
        node: usize,
        free_bytes: u64,
        for_us: u64,
    },
    /// The so many-th next call of this kind fails; the node must stop, and is started again later.
    DiskError {
        node: usize,
        call: DiskCall,
        after: u32,
        down_us: u64,
    },
    /// The process is killed while a generation goes into its base, after so many more rows, over all drains.
    CrashInDrain {
        node: usize,
        rows: u32,
        remains: Remains,
        down_us: u64,
    },
    /// The node is told that its disk has little room: so many thousandths of the reserve.
    LowSpace { node: usize, permille: u64, for_us: u64 },
    /// A bit of what the node's disk holds durably flips.
    BitRot { node: usize },
    /// The node's disk is replaced by an empty one.
    Wipe { node: usize, down_us: u64 },
}

impl Action {
    /// Is it a client's, rather than a fault or an operator's?
    #[must_use]
    pub fn is_asked(&self) -> bool {
        matches!(self, Action::Ask { .. } | Action::Call { .. })
    }

    /// The node it is about, if it is about one.
    #[must_use]
    pub fn node(&self) -> Option<usize> {
        match *self {
            Action::Crash { node, .. }
            | Action::CrashAtEffect { node, .. }
            | Action::CrashInDisk { node, .. }
            | Action::Pause { node, .. }
            | Action::ClockJump { node, .. }
            | Action::ClockRate { node, .. }
            | Action::ResetConnections { node }
            | Action::DiskStall { node, .. }
            | Action::DiskSlow { node, .. }
            | Action::DiskFull { node, .. }
            | Action::DiskError { node, .. }
            | Action::CrashInDrain { node, .. }
            | Action::LowSpace { node, .. }
            | Action::BitRot { node }
            | Action::Wipe { node, .. } => Some(node),
            Action::Ask { .. }
            | Action::Call { .. }
            | Action::Operate { .. }
            | Action::PowerFailure { .. }
            | Action::Leader { .. }
            | Action::Cut { .. }
            | Action::Split { .. }
            | Action::SlowLink { .. }
            | Action::Clog { .. } => None,
        }
    }
}

/// An action with its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Microseconds of virtual time.
    pub at_us: u64,
    /// What is done then.
    #[serde(rename = "do")]
    pub action: Action,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{:03}ms {:?}",
            self.at_us / 1000,
            self.at_us % 1000,
            self.action
        )
    }
}

/// Everything a run is made of: the same scenario gives the same trace, byte for byte.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scenario {
    /// All options.
    pub plan: Plan,
    /// All faults and client operations, ascending by time.
    pub steps: Vec<Step>,
}

/// A schedule file that can not be used.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum ScheduleError {
    #[error("schedule {path}: {source}")]
    Io { path: String, source: std::io::Error },
    #[error("schedule {path} is not a schedule of this simulator: {source}")]
    Format { path: String, source: serde_json::Error },
}

impl Scenario {
    /// Reads a saved schedule.
    ///
    /// # Errors
    /// When the file can not be read or understood.
    pub fn load(path: &Path) -> Result<Scenario, ScheduleError> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| ScheduleError::Io {
            path: shown.clone(),
            source,
        })?;
        serde_json::from_str(&text).map_err(|source| ScheduleError::Format { path: shown, source })
    }

    /// Saves it, a step a line, so that people can read and edit it.
    ///
    /// # Errors
    /// When the file can not be written.
    pub fn save(&self, path: &Path) -> Result<(), ScheduleError> {
        std::fs::write(path, self.to_text()).map_err(|source| ScheduleError::Io {
            path: path.display().to_string(),
            source,
        })
    }

    fn to_text(&self) -> String {
        let plan = serde_json::to_string_pretty(&self.plan).expect("plain data always encodes");
        let plan = plan.replace('\n', "\n  ");
        let steps: Vec<String> = self
            .steps
            .iter()
            .map(|step| {
                format!(
                    "    {}",
                    serde_json::to_string(step).expect("plain data always encodes")
                )
            })
            .collect();
        format!(
            "{{\n  \"plan\": {plan},\n  \"steps\": [\n{}\n  ]\n}}\n",
            steps.join(",\n")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_schedule_reads_back_the_same() {
        for seed in 0..20 {
            let scenario = Scenario::from_seed(seed);
            let read: Scenario = serde_json::from_str(&scenario.to_text()).expect("readable");
            assert_eq!(read, scenario, "seed {seed}");
        }
    }
}

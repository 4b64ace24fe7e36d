//! All options of a run. Drawn from the seed, printed with a failure, saved with a schedule. Whole numbers only, so that
//! what is saved reads back exactly.

use std::time::Duration;

use raftkv_raft::LeaderLeases;
use raftkv_server::replica::{RetentionConfig, ScrubConfig};
use raftkv_server::store::StoreConfig;
use raftkv_server::store::history::HistoryLimits;
use raftkv_server::watch::HubSettings;
use serde::{Deserialize, Serialize};

use super::fault::FaultKind;
use super::observer::Timekeeping;
use super::operators::OperatorPlan;
use super::tenants::TenantPlan;

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// It just stops: safety only.
    Abrupt,
    /// A quorum is healed, all other faults become permanent, and the cluster must come to rest (I20).
    Settled,
    /// There were no faults: it must come to rest, and no election may happen after the first (I20, I21).
    Calm,
    /// All faults end, and all members must come to rest together (I20).
    Whole,
}

/// Settings of the consensus core for this run; the names are those of [`raftkv_raft::Config`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct RaftPlan {
    pub heartbeat_interval_us: u64,
    pub election_timeout_us: u64,
    pub reset_campaign_jitter_us: u64,
    pub max_append_entries: usize,
    pub max_append_bytes: usize,
    pub max_inflight_appends: usize,
    pub max_inflight_bytes: usize,
    pub max_uncommitted_bytes: usize,
    pub tail_bytes: usize,
    pub max_apply_bytes: usize,
    pub max_pending_reads: usize,
    /// Leader leases are kept by this bound; `None`: they are off.
    #[serde(default)]
    pub lease_drift_ppm: Option<u32>,
}

impl RaftPlan {
    /// What the core is given.
    #[must_use]
    pub fn config(&self) -> raftkv_raft::Config {
        raftkv_raft::Config {
            heartbeat_interval: Duration::from_micros(self.heartbeat_interval_us),
            election_timeout: Duration::from_micros(self.election_timeout_us),
            reset_campaign_jitter: Duration::from_micros(self.reset_campaign_jitter_us),
            max_append_entries: self.max_append_entries,
            max_append_bytes: self.max_append_bytes,
            max_inflight_appends: self.max_inflight_appends,
            max_inflight_bytes: self.max_inflight_bytes,
            max_uncommitted_bytes: self.max_uncommitted_bytes,
            tail_bytes: self.tail_bytes,
            max_apply_bytes: self.max_apply_bytes,
            max_pending_reads: self.max_pending_reads,
            leader_leases: match self.lease_drift_ppm {
                None => LeaderLeases::Off,
                Some(max_clock_drift_ppm) => LeaderLeases::On { max_clock_drift_ppm },
            },
        }
    }
}

/// The network between nodes, and from clients to nodes. Probabilities in parts per million.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkPlan {
    /// Least delay of a message, microseconds.
    pub delay_us: u64,
    /// Mean of what comes on top of it (exponentially distributed).
    pub jitter_us: u64,
    /// Messages lost.
    pub lost_ppm: u32,
    /// Messages delivered twice.
    pub doubled_ppm: u32,
    /// Messages delivered late, after up to `reorder_us`.
    pub reordered_ppm: u32,
    /// How late.
    pub reorder_us: u64,
    /// Messages kept, and delivered again up to ten seconds later.
    pub replayed_ppm: u32,
    /// Messages with a flipped bit below the frame's checksum: the receiver must drop them.
    pub corrupted_ppm: u32,
    /// Client requests and answers lost, with their connection.
    pub client_lost_ppm: u32,
    /// Are all messages really encoded and decoded?
    pub encoded: bool,
    /// Do the peers of a killed process learn of it by a reset connection?
    pub resets_told: bool,
}

/// The disks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskPlan {
    /// Least time a sync takes, microseconds.
    pub sync_us: u64,
    /// Mean of what comes on top of it (exponentially distributed).
    pub jitter_us: u64,
    /// Size of a segment of the log.
    pub segment_size_bytes: u64,
    /// Segments kept ready.
    pub spare_segments: usize,
}

/// The state machine's memory, when it drains, and what is kept behind it; the names are those of
/// [`raftkv_server::store::StoreConfig`] and [`raftkv_server::replica::RetentionConfig`]. Times with their mean: what comes
/// on top of nothing is exponentially distributed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct StorePlan {
    pub overlay_bytes: u64,
    pub cache_bytes: u64,
    pub freeze_log_bytes: u64,
    pub freeze_age_us: u64,
    pub log_tail_bytes: u64,
    pub log_tail_entries: u64,
    pub history_age_us: u64,
    pub history_events: u64,
    pub history_bytes: u64,
    pub reserve_bytes: u64,
    /// To seal a generation's events.
    pub seal_us: u64,
    /// To put a generation into the base.
    pub drain_us: u64,
    /// To look records up in the base.
    pub lookup_us: u64,
    /// Between two scans of a node; 0: there are none.
    pub scan_pause_us: u64,
    /// A scan is held for so long.
    pub scan_us: u64,
}

impl Default for StorePlan {
    /// Everything stays in memory. Schedules from before there were drains mean this.
    fn default() -> StorePlan {
        StorePlan {
            overlay_bytes: 128 << 20,
            cache_bytes: 1 << 20,
            freeze_log_bytes: 96 << 20,
            freeze_age_us: 3_600_000_000,
            log_tail_bytes: 64 << 20,
            log_tail_entries: 1_000_000,
            history_age_us: u64::MAX,
            history_events: u64::MAX,
            history_bytes: u64::MAX,
            reserve_bytes: 1 << 20,
            seal_us: 1_000,
            drain_us: 10_000,
            lookup_us: 100,
            scan_pause_us: 0,
            scan_us: 0,
        }
    }
}

impl StorePlan {
    /// What the state machine is given.
    #[must_use]
    pub fn config(&self) -> StoreConfig {
        StoreConfig {
            overlay_bytes: self.overlay_bytes,
            cache_bytes: self.cache_bytes,
        }
    }

    /// What the replica is given.
    #[must_use]
    pub fn retention(&self) -> RetentionConfig {
        RetentionConfig {
            freeze_log_bytes: self.freeze_log_bytes,
            freeze_age: Duration::from_micros(self.freeze_age_us),
            log_tail_bytes: self.log_tail_bytes,
            log_tail_entries: self.log_tail_entries,
            history: HistoryLimits {
                max_age_us: self.history_age_us,
                max_events: self.history_events,
                max_bytes: self.history_bytes,
            },
            reserve_bytes: self.reserve_bytes,
        }
    }
}

/// When members compare what they have stored; the names are those of [`raftkv_server::replica::ScrubConfig`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ScrubPlan {
    /// `None`: never.
    pub interval_us: Option<u64>,
    pub pace_us: u64,
    pub piece_keys: u32,
    pub piece_bytes: u32,
    /// A piece is read for so long, on the average.
    pub read_us: u64,
    /// A node is told that it is the odd one.
    #[serde(default)]
    pub accused: Option<Accusation>,
}

/// All other members tell a node that they have made something else of the log. Nothing is wrong with its state: so what
/// follows from a quarantine is looked at without everything else that a wrong state would break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accusation {
    /// Which.
    pub node: usize,
    /// When.
    pub at_us: u64,
}

impl Default for ScrubPlan {
    /// Nothing is compared. Schedules from before there was a scrub mean this.
    fn default() -> ScrubPlan {
        ScrubPlan {
            interval_us: None,
            pace_us: 1_000_000,
            piece_keys: 1_000,
            piece_bytes: 1 << 20,
            read_us: 1_000,
            accused: None,
        }
    }
}

impl ScrubPlan {
    /// What the replica is given.
    #[must_use]
    pub fn config(&self) -> ScrubConfig {
        ScrubConfig {
            interval: self.interval_us.map(Duration::from_micros),
            first: Duration::from_micros(self.pace_us),
            pace: Duration::from_micros(self.pace_us),
            piece_keys: self.piece_keys,
            piece_bytes: self.piece_bytes,
        }
    }
}

/// What clients do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadPlan {
    /// How many clients, each with one operation at a time.
    pub clients: usize,
    /// Keys they share.
    pub keys: u8,
    /// Operations a second, all clients together.
    pub operations_per_second: u64,
    /// Do operations come in bursts, with nothing between them?
    #[serde(default)]
    pub comes_in_bursts: bool,
    /// Padding of each value, bytes.
    pub value_bytes: usize,
    /// A client gives up an attempt after this long.
    pub timeout_us: u64,
}

/// Watchers, the watch threads of nodes, and what these keep to; the names are those of
/// [`raftkv_server::watch::HubSettings`]. Times with their mean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct WatchPlan {
    /// How many watchers.
    pub watchers: usize,
    /// They stay at a node for so long.
    pub stay_us: u64,
    /// Until they have taken out what they were told.
    pub think_us: u64,
    /// Their credit at first, at most.
    pub credit_bytes: u32,
    /// Until a watch thread takes what it is told.
    pub order_us: u64,
    /// So much may wait in front of it; beyond, it is not told what is recorded.
    pub queue: usize,
    /// To read a window of history, or a page.
    pub read_us: u64,
    pub part_bytes: u64,
    pub max_queued_bytes: u64,
    pub window_revisions: u64,
    pub conflate_after: u64,
    pub held_state_idle_us: u64,
    pub max_matches: usize,
}

impl Default for WatchPlan {
    /// Nobody watches. Schedules from before there were watches mean this.
    fn default() -> WatchPlan {
        let settings = HubSettings::default();
        WatchPlan {
            watchers: 0,
            stay_us: 60_000_000,
            think_us: 100,
            credit_bytes: 1 << 20,
            order_us: 10,
            queue: 100,
            read_us: 100,
            part_bytes: settings.part_bytes,
            max_queued_bytes: settings.max_queued_bytes,
            window_revisions: settings.window_revisions,
            conflate_after: settings.conflate_after,
            held_state_idle_us: 10_000_000,
            max_matches: settings.max_matches,
        }
    }
}

impl WatchPlan {
    /// What the hubs are given.
    #[must_use]
    pub fn settings(&self) -> HubSettings {
        HubSettings {
            part_bytes: self.part_bytes,
            max_queued_bytes: self.max_queued_bytes,
            window_revisions: self.window_revisions,
            conflate_after: self.conflate_after,
            held_state_idle: Duration::from_micros(self.held_state_idle_us),
            max_matches: self.max_matches,
            ..HubSettings::default()
        }
    }
}

/// All options of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Where all randomness of the run comes from.
    pub seed: u64,
    /// Nodes in the cluster, 1 to 7.
    pub nodes: usize,
    /// How long faults and operations go on, microseconds of virtual time.
    pub length_us: u64,
    /// How the run ends.
    pub ending: Ending,
    /// Which faults can happen at all.
    pub kinds: Vec<FaultKind>,
    /// Consensus.
    pub raft: RaftPlan,
    /// Most requests that wait at a node.
    pub max_pending_requests: usize,
    /// How long a request waits for a leader.
    pub leader_wait_us: u64,
    /// A node acts on what came in after this long, so that events gather.
    pub gather_us: u64,
    /// Each node's clock rate is drawn from 10^6 plus or minus this, parts per million.
    pub clock_drift_ppm: u64,
    /// The network.
    pub network: NetworkPlan,
    /// The disks.
    pub disk: DiskPlan,
    /// The state machine, and what it leaves on the disks.
    #[serde(default)]
    pub store: StorePlan,
    /// What is compared of it.
    #[serde(default)]
    pub scrub: ScrubPlan,
    /// The clients.
    pub workload: WorkloadPlan,
    /// Who watches.
    #[serde(default)]
    pub watches: WatchPlan,
    /// Who runs transactions, and holds leases and sessions.
    #[serde(default)]
    pub tenants: TenantPlan,
    /// Who hands leadership over and changes members.
    #[serde(default)]
    pub operators: OperatorPlan,
    /// Is rare but legal behaviour forced at named points of the code?
    pub buggify: bool,
    /// What a crash-point sweep is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swept: Option<Swept>,
    /// Where it crashes in this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crash_point: Option<CrashPoint>,
}

/// What a crash-point sweep is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swept {
    /// Boundaries before this time do not count.
    pub from_us: u64,
    /// Nor those from this time on.
    pub until_us: u64,
    /// The machines that must be the voters in the end, wherever it crashed.
    pub voters: super::schedule::NodeSet,
}

/// A boundary at which a process can be killed, counted from 1 within the time that is swept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Boundary {
    /// Just before an effect, whichever node carries it out: counted over the whole cluster.
    Effect(u64),
    /// In the midst of a call to this node's disk.
    DiskCall {
        /// Its slot.
        node: usize,
        /// Which call.
        call: u64,
    },
}

/// One point of a crash-point sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashPoint {
    /// Where.
    pub at: Boundary,
    /// What the disk still holds.
    pub remains: super::schedule::Remains,
    /// How long the node stays down.
    pub down_us: u64,
}

impl Plan {
    /// A five-node cluster in health, under a steady load: what `--speed` measures, and where swarm plans start from.
    #[must_use]
    pub fn healthy(seed: u64) -> Plan {
        Plan {
            seed,
            nodes: 5,
            length_us: 30_000_000,
            ending: Ending::Calm,
            kinds: Vec::new(),
            raft: RaftPlan {
                heartbeat_interval_us: 50_000,
                election_timeout_us: 300_000,
                reset_campaign_jitter_us: 20_000,
                max_append_entries: 4096,
                max_append_bytes: 1 << 20,
                max_inflight_appends: 64,
                max_inflight_bytes: 16 << 20,
                max_uncommitted_bytes: 64 << 20,
                tail_bytes: 1 << 20,
                max_apply_bytes: 4 << 20,
                max_pending_reads: 4096,
                lease_drift_ppm: None,
            },
            max_pending_requests: 4096,
            leader_wait_us: 1_000_000,
            gather_us: 20,
            clock_drift_ppm: 100,
            network: NetworkPlan {
                delay_us: 100,
                jitter_us: 100,
                lost_ppm: 0,
                doubled_ppm: 0,
                reordered_ppm: 0,
                reorder_us: 0,
                replayed_ppm: 0,
                corrupted_ppm: 0,
                client_lost_ppm: 0,
                encoded: false,
                resets_told: true,
            },
            disk: DiskPlan {
                sync_us: 200,
                jitter_us: 200,
                segment_size_bytes: 64 << 10,
                spare_segments: 1,
            },
            store: StorePlan {
                overlay_bytes: 64 << 10,
                cache_bytes: 16 << 10,
                log_tail_bytes: 64 << 10,
                history_events: 10_000,
                ..StorePlan::default()
            },
            scrub: ScrubPlan::default(),
            workload: WorkloadPlan {
                clients: 8,
                keys: 8,
                operations_per_second: 20,
                comes_in_bursts: false,
                value_bytes: 16,
                timeout_us: 2_000_000,
            },
            watches: WatchPlan::default(),
            tenants: TenantPlan::default(),
            operators: OperatorPlan::default(),
            buggify: false,
            swept: None,
            crash_point: None,
        }
    }

    /// No clock runs faster or slower than true by more than this; `None`: faults make them.
    #[must_use]
    pub fn clock_bound_ppm(&self) -> Option<u64> {
        let lie = [FaultKind::ClockJump, FaultKind::ClockRate, FaultKind::LeaderStall];
        let is_true = !self.kinds.iter().any(|kind| lie.contains(kind));
        is_true.then_some(self.clock_drift_ppm)
    }

    /// What must hold of times.
    pub(crate) fn timekeeping(&self) -> Timekeeping {
        // A leader speaks up every 500 ms; one such word may find no room.
        Timekeeping {
            drift_ppm: self.clock_bound_ppm(),
            ends_within_us: self.kinds.is_empty().then_some(1_100_000),
        }
    }

    /// Nodes that found the cluster.
    #[must_use]
    pub fn founders(&self) -> usize {
        self.nodes - self.operators.spares
    }

    /// How many of them may lose what they stored before there is a cluster, so that a majority of good copies stays.
    #[must_use]
    pub fn expendable_nodes(&self) -> usize {
        (self.founders() - 1) / 2
    }
}

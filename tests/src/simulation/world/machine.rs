//! One machine: a disk, a clock, and a process that may or may not run.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use fastrand::Rng;
use raftkv_protocol::{Address, Introduction, Limits, NodeId, NodeName, PeerMessage, RaftBody};
use raftkv_raft::{Index, Install, RoleName, Time, Write, WriteNumber};
use raftkv_server::disk::SimulatedDisk;
use raftkv_server::log::{Log, LogReader};
use raftkv_server::membership::Membership;
use raftkv_server::replica::{Effect, Node, NodeConfig, Token};
use raftkv_server::store::base::{TwinBase, TwinView};
use raftkv_server::store::history::History;
use raftkv_server::store::{PageReader, Store, StoreNumber};
use raftkv_server::watch::HubSettings;

use super::operators::OperationId;
use super::snapshots::Snapshots;
use super::tenants::CallName;
use super::watch_threads::WatchThread;
use super::watchers::WatchName;
use super::{Attempt, Life, Micros, ProcessId};
use crate::simulation::clock::{Clock, TRUE_RATE_PPM};
use crate::simulation::operators::SparesCome;
use crate::simulation::plan::Plan;
use crate::simulation::random::{Stream, seed_of, stream};
use crate::simulation::schedule::Remains;

/// More than the overlay charges for a key beside its own and its value's bytes.
const MAP_ENTRY_BYTES: u64 = 180;

/// Who waits for the answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    Client { client: usize, attempt: Attempt },
    Node { origin: ProcessId, token: Token },
    Tenant(CallName),
    Watcher(WatchName),
    Operator(OperationId),
}

/// A running process.
pub(super) struct Process {
    pub(super) life: Life,
    pub(super) node: Node,
    pub(super) log: Option<Log<SimulatedDisk>>,
    pub(super) reader: Option<LogReader<SimulatedDisk>>,
    /// The store that it works on.
    pub(super) store: StoreNumber,
    pub(super) history: History<SimulatedDisk>,
    pub(super) snapshots: Snapshots,
    pub(super) watches: WatchThread,
    /// Reads pages of ranges, and keeps states between them.
    pub(super) pages: PageReader<TwinView>,
    /// A received snapshot that takes the place of state and log: until that is durable nothing else is written.
    pub(super) install: Option<(Install, StoreNumber)>,
    pub(super) are_events_arranged: bool,
    /// Generations that were put into the base, or were to be.
    pub(super) drains: u64,
    /// The log is to be cut when nothing of it is being synced: it begins with this entry then.
    pub(super) cut: Option<Index>,
    /// The most that one poll added to the overlay, bytes.
    pub(super) largest_batch: u64,
    /// Writes that wait for the disk.
    pub(super) writes: VecDeque<Write>,
    /// Appended and being synced, up to this one.
    pub(super) syncing: Option<WriteNumber>,
    pub(super) last_append: Micros,
    pub(super) is_mark_arranged: bool,
    pub(super) is_poll_arranged: bool,
    pub(super) timer_at: Option<Micros>,
    pub(super) waiting: BTreeMap<Token, Waiting>,
    /// Requests passed on whose end is not known yet.
    pub(super) forwards: BTreeSet<Token>,
    next_token: u64,
    /// Events since the last poll.
    pub(super) handled: u32,
    /// A request for a (pre-)vote that came since then: its sender, and the election deadline before it.
    pub(super) vote_request: Option<(NodeId, Time)>,
}

impl Process {
    pub(super) fn new(
        life: Life,
        node: Node,
        log: Option<Log<SimulatedDisk>>,
        (store, history): (StoreNumber, History<SimulatedDisk>),
        watches: HubSettings,
    ) -> Process {
        Process {
            store,
            history,
            snapshots: Snapshots::default(),
            watches: WatchThread::new(watches),
            pages: PageReader::default(),
            install: None,
            are_events_arranged: false,
            drains: 0,
            cut: None,
            largest_batch: 0,
            life,
            node,
            reader: log.as_ref().map(Log::reader),
            log,
            writes: VecDeque::new(),
            syncing: None,
            last_append: 0,
            is_mark_arranged: false,
            is_poll_arranged: false,
            timer_at: None,
            waiting: BTreeMap::new(),
            forwards: BTreeSet::new(),
            next_token: 1,
            handled: 0,
            vote_request: None,
        }
    }

    /// Remembers what a refused vote must leave alone.
    pub(super) fn note_vote_request(&mut self, message: &PeerMessage) {
        let PeerMessage::Raft(raft) = message else { return };
        let Some(core) = self.node.raft().filter(|core| core.role() == RoleName::Follower) else {
            return;
        };
        if matches!(
            raft.body,
            RaftBody::PreVoteRequest { .. } | RaftBody::VoteRequest { .. }
        ) {
            self.vote_request = Some((raft.from, core.election_deadline()));
        }
    }

    /// Did a request that was answered without a vote, and nothing else, restart the election timer (R6)?
    pub(super) fn timer_wrongly_restarted(&mut self, effects: &[Effect]) -> bool {
        let handled = std::mem::take(&mut self.handled);
        let Some((asker, before)) = self.vote_request.take() else {
            return false;
        };
        let Some(core) = self.node.raft().filter(|core| core.role() == RoleName::Follower) else {
            return false;
        };
        let is_refused = effects.iter().any(|effect| match effect {
            Effect::Send {
                message: PeerMessage::Raft(raft),
                ..
            } => {
                let no_vote = matches!(
                    raft.body,
                    RaftBody::PreVoteReply { .. } | RaftBody::VoteReply { granted: false }
                );
                no_vote && raft.to == asker
            }
            _ => false,
        });
        handled == 1 && is_refused && core.election_deadline() > before
    }

    /// Memory that the state machine holds for records, whatever it holds for leases and sessions beside them.
    pub(super) fn overlay_bytes(&self) -> u64 {
        let records = |store: &Store| store.overlay_bytes().0 - store.table_bytes();
        self.node.store().map_or(0, records)
    }

    /// A poll has added this to it, at most: as if each change was of a key of its own.
    pub(super) fn note_batch(&mut self, effects: &[Effect]) {
        let added = effects.iter().map(|effect| match effect {
            Effect::Record(events) => events.size_bytes() + events.count() * MAP_ENTRY_BYTES,
            _ => 0,
        });
        self.largest_batch = self.largest_batch.max(added.sum());
    }

    /// Nothing is being written, and what was written is proven by a mark.
    pub(super) fn is_at_rest(&self) -> bool {
        self.log.is_some()
            && self.syncing.is_none()
            && self.install.is_none()
            && self.writes.is_empty()
            && !self.is_mark_arranged
    }

    pub(super) fn token(&mut self, waiting: Waiting) -> Token {
        let token = Token(self.next_token);
        self.next_token += 1;
        self.waiting.insert(token, waiting);
        token
    }
}

/// A process that is to be killed at a point still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ArmedCrash {
    pub(super) effects: u32,
    pub(super) remains: Remains,
    pub(super) down_us: u64,
}

/// See the module.
pub(super) struct Machine {
    pub(super) slot: usize,
    pub(super) name: NodeName,
    pub(super) address: Address,
    pub(super) disk: SimulatedDisk,
    /// The base engine's files: another part of the same disk. One for each store; and that of the current one.
    pub(super) bases: BTreeMap<StoreNumber, TwinBase>,
    pub(super) base: TwinBase,
    /// Drawn when its disk was made.
    pub(super) identity: NodeId,
    pub(super) clock: Clock,
    pub(super) rate_ppm: u64,
    pub(super) life: Life,
    pub(super) process: Option<Process>,
    pub(super) rng: Rng,
    pub(super) disk_rng: Rng,
    pub(super) store_rng: Rng,
    pub(super) paused_until: Micros,
    pub(super) stalled_until: Micros,
    /// Added to each sync.
    pub(super) slower_us: u64,
    pub(super) crash_at_effect: Option<ArmedCrash>,
    pub(super) crash_in_disk: Option<ArmedCrash>,
    pub(super) crash_in_drain: Option<ArmedCrash>,
    /// What it is told of the room on its disk.
    pub(super) free_bytes: u64,
    /// Is a failing call armed, or the disk full? Then the process may stop without being to blame.
    pub(super) may_fail: bool,
    /// Its disk rotted: what it stored may be refused.
    pub(super) is_rotten: bool,
    /// The life in which its data directory was put in quarantine, durably.
    pub(super) quarantined_in: Option<Life>,
    /// Its disk was replaced: it is not the member it was.
    pub(super) wipes: u32,
    /// How often it was given another address; and whether the cluster has yet to store the present one.
    pub(super) moves: u32,
    pub(super) is_moving: bool,
    /// The latest decided members that it has told of.
    pub(super) known_members: Option<Membership>,
    /// Not started any more.
    pub(super) is_given_up: bool,
    /// A recovery went on without it, and its disk is still that of the old cluster.
    pub(super) is_left_behind: bool,
    /// A new cluster was made of its data directory.
    pub(super) is_recovered: bool,
    /// It is to join a running cluster, and knocks at this machine.
    pub(super) joins: Option<usize>,
}

impl Machine {
    pub(super) fn new(plan: &Plan, slot: usize) -> Machine {
        let mut rng = stream(plan.seed, Stream::Machine, slot as u64);
        let offset_us = rng.u64(..3_600_000_000);
        let drift = plan.clock_drift_ppm;
        let rate_ppm = TRUE_RATE_PPM - drift + rng.u64(..=2 * drift);
        Machine {
            slot,
            name: NodeName::from(format!("node{}", slot + 1).as_str()),
            address: address(slot, 0),
            disk: SimulatedDisk::new(seed_of(plan.seed, Stream::Disk, slot as u64)),
            bases: BTreeMap::new(),
            base: TwinBase::new(),
            identity: identity(plan, slot, 0),
            clock: Clock::new(offset_us, rate_ppm),
            rate_ppm,
            life: 0,
            process: None,
            rng,
            disk_rng: stream(plan.seed, Stream::Disk, 1000 + slot as u64),
            store_rng: stream(plan.seed, Stream::Store, slot as u64),
            paused_until: 0,
            stalled_until: 0,
            slower_us: 0,
            crash_at_effect: None,
            crash_in_disk: None,
            crash_in_drain: None,
            free_bytes: u64::MAX,
            may_fail: false,
            is_rotten: false,
            quarantined_in: None,
            wipes: 0,
            moves: 0,
            is_moving: false,
            known_members: None,
            is_given_up: false,
            is_left_behind: false,
            is_recovered: false,
            joins: match plan.operators.spares_come {
                SparesCome::Asking => (slot >= plan.founders()).then(|| slot % plan.founders()),
                SparesCome::Named => None,
            },
        }
    }

    /// The running process, if it is still this one.
    pub(super) fn process_of(&mut self, life: Life) -> Option<&mut Process> {
        self.process.as_mut().filter(|process| process.life == life)
    }

    pub(super) fn process_id(&self) -> Option<ProcessId> {
        let life = self.process.as_ref()?.life;
        Some(ProcessId {
            slot: self.slot,
            life,
        })
    }

    /// Has it lost what it stored, or may it have?
    pub(super) fn is_expended(&self) -> bool {
        self.is_rotten || self.wipes > 0
    }

    /// The identity it has kept all data of.
    pub(super) fn good_identity(&self) -> Option<raftkv_raft::NodeId> {
        (!self.is_rotten).then_some(raftkv_raft::NodeId(self.identity.0))
    }

    /// An empty disk, and with it an identity that nobody knows. It does not run.
    pub(super) fn replace_disk(&mut self, plan: &Plan) {
        self.disk.wipe();
        self.base = TwinBase::new();
        self.bases.clear();
        self.wipes += 1;
        self.is_rotten = false;
        self.quarantined_in = None;
        self.is_left_behind = false;
        self.is_recovered = false;
        // Whoever comes in on the new disk says where it is.
        self.is_moving = false;
        self.known_members = None;
        self.is_given_up = false;
        if !raftkv_raft::simulation::mutant(crate::simulation::mutants::WIPED_DISK_KEEPS_IDENTITY) {
            self.identity = identity(plan, self.slot, self.wipes);
        }
    }
}

/// Where a machine is after so many moves.
pub(super) fn address(slot: usize, moves: u32) -> Address {
    Address::from(format!("10.{}.{}.{}:7000", moves / 256, moves % 256, slot + 1).as_str())
}

/// The identity of the data directory that a machine's so many-th disk holds.
pub(super) fn identity(plan: &Plan, slot: usize, wipes: u32) -> NodeId {
    let which = (slot as u64) << 32 | u64::from(wipes);
    NodeId(seed_of(plan.seed, Stream::Identity, which) | 1)
}

/// What a node is told at its start.
pub(super) fn node_config(plan: &Plan, machines: &[Machine], slot: usize) -> NodeConfig {
    let machine = &machines[slot];
    let is_alone = slot == 0 && machine.life == 1;
    let named = match plan.operators.spares_come {
        SparesCome::Named if !is_alone => machines.len(),
        SparesCome::Named | SparesCome::Asking => plan.founders(),
    };
    // Behind a recovery the flags name nobody: one goes on, the others are told to join it.
    let has_recovered = machines.iter().any(|other| other.is_recovered) && !machine.is_left_behind;
    // No server takes both `--peers` and `--join`.
    let named = if has_recovered || machine.joins.is_some() {
        0
    } else {
        named
    };
    let mut peers: Vec<_> = machines[..named]
        .iter()
        .map(|peer| (peer.name.clone(), peer.address.clone()))
        .collect();
    peers.sort();
    NodeConfig {
        introduction: Introduction {
            name: machine.name.clone(),
            identity: machine.identity,
            address: machine.address.clone(),
            http: None,
            peers,
            heard: Vec::new(),
            formed: None,
        },
        raft: plan.raft.config(),
        limits: Limits::default(),
        max_pending_requests: plan.max_pending_requests,
        store: plan.store.config(),
        retention: plan.store.retention(),
        scrub: plan.scrub.config(),
        join: machine.joins.map(|at| machines[at].address.clone()),
        leader_wait: std::time::Duration::from_micros(plan.leader_wait_us),
        version: "simulated".to_owned(),
    }
}

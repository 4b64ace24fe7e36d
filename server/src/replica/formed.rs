//! A formed node: events in, one batch per poll.

use std::collections::VecDeque;

use raftkv_protocol::{
    Address, Answer, ErrorCode, GroupId, MembershipMessage, PeerMessage, RaftMessage, Request, ScrubCommand,
};
use raftkv_raft::simulation::{mark, mutant};
use raftkv_raft::{self as raft, Entry, Index, Raft, RestoreError, Time};

use super::changes::{self, Changes, PendingChange, Stage};
use super::cold_files::ColdFiles;
use super::divergence::Divergence;
use super::drains::Drains;
use super::joining::Joining;
use super::lookups::Lookups;
use super::receiving::Receiving;
use super::scrub::Scrub;
use super::scrub_requests::{AskedScrub, ForwardedScrubs};
use super::sending::Sendings;
use super::space::Space;
use super::throttle::Throttle;
use super::watches::Watches;

use super::forwarding::Forwards;
use super::log_clock::LogClock;
use super::meeting::Meeting;
use super::members::{Members, contradiction};
use super::node::Asked;
use super::outbox::Outbox;
use super::presence::Presences;
use super::promises::{AskedRead, Promise};
use super::ranges::{AskedRange, Ranges};
use super::reads::{PendingRead, Reads, Wanted};
use super::writes::{WaitingWrite, Writes};
use super::{Event, NodeConfig, Restored, RestoredState, translate};
use crate::store::Store;

/// A node of a cluster.
#[derive(Debug)]
pub(super) struct Formed {
    pub(super) config: NodeConfig,
    pub(super) raft: Raft,
    pub(super) store: Store,
    pub(super) members: Members,
    pub(super) writes: Writes,
    pub(super) forwards: Forwards,
    pub(super) reads: Reads,
    pub(super) clock: LogClock,
    pub(super) meeting: Meeting,
    pub(super) presences: Presences,
    pub(super) joining: Joining,
    pub(super) changes: Changes,
    /// Committed, durable here, and not applied yet.
    pub(super) unapplied: VecDeque<Entry>,
    pub(super) lookups: Lookups,
    pub(super) ranges: Ranges,
    pub(super) drains: Drains,
    pub(super) throttle: Throttle,
    pub(super) space: Space,
    pub(super) sendings: Sendings,
    pub(super) receiving: Receiving,
    pub(super) divergence: Divergence,
    pub(super) scrub: Scrub,
    pub(super) cold_files: ColdFiles,
    pub(super) scrub_forwards: ForwardedScrubs,
    pub(super) watches: Watches,
}

impl Formed {
    /// From a log and a base that were recovered, or made just now.
    pub(super) fn new(
        config: NodeConfig,
        restored: Restored,
        seed: u64,
        now: Time,
    ) -> Result<Formed, RestoreError> {
        let members = Members::of(&restored)?;
        let Restored {
            log,
            store: number,
            state,
            quarantine,
        } = restored;
        let mut configurations = members.configurations();
        let later = configurations.partition_point(|(index, _)| *index <= log.base.index);
        let later_configurations = configurations.split_off(later);
        let Some((_, configuration)) = configurations.pop() else {
            return Err(contradiction(format!(
                "no configuration is known as of the log's base {}",
                log.base
            )));
        };
        let store = restored_store(&config, log.base.index, state);
        let applied = store.applied().unwrap_or(log.base.index);
        let to_core = raft::Restored {
            hard_state: log.hard_state,
            base: log.base,
            configuration,
            later_configurations,
            term_runs: log.term_runs,
            last: log.last,
            applied,
        };
        let ours = (config.introduction.identity, &config.introduction.address);
        let id = raft::NodeId(ours.0.0);
        let (told, _) = members.latest_as_of(log.hard_state.commit);
        Ok(Formed {
            // As random as the seed is: no two lives share it.
            presences: Presences::new(seed, ours, members.current(), now),
            joining: Joining::new(),
            changes: Changes::new(told),
            raft: Raft::new(id, config.raft.clone(), to_core, seed, now)?,
            store,
            meeting: Meeting::new(
                members.founding_payload(),
                &config.introduction,
                members.current(),
                now,
            ),
            members,
            unapplied: VecDeque::new(),
            drains: Drains::new(number, applied, log.base.index, now),
            throttle: Throttle::default(),
            space: Space::new(config.retention.reserve_bytes),
            lookups: Lookups::new(),
            ranges: Ranges::new(),
            sendings: Sendings::new(fastrand::Rng::with_seed(seed).u64(..)),
            receiving: Receiving::default(),
            divergence: Divergence::new(quarantine.filter(|_| !mutant("quarantine_forgotten_at_restart"))),
            scrub: Scrub::new(now, &config.scrub),
            cold_files: ColdFiles::default(),
            scrub_forwards: ForwardedScrubs::default(),
            watches: Watches::default(),
            writes: Writes::new(),
            forwards: Forwards::new(),
            reads: Reads::new(),
            clock: LogClock::default(),
            config,
        })
    }

    /// Takes a request; the node has made sure that there is room and time for it.
    pub(super) fn take_request(&mut self, now: Time, asked: Asked, out: &mut Outbox) {
        if let Some(explanation) = self.presences.explanation() {
            out.refuse(asked.token, self.refusal(ErrorCode::NotServing, &explanation));
            return;
        }
        let Asked {
            token,
            request,
            hop,
            deadline,
        } = asked;
        let leader_deadline = deadline.min(now.after(self.config.leader_wait));
        match request {
            Request::Member(_) if self.changes.is_full() => {
                let message = "many changes of members wait already; nothing was changed, ask again later";
                out.refuse(token, self.refusal(ErrorCode::Overloaded, message));
            }
            Request::Member(command) => {
                out.take_request();
                self.changes.push(PendingChange {
                    token,
                    command,
                    hop,
                    deadline: changes::deadline(hop, deadline),
                    leader_deadline,
                    stage: Stage::Fresh,
                });
            }
            Request::Scrub(ScrubCommand::Start) => {
                let asked = AskedScrub { token, hop, deadline };
                self.start_scrub(now, asked, out);
            }
            Request::Scrub(ScrubCommand::Status) => out.refuse(token, self.scrub_told(now)),
            Request::Status => out.refuse(token, self.respond(Ok(Answer::Status(Box::new(self.status()))))),
            Request::Get { key, consistency } => {
                let read = AskedRead {
                    token,
                    key,
                    consistency,
                    deadline,
                    leader_deadline,
                };
                self.take_read(now, read, out);
            }
            Request::Range(range) => {
                let asked = AskedRange {
                    token,
                    range,
                    deadline,
                    leader_deadline,
                };
                self.take_range(now, asked, out);
            }
            Request::Watch(watch) => self.take_watch((token, deadline, leader_deadline), watch, out),
            Request::WatchControl(_) => {
                let message = "there is no watch of this id on this connection";
                out.refuse(token, self.refusal(ErrorCode::BadRequest, message));
            }
            Request::Lease(query) => {
                out.take_request();
                self.reads.push(PendingRead {
                    token,
                    wanted: Wanted::Leases(query),
                    deadline,
                    leader_deadline,
                    promise: Promise::Linearizable,
                });
            }
            Request::Write(command) => {
                out.take_request();
                self.writes.push(WaitingWrite {
                    token,
                    command,
                    hop,
                    deadline,
                    leader_deadline,
                });
            }
        }
    }

    pub(super) fn handle(&mut self, now: Time, event: Event, out: &mut Outbox) {
        match event {
            Event::Peer(PeerMessage::Raft(message)) => self.step(now, message, out),
            Event::Peer(PeerMessage::Introduce(theirs)) => self.meet(now, &theirs, out),
            Event::Peer(PeerMessage::Found(_)) => mark("founding ignored by a formed node"),
            Event::Peer(PeerMessage::Membership(message)) => self.membership_told(now, &message, out),
            Event::PeerReset(address) => self.peer_reset(now, &address),
            Event::Persisted(number) => {
                self.raft.persisted(now, number);
                self.note_installed(number, out);
            }
            Event::Fetched { fetch, entries } => self.raft.fetched(now, fetch, entries),
            Event::FetchGone(fetch) => self.raft.fetch_gone(fetch),
            Event::Forwarded { token, outcome } => self.forwarded(now, token, outcome, out),
            Event::LookedUp { lookup, found } => self.looked_up(now, lookup, found, out),
            Event::PageRead { page, outcome } => self.page_read(now, page, outcome, out),
            Event::Scrubbed { scrub, outcome } => self.scrubbed(now, scrub, outcome, out),
            Event::FilesChecked(checked) => self.files_checked(now, checked, out),
            Event::Sealed { store, generation } => self.sealed(now, (store, generation), out),
            Event::Drained {
                store,
                generation,
                history,
            } => self.drained(now, (store, generation), &history, out),
            Event::SnapshotOpened { snapshot, last } => self.snapshot_opened(now, snapshot, last, out),
            Event::PartRead { snapshot, part } => self.part_read(now, snapshot, part, out),
            Event::PartTaken {
                from,
                snapshot,
                taken,
            } => self.part_taken(now, from, snapshot, taken, out),
            Event::LogCut { base } => self.log_cut(now, base, out),
            Event::FreeSpace { bytes } => self.space_measured(now, bytes, out),
            Event::Request { .. } | Event::LogCreated | Event::Drain => {
                unreachable!("requests, the log's creation and draining are the node's")
            }
        }
    }

    /// A consensus message: only of this cluster, and for this node (R61).
    fn step(&mut self, now: Time, message: RaftMessage, out: &mut Outbox) {
        let itself = self.config.introduction.identity;
        if message.cluster != self.members.current().cluster
            || message.to != itself
            || message.group != GroupId(0)
        {
            mark("message for another node or of another cluster dropped");
            return;
        }
        if !self.presences.takes_part() {
            mark("consensus message dropped by a node that takes no part");
            return;
        }
        if self.step_beside_the_core(now, &message, out) {
            return;
        }
        match translate::from_wire(message) {
            Ok(envelope) => {
                if let Some(member) = self.members.current().member(envelope.from) {
                    self.meeting.heard_from(envelope.from);
                    self.presences.heard_from(member.identity, &member.address, now);
                }
                self.raft.step(now, envelope);
            }
            Err(_) => mark("malformed consensus message dropped"),
        }
    }

    fn membership_told(&mut self, now: Time, message: &MembershipMessage, out: &mut Outbox) {
        match message {
            MembershipMessage::Knock(knock) => self.knocked(now, knock, out),
            MembershipMessage::Present(presence) => self.presence_told(now, presence, out),
            MembershipMessage::Standing(reply) => self.standing_told(now, reply, out),
            MembershipMessage::Admit(_) => mark("admission ignored by a formed node"),
        }
    }

    fn peer_reset(&mut self, now: Time, address: &Address) {
        let itself = self.config.introduction.identity;
        self.presences.reset(address);
        let there = self.members.at_address(address).map(|member| member.identity);
        let there: Vec<_> = there.filter(|identity| *identity != itself).collect();
        for identity in there {
            self.raft.peer_reset(now, raft::NodeId(identity.0));
        }
    }

    /// One batch: everything handled since the last poll becomes effects.
    pub(super) fn poll(&mut self, now: Time, out: &mut Outbox) {
        self.end_silent_accusation(now, out);
        if self.presences.takes_part() && now >= self.raft.next_deadline() {
            self.raft.tick(now);
        }
        self.check_leases(now, out);
        self.knock(now, out);
        self.drive_changes(now, out);
        self.tell_presence(now, out);
        self.call_candidates(now, out);
        self.expire_writes(now, out);
        self.expire_forwards(now, out);
        self.expire_scrubs(now, out);
        self.expire_reads(now, out);
        self.expire_lookups(now, out);
        self.expire_pages(now, out);
        self.watch_sendings(now, out);
        self.compare_states(now, out);
        // Before more is applied: what waited for the last drain would grow by a whole batch.
        self.freeze_if_due(now, out);
        self.apply_waiting(now, out);
        loop {
            // Before the core is asked what to do: the write of this batch then rides with everything else that is due.
            self.submit_writes(now, out);
            self.submit_reads(now);
            self.propose_tick(now);
            self.propose_scrub(now);
            let ready = self.raft.take_ready(now);
            if ready.is_empty() {
                break;
            }
            self.carry_out(now, ready, out);
        }
        self.release_drained(out);
        self.freeze_if_due(now, out);
        self.submit_lookups(out);
        self.submit_pages(now, out);
        self.submit_scrub(out);
        self.submit_file_check(out);
    }

    /// When [`Formed::poll`] wants to be called next, at the latest.
    pub(super) fn next_deadline(&self) -> Time {
        let consensus = match self.presences.takes_part() {
            true => self.raft.next_deadline(),
            false => Time::NEVER,
        };
        let mut next = consensus
            .min(self.presences.next_telling())
            .min(self.next_call())
            .min(self.next_lease_check())
            .min(self.next_change())
            .min(self.writes.next_expiry())
            .min(self.forwards.next_deadline())
            .min(self.scrub_forwards.next_expiry())
            .min(self.reads.next_expiry())
            .min(self.lookups.next_expiry())
            .min(self.ranges.next_expiry())
            .min(self.next_freeze())
            .min(self.sendings.next_deadline())
            .min(self.next_comparison())
            .min(self.next_scrub())
            .min(self.meeting.next_knock())
            .min(self.next_tick());
        if self.raft.leader().is_some() {
            next = next.min(self.writes.next_retry()).min(self.reads.next_question());
        }
        if self.raft.role() == raft::RoleName::Leader {
            next = next.min(self.writes.next_admission());
        }
        next
    }

    /// The last entry that is part of the state.
    pub(super) fn applied(&self) -> Index {
        self.store
            .applied()
            .expect("a formed node's store starts after the founding entry")
    }
}

/// The state that the base holds, or an empty one behind the founding entry.
fn restored_store(config: &NodeConfig, base: Index, state: Option<RestoredState>) -> Store {
    match state {
        None => Store::new(base.next(), config.store),
        Some(state) => Store::over_base(&state.companions, state.tables, config.store),
    }
}

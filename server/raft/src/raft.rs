//! The one struct: state shared by all roles, and the role. Events come in here, and go to the role that holds.

use std::time::Duration;

use crate::role::{Candidate, Follower, Next, PreCandidate, Role};
use crate::shared::Shared;
use crate::simulation::{mark, mutant};
use crate::{
    Config, Configuration, Entry, EntryId, EntryKind, Fetch, FetchPurpose, Index, NodeId, Proposal,
    ProposeError, ReadError, ReadId, Ready, RestoreError, Restored, StepDown, Term, Time, Transition,
    WriteNumber,
};

/// What a node is at the moment, for status and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleName {
    /// Follows.
    Follower,
    /// Asks for pre-votes.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// One Raft group on one node.
///
/// Every call takes the present time; none blocks. After any other call, call [`Raft::take_ready`] until it is empty.
#[derive(Debug)]
pub struct Raft {
    pub(crate) shared: Shared,
    pub(crate) role: Role,
}

impl Raft {
    /// A node with what its durable state holds, as a follower that knows no leader. `seed` drives its election
    /// time-outs; it should differ from node to node and from life to life.
    ///
    /// # Errors
    /// When the durable state contradicts itself (R43, R46), or the settings can not work.
    pub fn new(
        id: NodeId,
        config: Config,
        restored: Restored,
        seed: u64,
        now: Time,
    ) -> Result<Raft, RestoreError> {
        config.validate()?;
        restored.check()?;
        let mut shared = Shared::new(id, config, restored, seed);
        if shared.configuration() == &Configuration::of_voters([id]) {
            // Nobody else could lead, so there is nobody to wait for.
            shared.election_deadline = now;
        } else {
            shared.restart_election_timer(now);
            if !mutant("X24_lease_forgotten_at_restart") {
                shared.promise_lease(now);
            }
        }
        Ok(Raft {
            shared,
            role: Role::Follower(Follower::default()),
        })
    }

    /// When [`Raft::tick`] wants to be called next, at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Time {
        let election = match self.shared.may_campaign() {
            true => self.shared.election_deadline,
            false => Time::NEVER,
        };
        match &self.role {
            Role::Follower(follower) => election.min(follower.next_read_check()),
            Role::PreCandidate(_) | Role::Candidate(_) => election,
            Role::Leader(leader) => leader.next_deadline(&self.shared),
        }
    }

    /// Time passed: time-outs, heartbeats. Harmless when nothing is due.
    pub fn tick(&mut self, now: Time) {
        let is_due = now >= self.shared.election_deadline && self.shared.may_campaign();
        let next = match &mut self.role {
            Role::Leader(leader) => leader.tick(&mut self.shared, now),
            Role::Follower(follower) => {
                follower.tick(&mut self.shared, now);
                if is_due { Next::PreCampaign } else { Next::Stay }
            }
            // No majority in time, a split vote perhaps: once more, with a time-out of its own (paper §5.2).
            Role::PreCandidate(_) | Role::Candidate(_) => {
                if is_due {
                    Next::PreCampaign
                } else {
                    Next::Stay
                }
            }
        };
        self.enter(now, next);
    }

    /// Appends a batch to the leader's log, in order, all or nothing. Returns the id of the first; the rest follow it.
    ///
    /// # Errors
    /// When this node does not lead, leadership is being transferred, or too much is accepted and not committed. A batch is
    /// always taken when nothing is.
    ///
    /// # Panics
    /// When the batch is empty or holds a configuration.
    pub fn propose(&mut self, now: Time, proposals: Vec<Proposal>) -> Result<EntryId, ProposeError> {
        assert!(!proposals.is_empty(), "a batch holds at least one proposal");
        assert!(
            proposals
                .iter()
                .all(|proposal| proposal.kind != EntryKind::Configuration),
            "configurations have a call of their own"
        );
        match &mut self.role {
            Role::Leader(leader) => leader.propose(&mut self.shared, now, proposals),
            Role::Follower(_) if mutant("X29_proposal_stamped_with_a_newer_term") => {
                Ok(self.append_as_follower(proposals))
            }
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => Err(ProposeError::NotLeader {
                leader: self.leader(),
            }),
        }
    }

    /// The planted bug of X29: what a deposed leader still had queued enters the log under the newer term (R26).
    fn append_as_follower(&mut self, proposals: Vec<Proposal>) -> EntryId {
        let first = self.shared.log.last().index.next();
        let entries = crate::role::entries_of(&self.shared, first, proposals);
        let id = entries[0].id;
        self.shared.append(entries);
        id
    }

    /// Asks for a read index for a batch of reads; the outcome comes in [`Ready::reads`]. Works on every role (a follower
    /// asks the leader).
    ///
    /// # Errors
    /// When no leader is known, or too many batches wait.
    pub fn read(&mut self, now: Time, id: ReadId) -> Result<(), ReadError> {
        match &mut self.role {
            Role::Leader(leader) => leader.read(&self.shared, id),
            Role::Follower(follower) => follower.read(&mut self.shared, now, id),
            Role::PreCandidate(_) | Role::Candidate(_) => Err(ReadError::NoLeader),
        }
    }

    /// All writes up to `number` are durable.
    ///
    /// # Panics
    /// When no such write was handed out.
    pub fn persisted(&mut self, now: Time, number: WriteNumber) {
        let before = self.shared.log.persisted();
        self.shared.finish_writes(number);
        let next = match &mut self.role {
            Role::Follower(follower) => {
                follower.persisted(&mut self.shared, before);
                Next::Stay
            }
            Role::PreCandidate(_) => Next::Stay,
            Role::Candidate(candidate) => candidate.persisted(&self.shared),
            Role::Leader(leader) => {
                leader.persisted(&mut self.shared);
                Next::Stay
            }
        };
        self.shared.evict();
        self.enter(now, next);
    }

    /// The state machine has applied everything up to `index`.
    ///
    /// # Panics
    /// When more is reported than was handed out.
    pub fn applied(&mut self, index: Index) {
        self.shared.apply.applied_up_to(index);
        self.shared.evict();
    }

    /// Entries that a [`Fetch`] asked for: contiguous from `fetch.from`, at least one.
    ///
    /// # Panics
    /// When there is none, or they do not start at `fetch.from`: an error while reading the own log is fatal, never an
    /// empty answer (R25).
    pub fn fetched(&mut self, _now: Time, fetch: Fetch, entries: Vec<Entry>) {
        assert!(
            entries.first().is_some_and(|first| first.id.index == fetch.from),
            "a fetch gives entries from {} on, got {:?}",
            fetch.from,
            entries.first().map(|first| first.id)
        );
        if !self.shared.close_fetch(&fetch) {
            return;
        }
        match (fetch.purpose, &mut self.role) {
            (FetchPurpose::Apply, _) => self.shared.apply.take_fetched(&self.shared.log, entries),
            (FetchPurpose::Peer(peer), Role::Leader(leader)) => {
                leader.fetched(&mut self.shared, peer, entries)
            }
            (FetchPurpose::Peer(_), _) => mark("stale fetch dropped"),
        }
    }

    /// The entries that a [`Fetch`] for a peer asked for are gone: a new leader's entries took their place, or they were
    /// compacted, after it was asked. The peer gets what the log holds now.
    ///
    /// # Panics
    /// When the fetch was for [`FetchPurpose::Apply`] and no snapshot was installed since: entries that are committed and not
    /// applied are never cut (R25).
    pub fn fetch_gone(&mut self, fetch: Fetch) {
        let is_open = self.shared.close_fetch(&fetch);
        assert!(
            !is_open || fetch.purpose != FetchPurpose::Apply,
            "committed entries from {} on are gone before they were applied",
            fetch.from
        );
        mark("fetched entries were gone");
    }

    /// The connection to `peer`'s process was reset: it may be dead. Its appends under way are lost.
    pub fn peer_reset(&mut self, now: Time, peer: NodeId) {
        match &mut self.role {
            Role::Follower(follower) if follower.leader() == Some(peer) => {
                follower.leader_reset(&mut self.shared, now);
            }
            Role::Leader(leader) => leader.peer_reset(peer),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {}
        }
    }

    /// Everything that must happen next. Call until it is empty, after any other call.
    ///
    /// A leader sends new entries from here, so that several proposals before one call leave as one append.
    pub fn take_ready(&mut self, now: Time) -> Ready {
        if let Role::Leader(leader) = &mut self.role {
            leader.start_due_round(&mut self.shared, now);
            leader.replicate(&mut self.shared);
            let next = leader.retire_if_dropped(&mut self.shared, now);
            self.enter(now, next);
        }
        let mut ready = self.shared.take_ready(now);
        if let Role::Leader(leader) = &mut self.role {
            ready.snapshots = leader.snapshots_to_send(self.shared.term());
            ready.leave_joint = leader.joint_to_leave(&self.shared);
        }
        ready
    }

    /// Takes the step that a role asked for, and those that follow from it.
    pub(crate) fn enter(&mut self, now: Time, next: Next) {
        let mut next = next;
        while next != Next::Stay {
            next = match next {
                Next::Stay => Next::Stay,
                Next::PreCampaign => self.become_pre_candidate(now),
                Next::Campaign(campaign) => {
                    self.leave_role(StepDown::HigherTerm);
                    self.role = Role::Candidate(Candidate::campaign(&mut self.shared, now, campaign));
                    Next::Stay
                }
                Next::Lead => {
                    self.become_leader(now);
                    Next::Stay
                }
                Next::StepDown(reason) => {
                    self.follow(now, self.shared.term(), None, reason);
                    Next::Stay
                }
            };
        }
    }

    fn become_pre_candidate(&mut self, now: Time) -> Next {
        self.leave_role(StepDown::HigherTerm);
        let (candidate, next) = PreCandidate::ask(&mut self.shared, now);
        self.role = Role::PreCandidate(candidate);
        next
    }

    fn become_leader(&mut self, now: Time) {
        match std::mem::replace(&mut self.role, Role::Follower(Follower::default())) {
            Role::Candidate(candidate) => {
                self.role = Role::Leader(candidate.into_leader(&mut self.shared, now));
            }
            other => unreachable!("only a candidate wins a vote, not {other:?}"),
        }
    }

    /// Becomes a follower of `leader` in `term`, which is the present one or a higher one (R5). The election timer goes
    /// on as it was: a mere change of term is no reason to wait longer (R6).
    pub(crate) fn follow(&mut self, now: Time, term: Term, leader: Option<NodeId>, reason: StepDown) {
        let led = matches!(self.role, Role::Leader(_));
        let had_own_vote = led || matches!(self.role, Role::Candidate(_));
        self.leave_role(reason);
        if term > self.shared.term() {
            self.shared.enter_term(term);
        } else if had_own_vote && mutant("X03_vote_cleared_on_step_down") {
            self.shared.forget_vote();
        }
        if led {
            self.shared.restart_election_timer(now);
        }
        self.role = Role::Follower(Follower::of(leader));
        self.shared.report_follows(leader);
    }

    /// Ends the present role: whoever waits on it is told. Leaves a follower that knows nobody.
    fn leave_role(&mut self, reason: StepDown) {
        match std::mem::replace(&mut self.role, Role::Follower(Follower::default())) {
            Role::Follower(follower) => follower.leave(&mut self.shared),
            Role::PreCandidate(_) | Role::Candidate(_) => {}
            Role::Leader(leader) => {
                let term = self.shared.term();
                self.shared.report(Transition::SteppedDown { term, reason });
                leader.leave(&mut self.shared);
            }
        }
    }

    /// This node.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.shared.id
    }

    /// Is the present term durable? Nothing that shows it may leave before (R5). The core sees to that for its own messages;
    /// who sends others in its term asks.
    #[must_use]
    pub fn is_term_durable(&self) -> bool {
        self.shared.is_hard_state_persisted()
    }

    /// The latest term it has seen; durable before any message shows it.
    #[must_use]
    pub fn term(&self) -> Term {
        self.shared.term()
    }

    /// What it is at the moment.
    #[must_use]
    pub fn role(&self) -> RoleName {
        match self.role {
            Role::Follower(_) => RoleName::Follower,
            Role::PreCandidate(_) => RoleName::PreCandidate,
            Role::Candidate(_) => RoleName::Candidate,
            Role::Leader(_) => RoleName::Leader,
        }
    }

    /// The leader of the current term, if known; this node itself when it leads.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        match &self.role {
            Role::Follower(follower) => follower.leader(),
            Role::PreCandidate(_) | Role::Candidate(_) => None,
            Role::Leader(_) => Some(self.shared.id),
        }
    }

    /// How long ago a leader was last heard from (zero when this node leads); `None` when never in this life.
    #[must_use]
    pub fn leader_contact(&self, now: Time) -> Option<Duration> {
        match self.role {
            Role::Leader(_) => Some(Duration::ZERO),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                self.shared.leader_contact.map(|contact| now.since(contact))
            }
        }
    }

    /// Known committed: on a quorum, for good.
    #[must_use]
    pub fn commit(&self) -> Index {
        self.shared.commit()
    }

    /// Durable here, up to this index.
    #[must_use]
    pub fn persisted_index(&self) -> Index {
        self.shared.log.persisted()
    }

    /// The last entry of the log, durable or not.
    #[must_use]
    pub fn last(&self) -> EntryId {
        self.shared.log.last()
    }

    /// Where the log starts: the last entry that is not in it any more. Only a snapshot helps a peer that lacks it.
    #[must_use]
    pub fn base(&self) -> EntryId {
        self.shared.log.base()
    }

    /// The latest configuration in the log, committed or not (thesis 4.1).
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        self.shared.configuration()
    }

    /// The latest configuration that is committed: the present one, or the one before it.
    #[must_use]
    pub fn committed_configuration(&self) -> &Configuration {
        self.shared.configurations.committed(self.shared.commit())
    }

    /// May this leader serve reads and take configuration changes: has it committed an entry of its own term (R57, R68)?
    /// False on a node that does not lead.
    #[must_use]
    pub fn has_committed_in_term(&self) -> bool {
        match &self.role {
            Role::Leader(leader) => leader.has_committed_in_term(&self.shared),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => false,
        }
    }
}

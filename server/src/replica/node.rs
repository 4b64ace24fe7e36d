//! The node: its phases, and admission of requests.

use raftkv_protocol::{
    Answer, ErrorCode, Failure, Header, MembershipMessage, NodeId, PeerMessage, Request, Response, Revision,
    RoleName, ScrubCommand, Status,
};
use raftkv_raft::simulation::mark;
use raftkv_raft::{self as raft, RestoreError, Time};

use super::formed::Formed;
use super::forming::Forming;
use super::founding::Founded;
use super::meeting::{ignored_flags, may_grow, not_named};
use super::outbox::Outbox;
use super::scrub::ScrubStatus;
use super::{Effect, Event, Hop, NodeConfig, Notice, Quarantine, Restored, Token};
use crate::membership::FIRST_EPOCH;
use crate::store::{Store, StoreNumber};

/// What requests and watches are told while the node drains.
const SHUTTING_DOWN: &str = "this node is shutting down; ask another one";

/// One node.
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    rng: fastrand::Rng,
    phase: Phase,
    admission: Admission,
    out: Outbox,
}

#[derive(Debug)]
enum Phase {
    Forming(Box<Forming>),
    /// The log with entry 1 is being made; nothing is said until it is durable.
    Creating {
        founded: Box<Founded>,
        author: Author,
    },
    Formed(Box<Formed>),
}

/// Who wrote entry 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Author {
    /// This node: the others must be told.
    Itself,
    Another,
}

/// A request, as [`Event::Request`] brings it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) token: Token,
    pub(super) request: Request,
    pub(super) hop: Hop,
    pub(super) deadline: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admission {
    Open,
    /// No more requests are taken.
    Draining,
}

impl Node {
    /// `restored`: `None` when there is no log yet (unformed). `seed` drives all randomness of the node, the cluster's id
    /// included: a real node's seed is itself random.
    ///
    /// # Errors
    /// When the restored state contradicts itself, or the settings can not work: the node must not start.
    pub fn new(
        config: NodeConfig,
        restored: Option<Restored>,
        seed: u64,
        now: Time,
    ) -> Result<Node, RestoreError> {
        config.raft.validate()?;
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut out = Outbox::default();
        let phase = match restored {
            None => Phase::Forming(Box::new(Forming::new(
                config.introduction.clone(),
                config.join.clone(),
                now,
            ))),
            Some(restored) => {
                let formed = Formed::new(config.clone(), restored, rng.u64(..), now)?;
                let stored = formed.members.current();
                let may_grow = may_grow(formed.members.founding_payload().as_ref());
                let notices = [
                    ignored_flags(&config.introduction, stored).filter(|_| !may_grow),
                    not_named(&config.introduction, stored),
                ];
                // Said again: whoever looks at this process's lines has not seen those of the one that found it.
                let quarantined = formed.divergence.quarantine().map(|quarantine| {
                    mark("quarantined replica started");
                    Notice::Quarantined {
                        explanation: quarantine.explanation(),
                    }
                });
                notices
                    .into_iter()
                    .chain([quarantined])
                    .flatten()
                    .for_each(|notice| out.notice(notice));
                Phase::Formed(Box::new(formed))
            }
        };
        Ok(Node {
            config,
            rng,
            phase,
            admission: Admission::Open,
            out,
        })
    }

    /// Something happened. What follows from it comes out of the next [`Node::poll`].
    pub fn handle(&mut self, now: Time, event: Event) {
        match event {
            Event::Request {
                token,
                request,
                hop,
                deadline,
            } => {
                let asked = Asked {
                    token,
                    request,
                    hop,
                    deadline,
                };
                self.request(now, asked);
            }
            Event::Drain => {
                self.admission = Admission::Draining;
                let failure = Failure::new(ErrorCode::NotServing, SHUTTING_DOWN);
                self.out.push(Effect::EndWatches(failure));
            }
            Event::LogCreated => self.log_created(now),
            event => match &mut self.phase {
                Phase::Forming(_) => self.handle_unformed(now, event),
                // Nothing is promised before the log is durable; peers repeat what matters.
                Phase::Creating { .. } => mark("event ignored while the log is created"),
                Phase::Formed(formed) => formed.handle(now, event, &mut self.out),
            },
        }
    }

    /// One batch: everything handled since the last poll becomes effects, appended to `effects`.
    pub fn poll(&mut self, now: Time, effects: &mut Vec<Effect>) {
        match &mut self.phase {
            Phase::Forming(forming) => {
                if let Some(founded) = forming.poll(now, &mut self.rng, &mut self.out) {
                    mark("cluster founded");
                    self.create_log(founded, Author::Itself);
                }
            }
            Phase::Creating { .. } => {}
            Phase::Formed(formed) => {
                if self.admission == Admission::Draining && formed.could_hand_over() {
                    formed.hand_over(now);
                }
                formed.poll(now, &mut self.out);
            }
        }
        self.out.drain_into(effects);
    }

    /// When [`Node::poll`] wants to be called next, at the latest. It is wanted after each [`Node::handle`] besides.
    #[must_use]
    pub fn next_deadline(&self) -> Time {
        if !self.out.is_empty() {
            return Time(0);
        }
        match &self.phase {
            Phase::Forming(forming) => forming.next_deadline(),
            Phase::Creating { .. } => Time::NEVER,
            Phase::Formed(formed) => formed.next_deadline(),
        }
    }

    /// The identity of the node's data directory.
    #[must_use]
    pub fn identity(&self) -> NodeId {
        self.config.introduction.identity
    }

    /// Consensus, once formed (status, simulator's observer).
    #[must_use]
    pub fn raft(&self) -> Option<&raft::Raft> {
        self.formed().map(|formed| &formed.raft)
    }

    /// Lets the state differ from what the log says, as a defect of memory or program would.
    #[cfg(any(test, feature = "simulation"))]
    pub fn corrupt_state(&mut self) {
        if let Phase::Formed(formed) = &mut self.phase {
            formed.store.corrupt();
        }
    }

    /// The state machine, once formed.
    #[must_use]
    pub fn store(&self) -> Option<&Store> {
        self.formed().map(|formed| &formed.store)
    }

    /// How the comparison of stored records stands, once formed.
    #[must_use]
    pub fn scrub(&self) -> Option<ScrubStatus> {
        self.formed().map(|formed| formed.scrub.status())
    }

    /// Why this node serves no more, if it was found to be the odd one.
    #[must_use]
    pub fn quarantine(&self) -> Option<&Quarantine> {
        self.formed().and_then(|formed| formed.divergence.quarantine())
    }

    /// Which fill of the data directory [`Node::store`] is over: a received one from the moment on that it was received.
    #[must_use]
    pub fn store_number(&self) -> Option<StoreNumber> {
        self.formed().map(|formed| formed.drains.store())
    }

    /// Requests taken and not answered yet.
    pub(super) fn waiting_requests(&self) -> usize {
        self.out.waiting()
    }

    /// Was [`Event::Drain`] handled, and has every request taken before it been answered?
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.admission == Admission::Draining && self.out.waiting() == 0
    }

    /// Is leadership being handed over, because the node is to stop? It is worth waiting for, a moment.
    #[must_use]
    pub fn is_handing_over(&self) -> bool {
        self.admission == Admission::Draining && self.formed().is_some_and(Formed::could_hand_over)
    }

    /// Role, leader, indices, members, and whether the node is ready.
    #[must_use]
    pub fn status(&self, now: Time) -> Status {
        match &self.phase {
            Phase::Formed(formed) => formed.status(),
            Phase::Forming(_) | Phase::Creating { .. } => Status {
                name: self.config.introduction.name.clone(),
                role: RoleName::Learner,
                leader: None,
                term: 0,
                commit_index: 0,
                applied_index: 0,
                revision: Revision(1),
                cluster: None,
                version: self.config.version.clone(),
                members: Vec::new(),
                ready: false,
                not_ready_because: Some(self.unformed_explanation(now)),
            },
        }
    }

    pub(super) fn formed(&self) -> Option<&Formed> {
        match &self.phase {
            Phase::Formed(formed) => Some(formed),
            Phase::Forming(_) | Phase::Creating { .. } => None,
        }
    }

    fn unformed_explanation(&self, now: Time) -> String {
        match &self.phase {
            Phase::Forming(forming) => forming.explanation(now),
            Phase::Creating { .. } | Phase::Formed(_) => "the cluster is being formed, retry".to_owned(),
        }
    }

    /// Every request passes here, whatever door it came through.
    fn request(&mut self, now: Time, asked: Asked) {
        if matches!(asked.request, Request::Status) {
            let outcome = Ok(Answer::Status(Box::new(self.status(now))));
            self.refuse(asked.token, outcome);
            return;
        }
        // A node in quarantine says so.
        if let (Request::Scrub(ScrubCommand::Status), Some(formed)) = (&asked.request, self.formed()) {
            let told = formed.scrub_told(now);
            return self.out.refuse(asked.token, told);
        }
        if let Some(failure) = self.refusal(now, asked.deadline) {
            self.refuse(asked.token, Err(failure));
            return;
        }
        match &mut self.phase {
            Phase::Formed(formed) => formed.take_request(now, asked, &mut self.out),
            Phase::Forming(_) | Phase::Creating { .. } => unreachable!("an unformed node refuses requests"),
        }
    }

    /// Why a request can not be taken now.
    fn refusal(&self, now: Time, deadline: Time) -> Option<Failure> {
        let (code, message) = if self.admission == Admission::Draining {
            (ErrorCode::NotServing, SHUTTING_DOWN.to_owned())
        } else if self.formed().is_none() {
            (ErrorCode::NoLeader, self.unformed_explanation(now))
        } else if let Some(quarantine) = self.quarantine() {
            (ErrorCode::NoLeader, quarantine.explanation())
        } else if self.out.waiting() >= self.config.max_pending_requests {
            mark("request refused: too many wait");
            let message = format!(
                "{} requests wait at this node already; nothing was proposed, retry later",
                self.out.waiting()
            );
            (ErrorCode::Overloaded, message)
        } else if deadline <= now {
            (
                ErrorCode::NoLeader,
                "its time was over on arrival; nothing was proposed".to_owned(),
            )
        } else {
            return None;
        };
        let leader = self
            .formed()
            .and_then(|formed| formed.members.hint(formed.raft.leader()));
        Some(Failure {
            code,
            message,
            leader,
        })
    }

    /// Answers a request that was not taken to wait.
    fn refuse(&mut self, token: Token, outcome: Result<Answer, Failure>) {
        let header = self.header();
        self.out.refuse(token, Response { header, outcome });
    }

    fn header(&self) -> Header {
        match &self.phase {
            Phase::Formed(formed) => formed.header(),
            Phase::Forming(_) | Phase::Creating { .. } => Header {
                cluster: None,
                node: self.config.introduction.identity,
                term: 0,
                revision: Revision(1),
                epoch: FIRST_EPOCH,
            },
        }
    }

    fn handle_unformed(&mut self, now: Time, event: Event) {
        let Phase::Forming(forming) = &mut self.phase else {
            return;
        };
        match event {
            Event::Peer(PeerMessage::Introduce(theirs)) => forming.meet(now, &theirs, &mut self.out),
            Event::Peer(PeerMessage::Found(founding)) => {
                if let Some(founded) = forming.accept(&founding) {
                    self.create_log(founded, Author::Another);
                }
            }
            Event::Peer(PeerMessage::Membership(MembershipMessage::Admit(admission))) => {
                if let Some(founded) = forming.admit(&admission) {
                    mark("node let into a running cluster");
                    self.create_log(founded, Author::Another);
                }
            }
            Event::Peer(PeerMessage::Membership(MembershipMessage::Standing(reply))) => {
                forming.standing(&reply)
            }
            Event::Peer(PeerMessage::Membership(
                MembershipMessage::Knock(_) | MembershipMessage::Present(_),
            )) => mark("membership message to an unformed node dropped"),
            Event::Peer(PeerMessage::Raft(_)) => mark("consensus message to an unformed node dropped"),
            // What a former process of this node started, or connections of peers: nothing that concerns forming.
            Event::PeerReset(_)
            | Event::Persisted(_)
            | Event::Fetched { .. }
            | Event::FetchGone(_)
            | Event::Forwarded { .. }
            | Event::LookedUp { .. }
            | Event::PageRead { .. }
            | Event::Scrubbed { .. }
            | Event::FilesChecked(_)
            | Event::Sealed { .. }
            | Event::SnapshotOpened { .. }
            | Event::PartRead { .. }
            | Event::PartTaken { .. }
            | Event::Drained { .. }
            | Event::LogCut { .. }
            | Event::FreeSpace { .. } => {}
            Event::Request { .. } | Event::LogCreated | Event::Drain => {
                unreachable!("handled for all phases alike")
            }
        }
    }

    fn create_log(&mut self, founded: Founded, author: Author) {
        self.out.push(Effect::CreateLog {
            membership: founded.membership.clone(),
            founding: founded.entry.clone(),
            hard_state: founded.hard_state(),
        });
        self.phase = Phase::Creating {
            founded: Box::new(founded),
            author,
        };
    }

    /// Entry 1 is durable here: this node is formed, and only now says so.
    fn log_created(&mut self, now: Time) {
        let Phase::Creating { founded, author } = &self.phase else {
            mark("log created twice");
            return;
        };
        let mut formed = Formed::new(self.config.clone(), founded.restored(), self.rng.u64(..), now).expect(
            "a log of one founding entry is no contradiction, and the settings were checked at the start",
        );
        if *author == Author::Itself {
            formed.announce(&mut self.out);
        }
        // A node that joins is named by a configuration that is not in its log yet, and so are those that it answers.
        for member in founded.membership.everyone() {
            formed.presences.learn(member.identity, &member.address);
        }
        self.out.notice(Notice::Formed(founded.membership.clone()));
        self.phase = Phase::Formed(Box::new(formed));
    }
}

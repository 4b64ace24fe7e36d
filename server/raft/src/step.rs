//! A message comes in: the term check, which is the same for all roles and done once, and the dispatch to the role.

use std::cmp::Ordering;

use crate::raft::Raft;
use crate::role::{Append, Heartbeat, Next, Role};
use crate::simulation::{mark, mutant};
use crate::{Campaign, Envelope, Index, Message, NodeId, StepDown, Term, Time, Verdict};

/// No cluster gets there by elections; a term beyond is garbage, and taking it would leave no room for the next one.
pub(crate) const MAX_TERM: Term = Term(1 << 62);
/// The same for an index: no log is so long.
pub(crate) const MAX_INDEX: Index = Index::new(1 << 62).expect("not 0");

impl Raft {
    /// A message came in.
    ///
    /// # Panics
    /// When it proves that the group has lost its promises: a conflict with a committed entry, or a second leader in one
    /// term (R19). Nothing else from the network can.
    pub fn step(&mut self, now: Time, envelope: Envelope) {
        if envelope.to != self.shared.id || envelope.from == self.shared.id || envelope.term > MAX_TERM {
            mark("message for another node or garbage dropped");
            return;
        }
        if self.admits(now, &envelope) {
            let next = self.dispatch(now, envelope.from, envelope.message);
            self.enter(now, next);
        }
    }

    /// Compares terms, and follows a higher one. Is there something left to handle?
    fn admits(&mut self, now: Time, envelope: &Envelope) -> bool {
        match envelope.term.cmp(&self.shared.term()) {
            Ordering::Less => self.admits_lower_term(envelope),
            Ordering::Equal => true,
            Ordering::Greater => self.admits_higher_term(now, envelope),
        }
    }

    /// An old term's question is answered with our term, so that whoever is stuck there learns of it (R9, R11); an old
    /// term's answer is dropped (R22), unless its own term does not matter.
    fn admits_lower_term(&mut self, envelope: &Envelope) -> bool {
        let reply = match &envelope.message {
            // Judged by the term that is asked about, and given by nodes of lower terms too.
            Message::PreVoteReply { .. } | Message::PreVoteRequest { .. } => return true,
            Message::VoteRequest { .. } => Message::VoteReply {
                verdict: Verdict::Refused,
            },
            Message::Append { session, prev, .. } => Message::AppendRefused {
                session: *session,
                refused: prev.index,
                hint: self.shared.log.base(),
            },
            Message::Heartbeat { session, round, .. } => Message::HeartbeatReply {
                session: *session,
                round: *round,
            },
            Message::ReadIndexRequest { id } => Message::ReadIndexReply { id: *id, index: None },
            Message::AppendAccepted { .. } if mutant("X09_ack_of_an_older_term_accepted") => return true,
            Message::TimeoutNow => {
                mark("late hand-over ignored");
                return false;
            }
            Message::VoteReply { .. }
            | Message::AppendAccepted { .. }
            | Message::AppendRefused { .. }
            | Message::HeartbeatReply { .. }
            | Message::ReadIndexReply { .. } => {
                mark("reply of an older term dropped");
                return false;
            }
        };
        mark("older term answered with ours");
        self.shared.send(envelope.from, reply);
        false
    }

    /// A higher term makes a follower of whoever learns it (R5), but for what must not disturb.
    fn admits_higher_term(&mut self, now: Time, envelope: &Envelope) -> bool {
        match &envelope.message {
            Message::PreVoteRequest { .. } => return true,
            // Granted in the sender's term, about a term that we asked about; shows no leader and no campaign.
            Message::PreVoteReply {
                verdict: Verdict::Granted,
                ..
            } => return true,
            Message::VoteRequest { campaign, .. }
                if self.ignores_vote_request(now, envelope.from, *campaign) =>
            {
                mark("vote request ignored by stickiness");
                return false;
            }
            // Its leader saw all of its log acknowledged in its term here; this node never was in that term.
            Message::TimeoutNow => {
                mark("early hand-over ignored");
                self.follow(now, envelope.term, Some(envelope.from), StepDown::HigherTerm);
                return false;
            }
            Message::PreVoteReply { .. }
            | Message::VoteRequest { .. }
            | Message::VoteReply { .. }
            | Message::Append { .. }
            | Message::AppendAccepted { .. }
            | Message::AppendRefused { .. }
            | Message::Heartbeat { .. }
            | Message::HeartbeatReply { .. }
            | Message::ReadIndexRequest { .. }
            | Message::ReadIndexReply { .. } => {}
        }
        let is_from_leader = matches!(
            envelope.message,
            Message::Append { .. } | Message::Heartbeat { .. }
        );
        let leader = is_from_leader.then_some(envelope.from);
        self.follow(now, envelope.term, leader, self.reason_to_step_down(envelope));
        true
    }

    fn reason_to_step_down(&self, envelope: &Envelope) -> StepDown {
        let is_transfer = matches!(
            envelope.message,
            Message::VoteRequest {
                campaign: Campaign::Transfer,
                ..
            }
        );
        match &self.role {
            Role::Leader(leader) if is_transfer && leader.transfer_target() == Some(envelope.from) => {
                StepDown::Transferred
            }
            Role::Leader(_) | Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                StepDown::HigherTerm
            }
        }
    }

    fn dispatch(&mut self, now: Time, from: NodeId, message: Message) -> Next {
        match message {
            Message::PreVoteRequest { campaign_term, last } => {
                self.answer_pre_vote(now, from, campaign_term, last);
                Next::Stay
            }
            Message::VoteRequest { last, campaign } => {
                self.answer_vote(now, from, last, campaign);
                Next::Stay
            }
            Message::TimeoutNow => self.handed_over(now, from),
            Message::Append { .. } | Message::Heartbeat { .. } | Message::ReadIndexReply { .. } => {
                self.dispatch_from_leader(now, from, message);
                Next::Stay
            }
            Message::PreVoteReply {
                campaign_term,
                verdict,
            } => match &mut self.role {
                Role::PreCandidate(candidate) => {
                    candidate.answered(&self.shared, from, campaign_term, verdict)
                }
                // Late: this campaign is decided, or given up (R8).
                Role::Follower(_) | Role::Candidate(_) | Role::Leader(_) => Next::Stay,
            },
            Message::VoteReply { verdict } => match &mut self.role {
                Role::Candidate(candidate) => candidate.answered(&self.shared, from, verdict),
                Role::Follower(_) | Role::PreCandidate(_) | Role::Leader(_) => Next::Stay,
            },
            Message::AppendAccepted { .. }
            | Message::AppendRefused { .. }
            | Message::HeartbeatReply { .. }
            | Message::ReadIndexRequest { .. } => {
                self.dispatch_to_leader(now, from, message);
                Next::Stay
            }
        }
    }

    /// The leader of this term hands over. Who is no voter in its own eyes leaves it at that (R66).
    fn handed_over(&mut self, now: Time, from: NodeId) -> Next {
        self.recognise_leader(now, from);
        if self.shared.configuration().is_voter(self.shared.id) {
            Next::Campaign(Campaign::Transfer)
        } else {
            mark("hand-over to a node that does not vote ignored");
            Next::Stay
        }
    }

    fn dispatch_from_leader(&mut self, now: Time, from: NodeId, message: Message) {
        if !matches!(message, Message::ReadIndexReply { .. }) {
            self.recognise_leader(now, from);
        }
        let Role::Follower(follower) = &mut self.role else {
            return;
        };
        match message {
            Message::Append {
                session,
                prev,
                commit,
                entries,
            } => {
                let append = Append {
                    session,
                    prev,
                    commit,
                    entries,
                };
                follower.append(&mut self.shared, now, from, append);
            }
            Message::Heartbeat {
                session,
                commit,
                round,
            } => {
                let heartbeat = Heartbeat {
                    session,
                    commit,
                    round,
                };
                follower.heartbeat(&mut self.shared, now, from, heartbeat);
            }
            Message::ReadIndexReply { id, index } => follower.read_answered(&mut self.shared, id, index),
            other => unreachable!("not from a leader: {other:?}"),
        }
    }

    /// Only the leader of a term sends appends and heartbeats in it: whoever campaigned in that term has lost.
    pub(crate) fn recognise_leader(&mut self, now: Time, from: NodeId) {
        match &mut self.role {
            Role::Follower(follower) => follower.learn_leader(&mut self.shared, from),
            Role::PreCandidate(_) | Role::Candidate(_) => {
                self.follow(now, self.shared.term(), Some(from), StepDown::HigherTerm);
            }
            Role::Leader(_) => panic!(
                "second leader in term {}: {from} beside this node {}; keep this node's data directory",
                self.shared.term(),
                self.shared.id
            ),
        }
    }

    fn dispatch_to_leader(&mut self, now: Time, from: NodeId, message: Message) {
        let Role::Leader(leader) = &mut self.role else {
            if let Message::ReadIndexRequest { id } = message {
                self.shared
                    .send(from, Message::ReadIndexReply { id, index: None });
            }
            return;
        };
        let shared = &mut self.shared;
        match message {
            Message::AppendAccepted { session, matched } => {
                leader.accepted(shared, now, from, (session, matched));
            }
            Message::AppendRefused {
                session,
                refused,
                hint,
            } => leader.refused(shared, now, from, (session, refused, hint)),
            Message::HeartbeatReply { session, round } => {
                leader.heartbeat_answered(shared, now, from, (session, round));
            }
            Message::ReadIndexRequest { id } => leader.read_for_peer(shared, from, id),
            other => unreachable!("not to a leader: {other:?}"),
        }
    }
}

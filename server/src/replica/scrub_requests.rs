//! An operator asks for a pass of the scrub, and how it stands.
//!
//! Each node tells what it has seen itself. A pass is begun by the leader; another node passes the question on, one hop. It
//! is not owed beyond the leader's term: what a leader forgets when it ends is asked for again.

use std::collections::BTreeMap;

use raftkv_protocol::{
    Answer, DifferingMember, ErrorCode, Failure, NodeName, Request, Response, Revision, ScrubCommand,
    ScrubPass, ScrubState,
};
use raftkv_raft::simulation::mark;
use raftkv_raft::{self as raft, RoleName, Time};

use super::expiry::Expiry;
use super::formed::Formed;
use super::forwarding::is_not_leader;
use super::outbox::Outbox;
use super::scrub::Pass;
use super::{Effect, ForwardOutcome, Hop, Token};

/// A pass that is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct AskedScrub {
    pub(super) token: Token,
    pub(super) hop: Hop,
    pub(super) deadline: Time,
}

/// Questions that were passed on to the leader, and until when they wait.
#[derive(Debug, Default)]
pub(super) struct ForwardedScrubs(BTreeMap<Token, Time>);

impl ForwardedScrubs {
    pub(super) fn next_expiry(&self) -> Time {
        self.0.values().copied().min().unwrap_or(Time::NEVER)
    }

    pub(super) fn contains(&self, token: Token) -> bool {
        self.0.contains_key(&token)
    }

    fn take_expired(&mut self, now: Time) -> Vec<Token> {
        let mut expiry = Expiry::at(now);
        self.0.retain(|token, deadline| expiry.keeps(*token, *deadline));
        expiry.expired
    }
}

impl Formed {
    /// A pass is to begin. Answered at once where this node leads; else by the leader.
    pub(super) fn start_scrub(&mut self, now: Time, asked: AskedScrub, out: &mut Outbox) {
        let AskedScrub { token, hop, deadline } = asked;
        if self.raft.role() == RoleName::Leader {
            let response = match self.why_no_scrub() {
                Some((code, message)) => self.refusal(code, message),
                None => {
                    self.scrub.ask(now);
                    self.scrub_told(now)
                }
            };
            return out.refuse(token, response);
        }
        let leader = self
            .raft
            .leader()
            .and_then(|leader| self.address_of(leader))
            .cloned();
        match (leader, hop) {
            (_, Hop::Last) => {
                let message = "this node does not lead; no pass was begun";
                out.refuse(token, self.refusal(ErrorCode::NotLeader, message));
            }
            (None, Hop::First) => {
                let message = "no leader is known, and only a leader begins a pass; none was begun, retry";
                out.refuse(token, self.refusal(ErrorCode::NoLeader, message));
            }
            (Some(to), Hop::First) => {
                out.take_request();
                self.scrub_forwards.0.insert(token, deadline);
                out.push(Effect::Forward {
                    token,
                    to,
                    request: Request::Scrub(ScrubCommand::Start),
                    deadline,
                });
            }
        }
    }

    /// Why this leader can begin no pass.
    fn why_no_scrub(&self) -> Option<(ErrorCode, &'static str)> {
        if self.raft.configuration().members().len() < 2 {
            let message = "this cluster has one member: there is nobody to compare with";
            return Some((ErrorCode::BadRequest, message));
        }
        if self.store.revision() <= Revision(1) {
            return Some((
                ErrorCode::BadRequest,
                "nothing was ever written: there is nothing to compare",
            ));
        }
        let message = "the leader's disk is nearly full, and a pass holds files on it: free room there first";
        self.space.is_low().then_some((ErrorCode::NoSpace, message))
    }

    /// What became of a question that was passed on.
    pub(super) fn scrub_forwarded(&mut self, token: Token, outcome: ForwardOutcome, out: &mut Outbox) {
        if self.scrub_forwards.0.remove(&token).is_none() {
            return;
        }
        let response = match outcome {
            ForwardOutcome::Answered(response) if is_not_leader(&response) => self.no_leader_in_time(),
            ForwardOutcome::Answered(response) => self.passed_on(response),
            ForwardOutcome::NotSent => self.no_leader_in_time(),
            ForwardOutcome::Lost => self.unknown_scrub(),
        };
        out.finish(token, response);
    }

    pub(super) fn expire_scrubs(&mut self, now: Time, out: &mut Outbox) {
        for token in self.scrub_forwards.take_expired(now) {
            out.finish(token, self.unknown_scrub());
        }
    }

    fn unknown_scrub(&self) -> Response {
        mark("scrub asked for, outcome unknown");
        let message = "the leader was asked and did not answer: the pass may have begun, look at its status";
        self.refusal(ErrorCode::OutcomeUnknown, message)
    }

    /// How the scrub stands here.
    pub(super) fn scrub_told(&self, now: Time) -> Response {
        let outcome: Result<Answer, Failure> = Ok(Answer::Scrub(Box::new(self.scrub_state(now))));
        self.respond(outcome)
    }

    fn scrub_state(&self, now: Time) -> ScrubState {
        let differing = self.divergence.odd().filter_map(|(node, since, keys)| {
            Some(DifferingMember {
                name: self.member_name(node)?,
                since_index: since.get(),
                keys: keys.map(str::to_owned),
            })
        });
        let quarantine = self.divergence.quarantine();
        ScrubState {
            pass: self.scrub.pass.as_ref().map(|pass| self.scrub_pass(now, pass)),
            differing: differing.collect(),
            quarantine: quarantine.map(super::Quarantine::explanation),
            files: self.cold_files.told(now),
        }
    }

    fn scrub_pass(&self, now: Time, pass: &Pass) -> ScrubPass {
        let log_time_us = self.log_time_now_us(now);
        let ms_ago = |at_us: u64| log_time_us.saturating_sub(at_us) / 1000;
        let agreed = pass.agreed.iter();
        ScrubPass {
            first_index: pass.first.0.get(),
            last_index: pass.last.0.get(),
            began_ms_ago: ms_ago(pass.first.1),
            ended_ms_ago: pass.has_ended.then(|| ms_ago(pass.last.1)),
            pieces: pass.pieces,
            left_out: pass.left_out,
            keys: pass.keys,
            bytes: pass.bytes,
            agreed: agreed
                .filter_map(|(node, (pieces, _))| Some((self.member_name(*node)?, *pieces)))
                .collect(),
        }
    }

    fn member_name(&self, node: raft::NodeId) -> Option<NodeName> {
        Some(self.members.current().member(node)?.name.clone())
    }
}

//! Writes passed on to the leader: one hop, and retried only where they are known not to have been proposed.

use std::collections::BTreeMap;

use raftkv_protocol::{ErrorCode, Request, Response};
use raftkv_raft::Time;
use raftkv_raft::simulation::{mark, mutant};

use super::expiry::Expiry;
use super::formed::Formed;
use super::outbox::Outbox;
use super::writes::WaitingWrite;
use super::{Effect, ForwardOutcome, Hop, Token};

/// Writes that were passed on and have no answer yet.
#[derive(Debug)]
pub(super) struct Forwards {
    /// A tree: tokens come in no order, for the shell uses its places again.
    sent: BTreeMap<Token, WaitingWrite>,
    /// At or before the first deadline.
    until: Time,
}

impl Forwards {
    pub(super) fn new() -> Forwards {
        Forwards {
            sent: BTreeMap::new(),
            until: Time::NEVER,
        }
    }

    pub(super) fn next_deadline(&self) -> Time {
        self.until
    }

    fn insert(&mut self, write: WaitingWrite) {
        self.until = self.until.min(write.deadline);
        self.sent.insert(write.token, write);
    }

    fn take(&mut self, token: Token) -> Option<WaitingWrite> {
        self.sent.remove(&token)
    }

    /// Takes those whose deadline has come.
    fn take_expired(&mut self, now: Time) -> Vec<Token> {
        if now < self.until {
            return Vec::new();
        }
        let mut expiry = Expiry::at(now);
        self.sent
            .retain(|token, write| expiry.keeps(*token, write.deadline));
        self.until = expiry.until;
        expiry.expired
    }
}

impl Formed {
    /// Passes a client's write on to the leader.
    pub(super) fn forward(&mut self, now: Time, write: WaitingWrite, out: &mut Outbox) {
        let address = self.raft.leader().and_then(|leader| self.address_of(leader));
        let (Some(address), Hop::First) = (address, write.hop) else {
            self.writes.delay_retry(now);
            self.wait_for_leader(write, out);
            return;
        };
        out.push(Effect::Forward {
            token: write.token,
            to: address.clone(),
            request: Request::Write(write.command.clone()),
            deadline: write.deadline,
        });
        self.forwards.insert(write);
    }

    /// What became of a write that was passed on. Late news about one that was given up is ignored.
    pub(super) fn forwarded(&mut self, now: Time, token: Token, outcome: ForwardOutcome, out: &mut Outbox) {
        if self.changes.is_forwarded(token) {
            self.change_forwarded(token, outcome, out);
            return;
        }
        if self.scrub_forwards.contains(token) {
            self.scrub_forwarded(token, outcome, out);
            return;
        }
        let Some(write) = self.forwards.take(token) else {
            return;
        };
        match outcome {
            ForwardOutcome::Answered(response) if is_not_leader(&response) => {
                mark("forwarded write reached a node that does not lead");
                self.retry_forward(now, write);
            }
            ForwardOutcome::Answered(response) => out.finish(token, self.passed_on(response)),
            ForwardOutcome::NotSent => self.retry_forward(now, write),
            ForwardOutcome::Lost if mutant("forwarded_write_retried_after_lost") => {
                self.retry_forward(now, write)
            }
            ForwardOutcome::Lost => {
                mark("forwarded write lost");
                out.finish(
                    token,
                    self.unknown("the connection to the leader was lost after it was sent"),
                );
            }
        }
    }

    /// Ends the forwarded writes whose time is over: they were sent, so they may have happened.
    pub(super) fn expire_forwards(&mut self, now: Time, out: &mut Outbox) {
        for token in self.forwards.take_expired(now) {
            out.finish(
                token,
                self.unknown("its time was over before the leader answered"),
            );
        }
    }

    fn retry_forward(&mut self, now: Time, write: WaitingWrite) {
        self.writes.delay_retry(now);
        self.writes.park(write);
    }

    /// The leader's answer under this node's header. Term and revision are the greater of both nodes': this store may be
    /// behind, and an answer's header is never older than the write it answers.
    pub(super) fn passed_on(&self, response: Response) -> Response {
        let mut header = self.header();
        if response.header.cluster != header.cluster {
            mark("forwarded write answered by another cluster");
            return self.unknown("a node of another cluster answered at the leader's address");
        }
        header.term = header.term.max(response.header.term);
        header.revision = header.revision.max(response.header.revision);
        Response {
            header,
            outcome: response.outcome,
        }
    }
}

/// Nothing was proposed, and another node may take it.
pub(super) fn is_not_leader(response: &Response) -> bool {
    let is_passed_over = |code| matches!(code, ErrorCode::NotLeader | ErrorCode::NotServing);
    matches!(&response.outcome, Err(failure) if is_passed_over(failure.code))
}

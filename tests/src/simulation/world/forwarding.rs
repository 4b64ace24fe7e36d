//! Requests that a node passes on to the leader's node, on a connection of their own.

use raftkv_protocol::{Address, Request, Response};
use raftkv_raft::Time;
use raftkv_server::replica::{Event, ForwardOutcome, Token};

use super::machine::Waiting;
use super::wire::answer_words;
use super::{Happening, Micros, ProcessId, World};
use crate::simulation::trace::Traced;

/// How long after a request's deadline its connection is given up.
const GIVE_UP_AFTER_US: Micros = 100_000;

/// A forwarded request on its way.
#[derive(Debug)]
pub(super) struct ForwardedRequest {
    origin: ProcessId,
    pub(super) to: usize,
    token: Token,
    request: Request,
    /// Time left when it was sent, microseconds.
    left_us: u64,
}

impl World {
    pub(super) fn forward(
        &mut self,
        id: ProcessId,
        token: Token,
        to: &Address,
        request: Request,
        deadline: Time,
    ) {
        self.trace
            .note(self.now, Some(id.slot), Traced::Forward, [token.0, 0], || {
                format!("{token:?} to {to}")
            });
        let local = self.machines[id.slot].clock.local(self.now);
        let Some(process) = self.machines[id.slot].process_of(id.life) else {
            return;
        };
        process.forwards.insert(token);
        let left_us = u64::try_from(deadline.since(local).as_micros()).unwrap_or(u64::MAX);
        let Some(to) = self.slot_of(to) else {
            self.end_forward(self.now, id, token, ForwardOutcome::NotSent);
            return;
        };
        let arrival = self.network.delay(self.now, id.slot, to);
        let is_cut = self.network.is_cut(id.slot, to) || self.network.is_cut(to, id.slot);
        if is_cut || self.machines[to].process.is_none() {
            self.end_forward(arrival, id, token, ForwardOutcome::NotSent);
            return;
        }
        let request = Box::new(ForwardedRequest {
            origin: id,
            to,
            token,
            request,
            left_us,
        });
        self.queue.push(arrival, Happening::Forwarded(request));
        // A connection that nothing comes back on is given up some time.
        let late = self.now + left_us.min(60_000_000) + GIVE_UP_AFTER_US;
        self.end_forward(late, id, token, ForwardOutcome::Lost);
    }

    pub(super) fn forward_arrives(&mut self, forwarded: ForwardedRequest) {
        let ForwardedRequest {
            origin,
            to,
            token,
            request,
            left_us,
        } = forwarded;
        let waiting = Waiting::Node { origin, token };
        if self.hand(to, waiting, request, left_us).is_none() {
            self.forward_lost(to, origin, token);
        }
    }

    pub(super) fn answer_forwarded(
        &mut self,
        from: usize,
        origin: ProcessId,
        token: Token,
        response: Response,
    ) {
        let at = self.network.delay(self.now, from, origin.slot);
        let outcome = if self.network.is_cut(from, origin.slot) {
            ForwardOutcome::Lost
        } else {
            ForwardOutcome::Answered(response)
        };
        self.end_forward(at, origin, token, outcome);
    }

    /// The process that had the request died.
    pub(super) fn forward_lost(&mut self, from: usize, origin: ProcessId, token: Token) {
        let at = self.network.delay(self.now, from, origin.slot);
        self.end_forward(at, origin, token, ForwardOutcome::Lost);
    }

    fn end_forward(&mut self, at: Micros, origin: ProcessId, token: Token, outcome: ForwardOutcome) {
        let outcome = Box::new(outcome);
        self.queue.push(
            at,
            Happening::ForwardEnds {
                at: origin,
                token,
                outcome,
            },
        );
    }

    pub(super) fn forward_ends(&mut self, id: ProcessId, token: Token, outcome: ForwardOutcome) {
        let Some(process) = self.machines[id.slot].process_of(id.life) else {
            return;
        };
        // Only the first end counts.
        if !process.forwards.remove(&token) {
            return;
        }
        let words = match &outcome {
            ForwardOutcome::Answered(response) => answer_words(response),
            ForwardOutcome::NotSent => [100, 0],
            ForwardOutcome::Lost => [101, 0],
        };
        self.trace
            .note(self.now, Some(id.slot), Traced::Forwarded, words, || {
                format!("{token:?} {outcome:?}")
            });
        self.handle(id, Event::Forwarded { token, outcome });
    }
}

//! Effects on their way out, and the count of requests that wait for an answer.

use raftkv_protocol::Response;

use super::{Effect, Notice, Token};

/// Effects gathered until the next poll hands them over.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    effects: Vec<Effect>,
    /// Requests taken and not answered yet.
    waiting: usize,
}

impl Outbox {
    pub(super) fn push(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub(super) fn notice(&mut self, notice: Notice) {
        self.effects.push(Effect::Notice(notice));
    }

    /// A request was taken; [`Outbox::finish`] is owed for it.
    pub(super) fn take_request(&mut self) {
        self.waiting += 1;
    }

    /// Answers a request that was never taken.
    pub(super) fn refuse(&mut self, token: Token, response: Response) {
        self.effects.push(Effect::Answer { token, response });
    }

    /// Answers a request that was taken.
    pub(super) fn finish(&mut self, token: Token, response: Response) {
        self.finish_by(Effect::Answer { token, response });
    }

    /// Ends a request that was taken, with another effect than an answer.
    pub(super) fn finish_by(&mut self, effect: Effect) {
        self.waiting = self
            .waiting
            .checked_sub(1)
            .expect("each request taken is answered exactly once");
        self.effects.push(effect);
    }

    /// Requests taken and not answered yet.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn is_empty(&self) -> bool {
        self.effects.is_empty()
    }

    /// Hands the effects over. The usual caller brings an empty vector: then the two change places and nothing is moved.
    pub(super) fn drain_into(&mut self, effects: &mut Vec<Effect>) {
        if effects.is_empty() {
            std::mem::swap(effects, &mut self.effects);
        } else {
            effects.append(&mut self.effects);
        }
    }
}

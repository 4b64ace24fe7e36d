//! Messages, and the durable state they wait for (R1, R5, R34).

use std::collections::VecDeque;

use crate::{Envelope, WriteNumber};

/// Every message shows the sender's term, and some promise a vote: none leaves before the write that carries both is
/// durable. So whoever takes messages out need not know what they depend on.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    free: Vec<Envelope>,
    /// In the order of the writes awaited.
    held: VecDeque<(WriteNumber, Envelope)>,
}

impl Outbox {
    pub(crate) fn send(&mut self, envelope: Envelope) {
        self.free.push(envelope);
    }

    pub(crate) fn send_after(&mut self, write: WriteNumber, envelope: Envelope) {
        self.held.push_back((write, envelope));
    }

    /// Writes up to `write` are durable.
    pub(crate) fn release(&mut self, write: WriteNumber) {
        while self.held.front().is_some_and(|(awaited, _)| *awaited <= write) {
            let (_, envelope) = self.held.pop_front().expect("looked at just now");
            self.free.push(envelope);
        }
    }

    /// The term rose: what was to be said in the old one could speak of entries that are cut since. A message may
    /// always be lost.
    pub(crate) fn forget_held(&mut self) {
        self.held.clear();
    }

    pub(crate) fn take(&mut self) -> Vec<Envelope> {
        std::mem::take(&mut self.free)
    }
}

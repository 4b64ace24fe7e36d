//! Requests that wait for their answer: who asked, by token.

use std::rc::Rc;

use raftkv_protocol::{RequestId, Response};
use raftkv_raft::Time;
use tokio::sync::oneshot;

use crate::metrics::Asking;
use crate::native::ClientOutbox;
use crate::replica::Token;

use super::door::Watcher;

/// Where an answer goes.
#[derive(Debug)]
pub(crate) enum Origin {
    /// A native connection.
    Native {
        outbox: Rc<ClientOutbox>,
        request: RequestId,
    },
    /// A native connection that asked for a watch.
    NativeWatch {
        outbox: Rc<ClientOutbox>,
        request: RequestId,
    },
    /// A call from another thread.
    Call(oneshot::Sender<Response>),
    /// A watch of another thread: all its parts, or why there is none.
    Watch(Watcher),
}

/// A request that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) origin: Origin,
    pub(crate) asking: Asking,
    /// When it was read.
    pub(crate) since: Time,
}

/// Waiting requests in reused slots; each token carries its slot's generation, so that no token ever comes twice.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Of all waiting requests.
    size_bytes: usize,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u64,
    waiting: Option<Waiting>,
    size_bytes: usize,
}

/// Low bits of a token: the slot. What is left counts generations: 2^36 requests per slot.
const SLOT_BITS: u32 = 28;

impl Pending {
    /// Bytes of all waiting requests.
    pub(crate) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// Notes who asked, and how large the request is.
    ///
    /// # Panics
    /// With 2^28 requests waiting at once, which the bounds on connections and their requests keep far away.
    pub(crate) fn insert(&mut self, waiting: Waiting, size_bytes: usize) -> Token {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).expect("waiting requests are bounded far below 2^32")
        });
        assert!(
            slot < 1 << SLOT_BITS,
            "waiting requests are bounded far below 2^{SLOT_BITS}, now {slot}"
        );
        let entry = &mut self.slots[slot as usize];
        entry.waiting = Some(waiting);
        entry.size_bytes = size_bytes;
        self.size_bytes += size_bytes;
        Token(entry.generation << SLOT_BITS | u64::from(slot))
    }

    /// Who asked; `None` when that was answered before.
    pub(crate) fn remove(&mut self, token: Token) -> Option<Waiting> {
        let slot = u32::try_from(token.0 & ((1 << SLOT_BITS) - 1)).ok()?;
        let entry = self.slots.get_mut(slot as usize)?;
        if entry.generation != token.0 >> SLOT_BITS {
            return None;
        }
        let waiting = entry.waiting.take()?;
        entry.generation += 1;
        self.size_bytes -= entry.size_bytes;
        self.free.push(slot);
        Some(waiting)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.free.len() == self.slots.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::RequestKind;
    use crate::replica::Hop;

    fn call() -> Waiting {
        Waiting {
            origin: Origin::Call(oneshot::channel().0),
            asking: Asking {
                kind: RequestKind::Get,
                hop: Hop::First,
            },
            since: Time(0),
        }
    }

    #[test]
    fn a_token_answers_once_and_never_comes_again() {
        let mut pending = Pending::default();
        let first = pending.insert(call(), 7);
        assert_eq!(pending.size_bytes(), 7);
        assert!(pending.remove(first).is_some());
        assert!(pending.remove(first).is_none());
        assert_eq!(pending.size_bytes(), 0);
        let second = pending.insert(call(), 7);
        assert_ne!(first, second);
        assert!(pending.remove(first).is_none());
        assert!(!pending.is_empty());
        assert!(pending.remove(second).is_some());
        assert!(pending.is_empty());
    }

    #[test]
    fn an_unknown_token_names_nobody() {
        assert!(Pending::default().remove(Token(5)).is_none());
    }
}

//! What will happen, in order of virtual time; ties in the order in which they were arranged.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Virtual time of the world in microseconds; every node's own clock is a function of it.
pub(crate) type Micros = u64;

/// An event queue on virtual time. The heap moves small keys only; what happens waits in a slab.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    order: BinaryHeap<Reverse<(Micros, u64, u32)>>,
    slots: Vec<Option<T>>,
    free: Vec<u32>,
    arranged: u64,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Queue<T> {
        Queue {
            order: BinaryHeap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            arranged: 0,
        }
    }

    /// Arranges for `happening` at `at`.
    pub(crate) fn push(&mut self, at: Micros, happening: T) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 events wait")
        });
        self.slots[slot as usize] = Some(happening);
        self.order.push(Reverse((at, self.arranged, slot)));
        self.arranged += 1;
    }

    /// Forgets all that is arranged but what `keeps` says.
    pub(crate) fn retain(&mut self, keeps: impl Fn(&T) -> bool) {
        let mut kept = Queue::new();
        while let Some((at, happening)) = self.pop() {
            if keeps(&happening) {
                kept.push(at, happening);
            }
        }
        *self = kept;
    }

    /// The next thing to happen, and when.
    pub(crate) fn pop(&mut self) -> Option<(Micros, T)> {
        let Reverse((at, _, slot)) = self.order.pop()?;
        let happening = self.slots[slot as usize]
            .take()
            .expect("each key names a filled slot");
        self.free.push(slot);
        Some((at, happening))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_happen_in_the_order_of_arrangement() {
        let mut queue = Queue::new();
        for (at, name) in [(5, "c"), (1, "a"), (5, "d"), (1, "b")] {
            queue.push(at, name);
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [(1, "a"), (1, "b"), (5, "c"), (5, "d")]);
    }
}

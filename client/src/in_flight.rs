//! The requests of one connection that wait for an answer.

use raftkv_protocol::RequestId;

/// A bounded table from request ids to whatever waits for the answer.
///
/// An id is a place in the table (low 32 bits) and how often that place was given away (high 32 bits), so that finding
/// one costs an index, and an answer that comes after its request was given up meets no one.
///
/// Invariants: a place is either free and listed in `free` once, or occupied and not listed; `len` counts the occupied.
#[derive(Debug)]
pub(crate) struct InFlight<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
    limit: u32,
}

#[derive(Debug)]
struct Place<T> {
    uses: u32,
    waiting: Option<T>,
}

impl<T> InFlight<T> {
    /// Room for `limit` requests.
    pub(crate) fn new(limit: u32) -> Self {
        InFlight {
            places: Vec::new(),
            free: Vec::new(),
            limit,
        }
    }

    /// How many requests wait.
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// How many more fit.
    pub(crate) fn room(&self) -> usize {
        self.limit as usize - self.len()
    }

    /// Takes a request in and names it; gives it back when the table is full.
    pub(crate) fn insert(&mut self, waiting: T) -> Result<RequestId, T> {
        if self.room() == 0 {
            return Err(waiting);
        }
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.places.push(Place {
                    uses: 0,
                    waiting: None,
                });
                u32::try_from(self.places.len() - 1).expect("the limit is a u32 and bounds the table")
            }
        };
        let place = &mut self.places[index as usize];
        assert!(
            place.waiting.is_none(),
            "a free place of the in-flight table was occupied"
        );
        // Never 0: ids below 2^32 are those of watches.
        place.uses = place.uses.wrapping_add(1).max(1);
        place.waiting = Some(waiting);
        Ok(RequestId(u64::from(place.uses) << 32 | u64::from(index)))
    }

    /// Ends a request; `None` when it was given up before, or never existed.
    pub(crate) fn remove(&mut self, id: RequestId) -> Option<T> {
        let index = u32::try_from(id.0 & u64::from(u32::MAX)).expect("masked to 32 bits");
        let place = self.places.get_mut(index as usize)?;
        if u64::from(place.uses) != id.0 >> 32 {
            return None;
        }
        let waiting = place.waiting.take()?;
        self.free.push(index);
        Some(waiting)
    }

    /// Ends every request for which `is_over` says so, in no particular order.
    pub(crate) fn remove_where(&mut self, mut is_over: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut removed = Vec::new();
        for (index, place) in self.places.iter_mut().enumerate() {
            if place.waiting.as_ref().is_some_and(&mut is_over) {
                removed.extend(place.waiting.take());
                self.free
                    .push(u32::try_from(index).expect("the limit is a u32 and bounds the table"));
            }
        }
        removed
    }

    /// Everything that waits.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().filter_map(|place| place.waiting.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_comes_after_its_request_was_given_up_meets_no_one() {
        let mut table = InFlight::new(1);
        let first = table.insert("first").unwrap();
        assert_eq!(table.remove_where(|_| true), ["first"]);
        let second = table.insert("second").unwrap();
        assert_ne!(first, second);
        assert_eq!(table.remove(first), None);
        assert_eq!(table.remove(second), Some("second"));
        assert_eq!(table.remove(second), None, "answered twice");
    }

    #[test]
    fn the_table_is_bounded_and_reuses_its_places() {
        let mut table = InFlight::new(2);
        for round in 0..1000 {
            let a = table.insert(round).unwrap();
            let b = table.insert(round + 1).unwrap();
            assert_eq!(table.insert(7), Err(7));
            assert_eq!(table.iter().count(), 2);
            assert_eq!(table.remove(b), Some(round + 1));
            assert_eq!(table.room(), 1);
            assert_eq!(table.remove(a), Some(round));
        }
        assert_eq!(table.places.len(), 2);
        assert_eq!(table.remove(RequestId(u64::MAX)), None, "never given away");
    }
}

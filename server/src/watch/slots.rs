//! A table whose entries keep their place, found by number in no time.

/// Entries in reused places. A name carries how often its place was used, so that no name ever means two entries.
#[derive(Clone, Debug)]
pub(super) struct Slots<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

#[derive(Clone, Debug)]
struct Place<T> {
    uses: u32,
    entry: Option<T>,
}

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        Slots {
            places: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slots<T> {
    /// Adds an entry; its name.
    ///
    /// # Panics
    /// With 2^32 entries.
    pub(super) fn insert(&mut self, entry: T) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { uses: 0, entry: None });
            u32::try_from(self.places.len() - 1).expect("entries are bounded far below 2^32")
        });
        let place = &mut self.places[index as usize];
        place.uses = place.uses.wrapping_add(1);
        place.entry = Some(entry);
        u64::from(place.uses) << 32 | u64::from(index)
    }

    fn place(&self, name: u64) -> Option<usize> {
        let index = (name & u64::from(u32::MAX)) as usize;
        let place = self.places.get(index)?;
        (u64::from(place.uses) == name >> 32).then_some(index)
    }

    pub(super) fn get(&self, name: u64) -> Option<&T> {
        self.places[self.place(name)?].entry.as_ref()
    }

    pub(super) fn get_mut(&mut self, name: u64) -> Option<&mut T> {
        let index = self.place(name)?;
        self.places[index].entry.as_mut()
    }

    pub(super) fn remove(&mut self, name: u64) -> Option<T> {
        let index = self.place(name)?;
        let entry = self.places[index].entry.take()?;
        self.free
            .push(u32::try_from(index).expect("entries are bounded far below 2^32"));
        Some(entry)
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// The names of all entries, in the order of their places.
    pub(super) fn names(&self) -> impl Iterator<Item = u64> {
        let places = self.places.iter().enumerate();
        places
            .filter(|(_, place)| place.entry.is_some())
            .map(|(index, place)| u64::from(place.uses) << 32 | index as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_one_entry_only() {
        let mut slots = Slots::default();
        let first = slots.insert("first");
        assert_eq!(slots.remove(first), Some("first"));
        let second = slots.insert("second");
        assert_ne!(first, second);
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get_mut(second).copied(), Some("second"));
        assert_eq!(slots.names().collect::<Vec<_>>(), [second]);
        assert_eq!(slots.len(), 1);
    }
}

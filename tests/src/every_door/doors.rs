//! What a door is, and what it gives names to.

use raftkv_protocol::LeaseId;

use super::ask::{Ask, LeaseName, Listing};
use super::told::Told;

/// A way into a store that began empty.
pub trait Door {
    /// What it is, for a failing test.
    fn name(&self) -> &'static str;

    /// Asks, and waits for the answer.
    fn ask(&mut self, ask: &Ask) -> Told;
}

/// A lease that nobody was granted: below those that servers choose.
const NO_LEASE: LeaseId = LeaseId(77);

/// The leases of one store, in the order in which they were granted.
#[derive(Clone, Debug, Default)]
pub struct Leases(Vec<LeaseId>);

impl Leases {
    /// Notes that one was granted.
    pub fn note(&mut self, id: LeaseId) {
        self.0.push(id);
    }

    /// What this store calls it.
    #[must_use]
    pub fn id(&self, name: LeaseName) -> LeaseId {
        self.0.get(name.0).copied().unwrap_or(NO_LEASE)
    }

    /// What all of them call it.
    ///
    /// # Panics
    /// When it was never granted: no answer may name it.
    #[must_use]
    pub fn name(&self, id: LeaseId) -> LeaseName {
        let place = self.0.iter().position(|granted| *granted == id);
        LeaseName(place.unwrap_or_else(|| panic!("there never was a lease {id}")))
    }
}

/// The listings of one store, with where each goes on.
#[derive(Clone, Debug)]
pub struct Cursors<C>(Vec<(Listing, Option<C>)>);

impl<C> Default for Cursors<C> {
    fn default() -> Cursors<C> {
        Cursors(Vec::new())
    }
}

impl<C: Clone> Cursors<C> {
    /// A listing begins; its place.
    pub fn begin(&mut self, listing: &Listing) -> usize {
        self.0.push((listing.clone(), None));
        self.0.len() - 1
    }

    /// It goes on there; `None`: it is over.
    pub fn note(&mut self, place: usize, cursor: Option<C>) {
        self.0[place].1 = cursor;
    }

    /// The listing at a place with where it goes on, if it does.
    #[must_use]
    pub fn at(&self, place: usize) -> Option<(Listing, C)> {
        let (listing, cursor) = self.0.get(place)?;
        Some((listing.clone(), cursor.clone()?))
    }
}

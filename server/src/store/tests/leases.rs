//! Very many leases cost an entry, and a look at what is due, no more than a few: proven by counting what is looked at.

use raftkv_protocol::{Command, LeaseId};

use super::rig::Applier;
use crate::store::EXPIRIES_PER_ENTRY;
use crate::store::leases::looks;

/// Enough that one walk over them would stand out, and few enough for a debug build.
const LEASES: u64 = 200_000;
const TTL_MS: u64 = 1_000;

/// A store that so many leases live in, `due` of which end together, and the others long after.
fn store_with_leases(due: u64) -> Applier {
    let mut a = Applier::new();
    for id in (1..=LEASES).map(LeaseId) {
        let ttl_ms = if id.0 <= due { TTL_MS } else { 100 * TTL_MS };
        a.apply(0, &Command::GrantLease { id: Some(id), ttl_ms });
    }
    a
}

#[test]
fn entries_and_looks_at_the_next_deadline_walk_over_no_leases() {
    let mut a = store_with_leases(0);
    looks::take();
    a.apply(1, &Command::Tick);
    assert_eq!(a.store.next_deadline_us(), Some(100 * TTL_MS * 1000));
    assert!(a.store.has_deadlines());
    a.put(1, "key", None);
    let ids = vec![LeaseId(LEASES / 2)];
    a.apply(1, &Command::RenewLeases { ids });
    let looked = looks::take();
    assert!(looked <= 20, "{looked} leases were looked at");
}

#[test]
fn what_is_due_at_once_ends_in_batches_of_a_bounded_size() {
    let due = LEASES / 2;
    let mut a = store_with_leases(due);
    let mut living = LEASES;
    let mut entries = 0;
    while living > LEASES - due {
        looks::take();
        a.apply(TTL_MS, &Command::Tick);
        entries += 1;
        let looked = looks::take();
        let left = a.store.leases.count() as u64;
        assert!(
            living - left <= EXPIRIES_PER_ENTRY as u64,
            "{} at once",
            living - left
        );
        assert!(looked <= 4 * EXPIRIES_PER_ENTRY as u64, "{looked} were looked at");
        assert!(
            left < living,
            "an entry that ends nothing would be followed by others for ever"
        );
        living = left;
    }
    assert_eq!(entries, due.div_ceil(EXPIRIES_PER_ENTRY as u64));
    // What did not end in time does not end before its own.
    a.apply(TTL_MS + 1, &Command::Tick);
    assert_eq!(a.store.leases.count() as u64, LEASES - due);
}

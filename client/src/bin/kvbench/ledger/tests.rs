//! What may be read back, and what must be found out.

use super::*;

fn acknowledged(write: u64, revision: u64) -> Acknowledged {
    Acknowledged {
        write,
        revision: Some(Revision(revision)),
        next_write: write + 1,
    }
}

/// Key 0 was written by writes 1 and 2, acknowledged in the other order; write 3 is in doubt.
fn ledger() -> Ledger {
    let mut ledger = Ledger::new(1, Order::ByRevision);
    ledger.acknowledge(0, acknowledged(2, 20));
    ledger.acknowledge(0, acknowledged(1, 10));
    ledger.doubt(0, 3);
    ledger
}

fn is_fine(revision: u64, write: Option<u64>) -> bool {
    let mut ledger = ledger();
    let revision = Some(Revision(revision));
    ledger.check(0, Some(ReadBack { revision, write }));
    ledger.violations().is_empty()
}

#[test]
fn the_newest_acknowledged_write_or_a_later_one_in_doubt_must_be_there() {
    assert!(is_fine(20, Some(2)));
    assert!(is_fine(21, Some(3)), "the write in doubt happened");
}

#[test]
fn lost_old_foreign_and_resurrected_values_are_found() {
    let mut missing = ledger();
    missing.check(0, None);
    assert_eq!(missing.violations().len(), 1);
    assert!(!is_fine(10, Some(1)), "an older write came back");
    assert!(
        !is_fine(20, Some(1)),
        "the value of another write at this revision"
    );
    assert!(!is_fine(20, None), "a damaged value");
    assert!(!is_fine(21, Some(1)), "an acknowledged write was applied twice");
    assert!(!is_fine(19, Some(3)), "the acknowledged write is gone");
}

#[test]
fn one_revision_belongs_to_one_write() {
    let mut ledger = ledger();
    ledger.acknowledge(0, acknowledged(4, 20));
    assert_eq!(ledger.violations().len(), 1);
}

/// Writes 1 and 2 overlapped; 3 began after both were acknowledged and overlapped with 4, which nobody answered.
fn ledger_without_revisions(writes: &[u64]) -> Ledger {
    let mut ledger = Ledger::new(1, Order::ByValue);
    for (write, next_write) in [(2, 3), (1, 3), (3, 5)] {
        if writes.contains(&write) {
            ledger.acknowledge(
                0,
                Acknowledged {
                    write,
                    revision: None,
                    next_write,
                },
            );
        }
    }
    ledger.doubt(0, 4);
    ledger
}

fn may_be_last(writes: &[u64], write: Option<u64>) -> bool {
    let mut ledger = ledger_without_revisions(writes);
    ledger.check(
        0,
        Some(ReadBack {
            revision: None,
            write,
        }),
    );
    ledger.violations().is_empty()
}

#[test]
fn without_revisions_any_of_the_writes_that_overlapped_may_be_the_last() {
    assert!(may_be_last(&[1, 2], Some(1)) && may_be_last(&[1, 2], Some(2)));
    assert!(may_be_last(&[1, 2, 3], Some(3)));
    assert!(may_be_last(&[1, 2, 3], Some(4)), "the write in doubt happened");
}

#[test]
fn without_revisions_a_write_that_another_came_after_must_not_be_the_last() {
    assert!(!may_be_last(&[1, 2, 3], Some(1)) && !may_be_last(&[1, 2, 3], Some(2)));
    assert!(!may_be_last(&[1, 2, 3], None), "a foreign or damaged value");
    let mut missing = ledger_without_revisions(&[1]);
    missing.check(0, None);
    assert_eq!(missing.violations().len(), 1);
}

//! What memory is bounded by: all that a generation holds until it is drained, and not its records alone.

use raftkv_protocol::{Answer, CheckedCommand, Command, LeaseId, Lifetime, Limits, Once, Op, Previous, Txn};

use super::rig::Applier;

const OVERLAY_BYTES: u64 = 256 << 10;
/// More than one entry of these tests adds: the row of a session with all its answers.
const ONE_ENTRY_BYTES: u64 = 72 << 10;

/// As a replica does behind each entry: a generation that has come to its size is frozen and drained.
fn keep_to_the_bound(a: &mut Applier) -> bool {
    let limit = a.store.config().freeze_bytes();
    let is_due = a.store.overlay_bytes().1 >= limit;
    if is_due {
        a.freeze();
        a.drain();
    }
    let (held, _) = a.store.overlay_bytes();
    assert!(
        held <= OVERLAY_BYTES + ONE_ENTRY_BYTES,
        "{held} bytes, the bound is {OVERLAY_BYTES}"
    );
    is_due
}

/// A load that writes no record: else its generations would wait in memory for ever, for the bound that none of them counts
/// for.
#[test]
fn renewals_alone_fill_generations_and_those_are_let_go() {
    let mut a = Applier::with_overlay(OVERLAY_BYTES);
    for id in 1..=2_000 {
        let grant = Command::GrantLease {
            id: Some(LeaseId(id)),
            ttl_ms: 60_000,
        };
        a.apply(0, &grant);
        keep_to_the_bound(&mut a);
    }
    let mut frozen = 0;
    for round in 0..20 {
        for first in (1..2_000).step_by(20) {
            let ids = (first..first + 20).map(LeaseId).collect();
            a.apply(round, &Command::RenewLeases { ids });
            frozen += u64::from(keep_to_the_bound(&mut a));
        }
    }
    assert!(frozen > 20, "{frozen} generations");
    // What was let go is in the base, to the last renewal.
    a.freeze();
    a.drain();
    a.restart();
    let leases = a.store.leases_after(LeaseId(0), 0);
    assert!(leases.iter().all(|lease| lease.remaining_ms >= 60_000 + 18));
}

/// A session's row holds all answers that its client has not acknowledged, in each generation that wrote in it.
#[test]
fn answers_that_sessions_keep_count_in_every_generation_that_holds_them() {
    let mut a = Applier::with_overlay(OVERLAY_BYTES);
    let opened = a.apply(0, &Command::OpenSession { ttl_ms: 60_000 });
    let Some(Answer::SessionOpened { session, .. }) = opened else {
        panic!("{opened:?}");
    };
    let value = [b'v'; 1_000];
    let put = Op::Put {
        key: b"key",
        value: &value,
        lifetime: Lifetime::Unlimited,
        previous: Previous::Wanted,
    };
    let put = Command::Txn(Txn {
        then: vec![put],
        ..Txn::default()
    });
    let put = CheckedCommand::new(&put, &Limits::default()).unwrap();
    for sequence in 1..=60 {
        let once = Once {
            session,
            sequence,
            first_unacknowledged: 1,
        };
        a.apply_checked(0, &put.clone().within(once));
        a.freeze();
        a.drain();
        keep_to_the_bound(&mut a);
    }
    let (held, _) = a.store.overlay_bytes();
    assert!(a.store.table_bytes() > held / 2, "the answers are most of it");
}

//! The store's rules, one by one.

use bytes::Bytes;
use raftkv_protocol::{
    Answer, CheckedCommand, Command, Condition, ErrorCode, Keys, LeaseId, Lifetime, Limits, MAX_TTL_MS, Op,
    Previous, Revision, Shape, Txn,
};
use raftkv_raft::{EntryKind, Index};

use super::rig::{Applier, delete, put};
use crate::store::{Applied, EXPIRIES_PER_ENTRY};

#[test]
fn revision_is_one_when_empty_and_counts_each_changing_transaction() {
    let mut a = Applier::new();
    assert_eq!(a.store.revision(), Revision(1));
    assert_eq!(a.store.applied(), None);
    assert_eq!(
        a.put(0, "k", None),
        Some(Answer::Put {
            revision: Revision(2)
        })
    );
    let failed = a.apply(0, &put(b"k", b"w", Condition::Absent, None));
    assert_eq!(
        failed,
        Some(Answer::ConditionFailed {
            current: Some(Revision(2))
        })
    );
    let nothing = a.apply(0, &delete(b"other", Condition::Always));
    let unchanged = Answer::Deleted {
        existed: false,
        revision: Revision(2),
    };
    assert_eq!(nothing, Some(unchanged));
    assert_eq!(a.apply(0, &Command::Tick), None);
    let gone = a.apply(0, &delete(b"k", Condition::ModRevision(Revision(2))));
    assert_eq!(
        gone,
        Some(Answer::Deleted {
            existed: true,
            revision: Revision(3)
        })
    );
    assert_eq!(a.store.revision(), Revision(3));
    assert_eq!(a.store.applied(), Index::new(5));
}

#[test]
fn version_restarts_and_create_revision_renews_after_a_delete() {
    let mut a = Applier::new();
    a.put(0, "k", None);
    a.put(0, "k", None);
    let record = a.get(b"k").unwrap();
    assert_eq!(
        (record.create_revision, record.mod_revision, record.version),
        (Revision(2), Revision(3), 2)
    );
    a.apply(0, &delete(b"k", Condition::Always));
    a.put(0, "k", None);
    let record = a.get(b"k").unwrap();
    assert_eq!(
        (record.create_revision, record.mod_revision, record.version),
        (Revision(5), Revision(5), 1)
    );
}

#[test]
fn noop_and_configuration_answer_nobody_and_change_no_revision() {
    let mut a = Applier::new();
    for kind in [EntryKind::Noop, EntryKind::Configuration] {
        let entry = a.entry(kind, 0, Bytes::from_static(b"not a command"));
        assert_eq!(a.store.apply(&entry), Applied::Done(None));
    }
    assert_eq!(a.store.revision(), Revision(1));
    assert_eq!(a.store.applied(), Index::new(2));
}

#[test]
fn expiry_comes_before_the_command_of_the_entry_in_deadline_then_key_order() {
    let mut a = Applier::new();
    a.put(0, "z", Some(10));
    a.put(0, "b", Some(20));
    a.put(0, "a", Some(20));
    a.put(19, "still", None);
    assert!(a.get(b"z").is_none() && a.get(b"a").is_some());
    assert_eq!(a.store.next_deadline_us(), Some(20_000));
    // z expired at revision 5, "still" is 6; a and b expire as 7 and 8, each its own revision; then the put.
    let answer = a.apply(20, &put(b"a", b"new", Condition::Absent, None));
    assert_eq!(
        answer,
        Some(Answer::Put {
            revision: Revision(9)
        })
    );
    assert!(!a.store.has_deadlines());
}

#[test]
fn put_without_ttl_removes_the_deadline_and_put_with_ttl_moves_it() {
    let mut a = Applier::new();
    a.put(0, "kept", Some(10));
    a.put(0, "moved", Some(10));
    a.put(5, "kept", None);
    a.put(5, "moved", Some(10));
    a.apply(14, &Command::Tick);
    assert!(a.get(b"kept").is_some() && a.get(b"moved").is_some());
    a.apply(15, &Command::Tick);
    assert!(a.get(b"kept").is_some() && a.get(b"moved").is_none());
}

#[test]
fn failed_condition_leaves_the_deadline_alone() {
    let mut a = Applier::new();
    a.put(0, "k", Some(10));
    a.apply(1, &put(b"k", b"w", Condition::Absent, Some(1000)));
    assert_eq!(a.store.next_deadline_us(), Some(10_000));
}

#[test]
fn deleted_key_leaves_no_deadline_behind() {
    let mut a = Applier::new();
    a.put(0, "k", Some(10));
    a.apply(0, &delete(b"k", Condition::Always));
    assert!(!a.store.has_deadlines());
    a.put(0, "k", None);
    a.apply(100, &Command::Tick);
    assert!(
        a.get(b"k").is_some(),
        "a new key does not inherit the old one's deadline"
    );
}

#[test]
fn log_time_never_falls() {
    let mut a = Applier::new();
    a.put(100, "k", None);
    a.put(40, "ttl", Some(10));
    assert_eq!(a.store.log_time_us(), 100_000);
    assert_eq!(a.store.next_deadline_us(), Some(110_000));
    let noop = a.entry(EntryKind::Noop, 0, Bytes::new());
    a.store.apply(&noop);
    assert_eq!(a.store.log_time_us(), 100_000);
}

#[test]
fn expiry_per_entry_is_bounded_and_the_rest_goes_with_the_next_entry() {
    let mut a = Applier::new();
    for number in 0..EXPIRIES_PER_ENTRY + 1 {
        a.put(0, &format!("{number:05}"), Some(1));
    }
    a.apply(1, &Command::Tick);
    assert_eq!(a.keys().len(), 1);
    assert_eq!(a.store.next_deadline_us(), Some(1000));
    a.apply(1, &Command::Tick);
    assert_eq!(a.keys().len(), 0);
}

#[test]
fn the_longest_ttl_at_the_latest_log_time_does_not_overflow() {
    let mut a = Applier::new();
    a.put(u64::MAX / 1000, "k", Some(MAX_TTL_MS));
    assert_eq!(a.store.next_deadline_us(), Some(u64::MAX));
}

#[test]
fn kept_values_share_nothing_with_the_entry() {
    let mut a = Applier::new();
    let checked = CheckedCommand::new(&put(b"k", b"v", Condition::Always, None), &Limits::default()).unwrap();
    let entry = a.entry(EntryKind::Command, 0, checked.encoded().clone());
    a.store.apply(&entry);
    let kept = a.get(b"k").unwrap().value;
    assert!(!entry.payload.as_ptr_range().contains(&kept.as_ptr()));
}

#[test]
fn keys_of_every_length_are_found_and_come_in_byte_order() {
    let mut a = Applier::new();
    let mut keys: Vec<Vec<u8>> = (1..60)
        .flat_map(|length| [vec![7; length], vec![0; length]])
        .collect();
    for key in &keys {
        a.apply(0, &put(key, b"v", Condition::Always, Some(1000)));
    }
    keys.sort();
    assert_eq!(a.keys(), keys);
    assert!(keys.iter().all(|key| a.get(key).is_some()));
    a.apply(1000, &Command::Tick);
    assert_eq!(a.keys().len(), 0);
}

#[test]
#[should_panic(expected = "a newer version of this program may have written it")]
fn unreadable_command_halts_rather_than_diverges() {
    let mut a = Applier::new();
    let entry = a.entry(EntryKind::Command, 0, Bytes::from_static(&[250, 250, 250]));
    a.store.apply(&entry);
}

#[test]
#[should_panic(expected = "each exactly once")]
fn entry_applied_twice_halts() {
    let mut a = Applier::new();
    let entry = a.entry(EntryKind::Noop, 0, Bytes::new());
    a.store.apply(&entry);
    a.store.apply(&entry);
}

#[test]
fn state_hash_tells_every_kind_of_difference() {
    let hash_after = |commands: &[(u64, Command<'_>)]| {
        let mut a = Applier::new();
        for (log_time_ms, command) in commands {
            a.apply(*log_time_ms, command);
        }
        a.store.state_hash()
    };
    let always = Condition::Always;
    let base = hash_after(&[(0, put(b"ab", b"c", always, None))]);
    assert_eq!(base, hash_after(&[(0, put(b"ab", b"c", always, None))]));
    let different = [
        hash_after(&[]),
        hash_after(&[(0, put(b"a", b"bc", always, None))]),
        hash_after(&[(0, put(b"ab", b"d", always, None))]),
        hash_after(&[(0, put(b"ab", b"c\0", always, None))]),
        hash_after(&[(0, put(b"ab", b"c", always, Some(7)))]),
        hash_after(&[(1, put(b"ab", b"c", always, None))]),
        hash_after(&[(0, put(b"ab", b"c", always, None)), (0, Command::Tick)]),
        hash_after(&[(0, put(b"ab", b"c", always, None)), (0, delete(b"ab", always))]),
    ];
    assert!(different.iter().all(|hash| *hash != base));
}

#[test]
fn state_hash_remembers_the_past_whatever_comes_after() {
    // Sixteen bytes equal to the hash's own constants: they must not wipe out what came before.
    let mut poison = [0; 16];
    poison[8..].copy_from_slice(&0xbb67_ae85_84ca_a73b_u64.to_le_bytes());
    let run = |first: &[u8]| {
        let mut a = Applier::new();
        a.apply(0, &put(b"k", first, Condition::Always, None));
        a.apply(0, &put(b"k", &poison, Condition::Always, None));
        a.store.state_hash()
    };
    assert_ne!(run(b"one"), run(b"two"));
}

#[test]
fn a_transaction_that_would_answer_too_much_changes_nothing() {
    let mut a = Applier::new();
    let value = vec![b'v'; 1 << 20];
    for key in [b"a", b"b", b"c", b"d", b"e"] {
        a.apply(0, &put(key, &value, Condition::Always, None));
    }
    let get = |key| Op::Get {
        keys: Keys::One(key),
        shape: Shape::Records,
        limit: None,
    };
    let write = Op::Put {
        key: b"f",
        value: b"",
        lifetime: Lifetime::Unlimited,
        previous: Previous::Unwanted,
    };
    let mut txn = Txn {
        then: vec![write, get(b"a"), get(b"b"), get(b"c")],
        ..Txn::default()
    };
    assert!(matches!(
        a.apply(0, &Command::Txn(txn.clone())),
        Some(Answer::Txn(_))
    ));
    let before = a.store.revision();
    txn.then.push(get(b"d"));
    let refused = a.execute(0, &Command::Txn(txn)).unwrap().unwrap_err();
    assert_eq!(refused.code, ErrorCode::TooLarge);
    assert_eq!(a.store.revision(), before);
}

#[test]
fn a_lease_that_the_store_names_is_named_by_its_entry() {
    let mut a = Applier::new();
    a.put(0, "k", None);
    let granted = a.apply(0, &Command::GrantLease { id: None, ttl_ms: 10 });
    let id = LeaseId(LeaseId::FIRST_OF_SERVER.0 + 2);
    assert_eq!(granted, Some(Answer::LeaseGranted { id, ttl_ms: 10 }));
    assert_eq!(a.store.revision(), Revision(2), "leases make no revisions");
    assert_eq!(a.store.next_deadline_us(), Some(10_000));
}

#[test]
fn keys_of_several_leases_that_are_due_go_with_one_revision_for_each_lease() {
    let mut a = Applier::new();
    for id in [1, 2] {
        let grant = Command::GrantLease {
            id: Some(LeaseId(id)),
            ttl_ms: 10,
        };
        a.apply(0, &grant);
    }
    let on = |key, id| Op::Put {
        key,
        value: b"",
        lifetime: Lifetime::Lease(LeaseId(id)),
        previous: Previous::Unwanted,
    };
    let txn = Txn {
        then: vec![on(b"a", 1), on(b"b", 2), on(b"c", 1), on(b"d", 2)],
        ..Txn::default()
    };
    a.apply(0, &Command::Txn(txn));
    // A put by itself takes a key off its lease.
    a.put(0, "c", None);
    assert_eq!(a.store.revision(), Revision(3));
    a.apply(10, &Command::Tick);
    assert_eq!(a.store.revision(), Revision(5));
    assert_eq!(a.keys(), [b"c".to_vec()]);
    assert!(!a.store.has_deadlines());
}

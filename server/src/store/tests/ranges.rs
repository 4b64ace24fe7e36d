//! Transactions over ranges: what bounds them, and which state they see.

use bytes::Bytes;
use raftkv_protocol::{
    Answer, CheckedCommand, Command, Compare, Condition, ErrorCode, Keys, LeaseId, Lifetime, Limits,
    MAX_TXN_KEYS, MAX_TXN_KEYS_PASSED, MAX_TXN_RANGE_BYTES, Op, OpResult, Previous, Relation, Revision,
    Shape, Test, Txn,
};
use raftkv_raft::{Entry, EntryKind};

use super::rig::{Applier, delete, put};
use crate::store::base::Base;
use crate::store::{Applied, BaseRecords, Slot};

const ALL: Keys<'_> = Keys::Range { from: b"", to: None };

fn prefix<'a>(from: &'a [u8], to: &'a [u8]) -> Keys<'a> {
    Keys::Range { from, to: Some(to) }
}

fn count(keys: Keys<'_>) -> Op<'_> {
    Op::Get {
        keys,
        shape: Shape::CountOnly,
        limit: None,
    }
}

fn delete_all(keys: Keys<'_>) -> Op<'_> {
    Op::Delete {
        keys,
        previous: Previous::Unwanted,
    }
}

fn put_op(key: &[u8]) -> Op<'_> {
    Op::Put {
        key,
        value: b"new",
        lifetime: Lifetime::Unlimited,
        previous: Previous::Unwanted,
    }
}

fn then(then: Vec<Op<'_>>) -> Command<'_> {
    Command::Txn(Txn {
        then,
        ..Txn::default()
    })
}

fn results(a: &mut Applier, command: &Command<'_>) -> Vec<OpResult> {
    match a.apply(0, command) {
        Some(Answer::Txn(result)) => result.results,
        other => panic!("{other:?}"),
    }
}

fn refusal(a: &mut Applier, command: &Command<'_>) -> (ErrorCode, String) {
    let before = (a.store.revision(), a.keys());
    let refused = a.execute(0, command).expect("an outcome").expect_err("refused");
    assert_eq!(
        (a.store.revision(), a.keys()),
        before,
        "what is refused changes nothing"
    );
    (refused.code, refused.message)
}

/// The same keys: all in memory; and half of them in the base, the other half over deletes of what the base holds.
fn replicas(keys: usize, value: &[u8]) -> [Applier; 2] {
    let (mut in_memory, mut layered) = (Applier::new(), Applier::with_overlay(0));
    for a in [&mut in_memory, &mut layered] {
        for number in 0..keys / 2 {
            a.apply(
                0,
                &put(format!("old{number:06}").as_bytes(), b"", Condition::Always, None),
            );
        }
    }
    layered.freeze();
    layered.drain();
    for a in [&mut in_memory, &mut layered] {
        for number in 0..keys {
            if number < keys / 2 {
                a.apply(
                    0,
                    &delete(format!("old{number:06}").as_bytes(), Condition::Always),
                );
            }
            a.apply(
                0,
                &put(format!("{number:06}").as_bytes(), value, Condition::Always, None),
            );
        }
    }
    [in_memory, layered]
}

fn together(mut replicas: [Applier; 2], mut told: impl FnMut(&mut Applier)) {
    for a in &mut replicas {
        told(a);
    }
    let [one, other] = replicas;
    assert_eq!(one.store.state_hash(), other.store.state_hash());
    assert_eq!(one.keys(), other.keys());
}

#[test]
fn ranges_hold_as_many_keys_as_the_limit_and_no_more_wherever_they_are() {
    together(replicas(MAX_TXN_KEYS + 1, b""), |a| {
        for op in [count(ALL), delete_all(ALL)] {
            let (code, message) = refusal(a, &then(vec![put_op(b"x"), op]));
            assert_eq!(code, ErrorCode::TooLarge);
            assert!(message.contains("narrower ranges"), "{message}");
        }
        // Whichever branch would run, and however deep.
        let nested = Txn {
            otherwise: vec![count(prefix(b"0", b"1"))],
            ..Txn::default()
        };
        let nested = nested.encode();
        assert_eq!(refusal(a, &then(vec![Op::Txn(&nested)])).0, ErrorCode::TooLarge);
        let compared = Command::Txn(Txn {
            compare: vec![Compare {
                keys: ALL,
                test: Test::Absent,
            }],
            ..Txn::default()
        });
        assert_eq!(refusal(a, &compared).0, ErrorCode::TooLarge);
        a.apply(0, &delete(b"000000", Condition::Always));
        let deleted = OpResult::Deleted {
            count: MAX_TXN_KEYS as u64,
            previous: Vec::new(),
        };
        assert_eq!(results(a, &then(vec![delete_all(ALL)])), [deleted]);
        assert!(a.keys().is_empty());
    });
}

#[test]
fn ranges_hold_as_many_bytes_as_the_limit_and_no_more_wherever_they_are() {
    let value = vec![b'v'; MAX_TXN_RANGE_BYTES / 16 - b"000000".len()];
    together(replicas(16, &value), |a| {
        assert_eq!(results(a, &then(vec![count(ALL)])).len(), 1);
        a.apply(0, &put(b"1", b"", Condition::Always, None));
        assert_eq!(refusal(a, &then(vec![delete_all(ALL)])).0, ErrorCode::TooLarge);
    });
}

#[test]
fn keys_are_passed_as_often_as_the_limit_and_no_more() {
    let keys = MAX_TXN_KEYS / 4;
    let most = MAX_TXN_KEYS_PASSED / (keys + 1);
    together(replicas(keys, b""), |a| {
        assert_eq!(results(a, &then(vec![count(ALL); most])).len(), most);
        let (code, message) = refusal(a, &then(vec![count(ALL); most + 1]));
        assert_eq!(code, ErrorCode::TooLarge);
        assert!(message.contains("fewer or narrower"), "{message}");
    });
}

#[test]
fn keys_that_are_due_are_gone_before_the_ranges_are_looked_at() {
    let mut a = Applier::new();
    a.put(0, "a", Some(10));
    a.put(0, "b", None);
    let counted = OpResult::Got {
        kvs: Vec::new(),
        count: 1,
    };
    match a.apply(10, &then(vec![count(ALL)])) {
        Some(Answer::Txn(result)) => assert_eq!(result.results, [counted]),
        other => panic!("{other:?}"),
    }
    assert_eq!(a.store.revision(), Revision(4), "the key that was due took one");
}

#[test]
fn a_range_is_deleted_at_one_revision_with_an_event_for_each_key_in_order() {
    let mut a = Applier::with_overlay(0);
    a.apply(
        0,
        &Command::GrantLease {
            id: Some(LeaseId(1)),
            ttl_ms: 1000,
        },
    );
    for key in ["p/c", "p/a", "q"] {
        a.put(0, key, None);
    }
    a.freeze();
    a.drain();
    let on_lease = Op::Put {
        key: b"p/b",
        value: b"",
        lifetime: Lifetime::Lease(LeaseId(1)),
        previous: Previous::Unwanted,
    };
    a.apply(0, &then(vec![on_lease]));
    let deleted = results(
        &mut a,
        &then(vec![put_op(b"z"), delete_all(prefix(b"p/", b"p0")), put_op(b"a")]),
    );
    assert!(matches!(deleted[1], OpResult::Deleted { count: 3, .. }));
    let lease = a.store.lease(LeaseId(1), 0).expect("it is there");
    assert_eq!(lease.key_count, 0, "nothing hangs on it any more");

    let at = a.store.revision();
    let history = a.history().view();
    let events = history.events(at, at, crate::store::history::KeyRange::all());
    let told: Vec<_> = events
        .expect("it is kept")
        .map(|event| event.expect("it is read"))
        .map(|event| (event.key, matches!(event.slot, Slot::Deleted(_))))
        .collect();
    let expected = [
        ("z", false),
        ("p/a", true),
        ("p/b", true),
        ("p/c", true),
        ("a", false),
    ];
    let expected = expected.map(|(key, is_deleted)| (Bytes::from_static(key.as_bytes()), is_deleted));
    assert_eq!(told, expected);
}

#[test]
fn what_a_range_does_not_hold_is_known_to_be_absent() {
    // Over a base that could hold anything: nobody looked the key up, but the range that it is in.
    let mut a = Applier::with_overlay(0);
    a.put(0, "other", None);
    a.freeze();
    a.drain();
    let get = Op::Get {
        keys: prefix(b"k", b"l"),
        shape: Shape::Records,
        limit: None,
    };
    match &results(&mut a, &then(vec![put_op(b"k1"), get]))[1] {
        OpResult::Got { kvs, count: 1 } => assert_eq!(kvs[0].record.version, 1),
        other => panic!("{other:?}"),
    }
}

/// Entries of these commands, the next ones.
fn entries(a: &mut Applier, commands: &[Command<'_>]) -> Vec<Entry> {
    let entry = |command| {
        let checked = CheckedCommand::new(command, &Limits::default()).expect("valid");
        a.entry(EntryKind::Command, 0, checked.encoded().clone())
    };
    commands.iter().map(entry).collect()
}

#[test]
fn an_entry_sees_what_those_in_front_of_it_in_its_batch_did() {
    let mut a = Applier::with_overlay(0);
    a.put(0, "a", None);
    a.put(0, "b", None);
    a.freeze();
    a.drain();
    // The first waits for a key; what the second finds is not what it would find now.
    let [put_c, delete_b] = [
        put(b"c", b"", Condition::Absent, None),
        delete(b"b", Condition::Always),
    ];
    let waiting = entries(
        &mut a,
        &[put_c, then(vec![count(ALL)]), delete_b, then(vec![count(ALL)])],
    );
    assert_eq!(a.store.apply(&waiting[0]), Applied::Waits);
    let missing = a.store.missing(waiting.iter());
    assert!(missing.ranges.is_none(), "ranges are read for the first alone");
    let counts: Vec<_> = (0..waiting.len())
        .filter_map(|at| match a.apply_first(&waiting[at..]) {
            Some(Ok(Answer::Txn(result))) => Some(result.results),
            _ => None,
        })
        .collect();
    let count = |count| {
        vec![OpResult::Got {
            kvs: Vec::new(),
            count,
        }]
    };
    assert_eq!(counts, [count(3), count(2)]);
}

#[test]
fn a_drain_between_question_and_answer_changes_nothing() {
    let mut a = Applier::with_overlay(0);
    a.put(0, "a", None);
    let waiting = entries(&mut a, &[then(vec![delete_all(ALL)])]);
    let asked = |a: &Applier| a.store.missing(waiting.iter()).ranges;
    let read = |a: &Applier, ranges| BaseRecords::read(&a.base().view().unwrap(), &[], ranges).unwrap();

    // What was pinned drains, and memory lets go of it, before the base is asked: it knows more than what was pinned.
    let ranges = asked(&a);
    a.freeze();
    a.drain();
    let found = read(&a, ranges);
    a.store.gathered(waiting[0].id.index, found);
    assert_eq!(a.store.apply(&waiting[0]), Applied::Waits, "it was overtaken");

    // Memory lets go of a generation when the answer is there.
    a.freeze();
    let ranges = asked(&a);
    let found = read(&a, ranges);
    a.store.gathered(waiting[0].id.index, found);
    a.drain();
    match a.apply_first(&waiting) {
        Some(Ok(Answer::Txn(result))) => {
            assert!(matches!(result.results[0], OpResult::Deleted { count: 1, .. }))
        }
        other => panic!("{other:?}"),
    }
    assert!(a.keys().is_empty());
}

#[test]
fn a_compare_of_an_empty_range_is_judged_as_of_a_key_that_is_not_there() {
    let mut a = Applier::new();
    a.put(0, "k", None);
    let mut holds = |keys, test| {
        let txn = Txn {
            compare: vec![Compare { keys, test }],
            ..Txn::default()
        };
        match a.apply(0, &Command::Txn(txn)) {
            Some(Answer::Txn(result)) => result.succeeded(),
            other => panic!("{other:?}"),
        }
    };
    for keys in [prefix(b"x", b"y"), prefix(b"z", b"a")] {
        assert!(holds(keys, Test::Absent) && !holds(keys, Test::Exists));
        assert!(holds(keys, Test::Version(Relation::Equal, 0)));
        assert!(holds(keys, Test::ModRevision(Relation::Less, Revision(1))));
        assert!(holds(keys, Test::Lease(Relation::Equal, None)));
        for relation in [
            Relation::Equal,
            Relation::NotEqual,
            Relation::Less,
            Relation::Greater,
        ] {
            assert!(
                !holds(keys, Test::Value(relation, b"")),
                "no value is like another"
            );
        }
    }
    assert!(holds(prefix(b"k", b"l"), Test::Exists));
}

//! Random commands of every kind, with drains, lookups and restarts between them, against a [`World`].

use bytes::Bytes;
use proptest::prelude::*;
use raftkv_protocol::{
    Answer, CheckedCommand, Command, Condition, LeaseId, LeaseState, Lifetime, Limits, Once, Previous,
    Record, Relation, Revision, SessionId, Shape, Txn,
};

use super::rig::{Applier, put};
use super::world::{DAY_MS, ENDS, KEYS, KeysSpec, OpSpec, TestSpec, Told, TxnSpec, VALUES, World};
use crate::store::Outcome;
use crate::store::history::{Direction, KeyRange, Past};

#[derive(Clone, Debug)]
enum Step {
    Ask(Ask),
    /// The generation ends.
    Freeze,
    /// The oldest frozen generation goes into the base, and memory may let go of it.
    Drain,
    /// A reader asks the base for this key.
    Lookup(usize),
    /// The process dies: what was not drained is applied again.
    Restart,
}

/// A command.
#[derive(Clone, Debug)]
enum Ask {
    /// Depends on nothing.
    Put(usize, usize, Option<u64>),
    Txn(TxnSpec),
    Grant(Option<u64>, u64),
    Renew(Vec<u64>),
    Revoke(u64),
    Open(u64),
    /// Sessions are named by their place among all that were opened.
    Keep(usize),
    Close(usize),
    Once(u8, Box<Ask>),
    /// Session, sequence and first unacknowledged.
    Within((usize, u64, u64), Box<Ask>),
    Tick,
}

fn relation() -> impl Strategy<Value = Relation> {
    prop_oneof![
        2 => Just(Relation::Equal),
        1 => Just(Relation::NotEqual),
        1 => Just(Relation::Less),
        1 => Just(Relation::Greater),
    ]
}

fn test() -> impl Strategy<Value = TestSpec> {
    let lease = proptest::option::of(1..4_u64);
    prop_oneof![
        2 => Just(TestSpec::Exists),
        2 => Just(TestSpec::Absent),
        1 => (relation(), 0..VALUES.len()).prop_map(|(relation, value)| TestSpec::Value(relation, value)),
        2 => (relation(), 0..4_u64).prop_map(|(relation, version)| TestSpec::Version(relation, version)),
        1 => (relation(), 0..20_u64).prop_map(|(relation, revision)| TestSpec::Created(relation, revision)),
        1 => (relation(), 0..20_u64).prop_map(|(relation, revision)| TestSpec::Changed(relation, revision)),
        1 => (relation(), lease).prop_map(|(relation, lease)| TestSpec::Lease(relation, lease)),
    ]
}

fn keys() -> impl Strategy<Value = KeysSpec> {
    prop_oneof![
        3 => (0..KEYS.len()).prop_map(KeysSpec::One),
        2 => (0..ENDS.len(), proptest::option::of(0..ENDS.len()))
            .prop_map(|(from, to)| KeysSpec::Range(from, to)),
    ]
}

fn op() -> impl Strategy<Value = OpSpec> {
    let key = || 0..KEYS.len();
    let previous = || prop_oneof![Just(Previous::Unwanted), Just(Previous::Wanted)];
    let lifetime = prop_oneof![
        4 => Just(Lifetime::Unlimited),
        2 => (1..50_u64).prop_map(|ttl_ms| Lifetime::Ttl { ttl_ms }),
        2 => Just(Lifetime::Kept),
        3 => (1..4_u64).prop_map(|id| Lifetime::Lease(LeaseId(id))),
    ];
    let shape = prop_oneof![
        3 => Just(Shape::Records),
        1 => Just(Shape::KeysOnly),
        1 => Just(Shape::CountOnly),
    ];
    prop_oneof![
        4 => (key(), 0..VALUES.len(), lifetime, previous())
            .prop_map(|(key, value, lifetime, previous)| OpSpec::Put(key, value, lifetime, previous)),
        2 => (key(), -5..5_i64).prop_map(|(key, by)| OpSpec::Increment(key, by)),
        2 => (keys(), previous()).prop_map(|(keys, previous)| OpSpec::Delete(keys, previous)),
        3 => (keys(), shape, proptest::option::weighted(0.2, 0..3_u32))
            .prop_map(|(keys, shape, limit)| OpSpec::Get(keys, shape, limit)),
    ]
}

fn txn() -> impl Strategy<Value = TxnSpec> {
    fn of(op: impl Strategy<Value = OpSpec> + Clone) -> impl Strategy<Value = TxnSpec> {
        let compare = proptest::collection::vec((keys(), test()), 0..3);
        let ops = proptest::collection::vec(op, 0..4);
        (compare, ops.clone(), ops).prop_map(|(compare, then, otherwise)| TxnSpec {
            compare,
            then,
            otherwise,
        })
    }
    let op = op().boxed();
    let nested = of(op.clone()).prop_map(OpSpec::Txn);
    of(prop_oneof![5 => op, 1 => nested].boxed())
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let ttl_ms = || 20..150_u64;
    let plain = prop_oneof![
        2 => (0..KEYS.len(), 0..VALUES.len(), proptest::option::weighted(0.3, 1..50_u64))
            .prop_map(|(key, value, ttl_ms)| Ask::Put(key, value, ttl_ms)),
        6 => txn().prop_map(Ask::Txn),
        2 => (proptest::option::weighted(0.8, 1..4_u64), ttl_ms()).prop_map(|(id, ttl_ms)| Ask::Grant(id, ttl_ms)),
        1 => proptest::collection::vec(1..4_u64, 0..3).prop_map(Ask::Renew),
        1 => (1..4_u64).prop_map(Ask::Revoke),
        1 => ttl_ms().prop_map(Ask::Open),
        1 => (0..3_usize).prop_map(Ask::Keep),
        1 => (0..3_usize).prop_map(Ask::Close),
    ]
    .boxed();
    let named = (0..3_u8, plain.clone()).prop_map(|(name, ask)| Ask::Once(name, Box::new(ask)));
    let once = (0..3_usize, 1..6_u64, 1..3_u64)
        .prop_map(|(place, sequence, first)| (place, sequence, first.min(sequence)));
    let inner = prop_oneof![5 => plain.clone(), 1 => named.clone()];
    let within = (once, inner).prop_map(|(once, ask)| Ask::Within(once, Box::new(ask)));
    let ask = prop_oneof![
        15 => plain,
        3 => named,
        6 => within,
        1 => Just(Ask::Tick),
    ];
    // Names of writes are known for a day.
    let log_time_ms = prop_oneof![40 => 0..200_u64, 1 => DAY_MS..DAY_MS + 200];
    let step = prop_oneof![
        10 => ask.prop_map(Step::Ask),
        2 => Just(Step::Freeze),
        2 => Just(Step::Drain),
        1 => (0..KEYS.len()).prop_map(Step::Lookup),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec((log_time_ms, step), 0..100)
}

/// Encodes and checks it, as a client does.
fn encoded(world: &World, ask: &Ask) -> CheckedCommand {
    let checked = |command: &Command<'_>| CheckedCommand::new(command, &Limits::default()).unwrap();
    let session = |place: &usize| SessionId(world.session_at(*place));
    match ask {
        Ask::Put(key, value, ttl_ms) => checked(&put(KEYS[*key], VALUES[*value], Condition::Always, *ttl_ms)),
        Ask::Txn(spec) => {
            let encoded = spec.encode();
            checked(&Command::Txn(Txn::decode(&encoded).unwrap()))
        }
        Ask::Grant(id, ttl_ms) => checked(&Command::GrantLease {
            id: id.map(LeaseId),
            ttl_ms: *ttl_ms,
        }),
        Ask::Renew(ids) => checked(&Command::RenewLeases {
            ids: ids.iter().copied().map(LeaseId).collect(),
        }),
        Ask::Revoke(id) => checked(&Command::RevokeLease { id: LeaseId(*id) }),
        Ask::Open(ttl_ms) => checked(&Command::OpenSession { ttl_ms: *ttl_ms }),
        Ask::Keep(place) => checked(&Command::RenewSession {
            session: session(place),
        }),
        Ask::Close(place) => checked(&Command::CloseSession {
            session: session(place),
        }),
        Ask::Once(name, ask) => checked(&Command::Once {
            idempotency_key: &[*name],
            command: encoded(world, ask).encoded(),
        }),
        Ask::Within(once, ask) => encoded(world, ask).within(once_of(world, *once)),
        Ask::Tick => CheckedCommand::tick(),
    }
}

fn once_of(world: &World, (place, sequence, first_unacknowledged): (usize, u64, u64)) -> Once {
    Once {
        session: SessionId(world.session_at(place)),
        sequence,
        first_unacknowledged,
    }
}

fn ask_world(world: &mut World, ask: &Ask) -> Told {
    match ask {
        Ask::Put(key, value, ttl_ms) => {
            let lifetime = ttl_ms.map_or(Lifetime::Unlimited, |ttl_ms| Lifetime::Ttl { ttl_ms });
            let spec = TxnSpec {
                compare: Vec::new(),
                then: vec![OpSpec::Put(*key, *value, lifetime, Previous::Unwanted)],
                otherwise: Vec::new(),
            };
            let revision = world.transact(&spec)?.revision;
            Ok(Answer::Put { revision })
        }
        Ask::Txn(spec) => world.transact(spec).map(Answer::Txn),
        Ask::Grant(id, ttl_ms) => world.grant(*id, *ttl_ms),
        Ask::Renew(ids) => world.renew(ids),
        Ask::Revoke(id) => world.revoke(*id),
        Ask::Open(ttl_ms) => world.open(*ttl_ms),
        Ask::Keep(place) => world.keep(world.session_at(*place)),
        Ask::Close(place) => {
            let id = world.session_at(*place);
            world.sessions.remove(&id);
            Ok(Answer::SessionDone)
        }
        Ask::Once(name, ask) => {
            let command = encoded(world, ask).encoded().clone();
            world.once(*name, command, |world| ask_world(world, ask))
        }
        Ask::Within(once, ask) => {
            let once = once_of(world, *once);
            world.within(once, |world| ask_world(world, ask))
        }
        Ask::Tick => unreachable!("it answers nobody"),
    }
}

fn run_step(a: &mut Applier, world: &mut World, log_time_ms: u64, step: &Step) {
    match step {
        Step::Ask(ask) => {
            let command = encoded(world, ask);
            world.index += 1;
            world.advance(log_time_ms);
            let expected = match ask {
                Ask::Tick => None,
                _ => Some(ask_world(world, ask)),
            };
            let outcome: Option<Outcome> = a.apply_checked(log_time_ms, &command);
            let told = outcome.map(|outcome| outcome.map_err(|failure| failure.code));
            assert_eq!(told, expected, "{ask:?}");
        }
        Step::Freeze => a.freeze(),
        Step::Drain => a.drain(),
        Step::Lookup(key) => a.look_up(KEYS[*key]),
        Step::Restart => a.restart(),
    }
}

type Listed = Vec<(Vec<u8>, Vec<u8>, u64, u64, u64, Option<u64>)>;

fn listed(world: &World) -> Listed {
    let held = world.keys.iter();
    held.map(|(key, h)| {
        (
            key.to_vec(),
            h.value.clone(),
            h.created,
            h.changed,
            h.version,
            h.lease,
        )
    })
    .collect()
}

fn listed_record(key: &[u8], r: &Record) -> (Vec<u8>, Vec<u8>, u64, u64, u64, Option<u64>) {
    let lease = r.lease.map(|lease| lease.0);
    (
        key.to_vec(),
        r.value.to_vec(),
        r.create_revision.0,
        r.mod_revision.0,
        r.version,
        lease,
    )
}

fn check_against(world: &World, a: &Applier) {
    assert_eq!(a.store.revision(), Revision(world.changes + 1), "revision");
    let state = a.hold();
    let found = state.range(&[], None).map(|item| {
        let (key, stored) = item.expect("the twin reads");
        listed_record(&key, &stored.record().expect("a scan resolves lineages"))
    });
    assert_eq!(found.collect::<Listed>(), listed(world));
    check_tables(world, a);
}

fn check_tables(world: &World, a: &Applier) {
    let leases = world.leases.iter().map(|(id, (ttl_ms, deadline_ms))| LeaseState {
        id: LeaseId(*id),
        ttl_ms: *ttl_ms,
        remaining_ms: deadline_ms - world.now_ms,
        key_count: world.keys_on(*id).len() as u64,
        keys: world.keys_on(*id).into_iter().map(Bytes::from_static).collect(),
    });
    let leases: Vec<_> = leases.collect();
    let now_us = a.store.log_time_us();
    for lease in &leases {
        assert_eq!(a.store.lease(lease.id, now_us).as_ref(), Some(lease));
    }
    let without_keys = |lease: &LeaseState| LeaseState {
        keys: Vec::new(),
        ..lease.clone()
    };
    let listed: Vec<_> = leases.iter().map(without_keys).collect();
    assert_eq!(a.store.leases_after(LeaseId(0), now_us), listed);
    assert_eq!(a.store.sessions.count(), world.sessions.len());
    let of_keys = world.keys.values().filter_map(|held| held.expires_ms);
    let of_leases = world.leases.values().map(|(_, deadline_ms)| *deadline_ms);
    let of_sessions = world.sessions.values().map(|session| session.deadline_ms);
    if let Some(first_ms) = of_keys.chain(of_leases).chain(of_sessions).min() {
        let told_us = a.store.next_deadline_us().expect("something ends by itself");
        assert!(told_us <= first_ms * 1000, "the leader would tick too late");
    }
}

proptest! {
    #[test]
    fn every_command_does_and_answers_what_the_world_says(steps in steps(), overlay_bytes in 0..3000u64) {
        let (mut a, mut world) = (Applier::with_overlay(overlay_bytes), World::default());
        for (log_time_ms, step) in &steps {
            run_step(&mut a, &mut world, *log_time_ms, step);
            check_against(&world, &a);
        }
    }

    #[test]
    fn the_past_has_all_changes_of_a_transaction_or_none(steps in steps(), overlay_bytes in 0..3000u64) {
        let (mut a, mut world) = (Applier::with_overlay(overlay_bytes), World::default());
        let mut then = std::collections::BTreeMap::from([(1, listed(&world))]);
        for (log_time_ms, step) in &steps {
            run_step(&mut a, &mut world, *log_time_ms, step);
            then.insert(world.changes + 1, listed(&world));
        }
        let past = Past::new(a.history(), a.hold(), a.store.revision());
        for (at, expected) in &then {
            let range = past.range_at(&KeyRange::all(), Revision(*at), Direction::Ascending).expect("it is kept");
            let found = range.map(|item| {
                let (key, record) = item.expect("the twin reads");
                listed_record(&key, &record)
            });
            prop_assert_eq!(&found.collect::<Listed>(), expected, "at {}", at);
        }
    }

    #[test]
    fn replay_of_any_commands_gives_the_same_hash_whatever_was_drained_between(steps in steps()) {
        let (mut layered, mut plain) = (Applier::with_overlay(500), Applier::new());
        let (mut world, mut again) = (World::default(), World::default());
        for (log_time_ms, step) in &steps {
            run_step(&mut layered, &mut world, *log_time_ms, step);
            if matches!(step, Step::Ask(_)) {
                run_step(&mut plain, &mut again, *log_time_ms, step);
            }
        }
        prop_assert_eq!(layered.store.state_hash(), plain.store.state_hash());
    }
}

//! Transactions, leases, sessions and idempotency keys: on every node, across leaders and snapshots.

use std::time::Duration;

use bytes::Bytes;
use raftkv_protocol::{
    Answer, CheckedCommand, Command, ErrorCode, Keys, LeaseId, LeaseQuery, LeaseState, Lifetime, Limits,
    Once, Op, OpResult, Previous, Request, Response, Revision, SessionId, Test, Txn,
};

use super::cluster::{Cluster, code};
use crate::store::Looked;

pub(super) fn write(command: &Command<'_>) -> Request {
    Request::Write(CheckedCommand::new(command, &Limits::default()).unwrap())
}

/// Puts both keys on a lease, unless the first is there.
pub(super) fn put_on_lease(id: LeaseId) -> Request {
    let put = |key| Op::Put {
        key,
        value: b"value",
        lifetime: Lifetime::Lease(id),
        previous: Previous::Unwanted,
    };
    write(&Command::Txn(Txn {
        compare: vec![raftkv_protocol::Compare {
            keys: Keys::One(b"a"),
            test: Test::Absent,
        }],
        then: vec![put(b"a"), put(b"b")],
        otherwise: Vec::new(),
    }))
}

fn increment() -> CheckedCommand {
    let command = Command::Txn(Txn {
        then: vec![Op::Increment { key: b"n", by: 1 }],
        ..Txn::default()
    });
    CheckedCommand::new(&command, &Limits::default()).unwrap()
}

fn number(response: &Response) -> i64 {
    match &response.outcome {
        Ok(Answer::Txn(result)) => match result.results[..] {
            [OpResult::Incremented { value }] => value,
            _ => panic!("{response:?}"),
        },
        _ => panic!("{response:?}"),
    }
}

fn granted(response: &Response) -> LeaseId {
    match response.outcome {
        Ok(Answer::LeaseGranted { id, .. }) => id,
        _ => panic!("{response:?}"),
    }
}

pub(super) fn opened(response: &Response) -> SessionId {
    match response.outcome {
        Ok(Answer::SessionOpened { session, .. }) => session,
        _ => panic!("{response:?}"),
    }
}

fn lease(cluster: &mut Cluster, machine: usize, id: LeaseId) -> Option<LeaseState> {
    let answer = cluster.call(machine, Request::Lease(LeaseQuery::One(id)));
    match answer.outcome {
        Ok(Answer::Lease(state)) => state,
        _ => panic!("{answer:?}"),
    }
}

fn is_present(cluster: &Cluster, machine: usize, key: &str) -> bool {
    let store = cluster.node(machine).store().unwrap();
    matches!(store.look(key.as_bytes()), Looked::Found(_))
}

#[test]
fn a_lease_ends_on_all_nodes_without_any_request_and_takes_its_keys_along() {
    let mut cluster = Cluster::ready(1);
    let grant = Command::GrantLease {
        id: None,
        ttl_ms: 2000,
    };
    let id = granted(&cluster.call(0, write(&grant)));
    let put = cluster.call(1, put_on_lease(id));
    let Ok(Answer::Txn(result)) = &put.outcome else {
        panic!("{put:?}");
    };
    assert_eq!(result.revision, Revision(2), "both puts are one transaction");
    let state = lease(&mut cluster, 2, id).expect("it is there");
    assert_eq!(state.keys, [Bytes::from_static(b"a"), Bytes::from_static(b"b")]);
    assert!(state.remaining_ms <= 2000);

    cluster.run_for(Duration::from_millis(1500));
    let renew = Command::RenewLeases {
        ids: vec![id, LeaseId(7)],
    };
    let renewed = cluster.call(2, write(&renew));
    assert_eq!(renewed.outcome, Ok(Answer::LeasesRenewed(vec![Some(2000), None])));
    cluster.run_for(Duration::from_millis(1500));
    assert!((0..3).all(|machine| is_present(&cluster, machine, "a")));
    cluster.run_for(Duration::from_millis(800));
    for machine in 0..3 {
        assert!(!is_present(&cluster, machine, "a") && !is_present(&cluster, machine, "b"));
        assert_eq!(cluster.node(machine).store().unwrap().revision(), Revision(3));
        assert_eq!(lease(&mut cluster, machine, id), None);
    }
    let late = cluster.call(0, put_on_lease(id));
    assert_eq!(code(&late), Some(ErrorCode::LeaseNotFound));
    assert_eq!(late.header.revision, Revision(3), "nothing was changed");
    let state = |cluster: &Cluster, machine: usize| {
        let store = cluster.node(machine).store().unwrap();
        (store.applied(), store.state_hash())
    };
    cluster.run_until("all nodes have the same state", |cluster| {
        (1..3).all(|machine| state(cluster, machine) == state(cluster, 0))
    });
    // Nothing can end by itself any more: log time may rest.
    let last = cluster.node(0).raft().unwrap().last();
    cluster.run_for(Duration::from_secs(5));
    assert_eq!(cluster.node(0).raft().unwrap().last(), last);
}

#[test]
fn a_write_of_a_session_is_applied_once_whoever_it_is_sent_to() {
    let mut cluster = Cluster::ready(2);
    let session = opened(&cluster.call(0, write(&Command::OpenSession { ttl_ms: 60_000 })));
    let within = |sequence| {
        Request::Write(increment().within(Once {
            session,
            sequence,
            first_unacknowledged: 1,
        }))
    };
    assert_eq!(number(&cluster.call(1, within(1))), 1);
    assert_eq!(number(&cluster.call(2, within(1))), 1);
    assert_eq!(number(&cluster.call(2, within(2))), 2);
    let leader = cluster.leader().unwrap();
    cluster.kill(leader);
    let other = (leader + 1) % 3;
    let again = cluster.ask_within(other, within(1), Duration::from_secs(20));
    assert_eq!(number(&cluster.wait(again)), 1, "the next leader knows it too");
    cluster.start(leader);
    cluster.run_until("all are ready", Cluster::all_ready);
    assert_eq!(number(&cluster.call(leader, within(3))), 3);
    let close = Command::CloseSession { session };
    assert_eq!(cluster.call(0, write(&close)).outcome, Ok(Answer::SessionDone));
    assert_eq!(code(&cluster.call(1, within(4))), Some(ErrorCode::SessionExpired));
}

#[test]
fn a_session_that_nobody_uses_ends() {
    let mut cluster = Cluster::ready(3);
    let session = opened(&cluster.call(0, write(&Command::OpenSession { ttl_ms: 1000 })));
    let keep = write(&Command::RenewSession { session });
    cluster.run_for(Duration::from_millis(700));
    assert_eq!(cluster.call(1, keep.clone()).outcome, Ok(Answer::SessionDone));
    cluster.run_for(Duration::from_millis(700));
    assert_eq!(cluster.call(2, keep.clone()).outcome, Ok(Answer::SessionDone));
    cluster.run_for(Duration::from_millis(1700));
    assert_eq!(code(&cluster.call(0, keep)), Some(ErrorCode::SessionExpired));
}

#[test]
fn a_command_under_an_idempotency_key_is_executed_once() {
    let mut cluster = Cluster::ready(4);
    let command = increment();
    let once = write(&Command::Once {
        idempotency_key: b"name",
        command: command.encoded(),
    });
    for machine in 0..3 {
        assert_eq!(number(&cluster.call(machine, once.clone())), 1);
    }
    let other =
        CheckedCommand::new(&Command::GrantLease { id: None, ttl_ms: 1 }, &Limits::default()).unwrap();
    let conflict = write(&Command::Once {
        idempotency_key: b"name",
        command: other.encoded(),
    });
    assert_eq!(
        code(&cluster.call(0, conflict)),
        Some(ErrorCode::IdempotencyConflict)
    );
}

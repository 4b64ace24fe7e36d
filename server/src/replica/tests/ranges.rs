//! Pages of ranges, and reads in the past, at nodes that drain and come and go.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use raftkv_protocol::{
    Answer, At, Consistency, Cursor, ErrorCode, HistoryEpoch, KeySpan, Order, RangePage, RangeRequest,
    ReadBasis, Request, Response, Revision, Shape,
};

use super::cluster::{Cluster, code, delete, put};
use super::drains::{tiny, write_many};
use crate::replica::ranges::MAX_RANGE_READS;

type Listed = BTreeMap<Bytes, Bytes>;

fn all() -> RangeRequest {
    RangeRequest::new(KeySpan::all())
}

fn page(response: &Response) -> &RangePage {
    match &response.outcome {
        Ok(Answer::Range(page)) => page,
        other => panic!("expected a page, got {other:?}"),
    }
}

fn read(cluster: &mut Cluster, machine: usize, range: RangeRequest) -> RangePage {
    let response = cluster.call(machine, Request::Range(range));
    page(&response).clone()
}

fn message(response: &Response) -> &str {
    &response.outcome.as_ref().expect_err("a refusal").message
}

/// A cluster with keys `key0` to `key9`.
fn filled(seed: u64) -> Cluster {
    let mut cluster = Cluster::ready(seed);
    write_many(&mut cluster, &[0, 1, 2], 10);
    cluster
}

/// The whole listing, page by page at these machines in turn, with something in between.
fn list(
    cluster: &mut Cluster,
    machines: &[usize],
    range: &RangeRequest,
    between: &mut dyn FnMut(&mut Cluster),
) -> (Revision, Listed) {
    let (mut range, mut listed) = (range.clone(), Listed::new());
    for turn in 0.. {
        let page = read(cluster, machines[turn % machines.len()], range.clone());
        for kv in page.kvs {
            assert!(
                listed.insert(kv.key, kv.record.value).is_none(),
                "a key came twice"
            );
        }
        let Some(cursor) = page.cursor else {
            return (page.at, listed);
        };
        range.cursor = Some(cursor);
        between(cluster);
    }
    unreachable!("a listing ends");
}

#[test]
fn listing_tells_one_state_whatever_is_written_between_its_pages_and_whoever_is_asked() {
    let mut cluster = filled(1);
    let before = read(&mut cluster, 0, all());
    let expected: Listed = before
        .kvs
        .iter()
        .map(|kv| (kv.key.clone(), kv.record.value.clone()))
        .collect();
    assert_eq!(expected.len(), 10);
    for order in [Order::Ascending, Order::Descending] {
        let range = RangeRequest {
            limit: Some(3),
            order,
            at: At::Revision(before.at),
            ..all()
        };
        let mut number = 0;
        let listed = list(&mut cluster, &[0, 1, 2], &range, &mut |cluster| {
            number += 1;
            for key in ["key0", "key5", "key9", "new"] {
                assert!(cluster.call(0, put(key, "changed")).outcome.is_ok());
            }
            assert!(cluster.call(0, delete(&format!("key{number}"))).outcome.is_ok());
        });
        assert_eq!(listed, (before.at, expected.clone()), "{order:?}");
    }
}

#[test]
fn state_of_a_listing_is_kept_while_it_goes_on_and_let_go_at_its_end() {
    let mut cluster = filled(2);
    let range = RangeRequest {
        limit: Some(4),
        ..all()
    };
    let (_, listed) = list(&mut cluster, &[0], &range, &mut |cluster| {
        assert_eq!(cluster.kept_states(0), 1);
        assert!(cluster.call(0, put("key7", "later")).outcome.is_ok());
    });
    assert_eq!(listed.len(), 10);
    assert_ne!(listed[&b"key7"[..]], "later");
    assert_eq!(cluster.kept_states(0), 0);
}

#[test]
fn states_are_kept_for_few_listings_and_for_a_minute() {
    let mut cluster = filled(3);
    let range = RangeRequest {
        limit: Some(4),
        ..all()
    };
    let first = read(&mut cluster, 0, range.clone());
    for number in 0..20 {
        assert!(cluster.call(0, put("other", &number.to_string())).outcome.is_ok());
        read(&mut cluster, 0, range.clone());
    }
    assert_eq!(cluster.kept_states(0), 16);
    cluster.run_for(Duration::from_secs(61));
    assert_eq!(cluster.kept_states(0), 0);
    let next = RangeRequest {
        cursor: first.cursor,
        ..range
    };
    let next = read(&mut cluster, 0, next);
    assert_eq!((next.at, next.count), (first.at, 4), "history tells it");
}

#[test]
fn listing_whose_state_was_given_up_says_so_and_names_the_oldest_that_is_kept() {
    let mut cluster = Cluster::new((1..=3).map(tiny).collect(), 7);
    (0..3).for_each(|machine| cluster.start(machine));
    cluster.run_until("all nodes are ready", Cluster::all_ready);
    write_many(&mut cluster, &[0, 1, 2], 10);
    let range = RangeRequest {
        limit: Some(4),
        ..all()
    };
    let first = read(&mut cluster, 0, range.clone());
    write_many(&mut cluster, &[0, 1, 2], 150);
    let oldest = cluster.node(0).store().unwrap().oldest_kept();
    assert!(oldest > first.at);
    let next = RangeRequest {
        cursor: first.cursor,
        ..range.clone()
    };
    let past = RangeRequest {
        at: At::Revision(first.at),
        ..range
    };
    for range in [next, past] {
        let refused = cluster.call(0, Request::Range(range));
        assert_eq!(code(&refused), Some(ErrorCode::Compacted));
        assert!(
            message(&refused).contains(&format!("revision {oldest}")),
            "{}",
            message(&refused)
        );
    }
}

#[test]
fn cursor_of_another_history_is_refused() {
    let mut cluster = filled(4);
    let cursor = Cursor {
        at: Revision(3),
        epoch: HistoryEpoch(7),
        last: Bytes::from_static(b"key1"),
    };
    let range = RangeRequest {
        cursor: Some(cursor.encode()),
        ..all()
    };
    let refused = cluster.call(0, Request::Range(range));
    assert_eq!(code(&refused), Some(ErrorCode::Compacted));
    assert!(
        message(&refused).contains("history forked"),
        "{}",
        message(&refused)
    );
}

#[test]
fn past_is_told_by_revision_and_by_age_and_what_has_not_come_is_refused() {
    let mut cluster = filled(5);
    let then = read(&mut cluster, 0, all()).at;
    cluster.run_for(Duration::from_secs(10));
    assert!(cluster.call(0, put("key3", "changed")).outcome.is_ok());
    let key = |at| RangeRequest {
        at,
        ..RangeRequest::new(KeySpan::one(b"key3"))
    };
    for machine in 0..3 {
        for at in [At::Revision(then), At::Ago { ago_ms: 5000 }] {
            let page = read(&mut cluster, machine, key(at));
            assert_eq!((page.at, &page.kvs[0].record.value[..]), (then, &b"value3"[..]));
        }
        let page = read(&mut cluster, machine, key(At::Ago { ago_ms: 0 }));
        assert_eq!(&page.kvs[0].record.value[..], b"changed");
        let page = read(&mut cluster, machine, key(At::Ago { ago_ms: 1 << 40 }));
        assert_eq!((page.at, page.count), (Revision(1), 0), "before everything");
        let refused = cluster.call(machine, Request::Range(key(At::Revision(Revision(1000)))));
        assert_eq!(code(&refused), Some(ErrorCode::FutureRevision));
        let refused = cluster.call(machine, Request::Range(key(At::Revision(Revision(0)))));
        assert_eq!(code(&refused), Some(ErrorCode::BadRequest));
    }
}

#[test]
fn node_that_is_behind_waits_for_the_revision_that_it_is_asked_for() {
    let mut cluster = filled(6);
    let (leader, follower) = (cluster.leader().unwrap(), cluster.follower());
    cluster.stall_disk(follower);
    assert!(cluster.call(leader, put("key3", "changed")).outcome.is_ok());
    let range = RangeRequest {
        limit: Some(3),
        ..all()
    };
    let first = read(&mut cluster, leader, range.clone());
    let next = RangeRequest {
        cursor: first.cursor,
        ..range
    };
    let token = cluster.ask(follower, Request::Range(next));
    cluster.run_for(Duration::from_millis(100));
    assert!(cluster.answer(token).is_none(), "it is not applied there yet");
    cluster.resume_disk(follower);
    let response = cluster.wait(token);
    assert_eq!(page(&response).at, first.at);
    assert_eq!(page(&response).kvs[0].record.value, "changed");
}

#[test]
fn stale_listing_needs_no_leader_and_says_what_it_rests_on() {
    let mut cluster = filled(8);
    let follower = cluster.follower();
    cluster.isolate(follower);
    let stale = RangeRequest {
        consistency: Consistency::Stale,
        ..all()
    };
    let page = read(&mut cluster, follower, stale);
    assert!(
        matches!(page.basis, Some(ReadBasis::Local { .. })),
        "{:?}",
        page.basis
    );
    let leader = cluster.leader().unwrap();
    let leased = RangeRequest {
        consistency: Consistency::LeaderLease,
        ..all()
    };
    assert_eq!(
        read(&mut cluster, leader, leased).basis,
        Some(ReadBasis::ReadIndex)
    );
}

#[test]
fn keys_and_counts_come_without_values() {
    let mut cluster = filled(9);
    let keys = RangeRequest {
        shape: Shape::KeysOnly,
        limit: Some(2),
        ..RangeRequest::new(KeySpan::prefix(b"key"))
    };
    let page = read(&mut cluster, 1, keys);
    assert!(page.kvs.len() == 2 && page.kvs.iter().all(|kv| kv.record.value.is_empty()));
    assert!(page.kvs[1].record.mod_revision > page.kvs[0].record.mod_revision);
    let count = RangeRequest {
        shape: Shape::CountOnly,
        ..all()
    };
    let page = read(&mut cluster, 1, count);
    assert!(page.kvs.is_empty() && page.count == 10 && page.cursor.is_none());
    let small = RangeRequest {
        max_bytes: 0,
        ..all()
    };
    let page = read(&mut cluster, 1, small);
    assert!(
        page.kvs.len() == 1 && page.cursor.is_some(),
        "a page has a key at least"
    );
}

#[test]
fn too_many_range_reads_at_once_are_refused() {
    let mut cluster = filled(10);
    let follower = cluster.follower();
    cluster.isolate(follower);
    let tokens: Vec<_> = (0..MAX_RANGE_READS)
        .map(|_| cluster.ask(follower, Request::Range(all())))
        .collect();
    let refused = cluster.ask(follower, Request::Range(all()));
    let refused = cluster.answer(refused).expect("at once").clone();
    assert_eq!(code(&refused), Some(ErrorCode::Overloaded));
    for token in tokens {
        assert_eq!(code(&cluster.wait(token)), Some(ErrorCode::NoLeader));
    }
    cluster.rejoin(follower);
    cluster.run_until("it is ready again", Cluster::all_ready);
    assert_eq!(read(&mut cluster, follower, all()).count, 10);
}

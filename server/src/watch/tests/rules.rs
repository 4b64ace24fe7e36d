//! What a watch is promised, one thing at a time.

use std::time::Duration;

use bytes::Bytes;
use raftkv_protocol::{ErrorCode, KeySpan, PartKind, Previous, Revision, WatchRequest, WhenSlow};

use super::world::{World, request};
use crate::watch::{ConnectionId, HubSettings, Start};

fn world() -> World {
    World::new(HubSettings::default())
}

fn now_on(world: &World) -> Start {
    Start::From(Revision(world.history.head + 1))
}

#[test]
fn a_live_watch_gets_what_its_range_holds_and_nothing_else() {
    let mut world = world();
    let start = now_on(&world);
    let one = world.begin(1, request(KeySpan::one(b"a")), start);
    let prefix = world.begin(1, request(KeySpan::prefix(b"a")), start);
    for key in ["a", "ab", "b", "a"] {
        world.set(key, "value");
    }
    assert_eq!(world.clients[&one].events, 2);
    assert_eq!(world.clients[&prefix].events, 3);
    assert_eq!(
        world.clients[&one].parts,
        [PartKind::Progress, PartKind::Changes, PartKind::Changes]
    );
}

#[test]
fn watches_that_want_the_same_get_one_part() {
    let mut world = world();
    let start = now_on(&world);
    for connection in 0..100 {
        world.begin(connection, request(KeySpan::prefix(b"k")), start);
    }
    let events = world
        .history
        .commit(&[(Bytes::from_static(b"k1"), Some(Bytes::from_static(b"v")))]);
    let mut out = Vec::new();
    let revisions = (events[0].revision, events[0].revision);
    world
        .hub
        .applied(world.now, revisions, &events, &world.history, &mut out)
        .unwrap();
    let [crate::watch::Effect::Send { to, .. }] = &out[..] else {
        panic!("one part for all, got {out:?}");
    };
    assert_eq!(to.len(), 100);
}

#[test]
fn a_watch_without_credit_reads_later_what_it_missed_and_joins_again() {
    let mut world = world();
    let start = now_on(&world);
    let id = world.begin(
        1,
        WatchRequest {
            credit_bytes: 1,
            previous: Previous::Wanted,
            ..request(KeySpan::all())
        },
        start,
    );
    for value in ["one", "two", "three"] {
        world.set("k", value);
    }
    assert_eq!(world.clients[&id].events, 1, "the credit was for one");
    world.read_all();
    assert_eq!(world.clients[&id].events, 1);
    world.act(|hub, _, _| hub.credit(id, 1000));
    world.read_all();
    assert_eq!(world.clients[&id].events, 3);
    world.set("k", "four");
    assert_eq!(world.clients[&id].events, 4, "live again");
}

#[test]
fn a_connection_that_takes_nothing_holds_up_its_own_watches_only() {
    let mut world = World::new(HubSettings {
        max_queued_bytes: 1000,
        ..HubSettings::default()
    });
    let start = now_on(&world);
    let slow = world.begin(1, request(KeySpan::all()), start);
    let other = world.begin(2, request(KeySpan::all()), start);
    for _ in 0..100 {
        world.set("k", "value");
        world.drain(ConnectionId(2));
        world.read_all();
    }
    assert_eq!(world.clients[&other].events, 100);
    assert!(world.clients[&slow].events < 20);
    for _ in 0..100 {
        world.drain(ConnectionId(1));
        world.read_all();
    }
    assert_eq!(world.clients[&slow].events, 100);
}

#[test]
fn one_that_wants_the_latest_gets_that_when_it_is_far_behind() {
    let mut world = World::new(HubSettings {
        conflate_after: 10,
        ..HubSettings::default()
    });
    let start = now_on(&world);
    let id = world.begin(
        1,
        WatchRequest {
            credit_bytes: 0,
            when_slow: WhenSlow::LatestPerKey,
            ..request(KeySpan::all())
        },
        start,
    );
    for round in 0..50 {
        world.set("a", &round.to_string());
        world.set("b", &round.to_string());
    }
    world.act(|hub, _, _| hub.credit(id, 1000));
    world.read_all();
    assert_eq!(world.clients[&id].events, 2);
    assert_eq!(world.clients[&id].parts.last(), Some(&PartKind::Conflated));
    world.set("a", "now");
    assert_eq!(world.clients[&id].parts.last(), Some(&PartKind::Changes));
}

#[test]
fn one_that_wants_to_be_dropped_is() {
    let mut world = world();
    let start = now_on(&world);
    let id = world.begin(
        1,
        WatchRequest {
            credit_bytes: 1,
            when_slow: WhenSlow::Drop,
            ..request(KeySpan::all())
        },
        start,
    );
    world.set("k", "one");
    world.set("k", "two");
    let failure = world.clients[&id].ended.clone().unwrap().unwrap();
    assert_eq!(failure.code, ErrorCode::WatchTooSlow);
    assert!(world.hub.is_empty());
}

#[test]
fn a_revision_to_come_is_waited_for_and_one_that_is_not_kept_ends_the_watch() {
    let mut world = world();
    let future = world.begin(1, request(KeySpan::all()), Start::From(Revision(5)));
    for _ in 0..6 {
        world.set("k", "value");
        world.read_all();
    }
    assert_eq!(world.clients[&future].events, 3, "5, 6 and 7");
    world.history.oldest_kept = 4;
    let late = world.begin(1, request(KeySpan::all()), Start::From(Revision(3)));
    world.read_all();
    let failure = world.clients[&late].ended.clone().unwrap().unwrap();
    assert_eq!(failure.code, ErrorCode::Compacted);
    assert!(
        failure.message.contains("the oldest kept is 4"),
        "{}",
        failure.message
    );
}

#[test]
fn progress_is_told_to_who_has_heard_nothing_for_long() {
    let mut world = world();
    let start = now_on(&world);
    let quiet = WatchRequest {
        progress_ms: Some(500),
        ..request(KeySpan::one(b"other"))
    };
    let id = world.begin(1, quiet, start);
    world.set("k", "value");
    world.now = world.now.after(Duration::from_millis(499));
    world.act(|hub, now, out| hub.tick(now, out));
    assert_eq!(world.clients[&id].next, 2);
    world.now = world.hub.next_tick();
    world.act(|hub, now, out| hub.tick(now, out));
    assert_eq!(world.clients[&id].next, 3);
}

#[test]
fn a_snapshot_comes_in_pages_and_then_every_change_of_it() {
    let mut world = world();
    for key in 0..25 {
        world.set(&format!("k{key:02}"), "value");
    }
    world.most = 10;
    let at = Revision(world.history.head);
    let id = world.begin(1, request(KeySpan::prefix(b"k")), Start::Snapshot(at));
    world.set("k03", "changed while it was read");
    world.read_all();
    world.set("k04", "changed behind it");
    let client = &world.clients[&id];
    let expected = [
        PartKind::Snapshot,
        PartKind::Snapshot,
        PartKind::SnapshotEnd,
        PartKind::Changes,
        PartKind::Changes,
    ];
    assert_eq!(client.parts, expected);
    assert_eq!(client.events, 2);
}

#[test]
fn a_state_that_nobody_reads_is_given_back() {
    let mut world = world();
    world.set("k", "value");
    let at = Revision(world.history.head);
    let id = world.begin(
        1,
        WatchRequest {
            credit_bytes: 0,
            ..request(KeySpan::all())
        },
        Start::Snapshot(at),
    );
    world.read_all();
    world.now = world.now.after(HubSettings::default().held_state_idle);
    world.act(|hub, now, out| hub.tick(now, out));
    let failure = world.clients[&id].ended.clone().unwrap().unwrap();
    assert_eq!(failure.code, ErrorCode::WatchTooSlow);
}

#[test]
fn ten_thousand_that_fell_behind_together_cost_one_reading() {
    let mut world = world();
    let start = now_on(&world);
    for number in 0..10_000_u32 {
        let key = format!("k{number:05}");
        world.begin(
            u64::from(number % 10),
            request(KeySpan::one(key.as_bytes())),
            start,
        );
    }
    let changes: Vec<_> = (0..10_000)
        .map(|number| {
            let key = Bytes::from(format!("k{number:05}"));
            vec![(key, Some(Bytes::from_static(b"v")))]
        })
        .collect();
    for changes in &changes {
        world.history.commit(changes);
    }
    let head = Revision(world.history.head);
    world.act(|hub, _, _| hub.jump(head));
    world.most = 100_000;
    let mut windows = 0;
    while world.read() {
        windows += 1;
    }
    assert!(windows <= 4, "{windows} windows");
    assert!(world.clients.values().all(|client| client.events == 1));
}

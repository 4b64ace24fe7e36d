//! Random lives of many watches: each is told exactly what happened to its keys, in order.

use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use raftkv_protocol::{EventFilter, KeySpan, Previous, Revision, WatchRequest, WhenSlow};

use super::world::{World, request};
use crate::watch::{ConnectionId, HubSettings, Start, WatchId};

const CONNECTIONS: u64 = 4;

fn key(rng: &mut Rng) -> Bytes {
    Bytes::from(format!("{}{}", rng.char('a'..='c'), rng.u8(0..4)))
}

fn wish(rng: &mut Rng) -> WatchRequest {
    let span = match rng.u8(0..4) {
        0 => KeySpan::all(),
        1 => KeySpan::one(&key(rng)),
        2 => KeySpan::prefix(&key(rng)[..1]),
        _ => {
            let (from, to) = (key(rng), key(rng));
            KeySpan { from, to: Some(to) }
        }
    };
    WatchRequest {
        filter: [EventFilter::All, EventFilter::Puts, EventFilter::Deletes][rng.usize(..3)],
        previous: [Previous::Unwanted, Previous::Wanted][rng.usize(..2)],
        when_slow: [WhenSlow::EveryEvent, WhenSlow::LatestPerKey, WhenSlow::Drop][rng.usize(..3)],
        credit_bytes: rng.u32(0..200),
        progress_ms: rng.bool().then_some(200),
        ..request(span)
    }
}

fn transaction(rng: &mut Rng) -> Vec<(Bytes, Option<Bytes>)> {
    let mut changes: Vec<(Bytes, Option<Bytes>)> = Vec::new();
    for _ in 0..rng.usize(1..4) {
        let key = key(rng);
        if changes.iter().all(|(other, _)| *other != key) {
            let value = (rng.u8(0..3) > 0).then(|| Bytes::from(vec![b'v'; rng.usize(0..30)]));
            changes.push((key, value));
        }
    }
    changes
}

fn living(world: &World, rng: &mut Rng) -> Option<WatchId> {
    let living: Vec<WatchId> = world
        .clients
        .iter()
        .filter(|(_, client)| client.ended.is_none())
        .map(|(id, _)| *id)
        .collect();
    rng.choice(living)
}

fn step(world: &mut World, rng: &mut Rng) {
    match rng.u8(0..20) {
        0..=6 => {
            let batch: Vec<_> = (0..rng.usize(1..5)).map(|_| transaction(rng)).collect();
            world.apply(&batch);
        }
        7 => {
            // The hub is not told.
            world.history.commit(&transaction(rng));
            let head = Revision(world.history.head);
            world.act(|hub, _, _| hub.jump(head));
        }
        8..=9 => {
            let head = world.history.head;
            let start = match rng.u8(0..3) {
                0 => Start::Snapshot(Revision(head)),
                1 => Start::From(Revision(head + 1 + rng.u64(0..4))),
                _ => Start::From(Revision(rng.u64(world.history.oldest_kept..=head))),
            };
            world.begin(rng.u64(0..CONNECTIONS), wish(rng), start);
        }
        10..=11 => {
            if let Some(id) = living(world, rng) {
                let bytes = rng.u32(1..300);
                world.act(|hub, _, _| hub.credit(id, bytes));
            }
        }
        12..=14 => drop(world.read()),
        15 => {
            // They are on their way while other things happen.
            world.window = world.window.or_else(|| world.hub.next_window());
            world.page = world.page.take().or_else(|| world.hub.next_page());
        }
        16 => world.drain(ConnectionId(rng.u64(0..CONNECTIONS))),
        17 => {
            world.now = world.now.after(Duration::from_millis(rng.u64(1..400)));
            world.act(|hub, now, out| hub.tick(now, out));
        }
        18 if rng.u8(0..4) == 0 => {
            let connection = ConnectionId(rng.u64(0..CONNECTIONS));
            world.act(|hub, _, out| hub.closed(connection, out));
        }
        18 => {
            if let Some(id) = living(world, rng).filter(|_| rng.u8(0..3) == 0) {
                world.act(|hub, _, out| hub.cancel(id, out));
            }
        }
        _ if rng.u8(0..4) == 0 => {
            world.history.oldest_kept = rng.u64(world.history.oldest_kept..=world.history.head);
        }
        _ => world.most = [1, 3, 1000][rng.usize(..3)],
    }
}

/// With credit and time enough, each that still is there has everything.
fn settle(world: &mut World) {
    world.most = 1000;
    let told = |world: &World| -> usize { world.clients.values().map(|client| client.parts.len()).sum() };
    loop {
        let before = told(world);
        (0..CONNECTIONS).for_each(|connection| world.drain(ConnectionId(connection)));
        let living = world.clients.iter().filter(|(_, client)| client.ended.is_none());
        let living: Vec<WatchId> = living.map(|(id, _)| *id).collect();
        for id in living {
            world.act(|hub, _, _| hub.credit(id, 10_000));
        }
        world.read_all();
        if told(world) == before {
            break;
        }
    }
    world.apply(&[vec![(
        Bytes::from_static(b"a0"),
        Some(Bytes::from_static(b"last")),
    )]]);
    for _ in 0..3 {
        (0..CONNECTIONS).for_each(|connection| world.drain(ConnectionId(connection)));
        world.read_all();
        (0..CONNECTIONS).for_each(|connection| world.drain(ConnectionId(connection)));
        world.now = world.now.after(Duration::from_secs(1));
        world.act(|hub, now, out| hub.tick(now, out));
    }
    let head = world.history.head;
    for (id, client) in &world.clients {
        if client.ended.is_some() || client.next > head + 1 {
            continue;
        }
        let missing = world.history.expected(&client.request, client.next, head);
        assert!(missing.is_empty(), "{id:?} lacks {missing:?}");
        if client.request.progress_ms.is_some() {
            assert_eq!(client.next, head + 1, "{id:?} knows how far it is");
        }
    }
}

#[test]
fn every_watch_is_told_exactly_what_happened() {
    for seed in 0..400 {
        let mut rng = Rng::with_seed(seed);
        let mut world = World::new(HubSettings {
            part_bytes: rng.u64(1..200),
            max_queued_bytes: rng.u64(100..2000),
            window_revisions: rng.u64(1..20),
            conflate_after: rng.u64(1..20),
            max_matches: rng.usize(1..20),
            ..HubSettings::default()
        });
        for _ in 0..600 {
            step(&mut world, &mut rng);
        }
        settle(&mut world);
    }
}

//! A history that is a list, and clients that check all they are told against it.

use std::collections::BTreeMap;

use bytes::Bytes;
use raftkv_protocol::{
    EventFilter, Failure, KeySpan, KeyValue, PartKind, Previous, Record, Revision, WatchEvent, WatchPart,
    WatchRequest, WhenSlow,
};
use raftkv_raft::Time;

use crate::store::history::{Event, HistoryError};
use crate::store::{Lineage, Slot, Stored};
use crate::watch::{
    Begin, ConnectionId, Effect, Hub, HubSettings, Output, Page, PageWanted, Records, Start, WatchId, Window,
    WindowRead,
};

/// All that ever happened, by revision.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) events: Vec<Event>,
    /// Each key's records, by the revision that made them.
    records: BTreeMap<Bytes, BTreeMap<u64, Option<Record>>>,
    pub(super) head: u64,
    pub(super) oldest_kept: u64,
}

impl History {
    fn new() -> History {
        History {
            head: 1,
            oldest_kept: 1,
            ..History::default()
        }
    }

    pub(super) fn at(&self, key: &[u8], at: u64) -> Option<Record> {
        let versions = self.records.get(key)?;
        versions.range(..=at).next_back()?.1.clone()
    }

    /// A transaction: each key with its value, or deleted where it exists; the events it made.
    pub(super) fn commit(&mut self, changes: &[(Bytes, Option<Bytes>)]) -> Vec<Event> {
        let revision = Revision(self.head + 1);
        let mut made = Vec::new();
        for (key, value) in changes {
            let old = self.at(key, self.head);
            if value.is_none() && old.is_none() {
                continue;
            }
            let record = value.as_ref().map(|value| Record {
                value: value.clone(),
                create_revision: old.as_ref().map_or(revision, |old| old.create_revision),
                mod_revision: revision,
                version: old.as_ref().map_or(0, |old| old.version) + 1,
                lease: None,
            });
            // As if nobody had looked: who wants the record has to.
            let slot = match &record {
                None => Slot::Deleted(revision),
                Some(record) => Slot::Live(Stored {
                    value: record.value.clone(),
                    mod_revision: revision,
                    lineage: Lineage::Over {
                        first: revision,
                        writes: 1,
                    },
                    deadline_us: None,
                    lease: None,
                }),
            };
            self.records
                .entry(key.clone())
                .or_default()
                .insert(revision.0, record);
            made.push(Event {
                revision,
                key: key.clone(),
                slot,
                log_time_us: 0,
            });
        }
        if !made.is_empty() {
            self.head = revision.0;
            self.events.extend(made.iter().cloned());
        }
        made
    }

    /// What a watch is told of an event.
    fn told(&self, event: &Event, previous: Previous) -> WatchEvent {
        let previous = match previous {
            Previous::Unwanted => None,
            Previous::Wanted => self.at(&event.key, event.revision.0 - 1),
        };
        let key = event.key.clone();
        match self.at(&event.key, event.revision.0) {
            Some(record) => WatchEvent::Put {
                kv: KeyValue { key, record },
                previous,
            },
            None => WatchEvent::Delete {
                key,
                revision: event.revision,
                previous,
            },
        }
    }

    /// What a watch must be told of revisions `from..=to`.
    pub(super) fn expected(&self, request: &WatchRequest, from: u64, to: u64) -> Vec<WatchEvent> {
        let within = self
            .events
            .iter()
            .filter(|event| (from..=to).contains(&event.revision.0));
        within
            .filter(|event| request.span.contains(&event.key))
            .filter(|event| match (request.filter, &event.slot) {
                (EventFilter::All, _) => true,
                (EventFilter::Puts, slot) => slot.live().is_some(),
                (EventFilter::Deletes, slot) => slot.live().is_none(),
            })
            .map(|event| self.told(event, request.previous))
            .collect()
    }

    pub(super) fn read(&self, window: Window, most: usize) -> WindowRead {
        if window.from.0 < self.oldest_kept {
            let oldest_kept = Revision(self.oldest_kept);
            return WindowRead::Compacted { oldest_kept };
        }
        let (mut events, mut through) = (Vec::new(), window.to);
        for event in &self.events {
            if event.revision < window.from || event.revision > window.to {
                continue;
            }
            let last = events.last().map(|event: &Event| event.revision);
            if events.len() >= most && last.is_some_and(|last| last < event.revision) {
                through = last.unwrap();
                break;
            }
            events.push(event.clone());
        }
        WindowRead::Events { events, through }
    }

    pub(super) fn page(&self, wanted: &PageWanted, at: u64, most: usize) -> Page {
        let mut kvs: Vec<KeyValue> = self
            .records
            .keys()
            .filter(|key| wanted.span.contains(key) && wanted.after.as_ref().is_none_or(|after| *key > after))
            .filter_map(|key| {
                let record = self.at(key, at)?;
                Some(KeyValue {
                    key: key.clone(),
                    record,
                })
            })
            .collect();
        let is_last = kvs.len() <= most;
        kvs.truncate(most);
        Page { kvs, is_last }
    }
}

impl Records for History {
    fn resolved(&self, key: &[u8], stored: &Stored) -> Result<Record, HistoryError> {
        Ok(self.at(key, stored.mod_revision.0).expect("it was set there"))
    }

    fn before(&self, key: &[u8], revision: Revision) -> Result<Option<Record>, HistoryError> {
        Ok(self.at(key, revision.0 - 1))
    }
}

/// A client that checks what it is told.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) request: WatchRequest,
    pub(super) connection: ConnectionId,
    pub(super) start: Start,
    /// Everything below was told.
    pub(super) next: u64,
    /// Of a snapshot, until it is whole.
    snapshot: Option<Vec<KeyValue>>,
    pub(super) events: u64,
    pub(super) parts: Vec<PartKind>,
    pub(super) ended: Option<Option<Failure>>,
}

/// The hub, its history and its clients.
pub(super) struct World {
    pub(super) hub: Hub,
    pub(super) history: History,
    pub(super) clients: BTreeMap<WatchId, Client>,
    pub(super) now: Time,
    /// What each connection's outbox holds, as it was charged.
    pub(super) queued: BTreeMap<ConnectionId, u64>,
    pub(super) window: Option<Window>,
    pub(super) page: Option<PageWanted>,
    /// Events and keys that are read at once.
    pub(super) most: usize,
}

impl World {
    pub(super) fn new(settings: HubSettings) -> World {
        World {
            hub: Hub::new(settings),
            history: History::new(),
            clients: BTreeMap::new(),
            now: Time(1),
            queued: BTreeMap::new(),
            window: None,
            page: None,
            most: 1000,
        }
    }

    pub(super) fn begin(&mut self, connection: u64, request: WatchRequest, start: Start) -> WatchId {
        let connection = ConnectionId(connection);
        let begin = Begin {
            request: request.clone(),
            start,
            head: Revision(self.history.head),
            connection,
        };
        let mut out = Output::new();
        let id = self.hub.begin(self.now, &begin, &mut out);
        let next = match start {
            Start::From(from) => from.0,
            Start::Snapshot(at) => at.0 + 1,
        };
        let client = Client {
            request,
            connection,
            start,
            next,
            snapshot: matches!(start, Start::Snapshot(_)).then(Vec::new),
            events: 0,
            parts: Vec::new(),
            ended: None,
        };
        assert!(
            self.clients.insert(id, client).is_none(),
            "names are never used twice"
        );
        self.carry_out(out);
        id
    }

    /// Applies transactions as one batch.
    pub(super) fn apply(&mut self, transactions: &[Vec<(Bytes, Option<Bytes>)>]) {
        let first = Revision(self.history.head + 1);
        let mut events = Vec::new();
        for changes in transactions {
            events.extend(self.history.commit(changes));
        }
        let last = Revision(self.history.head);
        if last < first {
            return;
        }
        let mut out = Output::new();
        let done = self
            .hub
            .applied(self.now, (first, last), &events, &self.history, &mut out);
        done.expect("nothing fails here");
        self.carry_out(out);
    }

    pub(super) fn set(&mut self, key: &str, value: &str) {
        let change = (
            Bytes::copy_from_slice(key.as_bytes()),
            Some(Bytes::copy_from_slice(value.as_bytes())),
        );
        self.apply(&[vec![change]]);
    }

    /// One step of reading, if any is wanted.
    pub(super) fn read(&mut self) -> bool {
        let mut out = Output::new();
        self.window = self.window.or_else(|| self.hub.next_window());
        let mut did = false;
        if let Some(window) = self.window.take() {
            did = true;
            let read = self.history.read(window, self.most);
            let done = self.hub.window_read(self.now, read, &self.history, &mut out);
            done.expect("nothing fails here");
        }
        if let Some(wanted) = self.page.take().or_else(|| self.hub.next_page()) {
            did = true;
            let at = match self.clients[&wanted.watch].start {
                Start::Snapshot(at) => at.0,
                Start::From(_) => panic!("a page for a watch without snapshot"),
            };
            let page = self.history.page(&wanted, at, self.most);
            self.hub.page_read(self.now, wanted.watch, page, &mut out);
        }
        self.carry_out(out);
        did
    }

    pub(super) fn read_all(&mut self) {
        for _ in 0..100_000 {
            if !self.read() {
                return;
            }
        }
        panic!("reading never ends");
    }

    pub(super) fn drain(&mut self, connection: ConnectionId) {
        let bytes = self.queued.insert(connection, 0).unwrap_or(0);
        self.hub.drained(connection, bytes);
    }

    pub(super) fn act(&mut self, act: impl FnOnce(&mut Hub, Time, &mut Output)) {
        let mut out = Output::new();
        act(&mut self.hub, self.now, &mut out);
        self.carry_out(out);
    }

    fn carry_out(&mut self, out: Output) {
        for effect in out {
            match effect {
                Effect::Send { to, part, charged } => {
                    for id in to {
                        *self.queued.entry(self.clients[&id].connection).or_default() += charged;
                        self.told(id, &part);
                    }
                }
                Effect::Release(_) => {}
                Effect::End { watch, failure } => {
                    let client = self.clients.get_mut(&watch).expect("a watch of ours");
                    assert_eq!(client.ended, None, "a watch ends once");
                    client.ended = Some(failure);
                }
            }
        }
    }

    fn told(&mut self, id: WatchId, part: &WatchPart) {
        let client = self.clients.get_mut(&id).expect("a watch of ours");
        assert_eq!(client.ended, None, "a watch that ended is told nothing");
        client.parts.push(part.kind);
        match part.kind {
            PartKind::Snapshot | PartKind::SnapshotEnd => {
                let Start::Snapshot(at) = client.start else {
                    panic!("a snapshot that nobody asked for");
                };
                let snapshot = client.snapshot.as_mut().expect("it was not whole");
                for event in &part.events {
                    let WatchEvent::Put { kv, .. } = event else {
                        panic!("a snapshot is made of records");
                    };
                    snapshot.push(kv.clone());
                }
                if part.kind == PartKind::SnapshotEnd {
                    assert_eq!(part.through, at);
                    let told = client.snapshot.take().expect("it was not whole");
                    let wanted = PageWanted {
                        watch: id,
                        span: client.request.span.clone(),
                        after: None,
                        bytes: 0,
                    };
                    assert_eq!(told, self.history.page(&wanted, at.0, usize::MAX).kvs);
                }
                return;
            }
            PartKind::Progress => assert!(part.events.is_empty()),
            PartKind::Changes | PartKind::Conflated => assert!(!part.events.is_empty()),
        }
        assert!(client.snapshot.is_none(), "changes come behind the snapshot");
        let (from, to) = (client.next, part.through.0);
        assert!(to + 1 >= from, "{part:?} goes back behind {from}");
        if to < from {
            return;
        }
        assert!(
            to <= self.history.head,
            "{part:?} is ahead of {}",
            self.history.head
        );
        let expected = self.history.expected(&client.request, from, to);
        if part.kind == PartKind::Conflated {
            assert_eq!(client.request.when_slow, WhenSlow::LatestPerKey);
            check_conflated(&part.events, &expected);
        } else {
            assert_eq!(
                part.events, expected,
                "{id:?} {:?} from {from} to {to}",
                client.request
            );
        }
        client.events += part.events.len() as u64;
        client.next = to + 1;
    }
}

/// Each event happened, in order, and for each key that changed the last change is there, or comes with a later part.
fn check_conflated(told: &[WatchEvent], expected: &[WatchEvent]) {
    let mut rest = expected.iter();
    for event in told {
        assert!(
            rest.any(|other| other == event),
            "{event:?} did not happen, or not in this order"
        );
    }
    let last = |events: &[WatchEvent]| {
        let keyed = events.iter().map(|event| (event.key().clone(), event.clone()));
        keyed.collect::<BTreeMap<_, _>>()
    };
    let (told, expected) = (last(told), last(expected));
    for (key, event) in &expected {
        assert!(
            told.get(key)
                .is_none_or(|told| told.revision() <= event.revision())
        );
    }
}

pub(super) fn request(span: KeySpan) -> WatchRequest {
    WatchRequest::new(span)
}

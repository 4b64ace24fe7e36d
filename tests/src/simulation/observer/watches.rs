//! What watchers are told: I23, exactly the changes that the log made of their keys, in order.

use std::collections::BTreeMap;

use bytes::Bytes;
use raftkv_protocol::{
    ErrorCode, EventFilter, Failure, KeyValue, PartKind, Previous, WatchEvent, WatchPart, WatchRequest,
};

use super::Observer;

/// What a watcher knows, as far as what it is told is checked by it.
#[derive(Debug)]
pub(crate) struct WatchView {
    pub(crate) wish: WatchRequest,
    /// Everything below was told; `None`: it has not begun, or its snapshot is not whole.
    pub(crate) next: Option<u64>,
    /// What completed operations had shown when it asked.
    floor: u64,
    /// The snapshot that is coming in.
    snapshot: Vec<KeyValue>,
    /// Is the next part the first one of an attempt?
    is_first: bool,
    /// Keys whose last change was left out, in favour of one that must still come.
    owed: BTreeMap<Bytes, u64>,
    owed_by: OwedBy,
}

/// Who left out what is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OwedBy {
    /// The node that tells it now.
    ThisNode,
    /// One that was asked before; all that it can have known of is decided up to here.
    Another { through: u64 },
}

impl WatchView {
    pub(crate) fn new(wish: WatchRequest) -> WatchView {
        WatchView {
            wish,
            next: None,
            floor: 0,
            snapshot: Vec::new(),
            is_first: true,
            owed: BTreeMap::new(),
            owed_by: OwedBy::ThisNode,
        }
    }

    /// It asks a node, once more or for the first time.
    pub(crate) fn asks(&mut self, floor: u64) {
        self.floor = floor;
        self.snapshot.clear();
        self.is_first = true;
    }

    /// What it was told is void: it begins anew.
    pub(crate) fn begins_anew(&mut self) {
        self.next = None;
        self.owed.clear();
    }
}

impl Observer {
    /// A watcher was told a part.
    pub(crate) fn watch_told(&mut self, slot: usize, view: &mut WatchView, part: &WatchPart) {
        let is_first = std::mem::replace(&mut view.is_first, false);
        let told = match part.kind {
            PartKind::Snapshot | PartKind::SnapshotEnd => self.snapshot_told(view, part),
            PartKind::Progress if is_first && view.next.is_none() => {
                let is_old = part.through.0 < view.floor;
                view.next = Some(part.through.0 + 1);
                match is_old {
                    true => Err(format!(
                        "it begins behind {}, others saw {}",
                        part.through, view.floor
                    )),
                    false => Ok(()),
                }
            }
            PartKind::Changes | PartKind::Conflated | PartKind::Progress => {
                self.changes_told(view, part, is_first)
            }
        };
        let is_ahead = part.through.0 > self.model.revision();
        let told = match is_ahead {
            true => Err(format!("decided is {}", self.model.revision())),
            false => told,
        };
        if let Err(what) = told {
            let what = format!("{:?} was told {part:?}: {what}", view.wish);
            self.violate("I23", Some(slot), what);
        }
    }

    /// A watch ended.
    pub(crate) fn watch_ended(&mut self, slot: usize, view: &WatchView, failure: &Failure) {
        if failure.code != ErrorCode::Compacted {
            return;
        }
        // The change that made the oldest state is given up with those before it.
        let oldest_kept = self.model.oldest_kept().max(self.past_given_up + 1);
        if view.next.is_none_or(|next| next >= oldest_kept) {
            let what = format!(
                "{:?} wanted {:?} and was told {failure}, the oldest kept is {oldest_kept}",
                view.wish, view.next
            );
            self.violate("I23", Some(slot), what);
        }
    }

    fn snapshot_told(&mut self, view: &mut WatchView, part: &WatchPart) -> Result<(), String> {
        for event in &part.events {
            let WatchEvent::Put { kv, previous: None } = event else {
                return Err("a snapshot is made of records".to_owned());
            };
            view.snapshot.push(kv.clone());
        }
        if part.kind == PartKind::Snapshot {
            return Ok(());
        }
        let at = part.through.0;
        let told = std::mem::take(&mut view.snapshot);
        view.next = Some(at + 1);
        if at < view.floor {
            return Err(format!("it is of revision {at}, others saw {}", view.floor));
        }
        let expected = self.model.state_at(at);
        let expected = expected.filter(|(key, ..)| view.wish.span.contains(key));
        let mut expected = expected.map(|(key, record, _)| (key, record));
        let mut told = told.iter().map(|kv| (&kv.key, &kv.record));
        match expected.by_ref().eq(told.by_ref()) {
            true => Ok(()),
            false => Err(format!("the state at {at} is another one")),
        }
    }

    fn changes_told(&mut self, view: &mut WatchView, part: &WatchPart, is_first: bool) -> Result<(), String> {
        if is_first && !view.owed.is_empty() {
            let through = self.model.revision();
            view.owed_by = OwedBy::Another { through };
        }
        let Some(from) = view.next else {
            return Err("changes come behind the snapshot".to_owned());
        };
        let to = part.through.0;
        if to + 1 < from {
            return Err(format!("everything below {from} was told"));
        }
        let expected = self.expected(&view.wish, from, to);
        view.next = Some(to + 1);
        if part.kind == PartKind::Conflated {
            if view.owed.is_empty() {
                view.owed_by = OwedBy::ThisNode;
            }
            return conflated(view, &part.events, &expected);
        }
        if sorted(&part.events) != expected {
            return Err(format!("from {from} on it is {expected:?}"));
        }
        for event in &part.events {
            view.owed.remove(event.key());
        }
        // Who left it out knew what follows it; another node may have to apply that first.
        let knows = match view.owed_by {
            OwedBy::ThisNode => !is_first,
            OwedBy::Another { through } => to >= through,
        };
        match part.kind == PartKind::Progress && knows && !view.owed.is_empty() {
            true => Err(format!(
                "changes were left out that nothing followed: {:?}",
                view.owed
            )),
            false => Ok(()),
        }
    }

    /// What a watch must be told of some revisions, by revision and key.
    fn expected(&self, wish: &WatchRequest, from: u64, to: u64) -> Vec<WatchEvent> {
        let changes = self.model.changes_of(&wish.span, from, to);
        let mut events: Vec<WatchEvent> = changes
            .filter(|(_, _, record)| match wish.filter {
                EventFilter::All => true,
                EventFilter::Puts => record.is_some(),
                EventFilter::Deletes => record.is_none(),
            })
            .map(|(key, revision, record)| {
                let previous = match wish.previous {
                    Previous::Unwanted => None,
                    Previous::Wanted => self.model.record_at(key, revision - 1),
                };
                let key = key.clone();
                match record {
                    Some(record) => WatchEvent::Put {
                        kv: KeyValue {
                            key,
                            record: record.clone(),
                        },
                        previous,
                    },
                    None => WatchEvent::Delete {
                        key,
                        revision: raftkv_protocol::Revision(revision),
                        previous,
                    },
                }
            })
            .collect();
        events.sort_by(|one, other| place(one).cmp(&place(other)));
        events
    }
}

fn place(event: &WatchEvent) -> (u64, &Bytes) {
    (event.revision().0, event.key())
}

/// Events as they came, those of one revision by key: their order within it is not checked.
fn sorted(events: &[WatchEvent]) -> Vec<WatchEvent> {
    let mut sorted = events.to_vec();
    let is_ascending = events.is_sorted_by_key(WatchEvent::revision);
    if is_ascending {
        sorted.sort_by(|one, other| place(one).cmp(&place(other)));
    }
    sorted
}

/// What is told happened, in this order; what is left out is owed until a later change of its key is told.
fn conflated(view: &mut WatchView, told: &[WatchEvent], expected: &[WatchEvent]) -> Result<(), String> {
    let told = sorted(told);
    let mut rest = expected.iter();
    if let Some(event) = told.iter().find(|event| !rest.any(|other| other == *event)) {
        return Err(format!("{event:?} did not happen, or not in this order"));
    }
    for event in expected {
        view.owed.insert(event.key().clone(), event.revision().0);
    }
    for event in &told {
        let owed = view.owed.get(event.key());
        if owed.is_some_and(|owed| *owed <= event.revision().0) {
            view.owed.remove(event.key());
        }
    }
    Ok(())
}

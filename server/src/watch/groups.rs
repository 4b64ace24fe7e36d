//! Watches that want the same: one part is made for all of them.

use std::collections::BTreeMap;

use bytes::Bytes;
use raftkv_protocol::{EventFilter, KeySpan, Previous, WatchRequest};

use super::WatchId;
use super::index::SpanIndex;

/// What a part for a watch depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) span: KeySpan,
    pub(super) filter: EventFilter,
    pub(super) previous: Previous,
}

impl Wish {
    /// What a request asks for. Copies its keys: they are slices of a read buffer.
    pub(super) fn of(request: &WatchRequest) -> Wish {
        let own = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
        Wish {
            span: KeySpan {
                from: own(&request.span.from),
                to: request.span.to.as_ref().map(own),
            },
            filter: request.filter,
            previous: request.previous,
        }
    }

    /// In any order that is the same in every run.
    fn place(&self) -> (Bytes, Option<Bytes>, u8) {
        let filter = match self.filter {
            EventFilter::All => 0,
            EventFilter::Puts => 1,
            EventFilter::Deletes => 2,
        };
        let previous = u8::from(self.previous == Previous::Wanted);
        (
            self.span.from.clone(),
            self.span.to.clone(),
            filter << 1 | previous,
        )
    }
}

/// Names a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GroupNumber(u32);

/// Whom an event may concern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Those that get what is applied.
    Live,
    /// Those that read history now.
    Behind,
}

#[derive(Clone, Debug)]
struct Group {
    wish: Wish,
    watches: usize,
    /// Ascending, each.
    live: Vec<WatchId>,
    behind: Vec<WatchId>,
}

impl Group {
    fn members(&mut self, side: Side) -> &mut Vec<WatchId> {
        match side {
            Side::Live => &mut self.live,
            Side::Behind => &mut self.behind,
        }
    }
}

/// All groups. A group is in a side's index while it has members there.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups {
    groups: Vec<Option<Group>>,
    free: Vec<u32>,
    by_wish: BTreeMap<(Bytes, Option<Bytes>, u8), GroupNumber>,
    live: SpanIndex,
    behind: SpanIndex,
}

impl Groups {
    /// A watch wants this; the group of those that do.
    pub(super) fn join(&mut self, wish: Wish) -> GroupNumber {
        let place = wish.place();
        if let Some(number) = self.by_wish.get(&place).copied() {
            self.group(number).watches += 1;
            return number;
        }
        let group = Some(Group {
            wish,
            watches: 1,
            live: Vec::new(),
            behind: Vec::new(),
        });
        let number = match self.free.pop() {
            Some(free) => {
                self.groups[free as usize] = group;
                GroupNumber(free)
            }
            None => {
                self.groups.push(group);
                GroupNumber(u32::try_from(self.groups.len() - 1).expect("watches are bounded far below 2^32"))
            }
        };
        self.by_wish.insert(place, number);
        number
    }

    /// A watch of the group ended; it was taken off both sides before.
    pub(super) fn leave(&mut self, number: GroupNumber) {
        let group = self.group(number);
        group.watches -= 1;
        if group.watches == 0 {
            assert!(
                group.live.is_empty() && group.behind.is_empty(),
                "a watch leaves both sides before its group"
            );
            let place = group.wish.place();
            self.by_wish.remove(&place);
            self.groups[number.0 as usize] = None;
            self.free.push(number.0);
        }
    }

    fn group(&mut self, number: GroupNumber) -> &mut Group {
        let group = self.groups[number.0 as usize].as_mut();
        group.expect("a group lives as long as it has a watch")
    }

    pub(super) fn wish(&self, number: GroupNumber) -> &Wish {
        let group = self.groups[number.0 as usize].as_ref();
        &group.expect("a group lives as long as it has a watch").wish
    }

    fn index(&mut self, side: Side) -> &mut SpanIndex {
        match side {
            Side::Live => &mut self.live,
            Side::Behind => &mut self.behind,
        }
    }

    /// From now on events of this side concern the watch.
    pub(super) fn add(&mut self, number: GroupNumber, side: Side, watch: WatchId) {
        let group = self.group(number);
        let members = group.members(side);
        let Err(at) = members.binary_search(&watch) else {
            panic!("{watch:?} is on side {side:?} already");
        };
        members.insert(at, watch);
        if members.len() == 1 {
            let span = group.wish.span.clone();
            self.index(side).insert(span, number.0);
        }
    }

    /// From now on they do not.
    pub(super) fn take_off(&mut self, number: GroupNumber, side: Side, watch: WatchId) {
        let group = self.group(number);
        let members = group.members(side);
        let Ok(at) = members.binary_search(&watch) else {
            panic!("{watch:?} is not on side {side:?}");
        };
        members.remove(at);
        if members.is_empty() {
            *members = Vec::new();
            let span = group.wish.span.clone();
            self.index(side).remove(&span, number.0);
        }
    }

    pub(super) fn members(&self, number: GroupNumber, side: Side) -> &[WatchId] {
        let group = self.groups[number.0 as usize].as_ref();
        group.map_or(&[], |group| match side {
            Side::Live => &group.live,
            Side::Behind => &group.behind,
        })
    }

    /// Tells each group that has members on this side and whose range holds `key`.
    pub(super) fn concerned(&self, side: Side, key: &[u8], found: &mut impl FnMut(GroupNumber)) {
        let index = match side {
            Side::Live => &self.live,
            Side::Behind => &self.behind,
        };
        index.holding(key, &mut |number| found(GroupNumber(number)));
    }
}

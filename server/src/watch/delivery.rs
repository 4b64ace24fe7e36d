//! Events become parts, and go to those who can take them.

use std::collections::BTreeMap;

use raftkv_protocol::{ErrorCode, Failure, Revision, WhenSlow};
use raftkv_raft::Time;
use raftkv_raft::simulation::{mark, mutant};

use super::groups::{GroupNumber, Side};
use super::hub::{Effect, Hub, Output};
use super::parts::{Bounds, Conflation, Looked, Made};
use super::phases::Phase;
use super::reader::Records;
use super::{WatchId, compacted};
use crate::store::StoreError;
use crate::store::history::{Event, HistoryError};

/// What holds for some events that are delivered together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    pub(super) now: Time,
    pub(super) side: Side,
    /// All events up to here are among them.
    pub(super) through: Revision,
}

/// Of each group, the events that its range holds, by their place.
type Matches = BTreeMap<GroupNumber, Vec<u32>>;

impl Hub {
    /// A batch was applied: `events` are all of revisions `first..=last`, in order.
    ///
    /// # Errors
    /// Of the disk, when something had to be looked up.
    ///
    /// # Panics
    /// When the revisions were told before.
    pub fn applied(
        &mut self,
        now: Time,
        (first, last): (Revision, Revision),
        events: &[Event],
        records: &impl Records,
        out: &mut Output,
    ) -> Result<(), StoreError> {
        assert!(
            first > self.head && first <= last,
            "revisions {first} to {last} come after {}",
            self.head
        );
        // What lies between was not told: whoever was live reads it.
        self.jump(Revision(first.0 - 1));
        let round = Round {
            now,
            side: Side::Live,
            through: last,
        };
        self.deliver(round, events, records, out)?;
        self.head = last;
        self.wake_future();
        Ok(())
    }

    /// Revisions up to `head` were applied and not told: history has them.
    pub fn jump(&mut self, head: Revision) {
        if head <= self.head {
            return;
        }
        let next = Revision(self.head.0 + 1);
        self.head = head;
        let all: Vec<u64> = self.watches.names().collect();
        for id in all.into_iter().map(WatchId) {
            let is_live = |watch: &super::phases::Watch| matches!(watch.phase, Phase::Live);
            if self.watches.get(id.0).is_some_and(is_live) {
                mark("watch: jumped over what was not told");
                self.read_from(id, next);
            }
        }
        self.wake_future();
    }

    fn wake_future(&mut self) {
        while let Some((next, id)) = self.future.first().copied()
            && next.0 <= self.head.0 + 1
        {
            self.move_to(id, next);
        }
    }

    /// Delivers events to one side, in pieces that are bounded in memory.
    pub(super) fn deliver(
        &mut self,
        round: Round,
        events: &[Event],
        records: &impl Records,
        out: &mut Output,
    ) -> Result<(), StoreError> {
        let looked = Looked::new(events, records);
        let (mut matches, mut count) = (Matches::new(), 0);
        for (place, event) in events.iter().enumerate() {
            let last = place.checked_sub(1).map(|before| events[before].revision);
            if count > self.settings.max_matches
                && let Some(last) = last.filter(|last| *last < event.revision)
            {
                let piece = Round {
                    through: last,
                    ..round
                };
                self.hand_out(piece, &looked, std::mem::take(&mut matches), out)?;
                count = 0;
            }
            let place = u32::try_from(place).expect("a batch has far fewer events");
            self.groups.concerned(round.side, &event.key, &mut |group| {
                matches.entry(group).or_default().push(place);
                count += 1;
            });
        }
        self.hand_out(round, &looked, matches, out)
    }

    fn hand_out<R: Records>(
        &mut self,
        round: Round,
        looked: &Looked<'_, R>,
        matches: Matches,
        out: &mut Output,
    ) -> Result<(), StoreError> {
        for (group, places) in matches {
            for ((skipped, conflation), members) in self.alike(group, round, looked.events, &places) {
                let wish = self.groups.wish(group);
                let bounds = Bounds {
                    through: round.through,
                    part_bytes: self.settings.part_bytes,
                };
                match looked.parts(wish, &places[skipped..], conflation, bounds) {
                    Ok(parts) if parts.is_empty() => {}
                    Ok(parts) => self.offer(round, members, parts, out),
                    Err(HistoryError::Compacted { oldest_kept }) => {
                        mark("watch: history was given up while an event waited");
                        let first = looked.events[places[skipped] as usize].revision;
                        for id in members {
                            self.end(id, Some(compacted(first, oldest_kept)), out);
                        }
                    }
                    Err(HistoryError::Future { .. }) => unreachable!("what happened is not in the future"),
                    Err(HistoryError::Store(error)) => return Err(error),
                }
            }
        }
        if round.side == Side::Behind {
            self.advance_ready(round.through);
        }
        Ok(())
    }

    /// The members of a group, those together that get the same: how many of the events each has already, and whether it
    /// gets all that follow.
    fn alike(
        &self,
        group: GroupNumber,
        round: Round,
        events: &[Event],
        places: &[u32],
    ) -> BTreeMap<(usize, Conflation), Vec<WatchId>> {
        let members = self.groups.members(group, round.side);
        let mut alike: BTreeMap<_, Vec<WatchId>> = BTreeMap::new();
        if round.side == Side::Live {
            alike.insert((0, Conflation::Off), members.to_vec());
            return alike;
        }
        for id in members {
            let Some(watch) = self.watches.get(id.0) else {
                continue;
            };
            let Phase::Behind { next, .. } = watch.phase else {
                continue;
            };
            // It joined while the window was read, and lacks what is before it, or begins behind it.
            if next > round.through || self.reading.is_some_and(|window| next < window.from) {
                continue;
            }
            let is_far = self.head.0 - next.0 >= self.settings.conflate_after;
            let conflation = match watch.when_slow {
                WhenSlow::LatestPerKey if is_far => Conflation::On,
                WhenSlow::LatestPerKey | WhenSlow::EveryEvent | WhenSlow::Drop => Conflation::Off,
            };
            let skipped = match mutant("watch_event_delivered_twice") {
                true => 0,
                false => places.partition_point(|place| events[*place as usize].revision < next),
            };
            alike.entry((skipped, conflation)).or_default().push(*id);
        }
        alike
    }

    /// Sends the parts, in turn, to each watch for as long as it can take them.
    fn offer(&mut self, round: Round, mut members: Vec<WatchId>, parts: Vec<Made>, out: &mut Output) {
        // What the parts before told.
        let mut told = None;
        for made in parts {
            if made.size_bytes > self.settings.max_message_bytes {
                for id in std::mem::take(&mut members) {
                    self.end(id, Some(too_large(&made)), out);
                }
                return;
            }
            let mut able = Vec::with_capacity(members.len());
            for id in members {
                if self.charge(round.now, id, &made) {
                    able.push(id);
                } else {
                    self.starve(round.side, id, told, made.first, out);
                }
            }
            if able.is_empty() {
                return;
            }
            told = Some(made.part.through);
            out.push(Effect::Send {
                to: able.clone(),
                part: made.part,
                charged: made.size_bytes,
            });
            members = able;
        }
    }

    /// Takes what a part costs of a watch's credit and of its connection's room, if it has both.
    pub(super) fn charge(&mut self, now: Time, id: WatchId, made: &Made) -> bool {
        let Some(watch) = self.watches.get_mut(id.0) else {
            return false;
        };
        let Some(connection) = self.connections.get_mut(&watch.connection) else {
            return false;
        };
        if watch.credit <= 0 || connection.queued_bytes >= self.settings.max_queued_bytes {
            return false;
        }
        watch.credit -= i64::try_from(made.credit_bytes).unwrap_or(i64::MAX);
        watch.last_sent = now;
        connection.queued_bytes += made.size_bytes;
        true
    }

    /// A watch could not take the part that begins with revision `first`; those before told all up to `told`.
    fn starve(&mut self, side: Side, id: WatchId, told: Option<Revision>, first: Revision, out: &mut Output) {
        // Not the part's first event: what was left out before it, in favour of one in it, must be read again.
        let next = told.map(|told| Revision(told.0 + 1));
        match (side, next) {
            (Side::Live, next) => self.fall_behind(id, next.unwrap_or(first), out),
            (Side::Behind, Some(next)) => {
                mark("watch: ran out of credit while it caught up");
                self.move_to(id, next);
            }
            (Side::Behind, None) => self.settle(id),
        }
    }
}

fn too_large(made: &Made) -> Failure {
    let message = format!(
        "revision {} changed more of what this watch wants than one answer may hold ({} bytes): watch less, or without the \
         previous values, or go on behind that revision",
        made.first, made.credit_bytes
    );
    Failure::new(ErrorCode::TooLarge, message)
}

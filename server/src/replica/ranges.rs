//! Pages of ranges: what is asked, from what it is read, and how the next page finds the same state.
//!
//! ```text
//! asked ──(confirmed as any read, or the revision is there)──► gathering ──(ReadPage)──► reading ──(PageRead)──► answered
//! ```
//! A page of the latest state is read from what memory has when the disk comes to it: pinned as late as may be, so that
//! little is held twice. A page of an earlier revision, a listing's next one above all, is read from the state that was kept
//! for it (`kept_states.rs`), else from history. A revision that this node has not reached is confirmed first: a read index
//! later it is here, or it has not come yet anywhere.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use raftkv_protocol::{Answer, Cursor, ErrorCode, Failure, RangePage, RangeRequest, ReadBasis, Response};
use raftkv_raft::Time;
use raftkv_raft::simulation::{buggify, mark};

use super::expiry::Expiry;
use super::formed::Formed;
use super::kept_states::KeptStates;
use super::outbox::Outbox;
use super::page_read::{PageRead, Target, future};
use super::promises::Promise;
use super::reads::{PendingRead, Wanted};
use super::{Effect, Token};
use crate::store::{Keep, Page, PageAt, PageJob, PageNumber, PageOutcome, PageSource};

/// Range reads that wait at a node; beyond: `Overloaded`. Each may end as a page of a MiB.
pub(super) const MAX_RANGE_READS: usize = 64;

/// Pages that are with the disk at once, and single keys as well. Each holds what memory had when it was handed over.
const MAX_READING: usize = 4;

/// A range read as it was asked for.
#[derive(Debug)]
pub(super) struct AskedRange {
    pub(super) token: Token,
    pub(super) range: RangeRequest,
    pub(super) deadline: Time,
    pub(super) leader_deadline: Time,
}

/// What a page is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Listing,
    Key,
}

fn kind_of(read: &PendingRead) -> Kind {
    match &read.wanted {
        Wanted::Page(page) if !page.is_of_one_key() => Kind::Listing,
        Wanted::Page(_) | Wanted::Record(_) | Wanted::Leases(_) | Wanted::Watch => Kind::Key,
    }
}

/// A page that is with the disk. What was asked is gone when its time was over; the page still comes.
#[derive(Debug)]
struct Reading {
    read: Option<PendingRead>,
    kind: Kind,
    keep: Keep,
    /// Memory that the state may come to hold alone if it is kept, bytes; `None`: it is not to be kept any more.
    held_bytes: Option<u64>,
    /// The last entry that is part of the state.
    applied_index: u64,
}

/// All range reads of this node.
#[derive(Debug)]
pub(super) struct Ranges {
    next: PageNumber,
    /// To be handed to the disk.
    gathering: VecDeque<PendingRead>,
    reading: BTreeMap<PageNumber, Reading>,
    pub(super) kept: KeptStates,
    /// At or before the first moment at which one of them gives up.
    until: Time,
    /// As many clones live as range reads wait.
    places: Arc<()>,
}

impl Ranges {
    pub(super) fn new() -> Ranges {
        Ranges {
            next: PageNumber(1),
            gathering: VecDeque::new(),
            reading: BTreeMap::new(),
            kept: KeptStates::default(),
            until: Time::NEVER,
            places: Arc::new(()),
        }
    }

    fn place(&self) -> Option<Arc<()>> {
        let most = if buggify("few range reads at once") {
            1
        } else {
            MAX_RANGE_READS
        };
        (Arc::strong_count(&self.places) <= most).then(|| self.places.clone())
    }

    fn push(&mut self, read: PendingRead) {
        self.until = self.until.min(read.deadline);
        self.gathering.push_back(read);
    }

    /// The first that the disk may have now. Single keys pass listings by: they are read beside them.
    fn next_for_disk(&mut self) -> Option<PendingRead> {
        let kinds = [Kind::Listing, Kind::Key];
        let has_room = kinds.map(|kind| {
            let of_kind = self.reading.values().filter(|reading| reading.kind == kind);
            of_kind.count() < MAX_READING
        });
        let may_go = |read: &PendingRead| has_room[kind_of(read) as usize];
        let at = self.gathering.iter().position(may_go)?;
        self.gathering.remove(at)
    }

    fn number(&mut self) -> PageNumber {
        let number = self.next;
        self.next = PageNumber(number.0 + 1);
        number
    }

    pub(super) fn next_expiry(&self) -> Time {
        self.until.min(self.kept.next_expiry())
    }

    /// Takes all that wait.
    pub(super) fn take_all(&mut self) -> Vec<Token> {
        let with_disk = self.reading.values_mut();
        let with_disk = with_disk.filter_map(|reading| reading.read.take());
        let all = with_disk.chain(self.gathering.drain(..));
        all.map(|read| read.token).collect()
    }

    fn take_expired(&mut self, now: Time) -> Vec<Token> {
        if now < self.until {
            return Vec::new();
        }
        let mut expiry = Expiry::at(now);
        self.gathering
            .retain(|read| expiry.keeps(read.token, read.deadline));
        for reading in self.reading.values_mut() {
            reading
                .read
                .take_if(|read| !expiry.keeps(read.token, read.deadline));
        }
        self.until = expiry.until;
        expiry.expired
    }

    /// The states that pages are read from now hold what memory has let go of.
    pub(super) fn keep_none_of_those_read(&mut self) {
        for reading in self.reading.values_mut() {
            reading.held_bytes = None;
        }
    }

    /// Another store took the place of the one that was read: what is with its disk is read again.
    fn read_again(&mut self) {
        for reading in std::mem::take(&mut self.reading).into_values() {
            self.gathering.extend(reading.read);
        }
    }
}

impl Formed {
    /// Takes a range read.
    pub(super) fn take_range(&mut self, now: Time, asked: AskedRange, out: &mut Outbox) {
        let AskedRange {
            token,
            range,
            deadline,
            leader_deadline,
        } = asked;
        let consistency = range.consistency;
        let page = match self.checked_page(range) {
            Ok(page) => page,
            Err(failure) => {
                let response = self.refusal(failure.code, &failure.message);
                return out.refuse(token, response);
            }
        };
        out.take_request();
        let revision = page.target.revision();
        // What a revision was is the same for ever: there is nothing to confirm, but that it has come.
        let promise = match revision {
            Some(_) => Promise::Linearizable,
            None => self.promise(now, consistency),
        };
        let is_here = revision.is_some_and(|at| at <= self.store.revision());
        let read = PendingRead {
            token,
            wanted: Wanted::Page(Box::new(page)),
            deadline,
            leader_deadline,
            promise,
        };
        match promise {
            Promise::Linearizable if is_here => self.ranges.push(read),
            Promise::Linearizable | Promise::ByReadIndex => {
                if revision.is_some() {
                    mark("page waits for its revision");
                }
                self.reads.push(read);
            }
            Promise::Local { .. } | Promise::Leased(_) => self.ranges.push(read),
        }
    }

    fn checked_page(&self, asked: RangeRequest) -> Result<PageRead, Failure> {
        asked.check(&self.config.limits)?;
        let cursor = asked.cursor()?;
        let epoch = self.members.current().epoch;
        if let Some(cursor) = cursor.as_ref().filter(|cursor| cursor.epoch != epoch) {
            let message = format!(
                "the listing began in history epoch {}, this cluster is in epoch {epoch}: history forked when it was \
                 restored; begin the listing again",
                cursor.epoch
            );
            return Err(Failure::new(ErrorCode::Compacted, message));
        }
        let Some(place) = self.ranges.place() else {
            mark("range read refused: too many wait");
            let message = format!(
                "{MAX_RANGE_READS} range reads wait at this node already; nothing was read, retry later"
            );
            return Err(Failure::new(ErrorCode::Overloaded, message));
        };
        Ok(PageRead::new(asked, cursor, place))
    }

    /// The page may be read from now on.
    pub(super) fn page_confirmed(&mut self, read: PendingRead) {
        self.ranges.push(read);
    }

    /// Hands pages to the disk, as many as it may have.
    pub(super) fn submit_pages(&mut self, now: Time, out: &mut Outbox) {
        self.tend_kept_states(now, out);
        while let Some(read) = self.ranges.next_for_disk() {
            self.submit_page(now, read, out);
        }
    }

    fn submit_page(&mut self, now: Time, read: PendingRead, out: &mut Outbox) {
        let Wanted::Page(page) = &read.wanted else {
            unreachable!("only pages are gathered here");
        };
        let (source, at, keep) = match self.source_of(now, page.target) {
            Ok(source) => source,
            Err(failure) => {
                let response = self.refusal(failure.code, &failure.message);
                return out.finish(read.token, response);
            }
        };
        let wanted = page.wanted(at);
        let number = self.ranges.number();
        let job = PageJob {
            page: number,
            source,
            wanted,
            keep,
        };
        let reading = Reading {
            kind: kind_of(&read),
            read: Some(read),
            keep,
            held_bytes: Some(self.store.overlay_bytes().1),
            applied_index: self.applied().get(),
        };
        self.ranges.reading.insert(number, reading);
        let store = self.drains.store();
        let job = Box::new(job);
        out.push(Effect::ReadPage { store, job });
    }

    /// From what a page is read, and whether the state is worth keeping.
    fn source_of(&self, now: Time, target: Target) -> Result<(PageSource, PageAt, Keep), Failure> {
        let memory = || PageSource::Memory(Box::new(self.store.pin()));
        let keep = match self.space.is_low() {
            true => Keep::Nothing,
            false => Keep::ForMore,
        };
        let at = match target {
            Target::Latest => return Ok((memory(), PageAt::Held, keep)),
            Target::Ago { ago_ms } => {
                let ago_us = ago_ms.saturating_mul(1000);
                let at_us = self.log_time_now_us(now).saturating_sub(ago_us);
                return Ok((memory(), PageAt::LogTime(at_us), Keep::Nothing));
            }
            Target::Revision(at) | Target::Continued(at) => at,
        };
        if let Some(kept) = self.ranges.kept.of_revision(at) {
            mark("page read from a kept state");
            return Ok((PageSource::Kept(kept), PageAt::Held, Keep::Nothing));
        }
        let (oldest, current) = (self.store.oldest_kept(), self.store.revision());
        if at > current {
            mark("page of a revision that has not come refused");
            return Err(future(at, current));
        }
        if at < oldest {
            target.mark_compacted();
            return Err(target.compacted(oldest));
        }
        if at == current {
            return Ok((memory(), PageAt::Held, keep));
        }
        match target {
            Target::Continued(_) => mark("page continued from history"),
            Target::Revision(_) | Target::Latest | Target::Ago { .. } => mark("page read from history"),
        }
        Ok((memory(), PageAt::Revision(at), Keep::Nothing))
    }

    /// The disk has come back with a page.
    pub(super) fn page_read(&mut self, now: Time, page: PageNumber, outcome: PageOutcome, out: &mut Outbox) {
        let Some(reading) = self.ranges.reading.remove(&page) else {
            return;
        };
        if let PageOutcome::Read(found) = &outcome
            && found.last.is_some()
            && reading.keep == Keep::ForMore
        {
            let held_bytes = reading.held_bytes.filter(|_| reading.read.is_some());
            self.keep_state(now, page, (found.at, held_bytes), out);
        }
        let applied_index = reading.applied_index;
        let Some(read) = reading.read else { return };
        let Wanted::Page(wanted) = &read.wanted else {
            unreachable!("only pages are read");
        };
        let target = wanted.target;
        match outcome {
            PageOutcome::Read(found) => self.page_found(now, read, found, applied_index, out),
            PageOutcome::Overtaken => {
                mark("page overtaken by a drain");
                self.ranges.gathering.push_front(read);
            }
            PageOutcome::NotKept => self.ranges.gathering.push_front(read),
            PageOutcome::Compacted { oldest_kept } => {
                target.mark_compacted();
                self.refuse_page(&read, &target.compacted(oldest_kept), out);
            }
            PageOutcome::Future { current } => {
                let at = target.revision().unwrap_or(current);
                self.refuse_page(&read, &future(at, current), out);
            }
        }
    }

    fn refuse_page(&self, read: &PendingRead, failure: &Failure, out: &mut Outbox) {
        out.finish(read.token, self.refusal(failure.code, &failure.message));
    }

    fn page_found(
        &mut self,
        now: Time,
        read: PendingRead,
        found: Page,
        applied_index: u64,
        out: &mut Outbox,
    ) {
        let is_continued = matches!(&read.wanted, Wanted::Page(page) if page.is_continued());
        let basis = match read.promise {
            Promise::Linearizable => None,
            Promise::ByReadIndex => Some(ReadBasis::ReadIndex),
            Promise::Local { leader_contact_ms } => Some(ReadBasis::Local {
                applied_index,
                leader_contact_ms,
            }),
            // The state was pinned in an earlier batch: now is late enough to look at the lease once more.
            Promise::Leased(lease) if self.raft.still_holds(now, lease) => {
                mark("page read by leader lease");
                Some(ReadBasis::LeaderLease)
            }
            Promise::Leased(_) => {
                self.reads.push(PendingRead {
                    promise: Promise::ByReadIndex,
                    ..read
                });
                return;
            }
        };
        let Page { at, kvs, count, last } = found;
        let header = self.header();
        if last.is_none() && is_continued {
            self.listing_ended(at, out);
        }
        let epoch = header.epoch;
        let cursor = last.map(|last| Cursor { at, epoch, last }.encode());
        let page = RangePage {
            at,
            kvs,
            count,
            cursor,
            basis,
        };
        let outcome = Ok(Answer::Range(page));
        out.finish(read.token, Response { header, outcome });
    }

    /// Another store takes the place of this one.
    pub(super) fn read_pages_again(&mut self, out: &mut Outbox) {
        self.ranges.read_again();
        self.release_kept_states(out);
    }

    /// Ends the pages that waited too long for the disk.
    pub(super) fn expire_pages(&mut self, now: Time, out: &mut Outbox) {
        for token in self.ranges.take_expired(now) {
            let message = "this node's disk did not answer in time; reads change nothing, retry";
            out.finish(token, self.refusal(ErrorCode::NoLeader, message));
        }
    }
}

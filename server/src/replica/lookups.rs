//! Lookups in the base that are under way, and who waits for them: the entries at the head of the queue, and reads.

use std::collections::BTreeMap;

use bytes::Bytes;
use raftkv_protocol::{Answer, ErrorCode, LeaseQuery};
use raftkv_raft::simulation::mark;
use raftkv_raft::{Index, Time};

use super::expiry::Expiry;
use super::formed::Formed;
use super::outbox::Outbox;
use super::reads::{PendingRead, Wanted};
use super::{Effect, LookupNumber, Token};
use crate::store::{BaseRecords, Looked};

/// See the module. At most one lookup is under way for entries; reads that come in one batch share one.
#[derive(Debug)]
pub(super) struct Lookups {
    next: LookupNumber,
    /// For entries up to that index.
    for_entries: Option<(LookupNumber, Index)>,
    for_reads: BTreeMap<LookupNumber, Vec<PendingRead>>,
    /// Reads for the next one.
    gathering: Vec<PendingRead>,
    /// At or before the first moment at which a read gives up.
    until: Time,
}

impl Lookups {
    pub(super) fn new() -> Lookups {
        Lookups {
            next: LookupNumber(1),
            for_entries: None,
            for_reads: BTreeMap::new(),
            gathering: Vec::new(),
            until: Time::NEVER,
        }
    }

    /// Another base took the place of the one that was asked.
    pub(super) fn ask_again(&mut self) {
        self.for_entries = None;
        for batch in std::mem::take(&mut self.for_reads).into_values() {
            self.gathering.extend(batch);
        }
    }

    fn number(&mut self) -> LookupNumber {
        let number = self.next;
        self.next = LookupNumber(number.0 + 1);
        number
    }

    pub(super) fn next_expiry(&self) -> Time {
        self.until
    }

    fn push(&mut self, read: PendingRead) {
        self.until = self.until.min(read.deadline);
        self.gathering.push(read);
    }

    /// Takes all reads that wait.
    pub(super) fn take_all(&mut self) -> Vec<Token> {
        let batches = self.for_reads.values_mut().chain([&mut self.gathering]);
        batches
            .flat_map(|batch| batch.drain(..))
            .map(|read| read.token)
            .collect()
    }

    fn take_expired(&mut self, now: Time) -> Vec<Token> {
        if now < self.until {
            return Vec::new();
        }
        let mut expiry = Expiry::at(now);
        for batch in self.for_reads.values_mut().chain([&mut self.gathering]) {
            batch.retain(|read| expiry.keeps(read.token, read.deadline));
        }
        self.until = expiry.until;
        expiry.expired
    }
}

/// The key of a read that is looked up.
fn key_of(read: &PendingRead) -> &Bytes {
    read.key().expect("only records are looked up")
}

impl Formed {
    /// Answers a read from memory, or keeps it for the next lookup. It may be served from any state from now on.
    pub(super) fn answer_read(&mut self, now: Time, read: PendingRead, out: &mut Outbox) {
        let key = match &read.wanted {
            Wanted::Record(key) => key,
            Wanted::Page(_) => return self.page_confirmed(read),
            Wanted::Leases(query) => return self.answer_leases(now, (read.token, *query), out),
            Wanted::Watch => return self.begin_watch(read.token, out),
        };
        let record = match self.store.look(key) {
            Looked::Found(record) => Some(record),
            Looked::Absent => None,
            Looked::Unknown => {
                mark("read looked up in the base");
                self.lookups.push(read);
                return;
            }
        };
        self.found_for(now, read, record, out);
    }

    /// Tells about leases, as of the log time that it is now.
    fn answer_leases(&self, now: Time, (token, query): (Token, LeaseQuery), out: &mut Outbox) {
        let now_us = self.log_time_now_us(now);
        let answer = match query {
            LeaseQuery::One(id) => Answer::Lease(self.store.lease(id, now_us)),
            LeaseQuery::After(id) => Answer::Leases(self.store.leases_after(id, now_us)),
        };
        out.finish(token, self.respond(Ok(answer)));
    }

    /// Asks for what the reads of this batch need.
    pub(super) fn submit_lookups(&mut self, out: &mut Outbox) {
        if self.lookups.gathering.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut self.lookups.gathering);
        let mut keys: Vec<_> = batch.iter().map(|read| key_of(read).clone()).collect();
        keys.sort_unstable();
        keys.dedup();
        let lookup = self.lookups.number();
        self.lookups.for_reads.insert(lookup, batch);
        let ranges = None;
        out.push(Effect::Lookup { lookup, keys, ranges });
    }

    /// Asks for what the entries that wait need, unless that is under way.
    pub(super) fn look_up_for_entries(&mut self, out: &mut Outbox) {
        if self.lookups.for_entries.is_some() {
            return;
        }
        let missing = self.store.missing(self.unapplied.iter());
        assert!(
            !missing.is_empty(),
            "an entry that waits lacks a record or a range"
        );
        let through = missing.through.expect("an entry waits");
        let (keys, ranges) = (missing.keys.into_iter().collect(), missing.ranges);
        let lookup = self.lookups.number();
        self.lookups.for_entries = Some((lookup, through));
        out.push(Effect::Lookup { lookup, keys, ranges });
    }

    /// The base has answered.
    pub(super) fn looked_up(
        &mut self,
        now: Time,
        lookup: LookupNumber,
        found: BaseRecords,
        out: &mut Outbox,
    ) {
        if let Some((_, through)) = self.lookups.for_entries.take_if(|(asked, _)| *asked == lookup) {
            self.store.gathered(through, found);
            return;
        }
        let Some(batch) = self.lookups.for_reads.remove(&lookup) else {
            return;
        };
        let Some(records) = self.store.looked_up(found) else {
            for read in batch {
                self.answer_read(now, read, out);
            }
            return;
        };
        for read in batch {
            let asked = records.binary_search_by(|(key, _)| key.cmp(key_of(&read)));
            let (_, record) = &records[asked.expect("a lookup tells of each key it was asked for")];
            self.found_for(now, read, record.clone(), out);
        }
    }

    /// Ends the reads that waited too long for the base.
    pub(super) fn expire_lookups(&mut self, now: Time, out: &mut Outbox) {
        for token in self.lookups.take_expired(now) {
            let message = "this node's disk did not answer in time; reads change nothing, retry";
            out.finish(token, self.refusal(ErrorCode::NoLeader, message));
        }
    }
}

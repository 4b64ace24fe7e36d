//! The way in without a server: commands as entries, applied by the state machine in this process, and reads of its state.

use bytes::Bytes;
use raftkv_protocol::{
    Answer, At, CheckedCommand, Command, Compare, ErrorCode, Failure, KeySpan, Keys as CommandKeys, LeaseId,
    Lifetime, Limits, Op, Order, RangeRequest, Revision, Shape, Test as CommandTest, Txn,
};
use raftkv_raft::{Entry, EntryId, EntryKind, Index, Stamp, Term};
use raftkv_server::disk::SimulatedDisk;
use raftkv_server::store::base::{Base, TwinBase};
use raftkv_server::store::history::{Direction, History, HistoryError, KeyRange};
use raftkv_server::store::{
    Applied, BaseRecords, Outcome, Page, PageAt, PageWanted, Store, StoreConfig, StoreNumber, read_page,
};

use super::ask::{Ask, Keys, Life, Listing, Operation, Test, Transaction, set_as_transaction};
use super::doors::{Cursors, Door, Leases};
use super::told::{Done, Row, Told, ToldLease};

/// Log time that passes with each command, microseconds.
const STEP_US: u64 = 1000;

/// A state machine, with what a replica keeps around it.
pub struct EmbeddedDoor {
    store: Store,
    base: TwinBase,
    history: History<SimulatedDisk>,
    next: Index,
    log_time_us: u64,
    leases: Leases,
    cursors: Cursors<GoesOn>,
}

/// Where a listing goes on.
#[derive(Clone, Debug)]
struct GoesOn {
    at: Revision,
    range: KeyRange,
}

impl Default for EmbeddedDoor {
    fn default() -> EmbeddedDoor {
        let history = History::open(SimulatedDisk::new(1), StoreNumber::FIRST, None, Revision(1));
        EmbeddedDoor {
            store: Store::new(Index::FIRST, StoreConfig::default()),
            base: TwinBase::new(),
            history: history.expect("an empty disk"),
            next: Index::FIRST,
            log_time_us: 0,
            leases: Leases::default(),
            cursors: Cursors::default(),
        }
    }
}

impl Door for EmbeddedDoor {
    fn name(&self) -> &'static str {
        "embedded"
    }

    fn ask(&mut self, ask: &Ask) -> Told {
        self.tell(ask)
            .unwrap_or_else(|failure| Told::Refused(failure.code))
    }
}

impl EmbeddedDoor {
    fn tell(&mut self, ask: &Ask) -> Result<Told, Failure> {
        Ok(match ask {
            Ask::Set {
                key,
                value,
                condition,
                life,
            } => {
                let ttl_ms = match life {
                    Life::Unlimited => None,
                    Life::Ttl(ttl_ms) => Some(*ttl_ms),
                    Life::Lease(_) | Life::Kept => {
                        let transaction = set_as_transaction(key, value, *condition, *life);
                        return Ok(self.transact(&transaction)?.into_set());
                    }
                };
                let condition = *condition;
                match self.execute(&Command::Put {
                    key,
                    value,
                    condition,
                    ttl_ms,
                })? {
                    Answer::Put { revision } => Told::Set(revision),
                    Answer::ConditionFailed { current } => Told::ConditionFailed(current),
                    other => panic!("{other:?}"),
                }
            }
            Ask::Get { key, at } => {
                Limits::default().check_key(key)?;
                let page = self.read(&Listing {
                    span: KeySpan::one(key),
                    order: Order::Ascending,
                    shape: Shape::Records,
                    at: *at,
                    limit: None,
                })?;
                Told::Found(Row::all(page.kvs, &self.leases).pop())
            }
            Ask::Delete { key, condition } => {
                let condition = *condition;
                match self.execute(&Command::Delete { key, condition })? {
                    Answer::Deleted { existed, revision } => Told::Deleted(existed, revision),
                    Answer::ConditionFailed { current } => Told::ConditionFailed(current),
                    other => panic!("{other:?}"),
                }
            }
            Ask::DeleteRange { span, previous } => {
                let delete = Operation::Delete {
                    keys: Keys::Span(span.clone()),
                    previous: *previous,
                };
                match self.transact_one(delete)? {
                    (revision, Done::Deleted(count, rows)) => Told::DeletedRange(count, revision, rows),
                    other => panic!("{other:?}"),
                }
            }
            Ask::Increment { key, by } => {
                let increment = Operation::Increment {
                    key: key.clone(),
                    by: *by,
                };
                match self.transact_one(increment)? {
                    (_, Done::Sum(sum)) => Told::Sum(sum),
                    other => panic!("{other:?}"),
                }
            }
            Ask::Transact(transaction) => self.transact(transaction)?,
            Ask::List(listing) => {
                let place = self.cursors.begin(listing);
                let page = self.read(listing)?;
                self.page(place, listing, range_of(&listing.span), page)
            }
            Ask::GoOn(place) => match self.cursors.at(*place) {
                Some((listing, goes_on)) => {
                    let page = self.read_from(&listing, goes_on.range.clone(), Some(goes_on.at))?;
                    self.page(*place, &listing, goes_on.range, page)
                }
                None => Told::NoPage,
            },
            Ask::Grant(ttl_ms) => match self.execute(&Command::GrantLease {
                id: None,
                ttl_ms: *ttl_ms,
            })? {
                Answer::LeaseGranted { id, ttl_ms } => {
                    self.leases.note(id);
                    Told::Granted(ttl_ms)
                }
                other => panic!("{other:?}"),
            },
            Ask::Renew(name) => {
                let ids = vec![self.leases.id(*name)];
                match self.execute(&Command::RenewLeases { ids })? {
                    Answer::LeasesRenewed(renewed) => Told::Renewed(renewed[0]),
                    other => panic!("{other:?}"),
                }
            }
            Ask::Revoke(name) => {
                let id = self.leases.id(*name);
                match self.execute(&Command::RevokeLease { id })? {
                    Answer::LeaseRevoked { deleted, .. } => Told::Revoked(deleted),
                    other => panic!("{other:?}"),
                }
            }
            Ask::Lease(name) => {
                let state = self.store.lease(self.leases.id(*name), self.log_time_us);
                Told::Lease(state.map(|state| ToldLease::of(state, &self.leases)))
            }
            Ask::Leases => {
                let states = self.store.leases_after(LeaseId(0), self.log_time_us);
                Told::Leases(
                    states
                        .into_iter()
                        .map(|state| ToldLease::of(state, &self.leases))
                        .collect(),
                )
            }
        })
    }

    fn transact(&mut self, transaction: &Transaction) -> Result<Told, Failure> {
        let encoded = self.encoded(transaction);
        let txn = Txn::decode(&encoded).expect("it was just encoded");
        match self.execute(&Command::Txn(txn))? {
            Answer::Txn(result) => Ok(Told::transacted(result, &self.leases)),
            other => panic!("{other:?}"),
        }
    }

    fn transact_one(&mut self, operation: Operation) -> Result<(Revision, Done), Failure> {
        let transaction = Transaction {
            then: vec![operation],
            ..Transaction::default()
        };
        match self.transact(&transaction)? {
            Told::Transacted(revision, mut branch) => {
                Ok((revision, branch.done.pop().expect("a result for the operation")))
            }
            other => panic!("{other:?}"),
        }
    }

    /// Applies a command as the next entry.
    fn execute(&mut self, command: &Command<'_>) -> Outcome {
        let checked = CheckedCommand::new(command, &Limits::default())?;
        let index = self.next;
        self.next = index.next();
        self.log_time_us += STEP_US;
        let entry = Entry {
            id: EntryId { term: Term(1), index },
            kind: EntryKind::Command,
            stamp: Stamp {
                log_time_us: self.log_time_us,
                ..Stamp::default()
            },
            payload: checked.encoded().clone(),
            configuration: None,
        };
        loop {
            match self.store.apply(&entry) {
                Applied::Done(outcome) => {
                    if let Some(events) = self.store.take_events() {
                        self.history.push(events);
                    }
                    return outcome.expect("what clients ask is answered");
                }
                Applied::Waits => self.look_up(&entry),
            }
        }
    }

    /// What an entry waits for is asked of the base.
    fn look_up(&mut self, entry: &Entry) {
        let missing = self.store.missing(std::iter::once(entry));
        let keys: Vec<Bytes> = missing.keys.into_iter().collect();
        let view = self.base.view().expect("the twin reads");
        let found = BaseRecords::read(&view, &keys, missing.ranges).expect("the twin reads");
        self.store
            .gathered(missing.through.expect("an entry waits"), found);
    }

    fn read(&self, listing: &Listing) -> Result<Page, Failure> {
        self.read_from(listing, range_of(&listing.span), listing.at)
    }

    fn read_from(&self, listing: &Listing, range: KeyRange, at: Option<Revision>) -> Result<Page, Failure> {
        let request = RangeRequest {
            at: listing.at.map_or(At::Latest, At::Revision),
            limit: listing.limit,
            ..RangeRequest::new(listing.span.clone())
        };
        request.check(&Limits::default())?;
        let pinned = self.store.pin().over(self.base.view().expect("the twin reads"));
        let state = pinned.expect("the twin reads").expect("nothing drains");
        let wanted = PageWanted {
            range,
            direction: match listing.order {
                Order::Ascending => Direction::Ascending,
                Order::Descending => Direction::Descending,
            },
            shape: listing.shape,
            max_keys: listing.limit.unwrap_or(u32::MAX),
            max_bytes: u32::MAX,
            at: at.map_or(PageAt::Held, PageAt::Revision),
        };
        read_page(&state, &self.history, &wanted).map_err(|error| match error {
            HistoryError::Compacted { .. } => Failure::new(ErrorCode::Compacted, error.to_string()),
            HistoryError::Future { .. } => Failure::new(ErrorCode::FutureRevision, error.to_string()),
            HistoryError::Store(error) => panic!("{error}"),
        })
    }

    fn page(&mut self, place: usize, listing: &Listing, mut range: KeyRange, page: Page) -> Told {
        let goes_on = page.last.map(|last| {
            match listing.order {
                Order::Ascending => range.from = [&last[..], &[0]].concat().into(),
                Order::Descending => range.to = Some(last),
            }
            GoesOn { at: page.at, range }
        });
        let told = Told::Page {
            at: page.at,
            rows: Row::all(page.kvs, &self.leases),
            count: page.count,
            goes_on: goes_on.is_some(),
        };
        self.cursors.note(place, goes_on);
        told
    }

    fn encoded(&self, asked: &Transaction) -> Bytes {
        let nested = |operations: &[Operation]| -> Vec<Option<Bytes>> {
            let nested = operations.iter().map(|operation| match operation {
                Operation::Nested(transaction) => Some(self.encoded(transaction)),
                _ => None,
            });
            nested.collect()
        };
        let (then, otherwise) = (nested(&asked.then), nested(&asked.otherwise));
        let txn = Txn {
            compare: asked
                .checks
                .iter()
                .map(|(keys, test)| self.compare(keys, test))
                .collect(),
            then: self.operations(&asked.then, &then),
            otherwise: self.operations(&asked.otherwise, &otherwise),
        };
        txn.encode()
    }

    fn compare<'a>(&self, keys: &'a Keys, test: &'a Test) -> Compare<'a> {
        Compare {
            keys: borrowed(keys),
            test: match test {
                Test::Exists => CommandTest::Exists,
                Test::Absent => CommandTest::Absent,
                Test::Value(relation, value) => CommandTest::Value(*relation, value),
                Test::Version(relation, version) => CommandTest::Version(*relation, *version),
                Test::Created(relation, revision) => CommandTest::CreateRevision(*relation, *revision),
                Test::Changed(relation, revision) => CommandTest::ModRevision(*relation, *revision),
                Test::Lease(relation, name) => {
                    CommandTest::Lease(*relation, name.map(|name| self.leases.id(name)))
                }
            },
        }
    }

    /// `nested`: of each operation that is a transaction, its encoding.
    fn operations<'a>(&self, operations: &'a [Operation], nested: &'a [Option<Bytes>]) -> Vec<Op<'a>> {
        let both = operations.iter().zip(nested);
        both.map(|(operation, nested)| match (operation, nested) {
            (_, Some(nested)) => Op::Txn(nested),
            (Operation::Nested(_), None) => unreachable!("its encoding stands beside it"),
            (
                Operation::Put {
                    key,
                    value,
                    life,
                    previous,
                },
                None,
            ) => Op::Put {
                key,
                value,
                lifetime: self.lifetime(*life),
                previous: *previous,
            },
            (Operation::Increment { key, by }, None) => Op::Increment { key, by: *by },
            (Operation::Delete { keys, previous }, None) => Op::Delete {
                keys: borrowed(keys),
                previous: *previous,
            },
            (Operation::Get { keys, shape, limit }, None) => Op::Get {
                keys: borrowed(keys),
                shape: *shape,
                limit: *limit,
            },
        })
        .collect()
    }

    fn lifetime(&self, life: Life) -> Lifetime {
        match life {
            Life::Unlimited => Lifetime::Unlimited,
            Life::Ttl(ttl_ms) => Lifetime::Ttl { ttl_ms },
            Life::Lease(name) => Lifetime::Lease(self.leases.id(name)),
            Life::Kept => Lifetime::Kept,
        }
    }
}

fn range_of(span: &KeySpan) -> KeyRange {
    KeyRange {
        from: span.from.clone(),
        to: span.to.clone(),
    }
}

fn borrowed(keys: &Keys) -> CommandKeys<'_> {
    match keys {
        Keys::One(key) => CommandKeys::One(key),
        Keys::Span(span) => CommandKeys::Range {
            from: &span.from,
            to: span.to.as_deref(),
        },
    }
}

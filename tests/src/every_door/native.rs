//! The way in through the client library.

use std::time::Duration;

use bytes::Bytes;
use raftkv_client::{
    At, Check, Client, Error, LeaseId, Operation as ClientOperation, RangePage, Target,
    Transaction as ClientTransaction,
};
use raftkv_protocol::{Condition, ErrorCode, Previous};
use tokio::runtime::Runtime;

use super::ask::{Ask, Keys, Life, Listing, Operation, Test, Transaction, set_as_transaction};
use super::doors::{Cursors, Door, Leases};
use super::told::{Row, Told, ToldLease};

/// A client of one server.
#[derive(Debug)]
pub struct NativeDoor {
    client: Client,
    runtime: Runtime,
    state: State,
}

#[derive(Debug, Default)]
struct State {
    leases: Leases,
    cursors: Cursors<Bytes>,
}

impl NativeDoor {
    /// To the server at this native port of 127.0.0.1.
    ///
    /// # Panics
    /// When the system refuses what a runtime needs.
    #[must_use]
    pub fn new(native_port: u16, timeout: Duration) -> NativeDoor {
        let client = Client::builder().endpoints([format!("127.0.0.1:{native_port}")]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        NativeDoor {
            client: client
                .timeout(timeout)
                .build()
                .expect("an address of this form is valid"),
            runtime: runtime.expect("a runtime for a client"),
            state: State::default(),
        }
    }
}

impl Door for NativeDoor {
    fn name(&self) -> &'static str {
        "native"
    }

    fn ask(&mut self, ask: &Ask) -> Told {
        let told = self.runtime.block_on(self.state.ask(&self.client, ask));
        told.unwrap_or_else(refused)
    }
}

fn refused(error: Error) -> Told {
    match error {
        Error::ConditionFailed { current } => Told::ConditionFailed(current),
        Error::Rejected(failure) => match failure.code {
            ErrorCode::OutcomeUnknown => panic!("{failure}"),
            code => Told::Refused(code),
        },
        other => panic!("{other}"),
    }
}

impl State {
    async fn ask(&mut self, client: &Client, ask: &Ask) -> Result<Told, Error> {
        Ok(match ask {
            Ask::Set {
                key,
                value,
                condition,
                life,
            } => self.set(client, (key, value), *condition, *life).await?,
            Ask::Get { key, at } => {
                let get = client.get(key.clone());
                let found = match at {
                    None => get.await?,
                    Some(at) => get.at_revision(*at).await?,
                };
                Told::Found(found.map(|record| Row::of(key, record, &self.leases)))
            }
            Ask::Delete { key, condition } => {
                let delete = client.delete(key.clone());
                let deleted = match condition {
                    Condition::Always => delete.await?,
                    Condition::ModRevision(revision) => delete.if_revision(*revision).await?,
                    Condition::Absent => unreachable!("no door deletes what must not be there"),
                };
                Told::Deleted(deleted.existed, deleted.revision)
            }
            Ask::DeleteRange { span, previous } => {
                let delete = client.delete_range(span.clone());
                let deleted = match previous {
                    Previous::Wanted => delete.with_previous().await?,
                    Previous::Unwanted => delete.await?,
                };
                let previous = Row::all(deleted.previous, &self.leases);
                Told::DeletedRange(deleted.count, deleted.revision, previous)
            }
            Ask::Increment { key, by } => Told::Sum(client.increment(key.clone(), *by).await?),
            Ask::Transact(transaction) => self.transact(client, transaction).await?,
            Ask::List(listing) => {
                let place = self.cursors.begin(listing);
                self.page(client, place, listing, None).await?
            }
            Ask::GoOn(place) => match self.cursors.at(*place) {
                Some((listing, cursor)) => self.page(client, *place, &listing, Some(cursor)).await?,
                None => Told::NoPage,
            },
            Ask::Grant(ttl_ms) => {
                let lease = client.grant_lease(Duration::from_millis(*ttl_ms)).await?;
                self.leases.note(lease.id);
                Told::Granted(ms(lease.ttl))
            }
            Ask::Renew(name) => Told::Renewed(client.renew_lease(self.leases.id(*name)).await?.map(ms)),
            Ask::Revoke(name) => Told::Revoked(client.revoke_lease(self.leases.id(*name)).await?),
            Ask::Lease(name) => {
                let state = client.lease(self.leases.id(*name)).await?;
                Told::Lease(state.map(|state| ToldLease::of(state, &self.leases)))
            }
            Ask::Leases => {
                let mut told = Vec::new();
                let mut after = LeaseId(0);
                loop {
                    let page = client.leases(after).await?;
                    let Some(last) = page.last() else {
                        break Told::Leases(told);
                    };
                    after = last.id;
                    told.extend(page.into_iter().map(|state| ToldLease::of(state, &self.leases)));
                }
            }
        })
    }

    async fn set(
        &self,
        client: &Client,
        (key, value): (&Bytes, &Bytes),
        condition: Condition,
        life: Life,
    ) -> Result<Told, Error> {
        let set = client.set(key.clone(), value.clone());
        let set = match condition {
            Condition::Always => set,
            Condition::Absent => set.if_absent(),
            Condition::ModRevision(revision) => set.if_revision(revision),
        };
        Ok(match life {
            Life::Unlimited => Told::Set(set.await?),
            Life::Ttl(ttl_ms) => Told::Set(set.ttl(Duration::from_millis(ttl_ms)).await?),
            Life::Lease(_) | Life::Kept => {
                let transaction = set_as_transaction(key, value, condition, life);
                self.transact(client, &transaction).await?.into_set()
            }
        })
    }

    async fn transact(&self, client: &Client, transaction: &Transaction) -> Result<Told, Error> {
        let result = client.transact(self.transaction(transaction)).await?;
        Ok(Told::transacted(result, &self.leases))
    }

    async fn page(
        &mut self,
        client: &Client,
        place: usize,
        listing: &Listing,
        cursor: Option<Bytes>,
    ) -> Result<Told, Error> {
        let range = client.range(listing.span.clone());
        let range = range.order(listing.order).shape(listing.shape);
        let range = range.at(listing.at.map_or(At::Latest, At::Revision));
        let range = match listing.limit {
            Some(limit) => range.limit(limit.into()),
            None => range,
        };
        let range = match cursor {
            Some(cursor) => range.cursor(cursor),
            None => range,
        };
        let RangePage {
            at,
            kvs,
            count,
            cursor,
            ..
        } = range.page().await?;
        self.cursors.note(place, cursor.clone());
        Ok(Told::Page {
            at,
            rows: Row::all(kvs, &self.leases),
            count,
            goes_on: cursor.is_some(),
        })
    }

    fn transaction(&self, asked: &Transaction) -> ClientTransaction {
        let checks = asked.checks.iter().map(|(keys, test)| self.check(keys, test));
        let then = asked.then.iter().map(|operation| self.operation(operation));
        let otherwise = asked.otherwise.iter().map(|operation| self.operation(operation));
        ClientTransaction::new()
            .when(checks)
            .then(then)
            .otherwise(otherwise)
    }

    fn check(&self, keys: &Keys, test: &Test) -> Check {
        let target = target(keys);
        match test {
            Test::Exists => Check::exists(target),
            Test::Absent => Check::absent(target),
            Test::Value(relation, value) => Check::value(target, *relation, value.clone()),
            Test::Version(relation, version) => Check::version(target, *relation, *version),
            Test::Created(relation, revision) => Check::create_revision(target, *relation, *revision),
            Test::Changed(relation, revision) => Check::mod_revision(target, *relation, *revision),
            Test::Lease(relation, name) => {
                Check::lease(target, *relation, name.map(|name| self.leases.id(name)))
            }
        }
    }

    fn operation(&self, asked: &Operation) -> ClientOperation {
        match asked {
            Operation::Put {
                key,
                value,
                life,
                previous,
            } => {
                let put = ClientOperation::put(key.clone(), value.clone());
                let put = match life {
                    Life::Unlimited => put,
                    Life::Ttl(ttl_ms) => put.ttl(Duration::from_millis(*ttl_ms)),
                    Life::Lease(name) => put.lease(self.leases.id(*name)),
                    Life::Kept => put.keep_lifetime(),
                };
                telling(put, *previous)
            }
            Operation::Increment { key, by } => ClientOperation::increment(key.clone(), *by),
            Operation::Delete { keys, previous } => telling(ClientOperation::delete(target(keys)), *previous),
            Operation::Get { keys, shape, limit } => {
                let get = ClientOperation::get(target(keys)).shape(*shape);
                match limit {
                    Some(limit) => get.limit(*limit),
                    None => get,
                }
            }
            Operation::Nested(transaction) => ClientOperation::nested(&self.transaction(transaction)),
        }
    }
}

fn telling(operation: ClientOperation, previous: Previous) -> ClientOperation {
    match previous {
        Previous::Wanted => operation.with_previous(),
        Previous::Unwanted => operation,
    }
}

fn target(keys: &Keys) -> Target {
    match keys {
        Keys::One(key) => Target::Key(key.clone()),
        Keys::Span(span) => Target::Range(span.clone()),
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).expect("leases live for less")
}

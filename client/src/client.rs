//! The client: requests in, typed answers out.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use raftkv_protocol::{
    Address, Answer, CheckedCommand, ErrorCode, KeySpan, Member, MemberCommand, Request, Response,
    ScrubCommand, ScrubState, Status,
};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, timeout_at};

use crate::backoff::Backoff;
use crate::builder::{ClientBuilder, Writes};
use crate::call::{Delivery, Undelivered};
use crate::delete_range::DeleteRange;
use crate::endpoints::{Dialling, Endpoint, Endpoints};
use crate::error::{Applied, Error};
use crate::range::Range;
use crate::request::{Delete, Get, Set};
use crate::retry::{Again, Kind, Verdict, Whom, after_unknown, judge, name};
use crate::session::Sessions;
use crate::watch::WatchBuilder;

/// The wait before asking again a cluster that can not serve now, at first and at most.
const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_LONGEST: Duration = Duration::from_millis(500);

/// Sessions that one write opens anew because the one before had expired.
const SESSION_RENEWALS: u32 = 2;

/// Redirects that one request follows at once. Further ones wait: two nodes may each take the other for the leader.
const DIRECT_REDIRECTS: u32 = 3;

/// How long a server may take to tell who leads.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// A handle to a cluster. Cheap to clone; all clones share the connections, however many tasks use them.
///
/// Use it within a tokio runtime with time and I/O enabled: its connections are tasks of the runtime on which they are
/// first used, and end with it.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    endpoints: Mutex<Endpoints>,
    timeout: Duration,
    attempts: Option<NonZeroUsize>,
    /// `None`: writes are not numbered.
    sessions: Option<Sessions>,
}

/// What one request has left for further attempts.
struct Patience {
    deadline: Instant,
    /// `None`: as many as there is time for.
    attempts_left: Option<usize>,
    redirects_left: u32,
    backoff: Backoff,
    /// Why it was not served so far.
    reason: Option<Error>,
}

impl Patience {
    fn new(deadline: Instant, attempts: Option<NonZeroUsize>) -> Patience {
        Patience {
            deadline,
            attempts_left: attempts.map(NonZeroUsize::get),
            redirects_left: DIRECT_REDIRECTS,
            backoff: Backoff::new(RETRY_FIRST, RETRY_LONGEST),
            reason: None,
        }
    }

    /// An attempt was made. Was that the last one?
    fn is_over(&mut self, error: Error) -> bool {
        self.reason = Some(match self.reason.take() {
            Some(unknown @ Error::OutcomeUnknown { .. }) => unknown,
            // What a server said tells more than that the time is over.
            Some(said) if matches!(error, Error::TimedOut { .. }) => said,
            Some(_) | None => error,
        });
        self.attempts_left = self.attempts_left.map(|left| left - 1);
        self.attempts_left == Some(0) || self.deadline <= Instant::now()
    }
}

impl Client {
    /// Begins to describe a client.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new()
    }

    pub(crate) fn new(
        given: &[Address],
        dialling: Dialling,
        attempts: Option<NonZeroUsize>,
        timeout: Duration,
        writes: Writes,
    ) -> Client {
        let endpoints = Mutex::new(Endpoints::new(given, dialling));
        Client {
            shared: Arc::new(Shared {
                endpoints,
                timeout,
                attempts,
                sessions: (writes == Writes::ExactlyOnce).then(Sessions::default),
            }),
        }
    }

    /// Reads a key: `None` when it does not exist. Linearizable, unless another consistency is asked for.
    pub fn get(&self, key: impl Into<Bytes>) -> Get<'_> {
        Get::new(self, key.into())
    }

    /// Reads a range of keys, in order and of one state.
    pub fn range(&self, span: KeySpan) -> Range<'_> {
        Range::new(self, span)
    }

    /// Reads all keys that begin with `prefix`.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Range<'_> {
        self.range(KeySpan::prefix(prefix.as_ref()))
    }

    /// Sets a key, and returns the revision it made.
    pub fn set(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Set<'_> {
        Set::new(self, key.into(), value.into())
    }

    /// Deletes a key.
    pub fn delete(&self, key: impl Into<Bytes>) -> Delete<'_> {
        Delete::new(self, key.into())
    }

    /// Deletes all keys of a range, at one revision or not at all. What one transaction may hold bounds it, the most keys being
    /// [`MAX_TXN_KEYS`](crate::MAX_TXN_KEYS): of more, delete a part at a time, or [`Error::Rejected`] with
    /// `too_large` says that nothing was changed. Under conditions: [`Operation::delete`](crate::Operation::delete) in a
    /// transaction.
    pub fn delete_range(&self, span: KeySpan) -> DeleteRange<'_> {
        DeleteRange::new(self, span)
    }

    /// Deletes all keys that begin with `prefix`, as [`Client::delete_range`] does.
    pub fn delete_prefix(&self, prefix: impl AsRef<[u8]>) -> DeleteRange<'_> {
        self.delete_range(KeySpan::prefix(prefix.as_ref()))
    }

    /// Watches the changes of some keys: a stream that goes on over failures of nodes and of connections, without a gap and
    /// without a duplicate.
    ///
    /// ```
    /// use raftkv_client::{Client, KeySpan, WatchItem};
    ///
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/documented/example.rs"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), raftkv_client::Error> {
    /// # let example = Example::start();
    /// let client = Client::builder().endpoints(["127.0.0.1:7001"]).build()?;
    /// # let client = example.client();
    /// client.set("service/a", "10.0.0.1:80").await?;
    /// let mut watch = client.watch(KeySpan::prefix(b"service/")).from_snapshot().stream();
    /// while let Some(item) = watch.next().await {
    ///     match item? {
    ///         WatchItem::SnapshotBegin => println!("forget what was known"),
    ///         WatchItem::Current(kv) => println!("{:?} is {:?}", kv.key, kv.record.value),
    ///         WatchItem::SnapshotEnd(revision) => {
    ///             println!("that was all, as of revision {revision}");
    ///             # client.set("service/b", "10.0.0.2:80").await?;
    ///         }
    ///         WatchItem::Change(event) => {
    ///             println!("{:?} changed at {}", event.key(), event.revision());
    ///             # assert_eq!(event.key(), "service/b");
    ///             # return Ok(());
    ///         }
    ///         WatchItem::Gap | WatchItem::Progress(_) => unreachable!("not asked for"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn watch(&self, span: KeySpan) -> WatchBuilder {
        WatchBuilder::new(self.clone(), span)
    }

    /// Asks a node about itself and its cluster: the first of the given endpoints that can be reached.
    ///
    /// # Errors
    /// If none answers in time.
    pub async fn status(&self) -> Result<Status, Error> {
        match self.execute(Request::Status).await? {
            Answer::Status(status) => {
                self.endpoints(|endpoints| endpoints.learn(&status, Instant::now()));
                Ok(*status)
            }
            other => Err(unexpected("a status", &other, Applied::No)),
        }
    }

    /// Who is in the cluster, as the first endpoint that answers knows it.
    ///
    /// # Errors
    /// If none answers in time.
    pub async fn members(&self) -> Result<Vec<Member>, Error> {
        Ok(self.status().await?.members)
    }

    /// Changes the members, or who leads, and returns the members after it. A change that was sent and not answered is
    /// [`Error::OutcomeUnknown`]: look at the members before asking again.
    ///
    /// # Errors
    /// [`Error::Rejected`] with the reason when it does not fit the cluster as it is, or would harm it.
    pub async fn change_members(&self, command: MemberCommand) -> Result<Vec<Member>, Error> {
        match self.execute(Request::Member(command)).await? {
            Answer::Members(members) => Ok(members),
            other => Err(unexpected("the members", &other, Applied::Unknown)),
        }
    }

    /// Asks the leader to begin a pass over all keys, in which the members compare what they have stored; one that is under
    /// way goes on. Returns how it stands at the leader.
    ///
    /// # Errors
    /// [`Error::Rejected`] when there is nobody, or nothing, to compare.
    pub async fn start_scrub(&self) -> Result<ScrubState, Error> {
        self.scrub(ScrubCommand::Start).await
    }

    /// How that stands at the first of the given endpoints that can be reached. Each node knows what it has seen itself.
    ///
    /// # Errors
    /// If none answers in time.
    pub async fn scrub_state(&self) -> Result<ScrubState, Error> {
        self.scrub(ScrubCommand::Status).await
    }

    async fn scrub(&self, command: ScrubCommand) -> Result<ScrubState, Error> {
        match self.execute(Request::Scrub(command)).await? {
            Answer::Scrub(state) => Ok(*state),
            other => Err(unexpected("how the scrub stands", &other, Applied::Unknown)),
        }
    }

    /// Executes a write, numbered if the client has sessions.
    pub(crate) async fn execute_write(&self, command: CheckedCommand) -> Result<Answer, Error> {
        let Some(sessions) = &self.shared.sessions else {
            return self.execute(Request::Write(command)).await;
        };
        // Opening a session, if that is needed, takes its time from the write's.
        let deadline = Instant::now() + self.shared.timeout;
        let mut renewals_left = SESSION_RENEWALS;
        loop {
            let numbered = sessions.number(self, deadline).await?;
            let request = Request::Write(command.clone().within(numbered.once()));
            match self.execute_until(Kind::NumberedWrite, request, deadline).await {
                // No attempt was applied: had one been sent before, this would be unknown.
                Err(Error::Rejected(failure))
                    if failure.code == ErrorCode::SessionExpired && renewals_left > 0 =>
                {
                    sessions.expired(&numbered).await;
                    renewals_left -= 1;
                }
                outcome => return outcome,
            }
        }
    }

    /// Executes one request, with as many attempts as are allowed and safe.
    pub(crate) async fn execute(&self, request: Request) -> Result<Answer, Error> {
        let deadline = Instant::now() + self.shared.timeout;
        self.execute_until(Kind::of(&request), request, deadline).await
    }

    /// The same until then, and as a request of that kind.
    pub(crate) async fn execute_until(
        &self,
        kind: Kind,
        request: Request,
        deadline: Instant,
    ) -> Result<Answer, Error> {
        let timeout = self.shared.timeout;
        let mut patience = Patience::new(deadline, self.shared.attempts);
        loop {
            let delivery = self.attempt(kind, request.clone(), deadline).await;
            let Again { error, whom } = match judge(kind, delivery, timeout) {
                Verdict::Done(outcome) => {
                    let outcome = outcome.and_then(answer);
                    return outcome.map_err(|error| match patience.reason {
                        Some(unknown @ Error::OutcomeUnknown { .. }) => after_unknown(error, unknown),
                        _ => error,
                    });
                }
                Verdict::Again(again) => again,
            };
            if patience.is_over(error) || self.prepare(whom, &mut patience).await.is_err() {
                return Err(patience.reason.expect("the attempt just made left one"));
            }
        }
    }

    /// One attempt, at whoever is preferred now.
    async fn attempt(&self, kind: Kind, request: Request, deadline: Instant) -> Delivery {
        let now = Instant::now();
        let endpoint = match request {
            // Tells the members itself.
            Request::Status => self.endpoints(|endpoints| endpoints.choose(kind.preference(), now)),
            _ => self.endpoint_and_learn(kind, now),
        };
        let left = deadline.saturating_duration_since(now);
        let delivery = endpoint.call(request, now + kind.attempt_time(left)).await;
        self.note(endpoint.address(), &delivery);
        delivery
    }

    /// Remembers who answers and who does not.
    fn note(&self, address: &Address, delivery: &Delivery) {
        let now = Instant::now();
        self.endpoints(|endpoints| match delivery {
            Ok(response) if refuses_with(response, ErrorCode::NotServing) => endpoints.failed(address, now),
            Ok(response) => {
                endpoints.answered(address, response.header.term);
                if refuses_with(response, ErrorCode::NoLeader) {
                    endpoints.knows_no_leader(address, now);
                }
            }
            Err(Undelivered::NotSent(_) | Undelivered::Unanswered(_) | Undelivered::ExpiredSent) => {
                endpoints.failed(address, now);
            }
            // These say nothing about the server.
            Err(
                Undelivered::Refused(_)
                | Undelivered::ExpiredUnsent
                | Undelivered::Closed
                | Undelivered::Abandoned,
            ) => {}
        });
    }

    /// Gets ready for a further attempt: waits, if that is what helps. Gives up when the deadline comes first.
    async fn prepare(&self, whom: Whom, patience: &mut Patience) -> Result<(), Elapsed> {
        let now = Instant::now();
        match whom {
            Whom::Leader(address) => {
                let is_useful = self.endpoints(|endpoints| endpoints.leads(address, now));
                if is_useful && patience.redirects_left > 0 {
                    patience.redirects_left -= 1;
                    return Ok(());
                }
            }
            Whom::Another if self.endpoints(|endpoints| endpoints.has_free(now)) => return Ok(()),
            Whom::Another | Whom::AnyoneLater => {}
        }
        let pause = sleep(patience.backoff.next(fastrand::u32(..)));
        timeout_at(patience.deadline, pause).await
    }

    /// Learns the members and the leader, beside the request that found them unknown.
    async fn ask_who_leads(self, endpoint: Arc<Endpoint>) {
        let delivery = endpoint.call(Request::Status, Instant::now() + ASK_TIMEOUT).await;
        if let Ok(Response {
            outcome: Ok(Answer::Status(status)),
            ..
        }) = delivery
        {
            self.endpoints(|endpoints| endpoints.learn(&status, Instant::now()));
        }
    }

    /// Whom to ask now; learns who there is beside it, if that is not known, or was learnt long ago.
    pub(crate) fn endpoint_and_learn(&self, kind: Kind, now: Instant) -> Arc<Endpoint> {
        let (endpoint, ask) = self.endpoints(|endpoints| {
            (
                endpoints.choose(kind.preference(), now),
                endpoints.should_ask(now),
            )
        });
        if ask {
            tokio::spawn(self.clone().ask_who_leads(Arc::clone(&endpoint)));
        }
        endpoint
    }

    /// The node there does not go on with a watch.
    pub(crate) fn watch_failed(&self, endpoint: &Endpoint) {
        self.endpoints(|endpoints| endpoints.failed(endpoint.address(), Instant::now()));
    }

    /// How long a request may take.
    pub(crate) fn time_out(&self) -> Duration {
        self.shared.timeout
    }

    fn endpoints<T>(&self, action: impl FnOnce(&mut Endpoints) -> T) -> T {
        // What is in there is only a hint about whom to ask; a panic of another task can not make it unsafe.
        action(
            &mut self
                .shared
                .endpoints
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}

fn refuses_with(response: &Response, code: ErrorCode) -> bool {
    matches!(&response.outcome, Err(failure) if failure.code == code)
}

fn answer(response: Response) -> Result<Answer, Error> {
    response.outcome.map_err(Error::from_failure)
}

pub(crate) fn unexpected(expected: &'static str, got: &Answer, applied: Applied) -> Error {
    Error::UnexpectedAnswer {
        expected,
        got: name(got),
        applied,
    }
}

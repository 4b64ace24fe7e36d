//! The task that owns one connection: it gathers what callers ask into one write, and hands out the answers.
//!
//! The task lives as long as someone may call; its connection comes and goes. Deadlines are kept here and not by the
//! callers: only this task knows whether a request was sent before its time passed, and one timer serves all of them.
//! A caller that drops its future leaves a closed channel behind: its request is skipped if it was not sent yet, and
//! else its place is freed by the answer or the deadline.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use raftkv_protocol::{Address, Request, Response, WatchControl};
use raftkv_tls::ClientTls;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::backoff::Backoff;
use crate::call::{Call, Delivery, Undelivered, Waiter, WatchNumber};
use crate::connection::{Connection, ConnectionError};
use crate::in_flight::InFlight;

/// Requests on one connection that wait for an answer; more wait in the lane's queue, and then with their callers.
pub(crate) const IN_FLIGHT_LIMIT: u32 = 8192;

/// Calls that wait for room in flight.
pub(crate) const QUEUE_LIMIT: usize = 8192;

/// How long connecting and shaking hands may take: a live server on a slow line needs a few round trips.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The wait after the first failed connection attempt, and the longest.
const RECONNECT_FIRST: Duration = Duration::from_millis(10);
const RECONNECT_LONGEST: Duration = Duration::from_secs(1);

/// A connection on which a request expired, and nothing at all came for so long since it was sent, is given up. Longer
/// than a server waits for a leader (1 s), so that waiting for an election is not taken for it.
const SILENCE_LIMIT: Duration = Duration::from_secs(3);

/// Everyone who might call has gone.
struct NobodyCalls;

/// A request that was sent.
struct Sent {
    at: Instant,
    deadline: Instant,
    answer: oneshot::Sender<Delivery>,
}

/// The watches on a connection: beside the requests that wait for one answer, which cost no more for it.
type Watches = BTreeMap<WatchNumber, mpsc::UnboundedSender<Delivery>>;

/// Runs until the last sender of `calls` is gone.
pub(crate) async fn run(address: Address, tls: Option<Arc<ClientTls>>, calls: mpsc::Receiver<Call>) {
    let lane = Lane {
        address,
        tls,
        calls,
        waiting: Vec::new(),
        in_flight: InFlight::new(IN_FLIGHT_LIMIT),
        watches: Watches::new(),
        next_deadline: None,
        last_answer: None,
        not_before: Instant::now(),
        backoff: Backoff::new(RECONNECT_FIRST, RECONNECT_LONGEST),
    };
    lane.run().await;
}

struct Lane {
    address: Address,
    tls: Option<Arc<ClientTls>>,
    calls: mpsc::Receiver<Call>,
    /// Taken from `calls`, not sent yet.
    waiting: Vec<Call>,
    in_flight: InFlight<Sent>,
    watches: Watches,
    /// No request that waits or is in flight has an earlier deadline. Answers do not move it: most requests are
    /// answered long before, so that looking through all of them once per time-out is enough.
    next_deadline: Option<Instant>,
    last_answer: Option<Instant>,
    /// Connecting pauses until then.
    not_before: Instant,
    backoff: Backoff,
}

impl Lane {
    async fn run(mut self) {
        loop {
            if self.waiting.is_empty() && self.gather().await.is_err() {
                return;
            }
            let error = match self.connect().await {
                Err(NobodyCalls) => return,
                Ok(Err(error)) => error,
                Ok(Ok(connection)) => {
                    self.backoff.reset();
                    match self.serve(connection).await {
                        Err(NobodyCalls) => return,
                        Ok(error) => error,
                    }
                }
            };
            self.not_before = Instant::now() + self.backoff.next(fastrand::u32(..));
            self.fail_all(error);
        }
    }

    /// Waits for calls and takes what is there, as far as there is room.
    async fn gather(&mut self) -> Result<(), NobodyCalls> {
        let first = self.waiting.len();
        let room = self.in_flight.room() - first;
        if self.calls.recv_many(&mut self.waiting, room).await == 0 {
            return Err(NobodyCalls);
        }
        let earliest = self.waiting[first..].iter().map(|call| call.deadline).min();
        self.next_deadline = [self.next_deadline, earliest].into_iter().flatten().min();
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.in_flight.room() > self.waiting.len()
    }

    /// Connects after the pause. Meanwhile calls gather and their deadlines hold.
    async fn connect(&mut self) -> Result<Result<Connection, ConnectionError>, NobodyCalls> {
        let (address, not_before) = (self.address.clone(), self.not_before);
        let tls = self.tls.clone();
        let connecting = async move {
            sleep_until(not_before).await;
            Connection::open(address, tls.as_deref(), CONNECT_TIMEOUT).await
        };
        tokio::pin!(connecting);
        loop {
            let (deadline, has_room) = (self.next_deadline, self.has_room());
            tokio::select! {
                outcome = &mut connecting => return Ok(outcome),
                gathered = self.gather(), if has_room => gathered?,
                () = reached(deadline) => { let _nothing_is_in_flight = self.expire(); }
            }
        }
    }

    /// Works on one connection until it ends, and says why it did.
    async fn serve(&mut self, mut connection: Connection) -> Result<ConnectionError, NobodyCalls> {
        loop {
            if let Err(error) = self.send_waiting(&mut connection) {
                return Ok(error);
            }
            let (deadline, has_room) = (self.next_deadline, self.has_room());
            tokio::select! {
                moved = connection.drive() => {
                    if let Err(error) = moved.and_then(|()| self.hand_out(&mut connection)) {
                        return Ok(error);
                    }
                }
                gathered = self.gather(), if has_room => gathered?,
                () = reached(deadline) => if let ControlFlow::Break(error) = self.expire() {
                    return Ok(error);
                }
            }
        }
    }

    /// Encodes everything that waits and writes it at once.
    fn send_waiting(&mut self, connection: &mut Connection) -> Result<(), ConnectionError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        for call in self.waiting.drain(..) {
            if call.waiter.is_closed() {
                continue;
            }
            if call.deadline <= now {
                call.waiter.deliver(Err(Undelivered::ExpiredUnsent));
                continue;
            }
            let timeout = call.deadline.saturating_duration_since(now);
            let answer = match call.waiter {
                Waiter::One(answer) => answer,
                Waiter::Many(number, answers) => {
                    match connection.enqueue(number.id(), timeout, &call.request) {
                        Ok(()) => drop(self.watches.insert(number, answers)),
                        Err(failure) => drop(answers.send(Err(Undelivered::Refused(failure)))),
                    }
                    continue;
                }
                Waiter::Nobody(number) => {
                    // No control is too large for any server.
                    let _ = connection.enqueue(number.id(), timeout, &call.request);
                    continue;
                }
            };
            let sent = Sent {
                at: now,
                deadline: call.deadline,
                answer,
            };
            let Ok(id) = self.in_flight.insert(sent) else {
                unreachable!("no more is gathered than there is room for in flight");
            };
            if let Err(failure) = connection.enqueue(id, timeout, &call.request) {
                let refused = self.in_flight.remove(id).expect("it was inserted just now");
                deliver(refused.answer, Err(Undelivered::Refused(failure)));
            }
        }
        connection.send()
    }

    fn hand_out(&mut self, connection: &mut Connection) -> Result<(), ConnectionError> {
        while let Some((id, response)) = connection.next_response()? {
            self.last_answer = Some(Instant::now());
            if let Some(number) = WatchNumber::of(id) {
                self.hand_out_part(number, response, connection);
                continue;
            }
            // No one waits for an answer whose deadline has passed.
            if let Some(sent) = self.in_flight.remove(id) {
                deliver(sent.answer, Ok(response));
            }
        }
        Ok(())
    }

    /// A part of a watch, or its end. One that nobody reads any more is cancelled: its own cancellation may have found no
    /// room in the queue.
    fn hand_out_part(&mut self, number: WatchNumber, response: Response, connection: &mut Connection) {
        let is_over = response.outcome.is_err();
        let Some(answers) = self.watches.get(&number) else {
            return;
        };
        let is_unread = answers.send(Ok(response)).is_err();
        if is_unread && !is_over {
            let cancel = Request::WatchControl(WatchControl::Cancel);
            let _ = connection.enqueue(number.id(), CONNECT_TIMEOUT, &cancel);
        }
        if is_unread || is_over {
            self.watches.remove(&number);
        }
    }

    /// Ends what is past its deadline. Breaks when a request met its deadline on a connection that has been silent ever
    /// since it was sent: such a connection is dead, whatever the system thinks of it.
    fn expire(&mut self) -> ControlFlow<ConnectionError> {
        let now = Instant::now();
        for call in self.waiting.extract_if(.., |call| call.deadline <= now) {
            call.waiter.deliver(Err(Undelivered::ExpiredUnsent));
        }
        let expired = self.in_flight.remove_where(|sent| sent.deadline <= now);
        let silent_since = expired.iter().map(|sent| sent.at).min().max(self.last_answer);
        let is_over = !expired.is_empty() && silent_since.is_some_and(|since| now - since >= SILENCE_LIMIT);
        for sent in expired {
            deliver(sent.answer, Err(Undelivered::ExpiredSent));
        }
        let deadlines = self.waiting.iter().map(|call| call.deadline);
        self.next_deadline = deadlines
            .chain(self.in_flight.iter().map(|sent| sent.deadline))
            .min();
        if is_over {
            let address = self.address.clone();
            return ControlFlow::Break(ConnectionError::Silent {
                address,
                after: SILENCE_LIMIT,
            });
        }
        ControlFlow::Continue(())
    }

    /// After the end of a connection, or a failed attempt to make one.
    fn fail_all(&mut self, error: ConnectionError) {
        let error = Arc::new(error);
        for sent in self.in_flight.remove_where(|_| true) {
            deliver(sent.answer, Err(Undelivered::Unanswered(Arc::clone(&error))));
        }
        for (_, answers) in std::mem::take(&mut self.watches) {
            let _ = answers.send(Err(Undelivered::Unanswered(Arc::clone(&error))));
        }
        while let Ok(call) = self.calls.try_recv() {
            self.waiting.push(call);
        }
        for call in self.waiting.drain(..) {
            call.waiter.deliver(Err(Undelivered::NotSent(Arc::clone(&error))));
        }
        self.next_deadline = None;
    }
}

/// Waits for a moment; forever, if there is none.
async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// A caller that went away does not want to know.
fn deliver(answer: oneshot::Sender<Delivery>, delivery: Delivery) {
    drop(answer.send(delivery));
}

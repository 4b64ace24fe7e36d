//! The stream of one watch: connections come and go beneath it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use raftkv_protocol::{
    Answer, ErrorCode, Failure, HistoryEpoch, PartKind, Request, Response, Revision, WatchControl,
    WatchEvent, WatchPart, WatchRequest, WatchStart, WhenSlow,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{WatchItem, WatchPosition};
use crate::backoff::Backoff;
use crate::call::{Call, Undelivered, Waiter, WatchNumber};
use crate::client::{Client, unexpected};
use crate::endpoints::Endpoint;
use crate::error::{Applied, Error};
use crate::retry::Kind;

/// A server that says nothing for so long, though it was asked to, is given up for another one.
pub(super) const SILENCE_LIMIT: Duration = Duration::from_secs(10);

/// The wait before another node is asked to go on with a watch, at first and at most.
const RETRY_FIRST: Duration = Duration::from_millis(10);
const RETRY_LONGEST: Duration = Duration::from_secs(1);

/// When the connection's queue is full, its server is told of more credit a little later.
const CREDIT_RETRY: Duration = Duration::from_millis(10);

/// Watches of this process; each has a number of its own.
static LAST_NUMBER: AtomicU32 = AtomicU32::new(0);

/// The changes of some keys: a stream of [`WatchItem`]s that goes on, whatever node fails, until it tells an error; the item
/// behind an error is the end. See [`Client::watch`].
///
/// [`Watch::next`] may be dropped at any point without losing anything. Dropping the watch ends it on its server.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    /// How it goes on when it is asked for again.
    request: WatchRequest,
    /// Are progress items wanted, and how often?
    progress: Option<Duration>,
    state: State,
    /// Of the part that is being taken out: each item with where the watch is behind it.
    items: VecDeque<(WatchItem, Option<Revision>)>,
    /// Bytes that part took of the credit, and those that were given back to nobody yet.
    part_bytes: u64,
    owed_bytes: u64,
    position: Option<Revision>,
    /// Has the snapshot that was asked for begun?
    is_in_snapshot: bool,
    /// The history of what was told; `None`: no server has let it begin yet. Until then it does not wait for ever.
    epoch: Option<HistoryEpoch>,
    give_up_at: Option<Instant>,
    backoff: Backoff,
    timer: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
enum State {
    /// Asks a node next.
    Opening,
    /// Waits before it asks another one.
    Pausing,
    Open(Open),
    /// Told an error, or has to tell it.
    Ended(Option<Error>),
}

/// At one node.
#[derive(Debug)]
struct Open {
    endpoint: Arc<Endpoint>,
    number: WatchNumber,
    parts: mpsc::UnboundedReceiver<Result<Response, Undelivered>>,
    last_heard: Instant,
}

impl Open {
    /// Tells the server; `false`: there is no room in the queue now.
    fn tell(&self, control: WatchControl) -> bool {
        let call = Call {
            request: Request::WatchControl(control),
            deadline: Instant::now() + SILENCE_LIMIT,
            waiter: Waiter::Nobody(self.number),
        };
        !matches!(
            self.endpoint.lane().try_send(call),
            Err(mpsc::error::TrySendError::Full(_))
        )
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // Without room in the queue, the next part finds nobody and is answered with this.
        self.tell(WatchControl::Cancel);
    }
}

impl Watch {
    pub(super) fn new(client: Client, request: WatchRequest, progress: Option<Duration>) -> Watch {
        Watch {
            client,
            request,
            progress,
            state: State::Opening,
            items: VecDeque::new(),
            part_bytes: 0,
            owed_bytes: 0,
            position: None,
            is_in_snapshot: false,
            epoch: None,
            give_up_at: None,
            backoff: Backoff::new(RETRY_FIRST, RETRY_LONGEST),
            timer: None,
        }
    }

    /// What comes next; `None` behind an error. Nothing is lost when it is dropped unfinished.
    pub async fn next(&mut self) -> Option<Result<WatchItem, Error>> {
        std::future::poll_fn(|context| self.poll_item(context)).await
    }

    /// How far it is: everything up to there was taken out. `None` until the server has let it begin, or its snapshot is whole.
    #[must_use]
    pub fn position(&self) -> Option<WatchPosition> {
        Some(WatchPosition {
            revision: self.position?,
            epoch: self.epoch?,
        })
    }

    fn poll_item(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<WatchItem, Error>>> {
        loop {
            if let Some((item, position)) = self.items.pop_front() {
                self.position = position.or(self.position);
                if self.items.is_empty() {
                    self.owed_bytes += std::mem::take(&mut self.part_bytes);
                    self.give_credit();
                }
                return Poll::Ready(Some(Ok(item)));
            }
            match &mut self.state {
                State::Opening => self.open(),
                State::Pausing => {
                    std::task::ready!(self.poll_timer(context));
                    self.timer = None;
                    self.state = State::Opening;
                }
                State::Open(open) => match open.parts.poll_recv(context) {
                    Poll::Ready(delivery) => self.receive(delivery.unwrap_or(Err(Undelivered::Abandoned))),
                    Poll::Pending => {
                        std::task::ready!(self.poll_timer(context));
                        self.look_around();
                    }
                },
                State::Ended(error) => return Poll::Ready(error.take().map(Err)),
            }
        }
    }

    fn poll_timer(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.timer {
            Some(timer) => timer.as_mut().poll(context),
            None => Poll::Pending,
        }
    }

    fn set_timer(&mut self, at: Instant) {
        match &mut self.timer {
            Some(timer) => timer.as_mut().reset(at),
            None => self.timer = Some(Box::pin(sleep_until(at))),
        }
    }

    /// The timer has rung.
    fn look_around(&mut self) {
        let State::Open(open) = &self.state else { return };
        let silent_at = open.last_heard + SILENCE_LIMIT;
        if silent_at <= Instant::now() {
            self.leave(Error::TimedOut { after: SILENCE_LIMIT });
            return;
        }
        self.set_timer(silent_at);
        self.give_credit();
    }

    /// Asks a node for what is lacking.
    fn open(&mut self) {
        let now = Instant::now();
        let patience = self.client.time_out();
        self.give_up_at.get_or_insert(now + patience);
        let endpoint = self.client.endpoint_and_learn(Kind::Local, now);
        let number = WatchNumber(LAST_NUMBER.fetch_add(1, Ordering::Relaxed));
        let (answers, parts) = mpsc::unbounded_channel();
        let call = Call {
            request: Request::Watch(self.request.clone()),
            deadline: now + patience,
            waiter: Waiter::Many(number, answers),
        };
        match endpoint.lane().try_send(call) {
            Ok(()) => {
                self.owed_bytes = 0;
                self.is_in_snapshot = false;
                self.set_timer(now + SILENCE_LIMIT);
                self.state = State::Open(Open {
                    endpoint,
                    number,
                    parts,
                    last_heard: now,
                });
            }
            Err(mpsc::error::TrySendError::Full(_)) => self.pause(Error::TimedOut { after: patience }),
            Err(mpsc::error::TrySendError::Closed(_)) => self.state = State::Ended(Some(Error::Closed)),
        }
    }

    /// Another attempt a little later; or the end, if none has succeeded yet for too long.
    fn pause(&mut self, error: Error) {
        let now = Instant::now();
        if self.epoch.is_none() && self.give_up_at.is_some_and(|at| at <= now) {
            self.state = State::Ended(Some(error));
            return;
        }
        let pause = self.backoff.next(fastrand::u32(..));
        self.state = State::Pausing;
        self.set_timer(now + pause);
    }

    fn receive(&mut self, delivery: Result<Response, Undelivered>) {
        let State::Open(open) = &mut self.state else {
            return;
        };
        open.last_heard = Instant::now();
        let error = match delivery {
            Ok(response) => return self.answered(response),
            Err(Undelivered::Abandoned | Undelivered::Closed) => {
                self.state = State::Ended(Some(Error::Closed));
                return;
            }
            Err(Undelivered::Refused(failure)) => {
                self.state = State::Ended(Some(Error::Rejected(failure)));
                return;
            }
            Err(Undelivered::NotSent(error)) => Error::Unreachable(error),
            Err(Undelivered::Unanswered(error)) => Error::Unanswered(error),
            Err(Undelivered::ExpiredUnsent | Undelivered::ExpiredSent) => Error::TimedOut {
                after: self.client.time_out(),
            },
        };
        self.leave(error);
    }

    /// The node does not go on with it: another one is asked.
    fn leave(&mut self, error: Error) {
        if let State::Open(open) = &self.state {
            self.client.watch_failed(&open.endpoint);
        }
        self.pause(error);
    }

    fn answered(&mut self, response: Response) {
        match response.outcome {
            Ok(Answer::Watch(part)) => self.take_part(part, response.header.epoch),
            Ok(other) => {
                let error = unexpected("a part of a watch", &other, Applied::No);
                self.state = State::Ended(Some(error));
            }
            Err(failure) => self.failed(failure),
        }
    }

    fn failed(&mut self, failure: Failure) {
        let is_state_lost =
            failure.code == ErrorCode::WatchTooSlow && self.request.when_slow != WhenSlow::Drop;
        match failure.code {
            ErrorCode::NoLeader
            | ErrorCode::NotLeader
            | ErrorCode::NotServing
            | ErrorCode::Overloaded
            | ErrorCode::OutcomeUnknown => self.leave(Error::from_failure(failure)),
            // The state that the snapshot was read from was given back: another one.
            _ if is_state_lost => self.pause(Error::from_failure(failure)),
            _ => self.state = State::Ended(Some(Error::from_failure(failure))),
        }
    }

    fn take_part(&mut self, part: WatchPart, epoch: HistoryEpoch) {
        self.backoff.reset();
        self.epoch = Some(epoch);
        self.part_bytes = part.credit_bytes();
        let through = part.through;
        match part.kind {
            PartKind::Snapshot | PartKind::SnapshotEnd => {
                if !std::mem::replace(&mut self.is_in_snapshot, true) {
                    self.items.push_back((WatchItem::SnapshotBegin, None));
                }
                for event in part.events {
                    if let WatchEvent::Put { kv, .. } = event {
                        self.items.push_back((WatchItem::Current(kv), None));
                    }
                }
                if part.kind == PartKind::SnapshotEnd {
                    self.items
                        .push_back((WatchItem::SnapshotEnd(through), Some(through)));
                    self.go_on_behind(through);
                }
                return;
            }
            PartKind::Conflated => self.items.push_back((WatchItem::Gap, None)),
            PartKind::Changes | PartKind::Progress => {}
        }
        if part.events.is_empty() {
            match self.progress {
                Some(_) => self
                    .items
                    .push_back((WatchItem::Progress(through), Some(through))),
                None => self.position = Some(through),
            }
        }
        let mut events = part.events.into_iter().peekable();
        while let Some(event) = events.next() {
            let revision = event.revision();
            let position = match events.peek() {
                None => Some(through),
                // Between events of one revision there is no place to go on from.
                Some(next) => (next.revision() > revision).then_some(revision),
            };
            self.items.push_back((WatchItem::Change(event), position));
        }
        self.go_on_behind(through);
    }

    /// A further node is asked for what comes behind `through`.
    fn go_on_behind(&mut self, through: Revision) {
        self.request.epoch = self.epoch;
        self.request.start = WatchStart::Revision(Revision(through.0 + 1));
    }

    /// Gives back what was taken out, when it is worth a message.
    fn give_credit(&mut self) {
        let State::Open(open) = &self.state else { return };
        if self.owed_bytes * 2 < u64::from(self.request.credit_bytes) {
            return;
        }
        let bytes = u32::try_from(self.owed_bytes).unwrap_or(u32::MAX);
        if open.tell(WatchControl::Credit { bytes }) {
            self.owed_bytes = 0;
        } else {
            self.set_timer(Instant::now() + CREDIT_RETRY);
        }
    }
}

impl Stream for Watch {
    type Item = Result<WatchItem, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_item(context)
    }
}

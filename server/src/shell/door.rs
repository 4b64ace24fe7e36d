//! The way into the node for other threads: a bounded queue of requests, each with a place for its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use raftkv_protocol::{
    ErrorCode, Failure, Request, RequestId, Response, ScrubCommand, WatchControl, WatchRequest,
};
use tokio::sync::{mpsc, oneshot};

use super::call_post::{CallPost, Calls, PutError, call_post};
use super::inbox::{Letter, Mailbox};
use super::watch_feed::{WatchFeed, WatchKey};
use crate::metrics::Figures;
use crate::watch::ConnectionId;

/// A request on its way to the node thread.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) request: Request,
    /// Give up after this.
    pub(crate) timeout: Duration,
    pub(crate) answer: CallAnswer,
    is_taken: Arc<AtomicBool>,
}

impl Call {
    /// A call, and where to see later whether it was taken.
    pub(super) fn new(request: Request, timeout: Duration, answer: CallAnswer) -> (Call, Arc<AtomicBool>) {
        let is_taken = Arc::<AtomicBool>::default();
        let call = Call {
            request,
            timeout,
            answer,
            is_taken: is_taken.clone(),
        };
        (call, is_taken)
    }

    /// From now on the node has to do with it: should the answer never come, nobody knows what became of the request.
    pub(crate) fn take(&self) {
        self.is_taken.store(true, Ordering::Release);
    }
}

/// Who waits for the answer of a call.
#[derive(Debug)]
pub(crate) enum CallAnswer {
    /// For one answer.
    Call(oneshot::Sender<Response>),
    /// For the parts of a watch.
    Watch(Watcher),
}

impl CallAnswer {
    /// Gives the answer by `post`, or one of many; nobody may wait any more.
    #[cfg(test)]
    pub(crate) fn send_by(self, post: &mut super::answer_post::AnswerPost, response: Response) {
        match self {
            CallAnswer::Call(caller) => post.put(caller, response),
            CallAnswer::Watch(watcher) => drop(watcher.answers.send(response)),
        }
    }
}

/// Where the parts of a watch go that another thread asked for.
#[derive(Debug)]
pub(crate) struct Watcher {
    pub(super) connection: ConnectionId,
    pub(super) answers: mpsc::UnboundedSender<Response>,
    /// Tells how more credit is given.
    pub(super) feed: oneshot::Sender<WatchFeed>,
}

/// A watch as another thread has it.
#[derive(Debug)]
pub(crate) struct WatchCall {
    answers: mpsc::UnboundedReceiver<Response>,
    key: WatchKey,
    told: oneshot::Receiver<WatchFeed>,
    feed: Option<WatchFeed>,
}

impl WatchCall {
    /// What comes next; `None`: the node is gone. Cancelling it loses nothing.
    pub(crate) async fn next(&mut self) -> Option<Response> {
        self.answers.recv().await
    }

    /// As [`WatchCall::next`], for who polls.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Response>> {
        self.answers.poll_recv(context)
    }

    /// So many more bytes of keys and values may come.
    pub(crate) fn give_credit(&mut self, bytes: u32) {
        self.tell(WatchControl::Credit { bytes });
    }

    fn tell(&mut self, control: WatchControl) {
        if self.feed.is_none() {
            self.feed = self.told.try_recv().ok();
        }
        if let Some(feed) = &self.feed {
            feed.control(self.key, control);
        }
    }
}

impl Drop for WatchCall {
    fn drop(&mut self) {
        // Where it has not begun yet, its first part finds nobody.
        self.tell(WatchControl::Cancel);
    }
}

/// Hands requests to the node thread.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    calls: CallPost,
    /// For what is no request.
    mailbox: Mailbox,
    /// How many watches came through it.
    watches: Arc<AtomicU64>,
}

impl Door {
    /// A door, and the end at which the node thread takes the calls.
    pub(crate) fn new(mailbox: Mailbox) -> (Door, Calls) {
        let (calls, taken) = call_post();
        let door = Door {
            calls,
            mailbox,
            watches: Arc::default(),
        };
        (door, taken)
    }

    /// Wakes the node thread when calls wait; without it none is taken. A task of the thread that calls, for as long as
    /// that lasts.
    pub(crate) async fn wake_the_node(self) {
        self.calls.wake_the_node().await;
    }

    /// Asks the node and waits for its answer; the node itself keeps to the time-out.
    ///
    /// # Errors
    /// `Overloaded` when the queue is full, `ShuttingDown` when the node stops before it took the request,
    /// `OutcomeUnknown` when it stops afterwards.
    pub(crate) async fn call(&self, request: Request, timeout: Duration) -> Result<Response, Failure> {
        let (answer, answered) = oneshot::channel();
        let is_write = matches!(
            request,
            Request::Write(_) | Request::Member(_) | Request::Scrub(ScrubCommand::Start)
        );
        let (call, is_taken) = Call::new(request, timeout, CallAnswer::Call(answer));
        self.send(call)?;
        answered.await.map_err(|_| {
            if is_write && is_taken.load(Ordering::Acquire) {
                lost()
            } else {
                stopping()
            }
        })
    }

    fn send(&self, call: Call) -> Result<(), Failure> {
        self.calls.put(call).map_err(|error| match error {
            PutError::Full => Failure::new(
                ErrorCode::Overloaded,
                "this node has more requests waiting than it can take; nothing was done, try again later",
            ),
            PutError::Closed => stopping(),
        })
    }

    /// What monitoring wants to know of the node.
    ///
    /// # Errors
    /// `NotServing` when it stops, `Overloaded` when it does not tell in time.
    pub(crate) async fn figures(&self, timeout: Duration) -> Result<Box<Figures>, Failure> {
        if !self.is_open() {
            return Err(stopping());
        }
        let (answer, answered) = oneshot::channel();
        self.mailbox.send(Letter::Figures(answer));
        let told = tokio::time::timeout(timeout, answered).await;
        let told = told.map_err(|_| {
            let message =
                format!("the node has not told its figures within {timeout:?}; it may hang or be very busy");
            Failure::new(ErrorCode::Overloaded, message)
        })?;
        told.map_err(|_| stopping())
    }

    /// Begins a watch. Its first answer is a part of it, or why there is none. Dropping it ends the watch.
    ///
    /// # Errors
    /// As [`Door::call`].
    pub(crate) fn watch(&self, request: WatchRequest, timeout: Duration) -> Result<WatchCall, Failure> {
        let (sender, answers) = mpsc::unbounded_channel();
        // Names of native connections count from 1, these down from the highest.
        let connection = ConnectionId(u64::MAX - self.watches.fetch_add(1, Ordering::Relaxed));
        let (feed, told) = oneshot::channel();
        let watcher = Watcher {
            connection,
            answers: sender,
            feed,
        };
        let (call, _) = Call::new(Request::Watch(request), timeout, CallAnswer::Watch(watcher));
        self.send(call)?;
        Ok(WatchCall {
            answers,
            key: WatchKey {
                connection,
                request: RequestId(0),
            },
            told,
            feed: None,
        })
    }

    /// Is the node still there to take calls?
    pub(crate) fn is_open(&self) -> bool {
        self.calls.is_open()
    }
}

pub(crate) fn stopping() -> Failure {
    Failure::new(
        ErrorCode::NotServing,
        "this node is stopping; nothing was done, ask another node",
    )
}

fn lost() -> Failure {
    Failure::new(
        ErrorCode::OutcomeUnknown,
        "this node stopped before the write was confirmed; it may have happened, read the key to find out",
    )
}

#[cfg(test)]
mod tests {
    use super::super::call_post::MAX_WAITING;
    use super::*;

    fn block_on<F: Future>(future: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.expect("a runtime").block_on(future)
    }

    /// A door that wakes, and the other end.
    fn door() -> (Door, Calls) {
        let (door, calls) = Door::new(Mailbox::default());
        tokio::spawn(door.clone().wake_the_node());
        (door, calls)
    }

    async fn take_one(calls: &mut Calls) -> Call {
        let mut taken = Vec::new();
        calls.take(&mut taken).await;
        assert_eq!(taken.len(), 1);
        taken.remove(0)
    }

    const TIMEOUT: Duration = Duration::from_secs(1);

    #[test]
    fn a_full_queue_refuses_early() {
        block_on(async {
            let (door, _taken) = door();
            for _ in 0..MAX_WAITING {
                let (call, _) = Call::new(Request::Status, TIMEOUT, CallAnswer::Call(oneshot::channel().0));
                door.calls.put(call).expect("there is room");
            }
            let failure = door.call(Request::Status, TIMEOUT).await.expect_err("no room");
            assert_eq!(failure.code, ErrorCode::Overloaded);
        });
    }

    #[test]
    fn a_write_that_was_never_taken_is_known_not_to_have_happened() {
        block_on(async {
            let (door, mut taken) = door();
            let limits = raftkv_protocol::Limits::default();
            let command = raftkv_protocol::Command::Delete {
                key: b"k",
                condition: raftkv_protocol::Condition::Always,
            };
            let write =
                || Request::Write(raftkv_protocol::CheckedCommand::new(&command, &limits).expect("valid"));
            let (untaken, _) = tokio::join!(door.call(write(), TIMEOUT), async {
                drop(take_one(&mut taken).await)
            });
            assert_eq!(untaken.expect_err("dropped").code, ErrorCode::NotServing);
            let take = async { take_one(&mut taken).await.take() };
            let (lost, ()) = tokio::join!(door.call(write(), TIMEOUT), take);
            assert_eq!(lost.expect_err("dropped").code, ErrorCode::OutcomeUnknown);
        });
    }

    #[test]
    fn a_node_that_tells_no_figures_keeps_nobody_waiting() {
        block_on(async {
            let (door, taken) = Door::new(Mailbox::default());
            let failure = door.figures(Duration::from_millis(10)).await.expect_err("hangs");
            assert_eq!(failure.code, ErrorCode::Overloaded);
            drop(taken);
            let failure = door.figures(TIMEOUT).await.expect_err("gone");
            assert_eq!(failure.code, ErrorCode::NotServing);
        });
    }

    #[test]
    fn a_node_that_is_gone_took_nothing() {
        block_on(async {
            let (door, taken) = Door::new(Mailbox::default());
            drop(taken);
            assert!(!door.is_open());
            let failure = door.call(Request::Status, TIMEOUT).await.expect_err("gone");
            assert_eq!(failure.code, ErrorCode::NotServing);
        });
    }
}

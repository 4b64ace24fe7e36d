//! Calls on their way to the node thread, those of one turn of the callers' thread at a time.
//!
//! To wake the node thread takes a system call, and a node that is woken for one call makes a batch of it, with a round of
//! heartbeats if it is a read. So what puts a call in wakes a task of its own thread, which takes its turn behind all that
//! the last look at the sockets made ready, and that task wakes the node, once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::door::Call;

/// Calls that may wait in front of the node thread. It takes all that wait at once, so a queue that is full means
/// that the node can not keep up, not that it has not looked yet.
pub(super) const MAX_WAITING: usize = 4096;

/// With so many waiting the node is woken at once: it works on these while their thread goes on with its turn.
const ENOUGH: usize = 32;

/// Why a call was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PutError {
    /// Too many wait.
    Full,
    /// The node is gone.
    Closed,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    /// Wakes the node thread.
    node: Notify,
    /// Wakes the task that wakes the node thread.
    waker: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    calls: Vec<Call>,
    is_closed: bool,
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The callers' end.
#[derive(Clone, Debug)]
pub(super) struct CallPost {
    queue: Arc<Queue>,
}

/// The node thread's end. What still waits when it is dropped is dropped with it.
#[derive(Debug)]
pub(crate) struct Calls {
    queue: Arc<Queue>,
}

/// Both ends.
pub(super) fn call_post() -> (CallPost, Calls) {
    let queue = Arc::<Queue>::default();
    let post = CallPost { queue: queue.clone() };
    (post, Calls { queue })
}

impl CallPost {
    /// Puts a call in. The node thread sees it once [`CallPost::wake_the_node`] had a turn.
    pub(super) fn put(&self, call: Call) -> Result<(), PutError> {
        let mut waiting = self.queue.waiting();
        if waiting.is_closed {
            return Err(PutError::Closed);
        }
        if waiting.calls.len() == MAX_WAITING {
            return Err(PutError::Full);
        }
        waiting.calls.push(call);
        let count = waiting.calls.len();
        drop(waiting);
        match count {
            1 => self.queue.waker.notify_one(),
            ENOUGH => self.queue.node.notify_one(),
            _ => {}
        }
        Ok(())
    }

    /// Is the node still there to take calls?
    pub(super) fn is_open(&self) -> bool {
        !self.queue.waiting().is_closed
    }

    /// Wakes the node thread when calls wait. A task of the callers' thread, for as long as that lasts.
    pub(super) async fn wake_the_node(self) {
        loop {
            self.queue.waker.notified().await;
            self.queue.node.notify_one();
        }
    }
}

impl Calls {
    /// Waits until calls wait, and exchanges them for the empty `calls`.
    pub(crate) async fn take(&mut self, calls: &mut Vec<Call>) {
        while calls.is_empty() {
            self.queue.node.notified().await;
            std::mem::swap(&mut self.queue.waiting().calls, calls);
        }
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        let calls = {
            let mut waiting = self.queue.waiting();
            waiting.is_closed = true;
            std::mem::take(&mut waiting.calls)
        };
        drop(calls);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};
    use std::time::Duration;

    use raftkv_protocol::Request;
    use tokio::task::yield_now;

    use super::super::door::CallAnswer;
    use super::*;

    fn call() -> Call {
        let (answer, _) = tokio::sync::oneshot::channel();
        Call::new(Request::Status, Duration::from_secs(1), CallAnswer::Call(answer)).0
    }

    fn put(post: &CallPost, calls: usize) {
        (0..calls).for_each(|_| post.put(call()).expect("there is room"));
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.expect("a runtime").block_on(future)
    }

    /// Is there a wake-up for the node thread that it has not seen? Takes it.
    fn is_node_woken(calls: &Calls) -> bool {
        let woken = pin!(calls.queue.node.notified());
        woken.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn calls_of_one_turn_wake_the_node_once_and_behind_the_last() {
        block_on(async {
            let (post, mut calls) = call_post();
            tokio::spawn(post.clone().wake_the_node());
            put(&post, 3);
            assert!(!is_node_woken(&calls), "before the turn is over");
            yield_now().await;
            let mut taken = Vec::new();
            calls.take(&mut taken).await;
            assert_eq!(taken.len(), 3);
            yield_now().await;
            assert!(!is_node_woken(&calls), "again");
        });
    }

    #[test]
    fn many_calls_wake_the_node_before_the_turn_is_over() {
        let (post, calls) = call_post();
        put(&post, ENOUGH - 1);
        assert!(!is_node_woken(&calls));
        put(&post, 1);
        assert!(is_node_woken(&calls));
    }

    #[test]
    fn a_full_queue_and_a_closed_one_take_no_call() {
        let (post, calls) = call_post();
        put(&post, MAX_WAITING);
        assert_eq!(post.put(call()), Err(PutError::Full));
        drop(calls);
        assert!(!post.is_open());
        assert_eq!(post.put(call()), Err(PutError::Closed));
    }
}

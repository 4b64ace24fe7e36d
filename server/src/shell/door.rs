//! The way into the node for other threads: a bounded queue of requests, each with a place for its answer.

use std::time::Duration;

use raftkv_protocol::{ErrorCode, Failure, Request, Response};
use tokio::sync::{mpsc, oneshot};

/// Requests that may wait in front of the node thread. It takes all that wait at once, so a queue that is full means
/// that the node can not keep up, not that it has not looked yet.
const MAX_WAITING: usize = 4096;

/// A request on its way to the node thread.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) request: Request,
    /// Give up after this.
    pub(crate) timeout: Duration,
    pub(crate) answer: oneshot::Sender<Response>,
}

/// Hands requests to the node thread.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    calls: mpsc::Sender<Call>,
}

impl Door {
    /// A door, and the end at which the node thread takes the calls.
    pub(crate) fn new() -> (Door, mpsc::Receiver<Call>) {
        let (calls, taken) = mpsc::channel(MAX_WAITING);
        (Door { calls }, taken)
    }

    /// Asks the node and waits for its answer; the node itself keeps to the time-out.
    ///
    /// # Errors
    /// `Overloaded` when the queue is full, `NoLeader` when the node stops before it took the request,
    /// `OutcomeUnknown` when it stops afterwards.
    pub(crate) async fn call(&self, request: Request, timeout: Duration) -> Result<Response, Failure> {
        let (answer, answered) = oneshot::channel();
        let is_write = matches!(request, Request::Write(_));
        let call = Call {
            request,
            timeout,
            answer,
        };
        self.calls.try_send(call).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => failure(
                ErrorCode::Overloaded,
                "this node has more requests waiting than it can take; nothing was done, try again later",
            ),
            mpsc::error::TrySendError::Closed(_) => stopping(),
        })?;
        answered
            .await
            .map_err(|_| if is_write { lost() } else { stopping() })
    }

    /// Is the node still there to take calls?
    pub(crate) fn is_open(&self) -> bool {
        !self.calls.is_closed()
    }
}

fn stopping() -> Failure {
    failure(
        ErrorCode::NoLeader,
        "this node is stopping; nothing was done, ask another node",
    )
}

fn lost() -> Failure {
    failure(
        ErrorCode::OutcomeUnknown,
        "this node stopped before the write was confirmed; it may have happened, read the key to find out",
    )
}

fn failure(code: ErrorCode, message: &str) -> Failure {
    Failure {
        code,
        message: message.to_owned(),
        leader: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<F: Future>(future: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.expect("a runtime").block_on(future)
    }

    const TIMEOUT: Duration = Duration::from_secs(1);

    #[test]
    fn a_full_queue_refuses_early() {
        block_on(async {
            let (door, _taken) = Door::new();
            for _ in 0..MAX_WAITING {
                let (answer, _) = oneshot::channel();
                let request = Request::Status;
                let call = Call {
                    request,
                    timeout: TIMEOUT,
                    answer,
                };
                door.calls.try_send(call).expect("there is room");
            }
            let failure = door.call(Request::Status, TIMEOUT).await.expect_err("no room");
            assert_eq!(failure.code, ErrorCode::Overloaded);
        });
    }

    #[test]
    fn a_node_that_is_gone_took_nothing() {
        block_on(async {
            let (door, taken) = Door::new();
            drop(taken);
            assert!(!door.is_open());
            let failure = door.call(Request::Status, TIMEOUT).await.expect_err("gone");
            assert_eq!(failure.code, ErrorCode::NoLeader);
        });
    }
}

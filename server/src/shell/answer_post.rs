//! Answers on their way to callers on another thread, a batch at a time.
//!
//! To wake a task of another thread takes a system call. So the loop wakes one task there for all answers of its batch, and
//! that task passes them on to their callers, which wait on its own thread: to wake those takes none.

use raftkv_protocol::Response;
use tokio::sync::{mpsc, oneshot};

type Answers = Vec<(oneshot::Sender<Response>, Response)>;

/// The node thread's end.
#[derive(Debug)]
pub(crate) struct AnswerPost {
    batch: Answers,
    batches: mpsc::UnboundedSender<Answers>,
}

/// The callers' end.
#[derive(Debug)]
pub(crate) struct AnswerRound {
    batches: mpsc::UnboundedReceiver<Answers>,
}

/// Both ends.
pub(crate) fn answer_post() -> (AnswerPost, AnswerRound) {
    // Bounded by what waits for an answer.
    let (sender, batches) = mpsc::unbounded_channel();
    let post = AnswerPost {
        batch: Vec::new(),
        batches: sender,
    };
    (post, AnswerRound { batches })
}

impl AnswerPost {
    /// Takes an answer; it leaves with the next [`AnswerPost::flush`].
    pub(crate) fn put(&mut self, caller: oneshot::Sender<Response>, response: Response) {
        self.batch.push((caller, response));
    }

    /// Sends what was put.
    pub(crate) fn flush(&mut self) {
        if !self.batch.is_empty() {
            let next = Vec::with_capacity(self.batch.len());
            // The callers' thread has ended, and they with it.
            let _ = self.batches.send(std::mem::replace(&mut self.batch, next));
        }
    }
}

impl AnswerRound {
    /// Passes answers on until the node thread has ended and all are given. Runs on the callers' thread.
    pub(crate) async fn pass_on(mut self) {
        while let Some(batch) = self.batches.recv().await {
            for (caller, response) in batch {
                // A caller that has gone away needs no answer.
                let _ = caller.send(response);
            }
        }
    }
}

//! What the connections are to do, shared by all of them.

use std::time::Instant;

use crate::operation::Operation;
use crate::target::Answered;

/// A phase of the benchmark.
pub(crate) trait Work {
    /// The next operation, whose latency counts from `since`; `None` if there is nothing to start now.
    fn next(&mut self, since: Instant, now: Instant) -> Option<Operation>;

    /// An operation ended; its latency counted from `since`.
    fn completed(&mut self, operation: Operation, since: Instant, now: Instant, answered: &Answered);

    /// Is there nothing left to start, whatever happens to what is in flight?
    fn is_over(&self, now: Instant) -> bool;

    /// One line for people who watch, about the time since it was last asked for.
    fn progress(&mut self, now: Instant) -> String;
}

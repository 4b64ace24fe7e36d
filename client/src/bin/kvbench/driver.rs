//! One connection and the logical clients that share it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::sleep;

use crate::load::Encoding;
use crate::operation::{Operation, Seen};
use crate::schedule::Schedule;
use crate::target::{Answered, Session, Target};
use crate::trouble::Trouble;
use crate::work::Work;

/// A connection that can not be made for so long ends the run: longer than any election.
const GIVE_UP: Duration = Duration::from_secs(30);

/// Between two attempts to connect.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);

/// When operations are started.
#[derive(Debug)]
pub(crate) enum Pace {
    /// Each client as soon as its last one was answered.
    Closed,
    /// As they are due; `due` is notified then.
    Open { schedule: Schedule, due: Arc<Notify> },
}

/// Drives one connection: all its clients are places in a table, not tasks.
///
/// Invariant: a slot is either free and listed in `free` once, or holds an operation in flight.
pub(crate) struct Driver<T, W> {
    target: Rc<T>,
    work: Rc<RefCell<W>>,
    encoding: Encoding,
    pace: Pace,
    timeout: Duration,
    slots: Vec<Option<Started>>,
    free: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Started {
    operation: Operation,
    /// By its steps until now.
    seen: Seen,
    since: Instant,
}

/// Why work on a connection ended early.
#[derive(Debug)]
enum Ended {
    /// The connection is of no further use; operations in flight have an unknown outcome.
    Lost,
    /// An operation can not even be asked for: all others would end in the same way.
    Refused(&'static str),
}

impl<T: Target, W: Work> Driver<T, W> {
    pub(crate) fn new(
        target: Rc<T>,
        work: Rc<RefCell<W>>,
        encoding: Encoding,
        pace: Pace,
        clients: usize,
        timeout: Duration,
    ) -> Driver<T, W> {
        Driver {
            target,
            work,
            encoding,
            pace,
            timeout,
            slots: vec![None; clients],
            free: (0..clients).collect(),
        }
    }

    /// Works until nothing is left to do, over as many connections as it takes.
    ///
    /// # Errors
    /// If there is no connection to be had.
    pub(crate) async fn run(mut self) -> Result<Pace, Trouble> {
        let mut last_use = Instant::now();
        loop {
            match self.target.connect().await {
                Ok(session) => match self.serve(session).await {
                    Ok(()) => return Ok(self.pace),
                    Err(Ended::Refused(reason)) => return Err(Trouble::Refused { reason }),
                    Err(Ended::Lost) => {
                        self.abandon();
                        last_use = Instant::now();
                    }
                },
                Err(error) if last_use.elapsed() > GIVE_UP => {
                    return Err(Trouble::Unavailable(error.to_string()));
                }
                Err(_) => sleep(RECONNECT_PAUSE).await,
            }
            if self.work.borrow().is_over(Instant::now()) {
                return Ok(self.pace);
            }
        }
    }

    /// Works on one connection until nothing is left to do.
    async fn serve(&mut self, mut session: T::Session) -> Result<(), Ended> {
        loop {
            self.start(&mut session)?;
            session.send().map_err(|_| Ended::Lost)?;
            let nothing_in_flight = self.free.len() == self.slots.len();
            if nothing_in_flight && self.work.borrow().is_over(Instant::now()) {
                return Ok(());
            }
            self.wait(&mut session).await?;
            self.finish(&mut session)?;
        }
    }

    /// Starts what the pace allows and the clients have hands for.
    fn start(&mut self, session: &mut T::Session) -> Result<(), Ended> {
        let now = Instant::now();
        let mut work = self.work.borrow_mut();
        while let Some(slot) = self.free.pop() {
            let since = match &mut self.pace {
                Pace::Closed => Some(now),
                Pace::Open { schedule, .. } if !work.is_over(now) => schedule.take_due(now),
                Pace::Open { .. } => None,
            };
            let next = since.and_then(|since| {
                work.next(since, now).map(|operation| Started {
                    operation,
                    seen: Seen::default(),
                    since,
                })
            });
            let Some(started) = next else {
                self.free.push(slot);
                return Ok(());
            };
            let asked = self.encoding.asked(started.operation, &started.seen);
            session
                .enqueue(slot, self.timeout, asked)
                .map_err(Ended::Refused)?;
            self.slots[slot] = Some(started);
        }
        Ok(())
    }

    /// Waits for bytes, or for the next operation to be due.
    async fn wait(&mut self, session: &mut T::Session) -> Result<(), Ended> {
        let is_idle = self.free.len() == self.slots.len();
        let due = match &self.pace {
            Pace::Open { due, .. } if !self.free.is_empty() => Some(Arc::clone(due)),
            Pace::Open { .. } | Pace::Closed => None,
        };
        let timeout = self.timeout;
        tokio::select! {
            moved = session.drive() => moved.map_err(|_| Ended::Lost),
            () = notified(due) => Ok(()),
            // Nothing at all for as long as an operation may take: the other side is dead.
            () = sleep(timeout), if !is_idle => Err(Ended::Lost),
        }
    }

    /// Takes the answers that have arrived; one that is not the last of its operation is followed by the next step.
    fn finish(&mut self, session: &mut T::Session) -> Result<(), Ended> {
        let mut work = self.work.borrow_mut();
        let now = Instant::now();
        while let Some((slot, answered)) = session.next_answer().map_err(|_| Ended::Lost)? {
            let started = self.slots.get_mut(slot).and_then(Option::take);
            // An answer to nothing that we asked: this connection can not be trusted.
            let Some(mut started) = started else {
                return Err(Ended::Lost);
            };
            if let Some(operation) = started.operation.after(&answered) {
                started.seen.keep(&answered);
                let asked = self.encoding.asked(operation, &started.seen);
                session
                    .enqueue(slot, self.timeout, asked)
                    .map_err(Ended::Refused)?;
                self.slots[slot] = Some(Started { operation, ..started });
                continue;
            }
            self.free.push(slot);
            work.completed(started.operation, started.since, now, &answered);
        }
        Ok(())
    }

    /// The connection is gone, and with it the answers to what was in flight.
    fn abandon(&mut self) {
        let now = Instant::now();
        let mut work = self.work.borrow_mut();
        for (slot, started) in self.slots.iter_mut().enumerate() {
            if let Some(started) = started.take() {
                work.completed(
                    started.operation,
                    started.since,
                    now,
                    &Answered::Unknown("connection_lost"),
                );
                self.free.push(slot);
            }
        }
    }
}

async fn notified(due: Option<Arc<Notify>>) {
    match due {
        Some(due) => due.notified().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;

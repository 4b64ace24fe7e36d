//! The log behind a queue, on a thread of its own: what waits becomes one batch and one sync.
//!
//! Nothing is decided here: it takes from the queue, calls the log, and reports. The simulator has its own executor in
//! its place.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use raftkv_raft::{Entry, EntryId, Index, Install, Write, WriteNumber};

use super::append::Log;
use super::error::LogError;
use super::spare::SparePool;
use crate::disk::Disk;

/// Nothing was written for so long: the last batch gets its proof.
const MARK_AFTER: Duration = Duration::from_millis(50);
/// One batch takes in writes up to this many bytes, then it is synced: the first in the queue do not wait for all of a
/// long one.
const BATCH_BYTES: u64 = 8 << 20;

/// What the thread is asked for, in order.
enum Job {
    Write(Write),
    /// Entries below this one are not needed any more.
    Cut(Index),
    /// A snapshot takes the place of everything.
    Install(Box<InstallJob>),
}

struct InstallJob {
    install: Install,
    /// Makes the snapshot the current state, durably: comes first, and a start finishes what a crash leaves half done.
    switch: Box<dyn FnOnce() -> Result<(), String> + Send>,
}

/// What the thread has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogReport {
    /// It begins to write a batch: [`LogReport::Persisted`] follows, and who has a clock knows then how long it took.
    Writing,
    /// All writes up to this one are durable.
    Persisted(WriteNumber),
    /// The log begins behind this entry now.
    Cut(EntryId),
}

/// A log and the thread that writes it. Dropping it ends the thread once the queue is written; [`LogThread::stop`] waits
/// for that.
#[derive(Debug)]
pub struct LogThread {
    queue: Sender<Job>,
    queued_bytes: Arc<AtomicU64>,
    writer: JoinHandle<Result<(), LogError>>,
    spares: JoinHandle<()>,
}

impl LogThread {
    /// Starts the thread, and a second one that prepares spare segments.
    ///
    /// `report` is called from the thread before and after each batch, and after each cut that gave up segments; after the first error
    /// with that error, and never again: then the process must stop (R37).
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn spawn<D: Disk>(
        log: Log<D>,
        report: impl FnMut(Result<LogReport, LogError>) + Send + 'static,
    ) -> io::Result<LogThread>
    where
        Log<D>: Send,
    {
        let (queue, waiting) = mpsc::channel();
        let (wake_spares, wake) = mpsc::channel();
        let pool = log.spare_pool();
        let spares = Builder::new()
            .name("log spares".into())
            .spawn(move || prepare_spares(&pool, &wake))?;
        let queued_bytes = Arc::new(AtomicU64::new(0));
        let mut writer = Writer {
            log,
            waiting,
            queued_bytes: Arc::clone(&queued_bytes),
            wake_spares,
            report: Box::new(report),
        };
        let writer = Builder::new().name("log".into()).spawn(move || writer.run())?;
        Ok(LogThread {
            queue,
            queued_bytes,
            writer,
            spares,
        })
    }

    /// Queues a write. After an error it goes nowhere: the error was reported.
    pub fn write(&self, write: Write) {
        let bytes = queued_size(&write);
        self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.queue.send(Job::Write(write)).is_err() {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Lets go of whole segments below `keep_from`, behind the writes that are queued. After an error it goes nowhere: the
    /// error was reported.
    pub fn cut(&self, keep_from: Index) {
        let _ = self.queue.send(Job::Cut(keep_from));
    }

    /// Puts a snapshot in the place of state and log, behind the writes that are queued: `switch` makes it the current
    /// state, durably, then the log begins anew. Reported as a write.
    pub fn install(&self, install: Install, switch: impl FnOnce() -> Result<(), String> + Send + 'static) {
        let switch = Box::new(switch);
        let _ = self
            .queue
            .send(Job::Install(Box::new(InstallJob { install, switch })));
    }

    /// Bytes of the writes that wait or are being written: who adds to the queue looks here first.
    #[must_use]
    pub fn queued_bytes(&self) -> u64 {
        self.queued_bytes.load(Ordering::Relaxed)
    }

    /// Writes and syncs what is queued, and ends both threads: on return nothing of the log holds its disk any more.
    ///
    /// # Errors
    /// [`LogError::Stopped`] when an error was reported, now or earlier.
    pub fn stop(self) -> Result<(), LogError> {
        drop(self.queue);
        let outcome = self.writer.join().unwrap_or(Err(LogError::Stopped));
        // The writer's end is the spares thread's, too. Had that one panicked, no segment would be worse for it.
        let _ = self.spares.join();
        outcome
    }
}

/// Memory that a queued write holds, about.
fn queued_size(write: &Write) -> u64 {
    let entries: usize = write.entries.iter().map(Entry::size_bytes).sum();
    (entries + size_of::<Write>()) as u64
}

struct Writer<D: Disk> {
    log: Log<D>,
    waiting: Receiver<Job>,
    queued_bytes: Arc<AtomicU64>,
    wake_spares: Sender<()>,
    report: Box<dyn FnMut(Result<LogReport, LogError>) + Send>,
}

impl<D: Disk> Writer<D> {
    fn run(&mut self) -> Result<(), LogError> {
        let mut batch = Vec::new();
        let mut segment = self.log.segment_number();
        while let Some(first) = self.next_job()? {
            let done = match first {
                Job::Write(first) => self.write_all_from(first, &mut batch),
                Job::Cut(keep_from) => self.cut(keep_from),
                Job::Install(job) => self.install(*job),
            };
            self.checked(done)?;
            if segment != self.log.segment_number() {
                segment = self.log.segment_number();
                // Without a spares thread the log makes its segments itself.
                let _ = self.wake_spares.send(());
            }
        }
        // The last batch is proven before a clean end.
        self.mark()
    }

    /// Waits for something to do; after a while without one the last batch gets its proof, and waiting costs nothing any more.
    /// `None` when nobody can write any more.
    fn next_job(&mut self) -> Result<Option<Job>, LogError> {
        match self.waiting.recv_timeout(MARK_AFTER) {
            Ok(job) => Ok(Some(job)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => {
                self.mark()?;
                Ok(self.waiting.recv().ok())
            }
        }
    }

    fn mark(&mut self) -> Result<(), LogError> {
        let marked = self.log.mark().map(|_| ());
        self.checked(marked)
    }

    /// An error is reported, once, and ends the thread.
    fn checked(&mut self, done: Result<(), LogError>) -> Result<(), LogError> {
        done.map_err(|error| {
            (self.report)(Err(error));
            LogError::Stopped
        })
    }

    /// One batch of `first` and what waits behind it, one sync, one report.
    fn write_all_from(&mut self, first: Write, batch: &mut Vec<Write>) -> Result<(), LogError> {
        let mut bytes = queued_size(&first);
        batch.push(first);
        let mut then = None;
        while bytes < BATCH_BYTES && then.is_none() {
            match self.waiting.try_recv() {
                Ok(Job::Write(next)) => {
                    bytes += queued_size(&next);
                    batch.push(next);
                }
                Ok(other) => then = Some(other),
                Err(_) => break,
            }
        }
        let last = batch.last().expect("it holds `first`").number;
        (self.report)(Ok(LogReport::Writing));
        let done = self.log.append(batch).and_then(|()| self.log.sync());
        batch.clear();
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        done?;
        (self.report)(Ok(LogReport::Persisted(last)));
        match then {
            Some(Job::Cut(keep_from)) => self.cut(keep_from),
            Some(Job::Install(job)) => self.install(*job),
            Some(Job::Write(_)) | None => Ok(()),
        }
    }

    fn install(&mut self, job: InstallJob) -> Result<(), LogError> {
        let InstallJob { install, switch } = job;
        switch().map_err(|what| LogError::Io {
            action: "switching to a received snapshot, the store of",
            file: "the data directory".to_owned(),
            source: io::Error::other(what),
        })?;
        self.log.begin_anew(install.last, install.hard_state)?;
        (self.report)(Ok(LogReport::Persisted(install.number)));
        Ok(())
    }

    fn cut(&mut self, keep_from: Index) -> Result<(), LogError> {
        if let Some(base) = self.log.cut_behind(keep_from)? {
            (self.report)(Ok(LogReport::Cut(base)));
        }
        Ok(())
    }
}

/// Prepares spares at the start and whenever woken, until the log's thread is gone.
fn prepare_spares<D: Disk>(pool: &SparePool<D>, wake: &Receiver<()>) {
    loop {
        if let Err(error) = pool.prepare() {
            tracing::warn!(%error, "no spare log segment; the log will make its next one itself, if there is room");
            return;
        }
        if wake.recv().is_err() {
            return;
        }
        while wake.try_recv().is_ok() {}
    }
}

//! The threads behind the log: one writes and syncs, one reads back, so that neither waits for the other and the node
//! thread waits for none.

use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::Instant;

use raftkv_protocol::{ClusterId, NodeId};
use raftkv_raft::{Entry, Fetch, HardState, Index, Install, Write};

use super::ServerError;
use super::inbox::{Letter, Mailbox};
use super::panic_guard::PanicGuard;
use crate::disk::{RealDisk, quarantine};
use crate::log::{Log, LogConfig, LogError, LogOwner, LogReader, LogReport, LogThread};
use crate::replica::{Event, Quarantine};

/// What the workers need from the start.
#[derive(Clone, Debug)]
pub(super) struct LogSetup {
    pub(super) disk: RealDisk,
    pub(super) config: LogConfig,
    pub(super) identity: NodeId,
    pub(super) mailbox: Mailbox,
}

/// The log's threads, once there is a log.
pub(super) struct LogWorkers {
    setup: LogSetup,
    running: Option<Running>,
}

struct Running {
    writer: LogThread,
    fetches: Sender<Fetch>,
    files: LogReader<RealDisk>,
    reader: JoinHandle<()>,
}

impl LogWorkers {
    pub(super) fn new(setup: LogSetup) -> LogWorkers {
        LogWorkers { setup, running: None }
    }

    /// Starts the threads on an open log.
    pub(super) fn start(&mut self, log: Log<RealDisk>) -> Result<(), ServerError> {
        let (fetches, wanted) = mpsc::channel();
        let files = log.reader();
        let reader = spawn_reader(log.reader(), wanted, self.setup.mailbox.clone())?;
        let mailbox = self.setup.mailbox.clone();
        let guard = PanicGuard::new("log", self.setup.mailbox.clone());
        let mut writing_since = None;
        let report = move |outcome| {
            // Captured, so that it is dropped with the thread.
            let _ = &guard;
            mailbox.send(match outcome {
                Ok(LogReport::Writing) => {
                    writing_since = Some(Instant::now());
                    return;
                }
                Ok(LogReport::Persisted(last)) => Letter::Persisted {
                    last,
                    took: writing_since.take().map(|since| since.elapsed()),
                },
                Ok(LogReport::Cut(base)) => Letter::Event(Event::LogCut { base }),
                Err(error) => Letter::LogFailed(error),
            });
        };
        let writer = LogThread::spawn(log, report).map_err(ServerError::Threads)?;
        self.running = Some(Running {
            writer,
            fetches,
            files,
            reader,
        });
        Ok(())
    }

    /// Makes the log of a newly formed node, on a thread of its own: creating files takes its time.
    pub(super) fn create(&self, cluster: ClusterId, founding: Entry, hard_state: HardState) {
        let setup = self.setup.clone();
        let make = move || {
            let _guard = PanicGuard::new("log creation", setup.mailbox.clone());
            let owner = LogOwner {
                cluster,
                node: setup.identity,
            };
            let made = Log::create(setup.disk, setup.config, owner, &founding, hard_state);
            setup.mailbox.send(match made {
                Ok(log) => Letter::LogMade(log),
                Err(error) => Letter::LogFailed(error),
            });
        };
        // Without a thread the node stays unformed, as if the disk were slow for ever; the reason stands in its log.
        if let Err(error) = std::thread::Builder::new()
            .name("log creation".into())
            .spawn(make)
        {
            tracing::error!(%error, "no thread to create the log; this node can not be formed");
        }
    }

    /// Keeps durably that the node serves no more, on a thread of its own: it happens once in a node's life.
    pub(super) fn quarantine(&self, quarantine: Quarantine) -> Result<(), ServerError> {
        let LogSetup { disk, mailbox, .. } = self.setup.clone();
        let keep = move || {
            let _guard = PanicGuard::new("quarantine", mailbox.clone());
            if let Err(error) = quarantine::store(&disk, &quarantine) {
                mailbox.send(Letter::QuarantineFailed(error));
            }
        };
        let thread = std::thread::Builder::new().name("quarantine".into()).spawn(keep);
        thread.map(drop).map_err(ServerError::Threads)
    }

    pub(super) fn write(&self, write: Write) {
        match &self.running {
            Some(running) => running.writer.write(write),
            None => tracing::error!("a write before there is a log; this is a defect of the server"),
        }
    }

    pub(super) fn fetch(&self, fetch: Fetch) {
        if let Some(running) = &self.running {
            // The reader is gone only after it reported why.
            let _ = running.fetches.send(fetch);
        }
    }

    /// What reads the log's files; `None` before there is one.
    pub(super) fn reader(&self) -> Option<LogReader<RealDisk>> {
        self.running.as_ref().map(|running| running.files.clone())
    }

    /// Entries below `keep_from` are not needed any more.
    pub(super) fn cut(&self, keep_from: Index) {
        if let Some(running) = &self.running {
            running.writer.cut(keep_from);
        }
    }

    /// A snapshot takes the place of state and log; `switch` makes it the current state.
    pub(super) fn install(
        &self,
        install: Install,
        switch: impl FnOnce() -> Result<(), String> + Send + 'static,
    ) {
        match &self.running {
            Some(running) => running.writer.install(install, switch),
            None => tracing::error!("a snapshot before there is a log; this is a defect of the server"),
        }
    }

    /// Writes and syncs what is under way, and ends the threads.
    pub(super) fn stop(self) -> Result<(), ServerError> {
        let Some(running) = self.running else {
            return Ok(());
        };
        drop(running.fetches);
        running.writer.stop()?;
        running.reader.join().map_err(|_| ServerError::NodeThread)
    }
}

fn spawn_reader(
    reader: LogReader<RealDisk>,
    wanted: Receiver<Fetch>,
    mailbox: Mailbox,
) -> Result<JoinHandle<()>, ServerError> {
    let read = move || {
        let _guard = PanicGuard::new("log reader", mailbox.clone());
        for fetch in wanted {
            match reader.read(fetch.from, fetch.to, fetch.max_bytes) {
                Ok(entries) => mailbox.send(Letter::Event(Event::Fetched { fetch, entries })),
                // Cut since it was asked for: an answer, and no failure.
                Err(LogError::NotInLog { .. }) => mailbox.send(Letter::Event(Event::FetchGone(fetch))),
                Err(error) => {
                    mailbox.send(Letter::LogFailed(error));
                    return;
                }
            }
        }
    };
    std::thread::Builder::new()
        .name("log reader".into())
        .spawn(read)
        .map_err(ServerError::Threads)
}

#[cfg(test)]
mod tests {
    use raftkv_raft::{EntryId, FetchPurpose, Index, Term};

    use super::*;
    use crate::membership::Membership;
    use crate::recovery::configuration_at;

    fn founding() -> Entry {
        let id = EntryId {
            term: Term(1),
            index: Index::FIRST,
        };
        configuration_at(id, &Membership::of(ClusterId(1), Vec::new()))
    }

    fn log(disk: RealDisk) -> Log<RealDisk> {
        let owner = LogOwner {
            cluster: ClusterId(1),
            node: NodeId(2),
        };
        let config = LogConfig {
            segment_size_bytes: 1 << 20,
            ..LogConfig::default()
        };
        let hard_state = HardState {
            term: Term(1),
            vote: None,
            commit: Index::FIRST,
        };
        Log::create(disk, config, owner, &founding(), hard_state).expect("a log")
    }

    fn fetch(from: u64) -> Fetch {
        Fetch {
            purpose: FetchPurpose::Apply,
            from: Index::new(from).expect("not 0"),
            to: Index::new(from).expect("not 0"),
            max_bytes: 1000,
        }
    }

    #[test]
    fn entries_that_were_cut_are_an_answer_and_the_reader_goes_on() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let log = log(RealDisk::open(directory.path()).expect("a disk"));
        let mailbox = Mailbox::default();
        let (fetches, wanted) = mpsc::channel();
        let reader = spawn_reader(log.reader(), wanted, mailbox.clone()).expect("a thread");
        for from in [7, 1] {
            fetches.send(fetch(from)).expect("the reader lives");
        }
        drop(fetches);
        reader.join().expect("no panic");
        let mut letters = Vec::new();
        mailbox.take_into(&mut letters);
        let [
            Letter::Event(Event::FetchGone(gone)),
            Letter::Event(Event::Fetched { entries, .. }),
        ] = &letters[..]
        else {
            panic!("expected a fetch gone and one that brought its entry");
        };
        assert_eq!(*gone, fetch(7));
        assert_eq!(*entries, [founding()]);
    }
}

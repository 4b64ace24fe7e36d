//! The threads behind the log: one writes and syncs, one reads back, so that neither waits for the other and the node
//! thread waits for none.

use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use raftkv_protocol::{ClusterId, NodeId};
use raftkv_raft::{Entry, Fetch, HardState, Write};

use super::ServerError;
use super::inbox::{Letter, Mailbox};
use crate::disk::RealDisk;
use crate::log::{Log, LogConfig, LogOwner, LogReader, LogThread};
use crate::replica::Event;

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
    reader: JoinHandle<()>,
}

impl LogWorkers {
    pub(super) fn new(setup: LogSetup) -> LogWorkers {
        LogWorkers { setup, running: None }
    }

    /// Starts the threads on an open log.
    pub(super) fn start(&mut self, log: Log<RealDisk>) -> Result<(), ServerError> {
        let (fetches, wanted) = mpsc::channel();
        let reader = spawn_reader(log.reader(), wanted, self.setup.mailbox.clone())?;
        let mailbox = self.setup.mailbox.clone();
        let report = move |outcome| {
            mailbox.send(match outcome {
                Ok(number) => Letter::Event(Event::Persisted(number)),
                Err(error) => Letter::LogFailed(error),
            });
        };
        let writer = LogThread::spawn(log, report).map_err(ServerError::Threads)?;
        self.running = Some(Running {
            writer,
            fetches,
            reader,
        });
        Ok(())
    }

    /// Makes the log of a newly formed node, on a thread of its own: creating files takes its time.
    pub(super) fn create(&self, cluster: ClusterId, founding: Entry, hard_state: HardState) {
        let setup = self.setup.clone();
        let make = move || {
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
        for fetch in wanted {
            match reader.read(fetch.from, fetch.to, fetch.max_bytes) {
                Ok(entries) => mailbox.send(Letter::Event(Event::Fetched { fetch, entries })),
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

//! The threads that read snapshots for other nodes, and take one in.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver as Queue, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use raftkv_raft::{EntryId, NodeId};

use super::ServerError;
use super::inbox::{Letter, Mailbox};
use super::storage::{base_directory, store_of_base};
use super::store_workers::{StoreFiles, worker};
use crate::disk::{RealDisk, RealFile};
use crate::replica::{Event, PartTaken, ReceivedState, SnapshotNumber};
use crate::store::base::{BaseConfig, LsmBase, LsmView};
use crate::store::snapshot::{Position, Receiver, Source, Taken, remove_history_of};
use crate::store::{StoreError, StoreNumber, make_current};

enum SendJob {
    Open(SnapshotNumber, StoreFiles),
    Read(SnapshotNumber, Bytes),
    Close(SnapshotNumber),
}

enum TakeJob {
    Part {
        from: NodeId,
        snapshot: SnapshotNumber,
        last: EntryId,
        part: Bytes,
    },
    Abandon,
}

/// Where a received snapshot waits until it is installed.
type Slot = Arc<Mutex<Option<StoreFiles>>>;

/// The queues to the threads.
pub(super) struct SnapshotWorkers {
    sends: Sender<SendJob>,
    takes: Sender<TakeJob>,
    received: Slot,
    place: Place,
    threads: [JoinHandle<()>; 2],
}

/// Where stores are made.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) disk: RealDisk,
    pub(super) directory: PathBuf,
    pub(super) base: BaseConfig,
}

impl SnapshotWorkers {
    pub(super) fn start(
        place: Place,
        current: StoreNumber,
        mailbox: &Mailbox,
    ) -> Result<SnapshotWorkers, ServerError> {
        let (sends, send_queue) = mpsc::channel();
        let (takes, take_queue) = mpsc::channel();
        let received = Slot::default();
        let sender = worker("snapshot out", mailbox, move |mailbox| send(&send_queue, mailbox))?;
        let taker = Taker {
            place: place.clone(),
            first: current,
            newest: current,
            current: None,
            received: received.clone(),
        };
        let taker = worker("snapshot in", mailbox, move |mailbox| {
            taker.run(&take_queue, mailbox)
        })?;
        Ok(SnapshotWorkers {
            sends,
            takes,
            received,
            place,
            threads: [sender, taker],
        })
    }

    /// Ends the threads, behind what they are at: until then the data directory is not free.
    pub(super) fn stop(self) {
        let SnapshotWorkers {
            sends,
            takes,
            threads,
            ..
        } = self;
        drop((sends, takes));
        for thread in threads {
            // A panic was told by the thread's guard.
            let _ = thread.join();
        }
    }

    pub(super) fn open(&self, snapshot: SnapshotNumber, files: StoreFiles) {
        // A thread that is gone has said why.
        let _ = self.sends.send(SendJob::Open(snapshot, files));
    }

    pub(super) fn read(&self, snapshot: SnapshotNumber, position: Bytes) {
        let _ = self.sends.send(SendJob::Read(snapshot, position));
    }

    pub(super) fn close(&self, snapshot: SnapshotNumber) {
        let _ = self.sends.send(SendJob::Close(snapshot));
    }

    pub(super) fn take(&self, from: NodeId, snapshot: SnapshotNumber, last: EntryId, part: Bytes) {
        let _ = self.takes.send(TakeJob::Part {
            from,
            snapshot,
            last,
            part,
        });
    }

    pub(super) fn abandon(&self) {
        *self.received.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let _ = self.takes.send(TakeJob::Abandon);
    }

    /// The files of the received snapshot, if they are those of `store`.
    pub(super) fn take_received(&self, store: StoreNumber) -> Option<StoreFiles> {
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        received.take_if(|files| files.number == store)
    }

    /// What makes `store` the current one, and removes every other once the threads that work on them have ended; for the
    /// log's thread.
    pub(super) fn switch_to(
        &self,
        store: StoreNumber,
        former: Vec<JoinHandle<()>>,
    ) -> impl FnOnce() -> Result<(), String> + Send + 'static {
        let place = self.place.clone();
        move || {
            make_current(&place.disk, store).map_err(|error| error.to_string())?;
            // Large files take their time to go, and nobody needs to wait for it. The next start would remove them, too.
            let clean = move || {
                // A drain whose files go away under it would fail, and the node with it.
                for thread in former {
                    // A panic was told by the thread's guard.
                    let _ = thread.join();
                }
                place.remove(|other| other < store);
            };
            let _ = std::thread::Builder::new().name("clean".into()).spawn(clean);
            Ok(())
        }
    }
}

impl Place {
    /// Removes whatever belongs to other stores than the current one: left by a snapshot that replaced it, or by one that
    /// never arrived whole. At a start, when none comes in.
    pub(super) fn remove_all_but(&self, current: StoreNumber) {
        self.remove(|store| store != current);
    }

    /// Removes the files of stores that are given up.
    fn remove(&self, is_given_up: impl Fn(StoreNumber) -> bool) {
        if let Err(error) = remove_history_of(&self.disk, &is_given_up) {
            tracing::warn!(%error, "files of another state are left in the data directory");
        }
        for number in self.stores().into_iter().filter(|store| is_given_up(*store)) {
            let directory = self.directory.join(base_directory(number));
            match std::fs::remove_dir_all(&directory) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(%error, directory = %directory.display(), "another state is left in the data directory");
                }
                Ok(()) | Err(_) => {}
            }
        }
    }

    /// Stores whose base is there, finished or not.
    fn stores(&self) -> Vec<StoreNumber> {
        let entries = std::fs::read_dir(&self.directory).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| store_of_base(entry.file_name().to_str()?))
            .collect()
    }
}

fn send(jobs: &Queue<SendJob>, mailbox: &Mailbox) -> Result<(), StoreError> {
    let mut sources: BTreeMap<SnapshotNumber, Source<LsmView, RealFile>> = BTreeMap::new();
    for job in jobs {
        let event = match job {
            SendJob::Open(snapshot, files) => {
                let source = Source::open(&files.base, &files.history)?;
                let last = source.as_ref().map(Source::last);
                sources.extend(source.map(|source| (snapshot, source)));
                Event::SnapshotOpened { snapshot, last }
            }
            SendJob::Read(snapshot, position) => {
                let part = match (sources.get(&snapshot), Position::decode(&position)) {
                    (Some(source), Some(position)) => source.part(&position)?,
                    _ => None,
                };
                Event::PartRead { snapshot, part }
            }
            SendJob::Close(snapshot) => {
                sources.remove(&snapshot);
                continue;
            }
        };
        mailbox.send(Letter::Event(event));
    }
    Ok(())
}

/// The snapshot that is coming in.
struct Current {
    from: NodeId,
    snapshot: SnapshotNumber,
    receiver: Receiver<LsmBase, RealDisk>,
}

struct Taker {
    place: Place,
    /// The store that was current at the start.
    first: StoreNumber,
    /// The highest store number used so far.
    newest: StoreNumber,
    current: Option<Current>,
    received: Slot,
}

impl Taker {
    fn run(mut self, jobs: &Queue<TakeJob>, mailbox: &Mailbox) -> Result<(), StoreError> {
        for job in jobs {
            match job {
                TakeJob::Abandon => self.give_up(),
                TakeJob::Part {
                    from,
                    snapshot,
                    last,
                    part,
                } => {
                    let taken = self.take(from, snapshot, last, part)?;
                    mailbox.send(Letter::Event(Event::PartTaken {
                        from,
                        snapshot,
                        taken,
                    }));
                }
            }
        }
        Ok(())
    }

    fn take(
        &mut self,
        from: NodeId,
        snapshot: SnapshotNumber,
        last: EntryId,
        part: Bytes,
    ) -> Result<PartTaken, StoreError> {
        let is_known = |current: &Current| current.from == from && current.snapshot == snapshot;
        if !self.current.as_ref().is_some_and(is_known) {
            if self.current.is_some() {
                self.give_up();
            }
            self.current = Some(self.begin(from, snapshot, last)?);
        }
        let current = self.current.as_mut().expect("it was begun just now");
        Ok(match current.receiver.take(part)? {
            Taken::Next(position) => PartTaken::Wanted(position.encode()),
            Taken::Broken(what) => {
                self.give_up();
                PartTaken::Broken(what)
            }
            Taken::Whole(received) => {
                self.current = None;
                let files = StoreFiles {
                    number: received.store,
                    base: received.base,
                    history: received.history,
                };
                *self.received.lock().unwrap_or_else(PoisonError::into_inner) = Some(files);
                PartTaken::Whole(Box::new(ReceivedState {
                    store: received.store,
                    companions: received.companions,
                    tables: received.tables,
                }))
            }
        })
    }

    /// What was begun last will never be installed: its files would lie there until another one is.
    fn give_up(&mut self) {
        self.current = None;
        let given_up = self.newest;
        if given_up > self.first {
            self.place.remove(|store| store == given_up);
        }
    }

    fn begin(
        &mut self,
        from: NodeId,
        snapshot: SnapshotNumber,
        last: EntryId,
    ) -> Result<Current, StoreError> {
        self.newest = StoreNumber(self.newest.0 + 1);
        let directory = self.place.directory.join(base_directory(self.newest));
        match std::fs::remove_dir_all(&directory) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(StoreError::Io {
                    action: "emptying",
                    file: directory.display().to_string(),
                    source,
                });
            }
            Ok(()) | Err(_) => {}
        }
        let base = LsmBase::open(&directory, &self.place.base)?;
        let receiver = Receiver::begin(base, self.place.disk.clone(), self.newest, last)?;
        Ok(Current {
            from,
            snapshot,
            receiver,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_leaves_the_current_store_alone_and_nothing_of_others() {
        let directory = tempfile::tempdir().unwrap();
        for number in [1, 2, 3, 12] {
            let base = directory.path().join(base_directory(StoreNumber(number)));
            std::fs::create_dir_all(base.join("tables")).unwrap();
        }
        std::fs::create_dir(directory.path().join("base-of-something-else")).unwrap();
        let place = Place {
            disk: RealDisk::open(directory.path()).unwrap(),
            directory: directory.path().to_owned(),
            base: BaseConfig::default(),
        };
        place.remove_all_but(StoreNumber(2));
        assert_eq!(place.stores(), [StoreNumber(2)]);
        assert!(directory.path().join("base-of-something-else").exists());
    }
}

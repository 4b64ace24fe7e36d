//! The log on a real disk: a batch written and synced.

use std::path::Path;

use raftkv_protocol::{ClusterId, NodeId};
use raftkv_raft::{
    Configuration, Entry, EntryId, EntryKind, HardState, Index, Stamp, Term, Write, WriteNumber,
};
use raftkv_server::disk::RealDisk;
use raftkv_server::log::{Log, LogConfig, LogOwner};
use raftkv_server::membership::Membership;
use tempfile::TempDir;

use crate::Operation;
use crate::commands::put;

/// Appends so many entries as one write, and syncs it. The data lies below `directory`, which must be on a disk.
///
/// # Panics
/// When the disk fails.
#[must_use]
pub fn append(directory: &Path, entries: usize) -> Operation {
    let mut appender = Appender::new(directory);
    Box::new(move || appender.append(entries))
}

struct Appender {
    log: Log<RealDisk>,
    next: Index,
    number: WriteNumber,
    /// Dropped last: the log lies in it.
    _directory: TempDir,
}

impl Appender {
    fn new(directory: &Path) -> Appender {
        let directory = tempfile::Builder::new()
            .prefix("log-")
            .tempdir_in(directory)
            .expect("a directory");
        let disk = RealDisk::open(&directory.path().join("data")).expect("a data directory");
        let owner = LogOwner {
            cluster: ClusterId(7),
            node: NodeId(1),
        };
        let founding = founding(owner.cluster);
        let log = Log::create(disk, LogConfig::default(), owner, &founding, hard_state()).expect("a new log");
        // As the thread beside the log does: a new segment is never made while a batch waits.
        log.spare_pool().prepare().expect("room for a spare segment");
        Appender {
            log,
            next: Index::FIRST.next(),
            number: WriteNumber(0),
            _directory: directory,
        }
    }

    fn append(&mut self, entries: usize) {
        self.number.0 += 1;
        let first = self.next;
        self.next = first.plus(entries as u64);
        let entries = (0..entries as u64).map(|place| entry(first.plus(place)));
        let write = Write {
            number: self.number,
            hard_state: hard_state(),
            truncate_from: None,
            entries: entries.collect(),
        };
        self.log.append(&[write]).expect("the disk takes it");
        self.log.sync().expect("the disk keeps it");
    }
}

fn hard_state() -> HardState {
    HardState {
        term: Term(1),
        vote: None,
        commit: Index::FIRST,
    }
}

fn founding(cluster: ClusterId) -> Entry {
    let membership = Membership::of(cluster, Vec::new());
    Entry {
        id: EntryId {
            term: Term(1),
            index: Index::FIRST,
        },
        kind: EntryKind::Configuration,
        stamp: Stamp::default(),
        payload: membership.encode(),
        configuration: Some(std::sync::Arc::new(Configuration::of_voters([]))),
    }
}

fn entry(index: Index) -> Entry {
    Entry {
        id: EntryId { term: Term(1), index },
        kind: EntryKind::Command,
        stamp: Stamp::default(),
        payload: put(index.get()).encoded().clone(),
        configuration: None,
    }
}

//! What a node of the cluster keeps: durable at once.

use std::collections::BTreeMap;

use bytes::Bytes;
use raftkv_protocol::Revision;
use raftkv_raft::{self as raft, Entry, EntryId, EntryKind, Fetch, HardState, Write};

use crate::cold_files::FilesChecked;
use crate::disk::{SimulatedDisk, SimulatedFile, quarantine};
use crate::replica::{
    Event, PartTaken, Quarantine, ReceivedState, Restored, RestoredLog, RestoredState, SnapshotNumber,
};
use crate::store::base::{Base, TwinBase, TwinView};
use crate::store::history::History;
use crate::store::snapshot::{Received, Receiver, Source, Taken};
use crate::store::{
    BaseRecords, Companions, Frozen, PageJob, PageReader, RangesWanted, StoreNumber, companions_in, drain,
    tables_in,
};

/// What a node's disk keeps over a restart.
pub(super) struct Disk {
    /// The first entry is the log's base.
    pub(super) log: Option<(HardState, Vec<Entry>)>,
    pub(super) base: TwinBase,
    pub(super) files: SimulatedDisk,
    pub(super) history: History<SimulatedDisk>,
    pub(super) store: StoreNumber,
    pub(super) sources: BTreeMap<SnapshotNumber, Source<TwinView, SimulatedFile>>,
    pub(super) pages: PageReader<TwinView>,
    pub(super) incoming: Option<(raft::NodeId, SnapshotNumber, Receiver<TwinBase, SimulatedDisk>)>,
    pub(super) received: Option<Box<Received<TwinBase, SimulatedDisk>>>,
    /// What a look at its cold files comes to.
    pub(super) checked: FilesChecked,
}

impl Default for Disk {
    fn default() -> Self {
        let files = SimulatedDisk::new(1);
        Disk {
            log: None,
            base: TwinBase::new(),
            history: open_history(&files, StoreNumber::FIRST, None),
            files,
            store: StoreNumber::FIRST,
            sources: BTreeMap::new(),
            pages: PageReader::default(),
            incoming: None,
            received: None,
            checked: FilesChecked::default(),
        }
    }
}

fn open_history(
    files: &SimulatedDisk,
    store: StoreNumber,
    companions: Option<&Companions>,
) -> History<SimulatedDisk> {
    let through = companions.map(|companions| companions.generation);
    let oldest_kept = companions.map_or(Revision(1), |companions| companions.oldest_kept);
    History::open(files.clone(), store, through, oldest_kept).unwrap()
}

impl Disk {
    pub(super) fn write(&mut self, write: &Write) {
        let (hard_state, entries) = self.log.as_mut().expect("a formed node has a log");
        *hard_state = write.hard_state;
        if let Some(from) = write.truncate_from {
            entries.retain(|entry| entry.id.index < from);
        }
        entries.extend(write.entries.iter().cloned());
    }

    pub(super) fn read(&self, fetch: Fetch) -> Vec<Entry> {
        let (_, entries) = self.log.as_ref().expect("a formed node has a log");
        let wanted = entries
            .iter()
            .filter(|entry| (fetch.from..=fetch.to).contains(&entry.id.index));
        wanted.take(3).cloned().collect()
    }

    /// Gives up the entries below `keep_from`; the base, if it moved.
    pub(super) fn cut(&mut self, keep_from: raft::Index) -> Option<EntryId> {
        let (_, entries) = self.log.as_mut().expect("a formed node has a log");
        let before = entries[0].id;
        entries.retain(|entry| entry.id.index.next() >= keep_from);
        let base = entries[0].id;
        (base != before).then_some(base)
    }

    pub(super) fn look_up(&self, keys: &[Bytes], ranges: Option<Box<RangesWanted>>) -> BaseRecords {
        BaseRecords::read(&self.base.view().unwrap(), keys, ranges).unwrap()
    }

    pub(super) fn drain(&self, frozen: &Frozen, most_image_bytes: Option<u64>) {
        let images = self
            .history
            .image_writer(frozen.number(), most_image_bytes)
            .unwrap();
        drain(frozen, &self.base, images, &mut |_| {}).unwrap();
    }

    /// As the real file: read back as it was written.
    pub(super) fn quarantine(&mut self, quarantine: &Quarantine) {
        quarantine::store(&self.files, quarantine).unwrap();
    }

    pub(super) fn restored(&mut self) -> Option<Restored> {
        let view = self.base.view().unwrap();
        let companions = companions_in(&view).unwrap();
        self.history = open_history(&self.files, self.store, companions.as_ref());
        (self.incoming, self.received) = (None, None);
        self.sources.clear();
        self.pages = PageReader::default();
        let state = companions.map(|companions| RestoredState {
            companions,
            tables: tables_in(&view).unwrap(),
        });
        let log = self.restored_log()?;
        Some(Restored {
            log,
            store: self.store,
            state,
            quarantine: quarantine::load(&self.files).unwrap(),
        })
    }

    pub(super) fn read_page(&mut self, job: PageJob) -> Event {
        let outcome = match self.pages.open(&self.base, job.source).unwrap() {
            Err(outcome) => outcome,
            Ok(state) => {
                let read = self
                    .pages
                    .read(&self.history, state, (job.page, job.keep), &job.wanted);
                read.unwrap()
            }
        };
        Event::PageRead {
            page: job.page,
            outcome,
        }
    }

    pub(super) fn take_part(
        &mut self,
        from: raft::NodeId,
        snapshot: SnapshotNumber,
        last: EntryId,
        part: Bytes,
    ) -> PartTaken {
        let is_known =
            |(known, number, _): &(raft::NodeId, SnapshotNumber, _)| *known == from && *number == snapshot;
        if !self.incoming.as_ref().is_some_and(is_known) {
            let store = StoreNumber(self.store.0 + 1);
            let receiver = Receiver::begin(TwinBase::new(), self.files.clone(), store, last).unwrap();
            self.incoming = Some((from, snapshot, receiver));
        }
        let (_, _, receiver) = self.incoming.as_mut().expect("begun just now");
        match receiver.take(part).unwrap() {
            Taken::Next(position) => PartTaken::Wanted(position.encode()),
            Taken::Broken(what) => PartTaken::Broken(what),
            Taken::Whole(received) => {
                self.incoming = None;
                let state = ReceivedState {
                    store: received.store,
                    companions: received.companions.clone(),
                    tables: received.tables.clone(),
                };
                self.received = Some(received);
                PartTaken::Whole(Box::new(state))
            }
        }
    }

    pub(super) fn install(&mut self, install: &raft::Install, store: StoreNumber) {
        let received = self.received.take().expect("it was received");
        assert_eq!(received.store, store);
        (self.store, self.base, self.history) = (store, received.base, received.history);
        let base = Entry {
            id: install.last,
            kind: EntryKind::Noop,
            stamp: raft::Stamp::default(),
            payload: Bytes::new(),
            configuration: None,
        };
        self.log = Some((install.hard_state, vec![base]));
    }

    pub(super) fn restored_log(&self) -> Option<RestoredLog> {
        let (hard_state, entries) = self.log.as_ref()?;
        let mut term_runs: Vec<(raft::Index, raft::Term)> = Vec::new();
        for entry in &entries[1..] {
            if term_runs.last().is_none_or(|(_, term)| *term != entry.id.term) {
                term_runs.push((entry.id.index, entry.id.term));
            }
        }
        let configurations = entries
            .iter()
            .filter(|entry| entry.kind == EntryKind::Configuration);
        Some(RestoredLog {
            hard_state: *hard_state,
            base: entries[0].id,
            term_runs,
            last: entries[entries.len() - 1].id,
            configurations: configurations.cloned().collect(),
        })
    }
}

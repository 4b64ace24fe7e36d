//! The past, read in the data directory of a node that does not run: there is no door for it yet.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use raftkv_protocol::{Record, Revision};
use raftkv_server::disk::{RealDisk, RealFile};
use raftkv_server::store::base::{Base, BaseConfig, LsmBase, LsmView};
use raftkv_server::store::history::{Direction, History, HistoryError, KeyRange, Past};
use raftkv_server::store::{State, Store, StoreConfig, StoreError, companions_in, current_store, tables_in};

use super::Ledger;

/// A node's state and history as its last drain left them.
pub struct StoppedNode {
    past: Past<RealFile, State<LsmView>>,
    revision: Revision,
}

impl StoppedNode {
    /// Opens a data directory that no process uses.
    ///
    /// # Errors
    /// When it is damaged, or in use.
    ///
    /// # Panics
    /// When nothing was ever drained.
    pub fn open(directory: &Path) -> Result<StoppedNode, StoreError> {
        let disk = RealDisk::open(directory).expect("a data directory that nobody uses");
        let number = current_store(&disk)?;
        let base = LsmBase::open(
            &directory.join(format!("base-{:04}", number.0)),
            &BaseConfig::default(),
        )?;
        let view = base.view()?;
        let companions = companions_in(&view)?.expect("a node that has drained");
        let history = History::open(disk, number, Some(companions.generation), companions.oldest_kept)?;
        let tables = tables_in(&view)?;
        let store = Store::over_base(&companions, tables, StoreConfig::default());
        let state = store.pin().over(view)?.expect("nothing drains beside this");
        Ok(StoppedNode {
            past: Past::new(&history, state, companions.revision),
            revision: companions.revision,
        })
    }

    /// The first and last revision that can be read. The first one is that of the files: what was trimmed behind the last
    /// drain's entries is known from the log again.
    #[must_use]
    pub fn kept(&self) -> (Revision, Revision) {
        (self.past.view().oldest_kept(), self.revision)
    }

    /// All records at a revision, read from one end or the other.
    ///
    /// # Errors
    /// When it is not kept, or something is damaged.
    pub fn records_at(
        &self,
        at: Revision,
        direction: Direction,
    ) -> Result<BTreeMap<Bytes, Record>, HistoryError> {
        let records = self.past.range_at(&KeyRange::all(), at, direction)?;
        Ok(records.collect::<Result<_, _>>()?)
    }

    /// Compares every key with the ledger at so many of the kept revisions, the first and the last among them.
    ///
    /// # Panics
    /// At the first difference, and when something can not be read.
    #[track_caller]
    pub fn assert_past(&self, ledger: &Ledger, revisions: u64) {
        let (first, last) = self.kept();
        let steps = revisions.max(2) - 1;
        for step in 0..=steps {
            let at = Revision(first.0 + (last.0 - first.0) * step / steps);
            let direction = match step % 2 {
                0 => Direction::Ascending,
                _ => Direction::Descending,
            };
            let found = self
                .records_at(at, direction)
                .unwrap_or_else(|error| panic!("the past at {at}: {error}"));
            if let Err(what) = ledger.check(&found, at) {
                panic!("history tells something else than was acknowledged: {what}");
            }
            for key in ledger.keys().step_by(97) {
                let one = self.past.record_at(key, at);
                let one = one.unwrap_or_else(|error| panic!("{key:?} at {at}: {error}"));
                assert_eq!(
                    one.as_ref(),
                    found.get(key),
                    "{key:?} at {at}, alone and in a range"
                );
            }
            println!(
                "at revision {at} of {first} to {last}: {} keys, all right",
                found.len()
            );
        }
        let before = Revision(first.0 - 1);
        assert!(
            self.records_at(before, Direction::Ascending).is_err(),
            "{before} is not kept"
        );
    }
}

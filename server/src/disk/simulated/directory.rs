//! The entries of the simulated directory, twice: as processes see them and as the platter holds them.

use std::collections::BTreeMap;
use std::io;

use fastrand::Rng;

/// Names a simulated file whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct InodeId(pub(super) usize);

#[derive(Clone, Debug)]
enum Change {
    Create(String, InodeId),
    Rename(String, String),
    Remove(String),
}

pub(super) type Names = BTreeMap<String, InodeId>;

#[derive(Debug, Default)]
pub(super) struct Directory {
    cached: Names,
    durable: Names,
    /// From `durable` to `cached`, in order.
    unsynced: Vec<Change>,
}

impl Directory {
    pub(super) fn durable_with(names: Names) -> Directory {
        Directory {
            cached: names.clone(),
            durable: names,
            unsynced: Vec::new(),
        }
    }

    pub(super) fn cached(&self) -> &Names {
        &self.cached
    }

    pub(super) fn durable(&self) -> &Names {
        &self.durable
    }

    /// Does a name lead to it, or can one after power loss?
    pub(super) fn reaches(&self, inode: InodeId) -> bool {
        let created = |change: &Change| matches!(change, Change::Create(_, id) if *id == inode);
        let mut named = self.cached.values().chain(self.durable.values());
        named.any(|id| *id == inode) || self.unsynced.iter().any(created)
    }

    pub(super) fn find(&self, name: &str) -> io::Result<InodeId> {
        self.cached
            .get(name)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn create(&mut self, name: &str, inode: InodeId) -> io::Result<()> {
        if self.cached.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.change(Change::Create(name.to_owned(), inode));
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.find(from)?;
        self.change(Change::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    pub(super) fn remove(&mut self, name: &str) -> io::Result<InodeId> {
        let inode = self.find(name)?;
        self.change(Change::Remove(name.to_owned()));
        Ok(inode)
    }

    pub(super) fn sync(&mut self) {
        self.unsynced.clear();
        self.durable.clone_from(&self.cached);
    }

    /// The first few unsynced changes reach the platter, the others stay unsynced.
    pub(super) fn sync_some(&mut self, rng: &mut Rng) {
        let kept = rng.usize(..=self.unsynced.len());
        for change in self.unsynced.drain(..kept) {
            apply(&mut self.durable, &change);
        }
    }

    /// The platter is all there is: a journalling file system keeps a prefix of the changes.
    pub(super) fn lose_power(&mut self, kept: KeptChanges, rng: &mut Rng) {
        match kept {
            KeptChanges::None => {}
            KeptChanges::SomePrefix => self.sync_some(rng),
            KeptChanges::All => self.sync(),
        }
        self.unsynced.clear();
        self.cached.clone_from(&self.durable);
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.cached, &change);
        self.unsynced.push(change);
    }
}

/// What power loss leaves of unsynced creations, renames and removals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeptChanges {
    None,
    SomePrefix,
    All,
}

fn apply(names: &mut Names, change: &Change) {
    match change {
        Change::Create(name, inode) => {
            names.insert(name.clone(), *inode);
        }
        Change::Rename(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
        Change::Remove(name) => {
            names.remove(name);
        }
    }
}

//! What stands behind all clones of one simulated disk.

use std::collections::BTreeMap;
use std::io;

use fastrand::Rng;

use super::directory::{Directory, InodeId, KeptChanges};
use super::inode::{Inode, SECTOR_BYTES};
use super::{DurableImage, SimulatedCrash, UnsyncedSectors, WriteFault};

/// Linux' number for "input/output error".
const EIO: i32 = 5;

/// Counts down to one failure.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Countdown(Option<u64>);

impl Countdown {
    pub(super) fn after(calls: u64) -> Countdown {
        Countdown(Some(calls))
    }

    fn is_due(&mut self) -> bool {
        match self.0 {
            Some(0) => {
                self.0 = None;
                true
            }
            Some(left) => {
                self.0 = Some(left - 1);
                false
            }
            None => false,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) crash: Countdown,
    pub(super) read: Countdown,
    pub(super) write: Countdown,
    pub(super) write_fault: Option<WriteFault>,
    pub(super) sync: Countdown,
    pub(super) free_bytes: Option<u64>,
}

/// How far an operation gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Whole,
    /// The process crashes in the midst of it.
    CutShort,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) rng: Rng,
    pub(super) directory: Directory,
    pub(super) inodes: BTreeMap<InodeId, Inode>,
    pub(super) faults: Faults,
    pub(super) policy: UnsyncedSectors,
    pub(super) has_crashed: bool,
    pub(super) operations: u64,
    /// Handles of a former process do not work any more.
    pub(super) life: u64,
    next_inode: usize,
}

impl State {
    pub(super) fn new(seed: u64, image: DurableImage) -> State {
        let count = image.files.len();
        let (names, inodes): (Vec<_>, Vec<_>) = image
            .files
            .into_iter()
            .enumerate()
            .map(|(number, (name, bytes))| {
                let id = InodeId(number);
                ((name, id), (id, Inode::durable_with(bytes)))
            })
            .unzip();
        State {
            rng: Rng::with_seed(seed),
            directory: Directory::durable_with(names.into_iter().collect()),
            inodes: inodes.into_iter().collect(),
            faults: Faults::default(),
            policy: UnsyncedSectors::Mixed,
            has_crashed: false,
            operations: 0,
            life: 0,
            next_inode: count,
        }
    }

    /// Each operation of a process starts here: counted, refused after a crash, cut short at the crash.
    pub(super) fn begin(&mut self) -> io::Result<Reach> {
        if self.has_crashed {
            return Err(SimulatedCrash.into());
        }
        self.operations += 1;
        if self.faults.crash.is_due() {
            self.has_crashed = true;
            return Ok(Reach::CutShort);
        }
        Ok(Reach::Whole)
    }

    pub(super) fn add_inode(&mut self) -> InodeId {
        let id = InodeId(self.next_inode);
        self.next_inode += 1;
        self.inodes.insert(id, Inode::default());
        id
    }

    pub(super) fn inode(&mut self, id: InodeId) -> io::Result<&mut Inode> {
        self.inodes
            .get_mut(&id)
            .ok_or_else(|| io::Error::other("the simulated file is gone"))
    }

    pub(super) fn read(&mut self, id: InodeId, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if self.begin()? == Reach::CutShort {
            return Err(SimulatedCrash.into());
        }
        if self.faults.read.is_due() {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let cached = self.inode(id)?.cached();
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(buffer.len());
        let bytes = cached.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    pub(super) fn write(&mut self, id: InodeId, bytes: &[u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        if self.begin()? == Reach::CutShort {
            let arrived = self.rng.usize(..=bytes.len());
            self.place(id, &bytes[..arrived], start)?;
            return Err(SimulatedCrash.into());
        }
        if self.faults.write.is_due() {
            return self.write_badly(id, bytes, start);
        }
        let room = self.room_for(id, bytes.len(), start)?;
        self.place(id, &bytes[..room], start)?;
        if room < bytes.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn write_badly(&mut self, id: InodeId, bytes: &[u8], start: usize) -> io::Result<()> {
        match self.faults.write_fault.take().unwrap_or(WriteFault::Error) {
            WriteFault::Error => {
                let arrived = self.rng.usize(..=bytes.len() / SECTOR_BYTES) * SECTOR_BYTES;
                self.place(id, &bytes[..arrived], start)?;
                Err(io::Error::from_raw_os_error(EIO))
            }
            WriteFault::Lost => Ok(()),
            WriteFault::Misdirected { file, offset } => {
                let other = self.directory.find(&file)?;
                let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
                self.place(other, bytes, offset)
            }
        }
    }

    /// How many of the bytes fit the disk.
    fn room_for(&mut self, id: InodeId, length: usize, start: usize) -> io::Result<usize> {
        let growth = self.inode(id)?.growth(start, length);
        let Some(free) = self.faults.free_bytes else {
            return Ok(length);
        };
        let free = usize::try_from(free).unwrap_or(usize::MAX);
        Ok(length - growth.saturating_sub(free).min(length))
    }

    fn place(&mut self, id: InodeId, bytes: &[u8], start: usize) -> io::Result<()> {
        let inode = self.inode(id)?;
        let growth = inode.growth(start, bytes.len()) as u64;
        inode.write(bytes, start);
        if let Some(free) = &mut self.faults.free_bytes {
            *free = free.saturating_sub(growth);
        }
        Ok(())
    }

    pub(super) fn sync(&mut self, id: InodeId) -> io::Result<()> {
        let reach = self.begin()?;
        let fails = reach == Reach::Whole && self.faults.sync.is_due();
        let inode = self
            .inodes
            .get_mut(&id)
            .ok_or_else(|| io::Error::other("the simulated file is gone"))?;
        if reach == Reach::CutShort {
            inode.sync_some(&mut self.rng);
            return Err(SimulatedCrash.into());
        }
        if fails {
            inode.fail_sync(&mut self.rng);
            return Err(io::Error::from_raw_os_error(EIO));
        }
        inode.sync();
        Ok(())
    }

    pub(super) fn sync_directory(&mut self) -> io::Result<()> {
        if self.begin()? == Reach::CutShort {
            self.directory.sync_some(&mut self.rng);
            return Err(SimulatedCrash.into());
        }
        if self.faults.sync.is_due() {
            self.directory.sync_some(&mut self.rng);
            return Err(io::Error::from_raw_os_error(EIO));
        }
        self.directory.sync();
        Ok(())
    }

    /// A change of the directory that a crash may cut short: then it is done or not.
    pub(super) fn change_directory<T>(
        &mut self,
        change: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        if self.begin()? == Reach::CutShort {
            if self.rng.bool() {
                // What it answers reaches nobody.
                drop(change(self));
            }
            return Err(SimulatedCrash.into());
        }
        change(self)
    }

    pub(super) fn remove(&mut self, name: &str) -> io::Result<()> {
        let id = self.directory.remove(name)?;
        let length = self.inode(id)?.cached().len() as u64;
        if let Some(free) = &mut self.faults.free_bytes {
            *free += length;
        }
        Ok(())
    }

    pub(super) fn shrink(&mut self, id: InodeId, length: u64) -> io::Result<()> {
        let freed = self
            .inode(id)?
            .shrink(usize::try_from(length).unwrap_or(usize::MAX));
        if let Some(free) = &mut self.faults.free_bytes {
            *free += freed as u64;
        }
        Ok(())
    }

    pub(super) fn end_process(&mut self) {
        self.has_crashed = false;
        self.faults.crash = Countdown::default();
        self.life += 1;
        self.forget_unnamed();
    }

    pub(super) fn lose_power(&mut self) {
        let kept = match self.policy {
            UnsyncedSectors::Lost => KeptChanges::None,
            UnsyncedSectors::Kept => KeptChanges::All,
            UnsyncedSectors::Torn | UnsyncedSectors::Mixed => KeptChanges::SomePrefix,
        };
        self.directory.lose_power(kept, &mut self.rng);
        for inode in self.inodes.values_mut() {
            inode.lose_power(self.policy, &mut self.rng);
        }
    }

    pub(super) fn durable_image(&self) -> DurableImage {
        let files = self
            .directory
            .durable()
            .iter()
            .map(|(name, id)| (name.clone(), self.inodes[id].durable().to_vec()))
            .collect();
        DurableImage { files }
    }

    /// Files that no name leads to, on the platter or in the cache, are gone once no process has them open.
    fn forget_unnamed(&mut self) {
        let State {
            directory, inodes, ..
        } = self;
        inodes.retain(|id, _| directory.reaches(*id));
    }
}

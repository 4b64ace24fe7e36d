//! What all handles of one history share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use raftkv_protocol::Revision;

use super::format::Span;
use super::generation::Generation;
use crate::disk::Disk;
use crate::store::{GenerationNumber, StoreError, StoreNumber};

/// Generations, oldest first, without gaps.
pub(super) type Generations<F> = Arc<Vec<Arc<Generation<F>>>>;

pub(super) struct Kept<F> {
    pub(super) generations: Generations<F>,
    pub(super) oldest_kept: Revision,
    /// Generations before this one explain nothing any more: a drain gave their images up.
    pub(super) readable_from: GenerationNumber,
    /// Where the first generation of all begins.
    pub(super) begin: Span,
    /// The generation that comes after `generations`.
    pub(super) next: GenerationNumber,
}

pub(super) struct Shared<D: Disk> {
    pub(super) disk: D,
    pub(super) store: StoreNumber,
    pub(super) kept: RwLock<Kept<D::File>>,
    /// Held by whoever writes events or removes files.
    pub(super) writer: Mutex<()>,
    pub(super) pending_bytes: AtomicU64,
    stopped: AtomicBool,
}

impl<D: Disk> Shared<D> {
    pub(super) fn new(disk: D, store: StoreNumber, kept: Kept<D::File>) -> Shared<D> {
        Shared {
            disk,
            store,
            kept: RwLock::new(kept),
            writer: Mutex::new(()),
            pending_bytes: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        }
    }

    pub(super) fn read<T>(&self, ask: impl FnOnce(&Kept<D::File>) -> T) -> T {
        // No holder of the lock leaves it half changed.
        ask(&self.kept.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Kept<D::File>) -> T) -> T {
        change(&mut self.kept.write().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn check_running(&self) -> Result<(), StoreError> {
        if self.stopped.load(Ordering::Acquire) {
            return Err(StoreError::Stopped);
        }
        Ok(())
    }

    /// After a failure nothing more is written (R37).
    pub(super) fn stop_on_error<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if result.is_err() {
            self.stopped.store(true, Ordering::Release);
        }
        result
    }
}

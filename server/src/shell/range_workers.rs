//! The thread that reads pages of ranges, and keeps states between the pages of a listing. Beside the one for lookups, so
//! that a long listing delays no read of a key.

use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use super::ServerError;
use super::inbox::{Letter, Mailbox};
use super::store_workers::{StoreFiles, worker};
use crate::replica::Event;
use crate::store::{PageJob, PageNumber, PageReader, StoreError};

enum RangeJob {
    Read(Box<PageJob>),
    Release(PageNumber),
}

/// The queue to the thread, which ends when this is dropped.
pub(super) struct RangeWorker {
    jobs: Sender<RangeJob>,
}

impl RangeWorker {
    /// Starts the thread on an open store.
    pub(super) fn start(
        files: StoreFiles,
        mailbox: &Mailbox,
    ) -> Result<(RangeWorker, JoinHandle<()>), ServerError> {
        let (jobs, queue) = mpsc::channel();
        let thread = worker("range", mailbox, move |mailbox| {
            read_pages(&files, &queue, mailbox)
        })?;
        Ok((RangeWorker { jobs }, thread))
    }

    pub(super) fn read(&self, job: Box<PageJob>) {
        // A thread that is gone has said why.
        let _ = self.jobs.send(RangeJob::Read(job));
    }

    pub(super) fn release(&self, number: PageNumber) {
        let _ = self.jobs.send(RangeJob::Release(number));
    }
}

fn read_pages(files: &StoreFiles, jobs: &Receiver<RangeJob>, mailbox: &Mailbox) -> Result<(), StoreError> {
    let mut reader = PageReader::default();
    for job in jobs {
        let PageJob {
            page,
            source,
            wanted,
            keep,
        } = match job {
            RangeJob::Read(job) => *job,
            RangeJob::Release(number) => {
                reader.release(number);
                continue;
            }
        };
        let outcome = match reader.open(&files.base, source)? {
            Ok(state) => reader.read(&files.history, state, (page, keep), &wanted)?,
            Err(outcome) => outcome,
        };
        mailbox.send(Letter::Event(Event::PageRead { page, outcome }));
    }
    Ok(())
}

//! The threads that read pages of ranges, and keep states between the pages of a listing. They stand beside the one for
//! lookups, so that a long listing delays no read of a key; and beside each other, so that it delays none in the past.
//! Pieces of the scrub are read by the one for listings, as pages are, and no larger than they.

use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use super::ServerError;
use super::inbox::{Letter, Mailbox};
use super::store_workers::{StoreFiles, worker};
use crate::replica::Event;
use crate::store::{PageJob, PageNumber, PageReader, PageSource, ScrubJob, StoreError};

enum RangeJob {
    Read(Box<PageJob>),
    Scrub(Box<ScrubJob>),
    Release(PageNumber),
}

/// The queues to the threads, which end when this is dropped.
pub(super) struct RangeWorkers {
    listings: Sender<RangeJob>,
    /// Of single keys: nothing is kept there.
    keys: Sender<RangeJob>,
}

impl RangeWorkers {
    /// Starts the threads on an open store.
    pub(super) fn start(
        files: &StoreFiles,
        mailbox: &Mailbox,
    ) -> Result<(RangeWorkers, [JoinHandle<()>; 2]), ServerError> {
        let start = |name| -> Result<_, ServerError> {
            let (jobs, queue) = mpsc::channel();
            let files = files.clone();
            let thread = worker(name, mailbox, move |mailbox| read_pages(&files, &queue, mailbox))?;
            Ok((jobs, thread))
        };
        let (listings, lister) = start("range")?;
        let (keys, looker) = start("past")?;
        Ok((RangeWorkers { listings, keys }, [lister, looker]))
    }

    pub(super) fn read(&self, job: Box<PageJob>) {
        let is_of_one_key = job.wanted.range.only_key().is_some();
        let jobs = match job.source {
            PageSource::Memory(_) if is_of_one_key => &self.keys,
            PageSource::Memory(_) | PageSource::Kept(_) => &self.listings,
        };
        // A thread that is gone has said why.
        let _ = jobs.send(RangeJob::Read(job));
    }

    pub(super) fn scrub(&self, job: Box<ScrubJob>) {
        let _ = self.listings.send(RangeJob::Scrub(job));
    }

    pub(super) fn release(&self, number: PageNumber) {
        let _ = self.listings.send(RangeJob::Release(number));
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
            RangeJob::Scrub(job) => {
                mailbox.send(Letter::Event(scrubbed(files, *job)?));
                continue;
            }
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

fn scrubbed(files: &StoreFiles, job: ScrubJob) -> Result<Event, StoreError> {
    let scrub = job.scrub;
    let outcome = match job.open(&files.base)? {
        Ok((state, wanted)) => Ok(wanted.read(&state)?),
        Err(overtaken) => Err(overtaken),
    };
    Ok(Event::Scrubbed { scrub, outcome })
}

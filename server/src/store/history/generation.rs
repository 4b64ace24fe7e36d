//! One generation's history: events that wait, events in the file, the sealed file, the images.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use raftkv_protocol::Revision;
use raftkv_raft::simulation::mark;

use super::buffer::EventBlock;
use super::file::{Blocks, Scan, Sealed, stride_before};
use super::format::{EVENT_STRIDE_BYTES, Entry, HEADER_BYTES, Span, Stride};
use super::index::{Pointer, Runs, newest};
use super::names::{Content, FileId};
use super::stream::Stream;
use crate::disk::{Disk, DiskFile};
use crate::store::{GenerationNumber, StoreError, StoreNumber};

/// Most bytes that one write takes: bounds the memory that writing needs.
const WRITE_BYTES: usize = 4 << 20;

/// A block and its place in the file.
#[derive(Debug)]
pub(super) struct Placed {
    offset: u64,
    block: EventBlock,
}

/// Events that are still added to.
#[derive(Debug)]
struct Open<F> {
    /// What the file holds, once there is one.
    written: Option<Blocks<F>>,
    /// Writes the file; made by the first write, and with whoever writes meanwhile.
    stream: Option<Stream<F>>,
    strides: Vec<Stride>,
    runs: Runs,
    /// Not in the file yet, in order.
    pending: VecDeque<Arc<Placed>>,
    /// Behind the last of `pending`.
    end: u64,
    events: u64,
    span: Span,
}

#[derive(Debug)]
enum Events<F> {
    Open(Box<Open<F>>),
    Sealed(Arc<Sealed<F>>),
}

/// Lives as long as a reader holds it, deleted or not.
#[derive(Debug)]
pub(super) struct Generation<F> {
    pub(super) store: StoreNumber,
    pub(super) number: GenerationNumber,
    events: RwLock<Events<F>>,
    images: OnceLock<Arc<Sealed<F>>>,
}

impl<F: DiskFile> Generation<F> {
    /// One that begins after revision `before`.
    pub(super) fn new(store: StoreNumber, number: GenerationNumber, before: Span) -> Generation<F> {
        let open = Open {
            written: None,
            stream: None,
            strides: Vec::new(),
            runs: Runs::default(),
            pending: VecDeque::new(),
            end: HEADER_BYTES as u64,
            events: 0,
            span: Span {
                before: before.last,
                last: before.last,
                first_log_time_us: before.last_log_time_us,
                last_log_time_us: before.last_log_time_us,
            },
        };
        Generation {
            store,
            number,
            events: RwLock::new(Events::Open(Box::new(open))),
            images: OnceLock::new(),
        }
    }

    /// One that was drained.
    pub(super) fn drained(events: Sealed<F>, images: Sealed<F>) -> Generation<F> {
        Generation {
            store: events.blocks.id.store,
            number: events.blocks.id.generation,
            events: RwLock::new(Events::Sealed(Arc::new(events))),
            images: OnceLock::from(Arc::new(images)),
        }
    }

    fn read<T>(&self, ask: impl FnOnce(&Events<F>) -> T) -> T {
        // No holder of the lock leaves it half changed.
        ask(&self.events.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<T>(&self, change: impl FnOnce(&mut Events<F>) -> T) -> T {
        change(&mut self.events.write().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn file_id(&self, content: Content) -> FileId {
        FileId {
            store: self.store,
            generation: self.number,
            content,
        }
    }

    pub(super) fn span(&self) -> Span {
        self.read(|events| match events {
            Events::Open(open) => open.span,
            Events::Sealed(sealed) => sealed.footer.span,
        })
    }

    /// Were its images given up?
    pub(super) fn is_given_up(&self) -> bool {
        self.images()
            .is_some_and(|images| images.footer.span != self.span())
    }

    pub(super) fn events(&self) -> u64 {
        self.read(|events| match events {
            Events::Open(open) => open.events,
            Events::Sealed(sealed) => sealed.footer.entries,
        })
    }

    /// Where one without any event ends: where the one before does, or as far as a recovery let revisions leap.
    pub(super) fn ends_without_events(&self) -> Option<Revision> {
        // Both at once: the first event may come at any moment.
        let (events, span) = self.read(|events| match events {
            Events::Open(open) => (open.events, open.span),
            Events::Sealed(sealed) => (sealed.footer.entries, sealed.footer.span),
        });
        (events == 0).then_some(span.last)
    }

    /// Of its events' file, what waits included.
    pub(super) fn event_bytes(&self) -> u64 {
        self.read(|events| match events {
            Events::Open(open) => open.end,
            Events::Sealed(sealed) => sealed.footer.file_bytes(),
        })
    }

    pub(super) fn image_bytes(&self) -> u64 {
        self.images.get().map_or(0, |images| images.footer.file_bytes())
    }

    pub(super) fn sealed(&self) -> Option<Arc<Sealed<F>>> {
        self.read(|events| match events {
            Events::Open(_) => None,
            Events::Sealed(sealed) => Some(Arc::clone(sealed)),
        })
    }

    pub(super) fn images(&self) -> Option<&Arc<Sealed<F>>> {
        self.images.get()
    }

    pub(super) fn set_images(&self, images: Sealed<F>) {
        let set = self.images.set(Arc::new(images));
        assert!(
            set.is_ok(),
            "the images of generation {} are finished once",
            self.number.0
        );
    }

    /// Takes in the next batch.
    pub(super) fn push(&self, block: EventBlock) {
        self.change(|events| {
            let Events::Open(open) = events else {
                panic!("generation {} is sealed, and events come for it", self.number.0);
            };
            let (first, last) = block.revisions();
            assert_eq!(
                first.0,
                open.span.last.0 + 1,
                "a batch of events from {first} after {}: each revision has its events",
                open.span.last
            );
            if open.events == 0 {
                open.span.first_log_time_us = block.header.log_time_us;
            }
            open.span.last = last;
            open.span.last_log_time_us = block.header.log_time_us;
            open.events += u64::from(block.header.entries);
            let offset = open.end;
            open.end += block.size_bytes();
            assert!(
                open.end <= u64::from(u32::MAX),
                "generation {} has 4 GiB of events: it should have been frozen long ago",
                self.number.0
            );
            open.pending.push_back(Arc::new(Placed { offset, block }));
        });
    }

    /// No event comes for any revision up to this one.
    pub(super) fn leap(&self, to: Revision) {
        self.change(|events| {
            let Events::Open(open) = events else {
                panic!("generation {} is sealed, and leaps", self.number.0);
            };
            assert!(open.span.last <= to, "revisions never go back");
            open.span.last = to;
        });
    }

    /// Writes what waits, as one write if it is not too large; tells `written` of the bytes of each.
    pub(super) fn write_pending<D: Disk<File = F>>(
        &self,
        disk: &D,
        written: &mut dyn FnMut(u64),
    ) -> Result<(), StoreError> {
        while let Some(batch) = self.next_write() {
            let mut stream = self.take_stream(disk)?;
            let size_bytes: u64 = batch.iter().map(|placed| placed.block.size_bytes()).sum();
            stream.reserve(size_bytes as usize);
            for placed in &batch {
                stream.push(&placed.block.bytes);
            }
            stream.write()?;
            self.note_written(stream, &batch);
            written(size_bytes);
        }
        Ok(())
    }

    fn take_stream<D: Disk<File = F>>(&self, disk: &D) -> Result<Stream<F>, StoreError> {
        let stream = self.change(|events| match events {
            Events::Open(open) => open.stream.take(),
            Events::Sealed(_) => panic!("a sealed generation has nothing to write"),
        });
        stream.map_or_else(|| Stream::create(disk, self.file_id(Content::Events)), Ok)
    }

    fn next_write(&self) -> Option<Vec<Arc<Placed>>> {
        self.read(|events| {
            let Events::Open(open) = events else { return None };
            let mut bytes = 0;
            let fits = |placed: &&Arc<Placed>| {
                let fits = bytes < WRITE_BYTES;
                bytes += placed.block.bytes.len();
                fits
            };
            let batch: Vec<_> = open.pending.iter().take_while(fits).cloned().collect();
            (!batch.is_empty()).then_some(batch)
        })
    }

    /// Only the one thread that writes changes `runs` and `strides`: they are made new beside the readers.
    fn note_written(&self, stream: Stream<F>, batch: &[Arc<Placed>]) {
        let pointers: Vec<Pointer> = batch
            .iter()
            .flat_map(|placed| {
                let moved = |pointer: &Pointer| pointer.moved(placed.offset);
                placed.block.pointers.iter().map(moved)
            })
            .collect();
        let mut runs = self.read(|events| match events {
            Events::Open(open) => open.runs.clone(),
            Events::Sealed(_) => panic!("a sealed generation has nothing to write"),
        });
        runs.add(pointers);
        self.change(|events| {
            let Events::Open(open) = events else {
                panic!("a generation is sealed by who writes it");
            };
            open.runs = runs;
            open.written = Some(stream.blocks());
            open.stream = Some(stream);
            for placed in batch {
                let last = open
                    .strides
                    .last()
                    .map_or(HEADER_BYTES as u64, |stride| stride.offset);
                if placed.offset >= last + EVENT_STRIDE_BYTES {
                    open.strides.push(Stride {
                        first: placed.block.header.first,
                        offset: placed.offset,
                    });
                }
            }
            open.pending.drain(..batch.len());
        });
    }

    /// Everything is written: adds index and footer, durably. Nothing is pushed any more.
    pub(super) fn seal<D: Disk<File = F>>(&self, disk: &D) -> Result<(), StoreError> {
        let stream = self.take_stream(disk)?;
        let (strides, runs, span) = self.read(|events| match events {
            Events::Open(open) => {
                assert!(open.pending.is_empty(), "what waits is written first");
                (open.strides.clone(), open.runs.clone(), open.span)
            }
            Events::Sealed(_) => panic!("generation {} is sealed once", self.number.0),
        });
        let sealed = Sealed::finish(disk, stream, strides, &runs.all(), span)?;
        self.change(|events| *events = Events::Sealed(Arc::new(sealed)));
        mark("history: generation sealed");
        Ok(())
    }

    /// The newest event of `key` at or below `at`.
    pub(super) fn newest(&self, key: &[u8], at: Revision) -> Result<Option<Entry>, StoreError> {
        // Shared out under the lock, read without it.
        let look = self.read(|events| match events {
            Events::Sealed(sealed) => Look::Sealed(Arc::clone(sealed)),
            Events::Open(open) => Look::Open {
                pending: open.pending.iter().cloned().collect(),
                runs: open.runs.clone(),
                blocks: open.written.clone(),
            },
        });
        let (pending, runs, blocks) = match look {
            Look::Sealed(sealed) => {
                let mut read = |offset| sealed.blocks.entry(offset);
                return newest(&mut sealed.pointers(), key, at, &mut read);
            }
            Look::Open {
                pending,
                runs,
                blocks,
            } => (pending, runs, blocks),
        };
        for placed in pending.iter().rev() {
            if let Some(entry) = newest_in_block(&placed.block, key, at) {
                return Ok(Some(entry));
            }
        }
        match blocks {
            Some(blocks) => runs.newest(key, at, &mut |offset| blocks.entry(offset)),
            None => Ok(None),
        }
    }

    /// The last revision of the last batch whose log time is not beyond this; `None` when all are later.
    pub(super) fn newest_by(&self, log_time_us: u64) -> Result<Option<Revision>, StoreError> {
        let (pending, file) = self.read(|events| match events {
            Events::Sealed(sealed) => {
                let strides = sealed.strides.clone();
                (None, Some((sealed.blocks.clone(), strides)))
            }
            Events::Open(open) => {
                let headers = open.pending.iter().rev().map(|placed| placed.block.header);
                let mut by_then = headers.filter(|header| header.log_time_us <= log_time_us);
                let file = open.written.clone().map(|blocks| (blocks, open.strides.clone()));
                (by_then.next().map(|header| header.last), file)
            }
        });
        match (pending, file) {
            (Some(newest), _) => Ok(Some(newest)),
            (None, Some((blocks, strides))) => blocks.newest_by(&strides, log_time_us),
            (None, None) => Ok(None),
        }
    }

    /// The blocks that may hold events from `from` on, in order.
    pub(super) fn scans(&self, from: Revision) -> VecDeque<Scan<F>> {
        self.read(|events| match events {
            Events::Sealed(sealed) => {
                let at = stride_before(&sealed.strides, from);
                [Scan::file(sealed.blocks.clone(), at, sealed.blocks.end)].into()
            }
            Events::Open(open) => {
                let file = open.written.clone().map(|blocks| {
                    let end = blocks.end;
                    Scan::file(blocks, stride_before(&open.strides, from), end)
                });
                let pending = open.pending.iter();
                let memory = pending.map(|placed| Scan::memory(placed.block.bytes.clone()));
                file.into_iter().chain(memory).collect()
            }
        })
    }
}

enum Look<F> {
    Sealed(Arc<Sealed<F>>),
    Open {
        pending: Vec<Arc<Placed>>,
        runs: Runs,
        blocks: Option<Blocks<F>>,
    },
}

fn newest_in_block(block: &EventBlock, key: &[u8], at: Revision) -> Option<Entry> {
    if block.header.first > at {
        return None;
    }
    let hash = super::format::key_hash(key);
    let of_hash = block
        .pointers
        .iter()
        .rev()
        .filter(|pointer| pointer.hash() == hash);
    of_hash
        .map(|pointer| {
            let mut scan: Scan<crate::disk::RealFile> = Scan::memory(block.bytes.clone());
            scan.skip(pointer.offset());
            scan.entry().expect("a block in memory is as it was made")
        })
        .find(|entry| entry.revision <= at && entry.key == key)
}

//! Records as the store keeps them, in memory and on disk.
//!
//! ```text
//! offset  size
//!      0     1  format version (1)
//!      1     1  flags: 1 deadline present, 2 lineage is Over, 4 deleted, 8 lease present
//!      2     8  mod_revision
//!     10     8  create_revision            | Over: revision of the first blind put
//!     18     8  version                    | Over: number of blind puts
//!     26     8  deadline, log time in us   (flag 1)
//!      .     8  lease                      (flag 8)
//!      .     .  value, to the end
//! ```
//! All numbers little-endian. A deleted record ends after mod_revision.

use bytes::{Buf, BufMut, Bytes};
use raftkv_protocol::{LeaseId, Record, Revision};

const FORMAT_VERSION: u8 = 1;
const FLAG_DEADLINE: u8 = 1;
const FLAG_OVER: u8 = 2;
const FLAG_DELETED: u8 = 4;
const FLAG_LEASE: u8 = 8;

/// Where a record's create_revision and version come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lineage {
    /// They are known.
    Known {
        /// The revision that created the key (anew, after a delete).
        create_revision: Revision,
        /// Writes since then, from 1.
        version: u64,
    },
    /// `writes` blind puts, the first one at `first`, over a record that nobody looked at: what is beneath decides.
    Over {
        /// The first of the blind puts.
        first: Revision,
        /// How many there were.
        writes: u64,
    },
}

impl Lineage {
    /// What it is over `beneath`: the state of the key just before the first blind put. Known stays as it is.
    ///
    /// # Panics
    /// When `beneath` is itself not known.
    #[must_use]
    pub fn over(self, beneath: Option<&Stored>) -> Lineage {
        let Lineage::Over { first, writes } = self else {
            return self;
        };
        match beneath.map(|stored| stored.lineage) {
            None => Lineage::Known {
                create_revision: first,
                version: writes,
            },
            Some(Lineage::Known {
                create_revision,
                version,
            }) => Lineage::Known {
                create_revision,
                version: version + writes,
            },
            Some(Lineage::Over { .. }) => panic!("what is beneath {self:?} is resolved first"),
        }
    }
}

/// A live record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// An allocation of its own, or a slice of a block of the base's.
    pub value: Bytes,
    /// The revision that last changed the key.
    pub mod_revision: Revision,
    /// Creation and version.
    pub lineage: Lineage,
    /// Log time at which the key expires, microseconds.
    pub deadline_us: Option<u64>,
    /// The lease that the key hangs on; then it has no deadline of its own.
    pub lease: Option<LeaseId>,
}

impl Stored {
    /// Adds up blind puts over blind puts, generation by generation, down to what is known; `before` tells what the key was
    /// at a revision.
    pub(crate) fn resolved_by<E>(
        mut self,
        mut before: impl FnMut(Revision) -> Result<Option<Slot>, E>,
    ) -> Result<Stored, E> {
        while let Lineage::Over { first, writes } = self.lineage {
            let beneath = match before(Revision(first.0 - 1))? {
                Some(Slot::Live(beneath)) => Some(beneath),
                Some(Slot::Deleted(_)) | None => None,
            };
            self.lineage = match beneath {
                Some(Stored {
                    lineage: Lineage::Over { first, writes: more },
                    ..
                }) => Lineage::Over {
                    first,
                    writes: writes + more,
                },
                known => self.lineage.over(known.as_ref()),
            };
        }
        Ok(self)
    }

    /// The record as a slot, borrowed.
    #[must_use]
    pub fn borrowed(&self) -> SlotRef<'_> {
        SlotRef::Live {
            value: &self.value,
            mod_revision: self.mod_revision,
            lineage: self.lineage,
            deadline_us: self.deadline_us,
            lease: self.lease,
        }
    }

    /// The record as a read returns it; `None` while its lineage is not known. Shares the value.
    #[must_use]
    pub fn record(&self) -> Option<Record> {
        let Lineage::Known {
            create_revision,
            version,
        } = self.lineage
        else {
            return None;
        };
        Some(Record {
            value: self.value.clone(),
            create_revision,
            mod_revision: self.mod_revision,
            version,
            lease: self.lease,
        })
    }
}

/// What a layer (generation, history) knows of a key: a record, or that it was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The key has this record.
    Live(Stored),
    /// The key was deleted (or expired) at this revision.
    Deleted(Revision),
}

impl Slot {
    /// The revision that made it.
    #[must_use]
    pub fn mod_revision(&self) -> Revision {
        match self {
            Slot::Live(stored) => stored.mod_revision,
            Slot::Deleted(revision) => *revision,
        }
    }

    /// The live record, if it is one.
    #[must_use]
    pub fn live(&self) -> Option<&Stored> {
        match self {
            Slot::Live(stored) => Some(stored),
            Slot::Deleted(_) => None,
        }
    }

    /// The key's state when this newer layer's slot comes on top of `beneath`. What is beneath may hold this layer already:
    /// then nothing changes.
    #[must_use]
    pub fn on_top_of(&self, beneath: Option<Stored>) -> Option<Stored> {
        match self {
            _ if self.is_held_by(beneath.as_ref()) => beneath,
            Slot::Deleted(_) => None,
            Slot::Live(stored) => Some(Stored {
                lineage: stored.lineage.over(beneath.as_ref()),
                ..stored.clone()
            }),
        }
    }

    /// The same, borrowed: `None` when the key is gone.
    #[must_use]
    pub fn over<'a>(&'a self, beneath: Option<&'a Stored>) -> Option<SlotRef<'a>> {
        match self {
            _ if self.is_held_by(beneath) => beneath.map(Stored::borrowed),
            Slot::Deleted(_) => None,
            Slot::Live(stored) => Some(SlotRef::Live {
                value: &stored.value,
                mod_revision: stored.mod_revision,
                lineage: stored.lineage.over(beneath),
                deadline_us: stored.deadline_us,
                lease: stored.lease,
            }),
        }
    }

    fn is_held_by(&self, beneath: Option<&Stored>) -> bool {
        beneath.is_some_and(|beneath| self.mod_revision() <= beneath.mod_revision)
    }

    /// The slot, borrowed.
    #[must_use]
    pub fn borrowed(&self) -> SlotRef<'_> {
        match self {
            Slot::Live(stored) => stored.borrowed(),
            Slot::Deleted(revision) => SlotRef::Deleted(*revision),
        }
    }

    /// Bytes of [`Slot::encode`].
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.borrowed().encoded_len()
    }

    /// Appends the encoding drawn above.
    pub fn encode(&self, out: &mut impl BufMut) {
        self.borrowed().encode(out);
    }

    /// Reads it back; the value is a slice of `bytes`.
    ///
    /// # Errors
    /// A sentence when the bytes are no record of this version.
    pub fn decode(mut bytes: Bytes) -> Result<Slot, &'static str> {
        if bytes.len() < 10 {
            return Err("a record of less than 10 bytes");
        }
        if bytes.get_u8() != FORMAT_VERSION {
            return Err("a record of another format version");
        }
        let flags = bytes.get_u8();
        let mod_revision = Revision(bytes.get_u64_le());
        if flags & FLAG_DELETED != 0 {
            return Ok(Slot::Deleted(mod_revision));
        }
        let numbers =
            16 + usize::from(flags & FLAG_DEADLINE != 0) * 8 + usize::from(flags & FLAG_LEASE != 0) * 8;
        if bytes.len() < numbers {
            return Err("a record that is cut off");
        }
        let (first, second) = (Revision(bytes.get_u64_le()), bytes.get_u64_le());
        let lineage = if flags & FLAG_OVER != 0 {
            Lineage::Over {
                first,
                writes: second,
            }
        } else {
            Lineage::Known {
                create_revision: first,
                version: second,
            }
        };
        let deadline_us = (flags & FLAG_DEADLINE != 0).then(|| bytes.get_u64_le());
        let lease = (flags & FLAG_LEASE != 0).then(|| LeaseId(bytes.get_u64_le()));
        Ok(Slot::Live(Stored {
            value: bytes,
            mod_revision,
            lineage,
            deadline_us,
            lease,
        }))
    }
}

/// A [`Slot`] in borrowed parts: what the hot path encodes without making one.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum SlotRef<'a> {
    Live {
        value: &'a [u8],
        mod_revision: Revision,
        lineage: Lineage,
        deadline_us: Option<u64>,
        lease: Option<LeaseId>,
    },
    Deleted(Revision),
}

impl SlotRef<'_> {
    /// The revision that made it.
    #[must_use]
    pub fn mod_revision(&self) -> Revision {
        match *self {
            SlotRef::Live { mod_revision, .. } | SlotRef::Deleted(mod_revision) => mod_revision,
        }
    }

    /// Bytes of [`SlotRef::encode`].
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        match *self {
            SlotRef::Deleted(_) => 10,
            SlotRef::Live {
                value,
                deadline_us,
                lease,
                ..
            } => 26 + deadline_us.map_or(0, |_| 8) + lease.map_or(0, |_| 8) + value.len(),
        }
    }

    /// Appends the encoding drawn above.
    pub fn encode(&self, out: &mut impl BufMut) {
        match *self {
            SlotRef::Deleted(revision) => {
                out.put_u8(FORMAT_VERSION);
                out.put_u8(FLAG_DELETED);
                out.put_u64_le(revision.0);
            }
            SlotRef::Live {
                value,
                mod_revision,
                lineage,
                deadline_us,
                lease,
            } => {
                let (over, first, second) = match lineage {
                    Lineage::Known {
                        create_revision,
                        version,
                    } => (0, create_revision, version),
                    Lineage::Over { first, writes } => (FLAG_OVER, first, writes),
                };
                out.put_u8(FORMAT_VERSION);
                let deadline_flag = deadline_us.map_or(0, |_| FLAG_DEADLINE);
                let lease_flag = lease.map_or(0, |_| FLAG_LEASE);
                out.put_u8(over | deadline_flag | lease_flag);
                out.put_u64_le(mod_revision.0);
                out.put_u64_le(first.0);
                out.put_u64_le(second);
                if let Some(deadline_us) = deadline_us {
                    out.put_u64_le(deadline_us);
                }
                if let Some(lease) = lease {
                    out.put_u64_le(lease.0);
                }
                out.put_slice(value);
            }
        }
    }
}

/// Numbers generations from 1: the overlay that is written to, and those before it, which drain into the base in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct GenerationNumber(pub u64);

impl GenerationNumber {
    /// The generation after this one.
    #[must_use]
    pub fn next(self) -> GenerationNumber {
        GenerationNumber(self.0 + 1)
    }
}

/// Which fill of the data directory a file belongs to: 1 at first, one more with each snapshot that is received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreNumber(pub u64);

impl StoreNumber {
    /// The store that a newly formed node begins with.
    pub const FIRST: StoreNumber = StoreNumber(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(slot: &Slot) {
        let mut bytes = Vec::new();
        slot.encode(&mut bytes);
        assert_eq!(bytes.len(), slot.encoded_len());
        assert_eq!(Slot::decode(bytes.into()).as_ref(), Ok(slot));
    }

    #[test]
    fn slots_come_back_as_they_were() {
        for (deadline_us, lease) in [(None, None), (Some(77), None), (None, Some(LeaseId(5)))] {
            for lineage in [
                Lineage::Known {
                    create_revision: Revision(3),
                    version: 9,
                },
                Lineage::Over {
                    first: Revision(4),
                    writes: 2,
                },
            ] {
                round_trip(&Slot::Live(Stored {
                    value: Bytes::from_static(b"value"),
                    mod_revision: Revision(12),
                    lineage,
                    deadline_us,
                    lease,
                }));
            }
        }
        round_trip(&Slot::Deleted(Revision(u64::MAX)));
    }

    #[test]
    fn what_is_no_record_is_an_error() {
        let slot = Slot::Live(Stored {
            value: Bytes::new(),
            mod_revision: Revision(1),
            lineage: Lineage::Known {
                create_revision: Revision(1),
                version: 1,
            },
            deadline_us: Some(1),
            lease: Some(LeaseId(1)),
        });
        let mut whole = Vec::new();
        slot.encode(&mut whole);
        for length in 0..whole.len() {
            let cut = Bytes::copy_from_slice(&whole[..length]);
            assert!(Slot::decode(cut).is_err(), "{length} bytes");
        }
        whole[0] = 2;
        assert!(Slot::decode(whole.into()).is_err());
    }

    #[test]
    fn blind_puts_count_on_from_what_is_beneath() {
        let blind = Lineage::Over {
            first: Revision(7),
            writes: 3,
        };
        let fresh = Lineage::Known {
            create_revision: Revision(7),
            version: 3,
        };
        assert_eq!(blind.over(None), fresh);
        let beneath = Stored {
            value: Bytes::new(),
            mod_revision: Revision(5),
            lineage: Lineage::Known {
                create_revision: Revision(2),
                version: 4,
            },
            deadline_us: None,
            lease: None,
        };
        let grown = Lineage::Known {
            create_revision: Revision(2),
            version: 7,
        };
        assert_eq!(blind.over(Some(&beneath)), grown);
        assert_eq!(fresh.over(Some(&beneath)), fresh);
    }
}

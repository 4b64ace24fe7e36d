//! What goes into the base with each drain beside the records: everything a restart needs to go on from there.

use bytes::Bytes;
use raftkv_protocol::Revision;
use raftkv_raft::{EntryId, Index, Term};
use serde::{Deserialize, Serialize};

use super::record::GenerationNumber;

/// The one row of the companions.
pub(super) const ROW_KEY: &[u8] = &[3];
/// What is written where `names_from` is 0, so that what was never recovered can be read by every version.
const FORMAT_VERSION: u8 = 1;
const FORMAT_VERSION_2: u8 = 2;

/// The state machine's numbers as of a drained generation's last entry. In the same atomic ingest as its records (R45).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Companions {
    /// The generation whose drain wrote this.
    pub generation: GenerationNumber,
    /// The last entry that is part of the state.
    pub applied: EntryId,
    /// Revision of the store.
    pub revision: Revision,
    /// Log time reached, microseconds.
    pub log_time_us: u64,
    /// The chained hash of all effects.
    pub effects: u64,
    /// The oldest revision that can be read.
    pub oldest_kept: Revision,
    /// Configuration entries that may not be in the log any more: the one in effect at the log's base, and each later one
    /// up to `applied`. Ascending.
    pub configurations: Vec<StoredConfiguration>,
    /// The founding entry, for members that never made their log.
    pub founding: Option<StoredConfiguration>,
    /// Leases and sessions are named after this plus the index of their entry. A recovery raises it.
    pub names_from: u64,
}

/// A configuration entry of the log, as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredConfiguration {
    /// Where it stood.
    pub id: EntryId,
    /// The membership, encoded.
    pub payload: Bytes,
}

/// On disk: a version byte, then this in postcard. A released struct never changes; a further version is a further struct.
#[derive(Serialize, Deserialize)]
struct Version1 {
    generation: GenerationNumber,
    applied: (u64, u64),
    revision: Revision,
    log_time_us: u64,
    effects: u64,
    oldest_kept: Revision,
    configurations: Vec<Entry1>,
    founding: Option<Entry1>,
    /// The places of sessions and leases, which are rows of their own: how many there are.
    sessions: u64,
    leases: u64,
}

#[derive(Serialize, Deserialize)]
struct Version2 {
    version_1: Version1,
    names_from: u64,
}

#[derive(Serialize, Deserialize)]
struct Entry1 {
    term: u64,
    index: u64,
    #[serde(with = "serde_bytes")]
    payload: Vec<u8>,
}

impl Companions {
    /// The row's value.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let version_1 = Version1 {
            generation: self.generation,
            applied: (self.applied.term.0, self.applied.index.get()),
            revision: self.revision,
            log_time_us: self.log_time_us,
            effects: self.effects,
            oldest_kept: self.oldest_kept,
            configurations: self.configurations.iter().map(Entry1::from).collect(),
            founding: self.founding.as_ref().map(Entry1::from),
            sessions: 0,
            leases: 0,
        };
        let names_from = self.names_from;
        let encoded = match names_from {
            0 => postcard::to_extend(&version_1, vec![FORMAT_VERSION]),
            _ => postcard::to_extend(
                &Version2 {
                    version_1,
                    names_from,
                },
                vec![FORMAT_VERSION_2],
            ),
        };
        encoded.expect("numbers and bytes always encode").into()
    }

    /// Reads it back.
    ///
    /// # Errors
    /// A sentence when the bytes are no companions of these versions.
    pub fn decode(bytes: &[u8]) -> Result<Companions, &'static str> {
        let (version, rest) = bytes.split_first().ok_or("the companions are empty")?;
        let read = match *version {
            FORMAT_VERSION => postcard::from_bytes(rest).map(|version_1| Version2 {
                version_1,
                names_from: 0,
            }),
            FORMAT_VERSION_2 => postcard::from_bytes(rest),
            _ => return Err("the companions have another format version"),
        };
        let Version2 {
            version_1: read,
            names_from,
        } = read.map_err(|_| "the companions do not decode")?;
        let configurations: Option<Vec<_>> = read.configurations.into_iter().map(Entry1::stored).collect();
        Ok(Companions {
            generation: read.generation,
            applied: entry_id(read.applied.0, read.applied.1).ok_or("the applied index is 0")?,
            revision: read.revision,
            log_time_us: read.log_time_us,
            effects: read.effects,
            oldest_kept: read.oldest_kept,
            configurations: configurations.ok_or("a configuration has index 0")?,
            founding: read.founding.and_then(Entry1::stored),
            names_from,
        })
    }
}

impl From<&StoredConfiguration> for Entry1 {
    fn from(stored: &StoredConfiguration) -> Entry1 {
        Entry1 {
            term: stored.id.term.0,
            index: stored.id.index.get(),
            payload: stored.payload.to_vec(),
        }
    }
}

impl Entry1 {
    fn stored(self) -> Option<StoredConfiguration> {
        Some(StoredConfiguration {
            id: entry_id(self.term, self.index)?,
            payload: self.payload.into(),
        })
    }
}

fn entry_id(term: u64, index: u64) -> Option<EntryId> {
    Some(EntryId {
        term: Term(term),
        index: Index::new(index)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn companions() -> Companions {
        let configuration = StoredConfiguration {
            id: entry_id(1, 1).expect("not 0"),
            payload: Bytes::from_static(b"members"),
        };
        Companions {
            generation: GenerationNumber(3),
            applied: entry_id(2, 300).expect("not 0"),
            revision: Revision(290),
            log_time_us: 77,
            effects: 0x0123_4567_89ab_cdef,
            oldest_kept: Revision(12),
            configurations: vec![configuration.clone()],
            founding: Some(configuration),
            names_from: 0,
        }
    }

    fn recovered() -> Companions {
        Companions {
            names_from: 1 << 40,
            ..companions()
        }
    }

    fn hex(companions: &Companions) -> String {
        let encoded = companions.encode();
        encoded.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn companions_come_back_as_they_were() {
        for companions in [companions(), recovered()] {
            assert_eq!(Companions::decode(&companions.encode()), Ok(companions));
        }
    }

    #[test]
    fn the_bytes_of_version_1_never_change() {
        let golden = "010302ac02a2024def9bafcdf8acd191010c01010107\
                      6d656d62657273010101076d656d626572730000";
        assert_eq!(hex(&companions()), golden);
    }

    #[test]
    fn the_bytes_of_version_2_never_change() {
        let golden = "020302ac02a2024def9bafcdf8acd191010c01010107\
                      6d656d62657273010101076d656d626572730000808080808020";
        assert_eq!(hex(&recovered()), golden);
    }

    #[test]
    fn what_is_no_companions_row_is_an_error() {
        for whole in [companions().encode(), recovered().encode()] {
            for length in 0..whole.len() {
                assert!(Companions::decode(&whole[..length]).is_err(), "{length} bytes");
            }
        }
    }
}

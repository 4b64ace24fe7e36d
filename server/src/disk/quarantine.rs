//! That a data directory is in quarantine, and why: durable, so that a restart does not forget it.
//!
//! ```text
//! file `quarantine`    0  8  magic "RAFTKVQU"                    27  8  this node's hash
//!                      8  2  format version                      35  8  the majority's hash
//!                     10  1  what: 1 effects, 2 records          43  2  n, length of the text
//!                     11  8  the entry as of which it was found  45  n  records: which keys, UTF-8
//!                     19  8  effects: last entry of agreement,   45 + n  4  CRC-32C of everything before
//!                            0: none is known                    (numbers are little-endian)
//! ```
//! Written once: what is found first is what is kept. Nothing removes it; an empty directory has none. A damaged one is
//! refused: that it is there says enough, and what it said is lost.

use std::io;

use raftkv_raft::Index;
use thiserror::Error;

use super::{Disk, DiskFile, replace_file};
use crate::replica::{Finding, Hashes, Quarantine};

const FILE: &str = "quarantine";
/// Written first; takes the real name once it is durable.
const TEMPORARY_FILE: &str = "quarantine.new";
const MAGIC: &[u8; 8] = b"RAFTKVQU";
const VERSION: u16 = 1;
const TEXT_AT: usize = 45;
const CHECKSUM_BYTES: usize = 4;
/// A longer file is none of ours; nothing of its size is allocated.
const MAX_FILE_BYTES: u64 = 4096;
/// Of the text so much is kept.
const MAX_TEXT_BYTES: usize = MAX_FILE_BYTES as usize - TEXT_AT - CHECKSUM_BYTES;

const EFFECTS: u8 = 1;
const RECORDS: u8 = 2;

/// Why the file can not be used.
#[derive(Debug, Error)]
pub enum QuarantineError {
    /// The file system refused.
    #[error("{action} the file {FILE} failed: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It is not what was written.
    #[error(
        "this node was found to differ from the others and stopped serving, and the file {FILE} that says how is damaged ({what}): replace the node (kvctl member replace NAME) with an empty one"
    )]
    Damaged {
        /// What is wrong.
        what: &'static str,
    },
    /// A newer program wrote it.
    #[error(
        "the file {FILE} has format version {found}, this program reads up to {VERSION}: start the newer program"
    )]
    NewerFormat {
        /// Its version.
        found: u16,
    },
}

/// Is the data directory in quarantine, and why?
///
/// # Errors
/// When that can not be read.
pub fn load<D: Disk>(disk: &D) -> Result<Option<Quarantine>, QuarantineError> {
    let failed = |action| move |source| QuarantineError::Io { action, source };
    let file = match disk.open(FILE) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("opening")(error)),
    };
    let quarantine = decode(&read(&file).map_err(failed("reading"))?)?;
    // It may live only in the page cache, if a process died between rename and sync (R36).
    disk.sync_directory()
        .map_err(failed("syncing the directory of"))?;
    Ok(Some(quarantine))
}

/// Puts the data directory in quarantine, durably; a crash leaves it there or not.
///
/// # Errors
/// Of the disk; then it is not known whether it is.
pub fn store<D: Disk>(disk: &D, quarantine: &Quarantine) -> Result<(), QuarantineError> {
    replace_file(
        disk,
        (FILE, TEMPORARY_FILE),
        &encode(quarantine),
        |action, _, source| QuarantineError::Io { action, source },
    )
}

/// Of a file that is too long no more than it takes to see that.
fn read<F: DiskFile>(file: &F) -> io::Result<Vec<u8>> {
    let length = file.len()?.min(MAX_FILE_BYTES + 1);
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

fn encode(quarantine: &Quarantine) -> Vec<u8> {
    let (what, agreed, hashes, text) = match &quarantine.finding {
        Finding::Effects { agreed, hashes } => (EFFECTS, *agreed, hashes, ""),
        Finding::Records { keys, hashes } => (RECORDS, None, hashes, keys.as_str()),
    };
    let text = &text[..text.floor_char_boundary(MAX_TEXT_BYTES)];
    let mut bytes = Vec::with_capacity(TEXT_AT + text.len() + CHECKSUM_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.push(what);
    bytes.extend_from_slice(&quarantine.found_at.get().to_le_bytes());
    bytes.extend_from_slice(&agreed.map_or(0, Index::get).to_le_bytes());
    bytes.extend_from_slice(&hashes.own.to_le_bytes());
    bytes.extend_from_slice(&hashes.majority.to_le_bytes());
    bytes.extend_from_slice(&(text.len() as u16).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Result<Quarantine, QuarantineError> {
    let damaged = |what| QuarantineError::Damaged { what };
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(damaged("it is too long"));
    }
    let (body, checksum) = bytes
        .split_last_chunk::<CHECKSUM_BYTES>()
        .ok_or_else(|| damaged("it is too short"))?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*checksum) {
        return Err(damaged("its checksum does not match"));
    }
    let mut rest = body;
    if take::<8>(&mut rest)? != *MAGIC {
        return Err(damaged("it is not a quarantine file"));
    }
    let version = u16::from_le_bytes(take(&mut rest)?);
    if version != VERSION {
        return Err(QuarantineError::NewerFormat { found: version });
    }
    let [what] = take(&mut rest)?;
    let found_at = Index::new(u64::from_le_bytes(take(&mut rest)?));
    let found_at = found_at.ok_or_else(|| damaged("its entry is 0"))?;
    let agreed = Index::new(u64::from_le_bytes(take(&mut rest)?));
    let hashes = Hashes {
        own: u64::from_le_bytes(take(&mut rest)?),
        majority: u64::from_le_bytes(take(&mut rest)?),
    };
    let length = usize::from(u16::from_le_bytes(take(&mut rest)?));
    if rest.len() != length {
        return Err(damaged("the text's length does not match"));
    }
    let text = std::str::from_utf8(rest).map_err(|_| damaged("the text is not UTF-8"))?;
    let finding = match what {
        EFFECTS => Finding::Effects { agreed, hashes },
        RECORDS => Finding::Records {
            keys: text.to_owned(),
            hashes,
        },
        _ => return Err(damaged("it says of nothing known that it differs")),
    };
    Ok(Quarantine { found_at, finding })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], QuarantineError> {
    let (taken, behind) = rest.split_first_chunk::<N>().ok_or(QuarantineError::Damaged {
        what: "it is too short",
    })?;
    *rest = behind;
    Ok(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{RealDisk, SimulatedDisk};

    const HASHES: Hashes = Hashes {
        own: 0x1234_5678_9abc_def0,
        majority: 7,
    };

    fn index(number: u64) -> Index {
        Index::new(number).expect("not 0")
    }

    fn records(keys: &str) -> Quarantine {
        Quarantine {
            found_at: index(258),
            finding: Finding::Records {
                keys: keys.to_owned(),
                hashes: HASHES,
            },
        }
    }

    fn effects(agreed: Option<u64>) -> Quarantine {
        Quarantine {
            found_at: index(9),
            finding: Finding::Effects {
                agreed: agreed.map(index),
                hashes: HASHES,
            },
        }
    }

    #[test]
    fn what_was_found_is_kept_and_an_empty_directory_is_in_no_quarantine() {
        for quarantine in [
            records("from \"a\" to the last one"),
            effects(Some(8)),
            effects(None),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let disk = RealDisk::open(directory.path()).unwrap();
            assert_eq!(load(&disk).unwrap(), None);
            disk.create(TEMPORARY_FILE).unwrap();
            assert_eq!(load(&disk).unwrap(), None, "half made is not made");
            store(&disk, &quarantine).unwrap();
            assert_eq!(load(&disk).unwrap(), Some(quarantine));
        }
    }

    #[test]
    fn a_crash_leaves_all_of_it_or_nothing() {
        for calls in 0..10_u64 {
            let disk = SimulatedDisk::new(calls);
            disk.crash_after(calls);
            let stored = store(&disk, &effects(Some(8)));
            disk.power_lost();
            let loaded = load(&disk).unwrap();
            assert!(loaded.is_some() || stored.is_err(), "call {calls}");
            assert!(
                loaded.is_none_or(|loaded| loaded == effects(Some(8))),
                "call {calls}"
            );
        }
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_between_characters() {
        let long = "\u{e9}".repeat(4000);
        let loaded = decode(&encode(&records(&long))).unwrap();
        let Finding::Records { keys, .. } = loaded.finding else {
            panic!("expected records");
        };
        assert!(long.starts_with(&keys) && keys.len() > 4000);
    }

    #[test]
    fn d05_every_flipped_bit_is_found() {
        let bytes = encode(&records("all"));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&damaged).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "cut to {length} bytes");
        }
        assert!(decode(&[0; 5000]).is_err(), "too long");
    }

    #[test]
    fn the_format_of_version_1_is_fixed() {
        let mut expected = b"RAFTKVQU\x01\x00\x02\x02\x01\0\0\0\0\0\0".to_vec();
        expected.extend_from_slice(&[0; 8]);
        expected.extend_from_slice(b"\xf0\xde\xbc\x9a\x78\x56\x34\x12\x07\0\0\0\0\0\0\0\x03\x00all");
        expected.extend_from_slice(&crc32c::crc32c(&expected).to_le_bytes());
        assert_eq!(encode(&records("all")), expected);
    }
}

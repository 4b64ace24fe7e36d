//! Who a data directory is: a random number, durable before the node first speaks, and never used again (R44).
//!
//! ```text
//! file `identity`      0  8  magic "RAFTKVID"       20  n  the node's name, UTF-8
//!                      8  2  format version     20 + n  4  CRC-32C of everything before
//!                     10  2  n, length of name
//!                     12  8  identity             (numbers are little-endian)
//! ```

use std::io;

use raftkv_protocol::{NodeId, NodeName};
use thiserror::Error;

use super::{Disk, DiskFile, replace_file};

const FILE: &str = "identity";
/// Written first; takes the real name once it is durable.
const TEMPORARY_FILE: &str = "identity.new";
const MAGIC: &[u8; 8] = b"RAFTKVID";
const VERSION: u16 = 1;
const NAME_AT: usize = 20;
const CHECKSUM_BYTES: usize = 4;
/// A longer file is none of ours; nothing of its size is allocated.
const MAX_FILE_BYTES: u64 = 4096;

/// Why a data directory's identity can not be used.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The file system refused.
    #[error("{action} the identity file failed: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It is not what was written.
    #[error(
        "the identity file is damaged ({what}): restore it from a copy of this data directory, or replace the node (kvctl member replace NAME) with an empty one"
    )]
    Damaged {
        /// What is wrong.
        what: &'static str,
    },
    /// A newer program wrote it.
    #[error(
        "the identity file has format version {found}, this program reads up to {VERSION}: start the newer program"
    )]
    NewerFormat {
        /// Its version.
        found: u16,
    },
    /// The directory is another node's.
    #[error(
        "the data directory belongs to {found}, and this node was started as {expected}: use --id {found}, or another --data-dir"
    )]
    OtherName {
        /// Whose it is.
        found: NodeName,
        /// Who was started.
        expected: NodeName,
    },
    /// There is a log, and nothing says whose: a new identity beside it could vote twice in its terms (R44).
    #[error(
        "the data directory holds a log and no identity file: restore that file from a copy of this directory, or replace the node (kvctl member replace NAME) with an empty one"
    )]
    LogWithoutIdentity,
    /// The name does not fit the file.
    #[error("the node's name has {length} bytes, the most is {}", MAX_FILE_BYTES as usize - NAME_AT - CHECKSUM_BYTES)]
    NameTooLong {
        /// Its length in bytes.
        length: usize,
    },
}

/// Reads the identity of a data directory; an empty one becomes `fresh`'s, durably.
///
/// # Errors
/// When the directory belongs to a node of another name, or its identity can not be read or made.
pub fn load_or_create<D: Disk>(disk: &D, name: &NodeName, fresh: NodeId) -> Result<NodeId, IdentityError> {
    let failed = |action| move |source| IdentityError::Io { action, source };
    let bytes = match disk.open(FILE) {
        Ok(file) => read(&file)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            refuse_log(disk)?;
            create(disk, name, fresh)?;
            return Ok(fresh);
        }
        Err(error) => return Err(failed("opening")(error)),
    };
    let (identity, found) = decode(&bytes)?;
    if found != *name {
        return Err(IdentityError::OtherName {
            found,
            expected: name.clone(),
        });
    }
    // It may live only in the page cache, if a process died between rename and sync (R36).
    disk.sync_directory()
        .map_err(failed("syncing the directory of"))?;
    Ok(identity)
}

/// Whose data directory it is; `None`: nobody's yet.
///
/// # Errors
/// When its identity can not be read.
pub fn load<D: Disk>(disk: &D) -> Result<Option<(NodeId, NodeName)>, IdentityError> {
    match disk.open(FILE) {
        Ok(file) => Ok(Some(decode(&read(&file)?)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(IdentityError::Io {
            action: "opening",
            source,
        }),
    }
}

/// Gives the data directory another identity, durably: for a node that leaves its cluster for ever.
///
/// # Errors
/// When it can not be written.
pub fn replace<D: Disk>(disk: &D, name: &NodeName, identity: NodeId) -> Result<(), IdentityError> {
    create(disk, name, identity)
}

fn refuse_log<D: Disk>(disk: &D) -> Result<(), IdentityError> {
    let listed = disk.list();
    let files = listed.map_err(|source| IdentityError::Io {
        action: "listing the directory of",
        source,
    })?;
    match files.iter().any(|file| crate::log::is_segment(file)) {
        true => Err(IdentityError::LogWithoutIdentity),
        false => Ok(()),
    }
}

fn create<D: Disk>(disk: &D, name: &NodeName, identity: NodeId) -> Result<(), IdentityError> {
    let bytes = encode(identity, name)?;
    replace_file(disk, (FILE, TEMPORARY_FILE), &bytes, |action, _, source| {
        IdentityError::Io { action, source }
    })
}

fn read<F: DiskFile>(file: &F) -> Result<Vec<u8>, IdentityError> {
    let failed = |source| IdentityError::Io {
        action: "reading",
        source,
    };
    let length = file.len().map_err(failed)?;
    if length > MAX_FILE_BYTES {
        return Err(IdentityError::Damaged {
            what: "it is too long",
        });
    }
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, 0).map_err(failed)?;
    Ok(bytes)
}

fn encode(identity: NodeId, name: &NodeName) -> Result<Vec<u8>, IdentityError> {
    let length = name.0.len();
    if length > MAX_FILE_BYTES as usize - NAME_AT - CHECKSUM_BYTES {
        return Err(IdentityError::NameTooLong { length });
    }
    let mut bytes = Vec::with_capacity(NAME_AT + length + CHECKSUM_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&(length as u16).to_le_bytes());
    bytes.extend_from_slice(&identity.0.to_le_bytes());
    bytes.extend_from_slice(name.0.as_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Result<(NodeId, NodeName), IdentityError> {
    let damaged = |what| IdentityError::Damaged { what };
    let (body, checksum) = bytes
        .split_last_chunk::<CHECKSUM_BYTES>()
        .ok_or_else(|| damaged("it is too short"))?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*checksum) {
        return Err(damaged("its checksum does not match"));
    }
    let (magic, rest) = body
        .split_first_chunk::<8>()
        .ok_or_else(|| damaged("it is too short"))?;
    if magic != MAGIC {
        return Err(damaged("it is not an identity file"));
    }
    let (version, rest) = rest
        .split_first_chunk::<2>()
        .ok_or_else(|| damaged("it is too short"))?;
    let version = u16::from_le_bytes(*version);
    if version != VERSION {
        return Err(IdentityError::NewerFormat { found: version });
    }
    let (length, rest) = rest
        .split_first_chunk::<2>()
        .ok_or_else(|| damaged("it is too short"))?;
    let (identity, name) = rest
        .split_first_chunk::<8>()
        .ok_or_else(|| damaged("it is too short"))?;
    if name.len() != usize::from(u16::from_le_bytes(*length)) {
        return Err(damaged("the name's length does not match"));
    }
    let name = std::str::from_utf8(name).map_err(|_| damaged("the name is not UTF-8"))?;
    Ok((NodeId(u64::from_le_bytes(*identity)), NodeName::from(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    fn name(text: &str) -> NodeName {
        NodeName::from(text)
    }

    #[test]
    fn r44_an_identity_is_made_once_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(directory.path()).unwrap();
        assert_eq!(load_or_create(&disk, &name("n1"), NodeId(7)).unwrap(), NodeId(7));
        assert_eq!(load_or_create(&disk, &name("n1"), NodeId(8)).unwrap(), NodeId(7));
    }

    #[test]
    fn a_directory_of_another_name_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(directory.path()).unwrap();
        load_or_create(&disk, &name("n1"), NodeId(7)).unwrap();
        let refused = load_or_create(&disk, &name("n2"), NodeId(8)).unwrap_err();
        assert!(matches!(refused, IdentityError::OtherName { .. }), "{refused}");
    }

    #[test]
    fn r44_a_log_without_identity_gets_none() {
        let directory = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(directory.path()).unwrap();
        disk.create("0000000000000001.raftlog").unwrap();
        let refused = load_or_create(&disk, &name("n1"), NodeId(7)).unwrap_err();
        assert!(matches!(refused, IdentityError::LogWithoutIdentity), "{refused}");
        assert!(disk.open(FILE).is_err(), "nothing was made");
    }

    #[test]
    fn a_half_made_identity_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(directory.path()).unwrap();
        disk.create(TEMPORARY_FILE)
            .unwrap()
            .write_all_at(b"RAF", 0)
            .unwrap();
        assert_eq!(load_or_create(&disk, &name("n1"), NodeId(7)).unwrap(), NodeId(7));
    }

    #[test]
    fn d05_every_flipped_bit_is_found() {
        let bytes = encode(NodeId(0x1234_5678_9abc_def0), &name("node1")).unwrap();
        assert_eq!(
            decode(&bytes).unwrap(),
            (NodeId(0x1234_5678_9abc_def0), name("node1"))
        );
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&damaged).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "cut to {length} bytes");
        }
    }

    #[test]
    fn the_format_of_version_1_is_fixed() {
        let mut expected = b"RAFTKVID\x01\x00\x05\x00\xf0\xde\xbc\x9a\x78\x56\x34\x12node1".to_vec();
        expected.extend_from_slice(&crc32c::crc32c(&expected).to_le_bytes());
        assert_eq!(
            encode(NodeId(0x1234_5678_9abc_def0), &name("node1")).unwrap(),
            expected
        );
    }
}

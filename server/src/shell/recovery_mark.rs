//! How far a recovery got: a small file, there while one is under way, so that a crash in between leaves a directory that
//! no server starts on and `server recover` goes on with.
//!
//! ```text
//! offset  size
//!      0     8  magic "RAFTKVRC"
//!      8     1  stage: 1 the old log still counts, 2 the base holds everything
//!      9     8  the new cluster's id
//!     17     8  the new identity
//!     25     4  CRC-32C of all before
//! ```
//! All numbers little-endian.

use std::io;

use raftkv_protocol::{ClusterId, NodeId};

use super::ServerError;
use crate::disk::{Disk, DiskFile, RealDisk, replace_file};

const FILE: &str = "recovery.begun";
const TEMPORARY_FILE: &str = "recovery.begun.new";
const MAGIC: &[u8; 8] = b"RAFTKVRC";
const FILE_BYTES: usize = 29;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecoveryMark {
    pub(super) stage: Stage,
    pub(super) cluster: ClusterId,
    pub(super) identity: NodeId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The state is the base and the log behind it.
    Log,
    /// The state is the base alone.
    Base,
}

/// The recovery under way; `None`: there is none.
pub(super) fn read(disk: &RealDisk) -> Result<Option<RecoveryMark>, ServerError> {
    let file = match disk.open(FILE) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed("opening")(source)),
    };
    let mut bytes = [0; FILE_BYTES];
    file.read_exact_at(&mut bytes, 0).map_err(failed("reading"))?;
    let mark = decode(&bytes).ok_or_else(|| failed("reading")(io::ErrorKind::InvalidData.into()))?;
    Ok(Some(mark))
}

/// Notes how far it is, durably.
pub(super) fn write(disk: &RealDisk, mark: RecoveryMark) -> Result<(), ServerError> {
    let bytes = encode(mark);
    replace_file(disk, (FILE, TEMPORARY_FILE), &bytes, |action, _, source| {
        failed(action)(source)
    })
}

/// It is complete.
pub(super) fn remove(disk: &RealDisk) -> Result<(), ServerError> {
    match disk.remove(FILE) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("removing")(error)),
        Ok(()) | Err(_) => {}
    }
    disk.sync_directory().map_err(failed("syncing the directory of"))
}

fn failed(action: &'static str) -> impl Fn(io::Error) -> ServerError {
    move |source| ServerError::RecoveryMark { action, source }
}

fn encode(mark: RecoveryMark) -> [u8; FILE_BYTES] {
    let mut bytes = [0; FILE_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8] = match mark.stage {
        Stage::Log => 1,
        Stage::Base => 2,
    };
    bytes[9..17].copy_from_slice(&mark.cluster.0.to_le_bytes());
    bytes[17..25].copy_from_slice(&mark.identity.0.to_le_bytes());
    let checksum = crc32c::crc32c(&bytes[..25]);
    bytes[25..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; FILE_BYTES]) -> Option<RecoveryMark> {
    let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let checksum = u32::from_le_bytes(bytes[25..].try_into().ok()?);
    if bytes[..8] != *MAGIC || crc32c::crc32c(&bytes[..25]) != checksum {
        return None;
    }
    Some(RecoveryMark {
        stage: match bytes[8] {
            1 => Stage::Log,
            2 => Stage::Base,
            _ => return None,
        },
        cluster: ClusterId(number(9)?),
        identity: NodeId(number(17)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: RecoveryMark = RecoveryMark {
        stage: Stage::Base,
        cluster: ClusterId(0x0102_0304_0506_0708),
        identity: NodeId(9),
    };

    #[test]
    fn a_mark_comes_back_and_damage_is_found() {
        let bytes = encode(MARK);
        assert_eq!(decode(&bytes), Some(MARK));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&damaged), None, "bit {bit}");
        }
    }

    #[test]
    fn a_mark_stands_until_it_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(directory.path()).unwrap();
        assert_eq!(read(&disk).unwrap(), None);
        write(
            &disk,
            RecoveryMark {
                stage: Stage::Log,
                ..MARK
            },
        )
        .unwrap();
        write(&disk, MARK).unwrap();
        assert_eq!(read(&disk).unwrap(), Some(MARK));
        remove(&disk).unwrap();
        remove(&disk).unwrap();
        assert_eq!(read(&disk).unwrap(), None);
    }
}

//! Which fill of the data directory is the current one: a small file, switched by a rename.
//!
//! A received snapshot fills files of its own, under the next [`StoreNumber`]; nothing of the present store is touched.
//! When all of them are durable, this file is switched, and only then the old ones go. So a crash at any point leaves the
//! old state or the new one (R49).
//!
//! ```text
//! offset  size
//!      0     8  magic "raftkvST"
//!      8     2  format version (1)
//!     10     8  store number
//!     18     4  CRC-32C of all before
//! ```
//! All numbers little-endian. Without the file the store is the first.

use std::io;

use super::error::{StoreError, io_error};
use super::record::StoreNumber;
use crate::disk::{Disk, DiskFile, replace_file};

const FILE: &str = "store.current";
const TEMPORARY_FILE: &str = "store.current.unfinished";
const MAGIC: &[u8; 8] = b"raftkvST";
const VERSION: u16 = 1;
const FILE_BYTES: usize = 22;

/// The store that is current.
///
/// # Errors
/// Of the disk, or when the file is damaged.
pub fn current_store<D: Disk>(disk: &D) -> Result<StoreNumber, StoreError> {
    let file = match disk.open(FILE) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(StoreNumber::FIRST),
        Err(error) => return Err(io_error("opening", FILE)(error)),
    };
    let mut bytes = [0; FILE_BYTES];
    file.read_exact_at(&mut bytes, 0)
        .map_err(io_error("reading", FILE))?;
    // It may live only in the page cache, if a process died between rename and sync (R36).
    disk.sync_directory()
        .map_err(io_error("syncing the directory of", FILE))?;
    decode(&bytes)
}

/// Makes `number` the current store, durably. All its files are durable already.
///
/// # Errors
/// Of the disk; then it is not known which one is current, and the process must stop.
pub fn make_current<D: Disk>(disk: &D, number: StoreNumber) -> Result<(), StoreError> {
    let bytes = encode(number);
    replace_file(disk, (FILE, TEMPORARY_FILE), &bytes, |action, file, source| {
        io_error(action, file)(source)
    })
}

fn encode(number: StoreNumber) -> [u8; FILE_BYTES] {
    let mut bytes = [0; FILE_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
    bytes[10..18].copy_from_slice(&number.0.to_le_bytes());
    let checksum = crc32c::crc32c(&bytes[..18]);
    bytes[18..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; FILE_BYTES]) -> Result<StoreNumber, StoreError> {
    let damaged = |what: &str| StoreError::Damaged {
        file: FILE.to_owned(),
        offset: 0,
        what: what.to_owned(),
    };
    let (body, checksum) = bytes
        .split_last_chunk::<4>()
        .ok_or_else(|| damaged("it is too short"))?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*checksum) {
        return Err(damaged("its checksum does not match"));
    }
    let (magic, rest) = body
        .split_first_chunk::<8>()
        .ok_or_else(|| damaged("it is too short"))?;
    if magic != MAGIC {
        return Err(damaged("it does not begin as such a file does"));
    }
    let (version, number) = rest
        .split_first_chunk::<2>()
        .ok_or_else(|| damaged("it is too short"))?;
    let version = u16::from_le_bytes(*version);
    if version != VERSION {
        return Err(StoreError::NewerFormat {
            file: FILE.to_owned(),
            found: version,
            supported: VERSION,
        });
    }
    let number = number.try_into().map_err(|_| damaged("it is too short"))?;
    Ok(StoreNumber(u64::from_le_bytes(number)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimulatedDisk;

    #[test]
    fn the_first_store_is_current_until_another_one_is_made_so() {
        let disk = SimulatedDisk::new(1);
        assert_eq!(current_store(&disk).expect("readable"), StoreNumber(1));
        for number in [StoreNumber(2), StoreNumber(3)] {
            make_current(&disk, number).expect("a good disk");
            assert_eq!(current_store(&disk).expect("readable"), number);
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let whole = encode(StoreNumber(7));
        assert_eq!(decode(&whole).expect("whole"), StoreNumber(7));
        for bit in 0..FILE_BYTES * 8 {
            let mut damaged = whole;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn the_bytes_of_version_1_never_change() {
        let hex: String = encode(StoreNumber(2))
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, "726166746b76535401000200000000000000ffad62c9");
    }
}

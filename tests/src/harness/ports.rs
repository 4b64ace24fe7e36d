//! Ports that no other test uses.
//!
//! A port that the system chose and that was given back may be taken by anybody before the server binds it, and a node
//! that restarts needs the same port again. So tests take whole blocks below the range the system chooses from, each
//! held by a lock on a file as long as its owner lives.

use std::fs::{self, File};
use std::net::TcpListener;
use std::ops::Range;
use std::path::PathBuf;

use super::HarnessError;

/// Below 32768, where the system's own choices begin by default; above what services commonly use.
const RANGE: Range<u16> = 20_000..32_000;

/// Ports in a block.
const BLOCK: u16 = 16;

/// A block of consecutive ports; free when it was taken, and no other test process gets it before this is dropped.
#[derive(Debug)]
pub struct PortBlock {
    first: u16,
    _lock: File,
}

impl PortBlock {
    /// Takes a block that nobody holds.
    ///
    /// # Errors
    /// When all are taken, or the temporary directory can not be written.
    pub fn take() -> Result<PortBlock, HarnessError> {
        let directory = locks()?;
        let blocks = (RANGE.end - RANGE.start) / BLOCK;
        // Processes begin at different blocks, so that they seldom meet.
        let start = u16::try_from(std::process::id() % u32::from(blocks)).unwrap_or(0);
        for block in (0..blocks).map(|offset| (start + offset) % blocks) {
            let path = directory.join(format!("{block}.lock"));
            let lock = File::create(path).map_err(HarnessError::system("making a port lock"))?;
            let first = RANGE.start + block * BLOCK;
            if lock.try_lock().is_ok() && (first..first + BLOCK).all(is_free) {
                return Ok(PortBlock { first, _lock: lock });
            }
        }
        Err(HarnessError::NoPorts)
    }

    /// The port at this place in the block.
    ///
    /// # Panics
    /// When the block is smaller than that.
    #[must_use]
    pub fn port(&self, place: usize) -> u16 {
        let place = u16::try_from(place).unwrap_or(u16::MAX);
        assert!(
            place < BLOCK,
            "a block has {BLOCK} ports, and number {place} was asked for"
        );
        self.first + place
    }
}

/// The ports of the local convention for three nodes (`node1` to `node3`, HTTP on 8080 to 8082), held against other
/// tests.
#[derive(Debug)]
pub struct ConventionPorts {
    _lock: File,
}

impl ConventionPorts {
    /// Ports of the convention: native, then HTTP.
    pub const ALL: [u16; 6] = [7001, 7002, 7003, 8080, 8081, 8082];

    /// Waits until no other test uses them; `None` when something else on this machine does.
    ///
    /// # Errors
    /// When the temporary directory can not be written.
    pub fn take() -> Result<Option<ConventionPorts>, HarnessError> {
        let lock = File::create(locks()?.join("convention.lock"));
        let lock = lock.map_err(HarnessError::system("making a port lock"))?;
        lock.lock()
            .map_err(HarnessError::system("waiting for the ports of the convention"))?;
        let all_free = ConventionPorts::ALL.into_iter().all(is_free);
        Ok(all_free.then_some(ConventionPorts { _lock: lock }))
    }
}

fn locks() -> Result<PathBuf, HarnessError> {
    let directory = std::env::temp_dir().join("raftkv-test-ports");
    fs::create_dir_all(&directory).map_err(HarnessError::system("making the directory of port locks"))?;
    Ok(directory)
}

/// Can a server listen on this port of 127.0.0.1 now?
fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_never_overlap_while_they_are_held() {
        let blocks: Vec<PortBlock> = (0..4).map(|_| PortBlock::take().expect("a free block")).collect();
        let mut firsts: Vec<u16> = blocks.iter().map(|block| block.port(0)).collect();
        firsts.sort_unstable();
        assert!(
            firsts.windows(2).all(|pair| pair[0] + BLOCK <= pair[1]),
            "{firsts:?}"
        );
    }
}

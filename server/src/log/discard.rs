//! Giving a whole log up, so that another one can take its place.

use std::io;

use super::error::{LogError, io_error};
use super::names;
use crate::disk::Disk;

/// Removes every file of the log, durably; a second call finds nothing to do. Only for a directory whose state is durable
/// without it.
///
/// # Errors
/// Of the disk.
pub fn discard<D: Disk>(disk: &D) -> Result<(), LogError> {
    let listed = disk
        .list()
        .map_err(io_error("listing the directory of", names::MADE))?;
    // The mark goes last: while files of the log are there, it is not taken for one that was never made.
    let of_the_log = listed
        .iter()
        .filter(|name| names::kind(name).is_some_and(is_the_logs));
    for name in of_the_log.map(String::as_str).chain([names::MADE]) {
        match disk.remove(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("removing", name)(error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    disk.sync_directory()
        .map_err(io_error("syncing the directory of", names::MADE))
}

fn is_the_logs(kind: names::FileKind) -> bool {
    match kind {
        names::FileKind::Segment(_) | names::FileKind::Spare(_) => true,
        // Files of others end so too; whoever makes one begins it anew.
        names::FileKind::Unfinished => false,
    }
}

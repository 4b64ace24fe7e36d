//! A small file that is there whole or not at all: written beside the one it replaces, then renamed.

use std::io;

use super::{Disk, DiskFile};

/// Puts `bytes` in the place of `name`, durably; a crash at any point leaves the old file or the new one. `temporary` may be
/// left by an earlier attempt. `failed` makes the error of an action on one of the two.
///
/// # Errors
/// Of the disk; then it is not known which of the two is there.
pub(crate) fn replace_file<D: Disk, E>(
    disk: &D,
    (name, temporary): (&str, &str),
    bytes: &[u8],
    failed: impl Fn(&'static str, &str, io::Error) -> E,
) -> Result<(), E> {
    let failed = |action, file| {
        let failed = &failed;
        move |source| failed(action, file, source)
    };
    match disk.remove(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("removing", temporary)(error));
        }
        Ok(()) | Err(_) => {}
    }
    let file = disk.create(temporary).map_err(failed("creating", temporary))?;
    file.write_all_at(bytes, 0)
        .map_err(failed("writing", temporary))?;
    file.sync_data().map_err(failed("syncing", temporary))?;
    disk.rename(temporary, name)
        .map_err(failed("renaming", temporary))?;
    disk.sync_directory()
        .map_err(failed("syncing the directory of", name))
}

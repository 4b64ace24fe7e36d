//! Is a directory on a disk?

use std::fs;
use std::path::Path;

use crate::trouble::Trouble;

/// Refuses a directory whose file system lies in memory, as far as Linux tells.
pub(super) fn check(directory: &Path) -> Result<(), Trouble> {
    let path = directory.canonicalize().map_err(|source| Trouble::Prepare {
        what: format!("data in {}", directory.display()),
        source,
    })?;
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    match file_system(&mounts, &path) {
        Some(name @ ("tmpfs" | "ramfs")) => Err(Trouble::InMemory {
            path,
            file_system: name.to_owned(),
        }),
        Some(_) | None => Ok(()),
    }
}

/// The type of the file system at a path: that of the deepest mount above it, and of those the last made.
fn file_system<'a>(mounts: &'a str, path: &Path) -> Option<&'a str> {
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((Path::new(fields.next()?), fields.next()?))
    });
    let above = mounts.filter(|(mount, _)| path.starts_with(mount));
    above
        .max_by_key(|(mount, _)| mount.components().count())
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_mount_counts_and_of_those_the_last() {
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/b /tmp/disk xfs rw 0 0\nt /tmp/disk ramfs rw 0 0\n";
        let at = |path| file_system(mounts, Path::new(path));
        assert_eq!(at("/home/x"), Some("ext4"));
        assert_eq!(at("/tmp/x"), Some("tmpfs"));
        assert_eq!(at("/tmpfile"), Some("ext4"));
        assert_eq!(at("/tmp/disk/x"), Some("ramfs"));
    }

    #[test]
    fn a_directory_that_is_not_there_is_said_to_be_missing() {
        assert!(matches!(
            check(Path::new("/no/such/directory")),
            Err(Trouble::Prepare { .. })
        ));
    }
}

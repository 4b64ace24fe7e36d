//! When a node reads its own cold files again: as each pass of the scrub begins, one look at a time (R47).

use raftkv_protocol::CheckedFiles;
use raftkv_raft::Time;
use raftkv_raft::simulation::mark;

use super::formed::Formed;
use super::outbox::Outbox;
use super::{Effect, Notice};
use crate::cold_files::FilesChecked;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct ColdFiles {
    is_wanted: bool,
    is_reading: bool,
    last: Option<(Time, FilesChecked)>,
}

impl ColdFiles {
    /// A pass begins.
    pub(super) fn want(&mut self) {
        self.is_wanted = true;
    }

    /// Who read them is gone, and its files with it.
    pub(super) fn forget_reading(&mut self) {
        if std::mem::take(&mut self.is_reading) {
            self.is_wanted = true;
        }
    }

    /// What came of the last look.
    pub(super) fn told(&self, now: Time) -> Option<CheckedFiles> {
        let (at, checked) = self.last.as_ref()?;
        Some(CheckedFiles {
            ms_ago: now.since(*at).as_millis().try_into().unwrap_or(u64::MAX),
            bytes: checked.bytes,
            damage: checked.damage.clone(),
        })
    }
}

impl Formed {
    pub(super) fn submit_file_check(&mut self, out: &mut Outbox) {
        let files = &mut self.cold_files;
        if files.is_wanted && !files.is_reading {
            (files.is_wanted, files.is_reading) = (false, true);
            out.push(Effect::CheckFiles);
        }
    }

    /// The disk has come back with what it found.
    pub(super) fn files_checked(&mut self, now: Time, checked: FilesChecked, out: &mut Outbox) {
        mark("cold files checked");
        self.cold_files.is_reading = false;
        for damage in &checked.damage {
            mark("damage found in cold files");
            let damage = damage.clone();
            out.notice(Notice::ColdFileDamaged { damage });
        }
        self.cold_files.last = Some((now, checked));
    }
}

//! Names of the log's files.

/// What a file of the data directory is to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FileKind {
    Segment(u64),
    Spare(u64),
    Unfinished,
}

/// An empty file that says that this directory has held a log: it is made once the first segment is durable, before
/// anything else is told of it, and never removed.
pub(super) const MADE: &str = "log.made";

const SEGMENT: &str = ".raftlog";
const SPARE: &str = ".spare";
const UNFINISHED: &str = ".unfinished";

pub(super) fn segment(number: u64) -> String {
    format!("{number:016}{SEGMENT}")
}

pub(super) fn spare(number: u64) -> String {
    format!("{number:016}{SPARE}")
}

pub(super) fn unfinished_segment(number: u64) -> String {
    format!("segment-{number:016}{UNFINISHED}")
}

pub(super) fn unfinished_spare(number: u64) -> String {
    format!("spare-{number:016}{UNFINISHED}")
}

/// `None` for a file that is not the log's.
pub(super) fn kind(name: &str) -> Option<FileKind> {
    let number = |ending: &str| name.strip_suffix(ending)?.parse().ok();
    if let Some(number) = number(SEGMENT) {
        return Some(FileKind::Segment(number));
    }
    if let Some(number) = number(SPARE) {
        return Some(FileKind::Spare(number));
    }
    name.ends_with(UNFINISHED).then_some(FileKind::Unfinished)
}

/// Is this the name of a segment: is there a log where this file is?
#[must_use]
pub fn is_segment(name: &str) -> bool {
    matches!(kind(name), Some(FileKind::Segment(_)))
}

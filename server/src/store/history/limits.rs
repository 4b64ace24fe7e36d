//! How much history is kept, and what could go.

use raftkv_protocol::Revision;

use super::handle::History;
use crate::disk::Disk;
use crate::store::GenerationNumber;

/// What history may take. Whole generations go, oldest first, as soon as one of these is passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    /// Age of a generation's last change, microseconds of log time.
    pub max_age_us: u64,
    /// Events in all.
    pub max_events: u64,
    /// Bytes of all files.
    pub max_bytes: u64,
}

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryStatistics {
    /// The oldest revision that can be read.
    pub oldest_kept: Revision,
    /// Bytes of all files, events that wait included.
    pub bytes: u64,
    /// Events in all.
    pub events: u64,
    /// Bytes of events that wait to be written.
    pub pending_bytes: u64,
    /// Oldest first, without gaps.
    pub generations: Vec<GenerationStatistics>,
}

/// What is kept of one generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GenerationStatistics {
    /// Which one.
    pub number: GenerationNumber,
    /// Of its first and its last event; `None` when it has none.
    pub revisions: Option<(Revision, Revision)>,
    /// Log times of its first and its last batch, microseconds; those of the last one before when it has none.
    pub log_times_us: (u64, u64),
    /// Its events.
    pub events: u64,
    /// Bytes of its events.
    pub event_bytes: u64,
    /// Bytes of its images; 0 before they are finished.
    pub image_bytes: u64,
    /// Are its images finished? Only then it can be trimmed.
    pub is_drained: bool,
}

impl<D: Disk> History<D> {
    /// What is kept.
    #[must_use]
    pub fn statistics(&self) -> HistoryStatistics {
        let (kept, oldest_kept) = self
            .shared
            .read(|kept| (kept.generations.clone(), kept.oldest_kept));
        let generations: Vec<_> = kept
            .iter()
            .map(|generation| {
                let (span, events) = (generation.span(), generation.events());
                GenerationStatistics {
                    number: generation.number,
                    revisions: (events > 0).then(|| (Revision(span.before.0 + 1), span.last)),
                    log_times_us: (span.first_log_time_us, span.last_log_time_us),
                    events,
                    event_bytes: generation.event_bytes(),
                    image_bytes: generation.image_bytes(),
                    is_drained: generation.images().is_some(),
                }
            })
            .collect();
        HistoryStatistics {
            oldest_kept,
            bytes: generations.iter().map(|g| g.event_bytes + g.image_bytes).sum(),
            events: generations.iter().map(|g| g.events).sum(),
            pending_bytes: self.pending_bytes(),
            generations,
        }
    }

    /// The oldest revision that would have to be kept for these limits to hold; `None` when they hold. What it takes is
    /// whole drained generations; the newest of them always stays. Proposed to the log by the leader, not acted upon.
    #[must_use]
    pub fn oldest_to_keep(&self, limits: HistoryLimits, now_log_time_us: u64) -> Option<Revision> {
        let HistoryStatistics {
            mut bytes,
            mut events,
            generations,
            ..
        } = self.statistics();
        let drained = generations
            .iter()
            .filter(|generation| generation.is_drained)
            .count();
        let mut oldest = None;
        let mut last = self
            .shared
            .read(|kept| kept.generations.first().map(|g| g.span().before));
        for generation in &generations[..drained.saturating_sub(1)] {
            let age_us = now_log_time_us.saturating_sub(generation.log_times_us.1);
            let is_within = age_us <= limits.max_age_us;
            if is_within && events <= limits.max_events && bytes <= limits.max_bytes {
                break;
            }
            events -= generation.events;
            bytes -= generation.event_bytes + generation.image_bytes;
            last = generation.revisions.map(|(_, last)| last).or(last);
            oldest = last.map(|last| Revision(last.0 + 1));
        }
        oldest
    }
}

//! Room on the disk: puts are refused before it is gone, so that deletes, drains and compactions always have enough.

use super::DiskFigures;

/// Not measured yet.
const UNKNOWN: u64 = u64::MAX;

/// What each byte of a write may become on the disk before it is measured again: log, event, base, before-image.
const WRITTEN_FOR_EACH: u64 = 4;

/// Before-images of one generation may take this part of what is free beyond the reserve; of the reserve at least so much, and at
/// most that.
const IMAGES_OF_FREE: u64 = 4;
const LEAST_IMAGES_OF_RESERVE: u64 = 32;
const MOST_IMAGES_OF_RESERVE: u64 = 4;

/// How much room there is, as far as admission is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Enough,
    /// Perhaps not: what was admitted may have taken it. The next measurement tells.
    Doubtful,
    /// Less than the reserve, and not yet clearly more again.
    Low,
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Space {
    room: Room,
    free_bytes: u64,
    /// What was admitted since that was measured may have taken so much of it.
    spent_bytes: u64,
    reserve_bytes: u64,
}

impl Space {
    /// Nothing is known of the disk yet.
    pub(super) fn new(reserve_bytes: u64) -> Space {
        Space {
            room: Room::Enough,
            free_bytes: UNKNOWN,
            spent_bytes: 0,
            reserve_bytes,
        }
    }

    /// So much room is there. It must grow clearly beyond the reserve before puts are taken again, or they would come and
    /// go with every file.
    pub(super) fn measured(&mut self, free_bytes: u64) {
        self.free_bytes = free_bytes;
        self.spent_bytes = 0;
        self.room = match self.room {
            Room::Enough if free_bytes < self.reserve_bytes => Room::Low,
            Room::Doubtful | Room::Low if free_bytes < self.enough_bytes() => Room::Low,
            Room::Enough | Room::Doubtful | Room::Low => Room::Enough,
        };
    }

    fn enough_bytes(self) -> u64 {
        self.reserve_bytes + self.reserve_bytes / 4
    }

    pub(super) fn is_low(self) -> bool {
        self.room == Room::Low
    }

    pub(super) fn figures(self) -> DiskFigures {
        DiskFigures {
            free_bytes: (self.free_bytes != UNKNOWN).then_some(self.free_bytes),
            reserve_bytes: self.reserve_bytes,
            is_low: self.is_low(),
        }
    }

    /// What the before-images of one generation may take; `None`: no reserve is kept, and nothing is said.
    pub(super) fn images_bytes(self) -> Option<u64> {
        let beyond = self.free_bytes.saturating_sub(self.reserve_bytes) / IMAGES_OF_FREE;
        let least = self.reserve_bytes / LEAST_IMAGES_OF_RESERVE;
        let most = self.reserve_bytes / MOST_IMAGES_OF_RESERVE;
        (self.reserve_bytes > 0).then(|| beyond.clamp(least, most))
    }

    /// What the before-images of one generation take at most, whatever was written over, before they are given up: all that is free
    /// beyond the reserve, and never less than twice what deletes are let into it and the record that passes that bound.
    pub(super) fn most_image_bytes(self, largest_record_bytes: u64) -> Option<u64> {
        let free_bytes = self.free_bytes.saturating_sub(self.spent_bytes);
        let of_deletes = self.images_bytes()?;
        Some((2 * of_deletes + largest_record_bytes).max(free_bytes.saturating_sub(self.reserve_bytes)))
    }

    /// Is there room for writes of so many bytes? Then they count: a fast disk takes more between two measurements than the
    /// reserve may hold.
    pub(super) fn takes(&mut self, bytes: u64) -> bool {
        let spent_bytes = self
            .spent_bytes
            .saturating_add(bytes.saturating_mul(WRITTEN_FOR_EACH));
        if self.room != Room::Enough {
            return false;
        }
        if self.free_bytes.saturating_sub(spent_bytes) < self.reserve_bytes {
            self.room = Room::Doubtful;
            return false;
        }
        self.spent_bytes = spent_bytes;
        true
    }

    /// For who is refused.
    pub(super) fn explanation(self) -> String {
        format!(
            "the disk has {} MiB left and {} MiB are kept in reserve; nothing was written. Deletes and reads go on; free \
             room on the disk or delete keys: from {} MiB on, writes are taken again",
            self.free_bytes.saturating_sub(self.spent_bytes) >> 20,
            self.reserve_bytes >> 20,
            self.enough_bytes() >> 20
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn puts_are_refused_below_the_reserve_and_taken_again_clearly_above_it() {
        let mut space = Space::new(1000);
        assert!(!space.is_low());
        for (free_bytes, is_low) in [
            (1000, false),
            (999, true),
            (1249, true),
            (1250, false),
            (1000, false),
        ] {
            space.measured(free_bytes);
            assert_eq!(space.is_low(), is_low, "{free_bytes} bytes are free");
        }
    }

    #[test]
    fn images_may_take_less_the_less_room_there_is() {
        let mut space = Space::new(3200);
        let mut images = |free_bytes| {
            space.measured(free_bytes);
            space.images_bytes()
        };
        assert_eq!(images(1 << 40), Some(800));
        assert_eq!(images(3200 + 2000), Some(500));
        assert_eq!(images(3201), Some(100));
        assert_eq!(images(10), Some(100));
        assert_eq!(Space::new(0).images_bytes(), None);
    }

    #[test]
    fn images_are_given_up_before_they_take_the_reserve() {
        let mut space = Space::new(3200);
        assert_eq!(
            space.most_image_bytes(7),
            Some(u64::MAX - 3200),
            "nothing is known yet"
        );
        let mut most = |free_bytes| {
            space.measured(free_bytes);
            space.most_image_bytes(7)
        };
        assert_eq!(most(3200 + 5000), Some(5000));
        assert_eq!(most(3200 + 210), Some(210));
        assert_eq!(most(3200 + 10), Some(207));
        space.measured(3200 + 5000);
        assert!(space.takes(500));
        assert_eq!(space.most_image_bytes(7), Some(3000), "each byte may become four");
        assert_eq!(Space::new(0).most_image_bytes(7), None);
    }

    #[test]
    fn what_was_admitted_counts_until_the_disk_is_measured_again() {
        let mut space = Space::new(1000);
        assert!(space.takes(1 << 40), "nothing is known yet");
        space.measured(1800);
        assert!(space.takes(150));
        assert!(!space.takes(51), "600 of 800 bytes are spent");
        assert!(!space.takes(1), "until it is measured");
        assert!(!space.is_low(), "only a measurement can tell");
        space.measured(1250);
        assert!(space.takes(50));
        assert!(!space.takes(50));
        space.measured(1249);
        assert!(space.is_low(), "what can not be taken brings what makes room");
        space.measured(999);
        assert!(!space.takes(0));
    }
}

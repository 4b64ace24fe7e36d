//! Room on the disk: puts are refused before it is gone, so that deletes, drains and compactions always have enough.

/// How much room there is, as far as admission is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Enough,
    /// Less than the reserve, and not yet clearly more again.
    Low,
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Space {
    room: Room,
    free_bytes: u64,
    reserve_bytes: u64,
}

impl Space {
    /// Nothing is known of the disk yet.
    pub(super) fn new(reserve_bytes: u64) -> Space {
        Space {
            room: Room::Enough,
            free_bytes: u64::MAX,
            reserve_bytes,
        }
    }

    /// So much room is there. It must grow clearly beyond the reserve before puts are taken again, or they would come and
    /// go with every file.
    pub(super) fn measured(&mut self, free_bytes: u64) {
        self.free_bytes = free_bytes;
        self.room = match self.room {
            Room::Enough if free_bytes < self.reserve_bytes => Room::Low,
            Room::Low if free_bytes >= self.reserve_bytes + self.reserve_bytes / 4 => Room::Enough,
            room => room,
        };
    }

    pub(super) fn is_low(self) -> bool {
        self.room == Room::Low
    }

    /// For who is refused.
    pub(super) fn explanation(self) -> String {
        format!(
            "the disk has {} MiB left and {} MiB are kept in reserve; nothing was written. Deletes and reads go on; free \
             room on the disk or delete keys, and writes are taken again by themselves",
            self.free_bytes >> 20,
            self.reserve_bytes >> 20
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
}

//! How much the next read of a connection asks for.

/// The first read asks for this much.
const FIRST_BYTES: usize = 4 << 10;

/// Each read that was filled makes the next ask for four times as much: an idle connection holds little, and a busy one needs few
/// system calls.
#[derive(Debug)]
pub struct ReadSize {
    bytes: usize,
    most_bytes: usize,
}

impl ReadSize {
    /// Before the first read; no read asks for more than `most_bytes`.
    #[must_use]
    pub fn up_to(most_bytes: usize) -> ReadSize {
        ReadSize {
            bytes: FIRST_BYTES.min(most_bytes),
            most_bytes,
        }
    }

    /// What the next read asks for, bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A read brought so many bytes.
    pub fn took(&mut self, count: usize) {
        if count >= self.bytes {
            self.bytes = (self.bytes * 4).min(self.most_bytes);
        }
    }
}

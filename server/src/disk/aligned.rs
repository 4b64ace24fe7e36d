//! Memory that a disk can take bytes from without the system copying them first.

use std::ops::{Deref, DerefMut};

/// Direct writes want memory and places that are multiples of the disk's block; no usual disk has larger ones.
const ALIGNMENT: usize = 4096;

/// Bytes that begin at an aligned address, for [`DiskFile::write_around_cache`](super::DiskFile::write_around_cache).
/// Grows like a vector, in place where there is room.
#[derive(Debug, Default)]
pub struct AlignedBuffer {
    /// What is before `start` is never looked at.
    memory: Vec<u8>,
    start: usize,
}

impl AlignedBuffer {
    /// Makes room for `additional` more bytes.
    pub fn reserve(&mut self, additional: usize) {
        if self.memory.capacity() - self.memory.len() >= additional {
            return;
        }
        let capacity = (self.len() + additional).max(self.len() * 2) + ALIGNMENT;
        let mut memory: Vec<u8> = Vec::with_capacity(capacity);
        // The address of an allocation stays while nothing beyond its capacity is asked of it.
        let start = Vec::as_ptr(&memory).align_offset(ALIGNMENT).min(ALIGNMENT);
        memory.resize(start, 0);
        memory.extend_from_slice(self);
        *self = AlignedBuffer { memory, start };
    }

    /// Adds `bytes`.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.memory.extend_from_slice(bytes);
    }

    /// Cuts it to `length`, or adds zeros up to there.
    pub fn resize(&mut self, length: usize) {
        self.reserve(length.saturating_sub(self.len()));
        self.memory.resize(self.start + length, 0);
    }

    /// Empties it. More than `kept` bytes of memory are given back.
    pub fn clear(&mut self, kept: usize) {
        if self.memory.capacity() > kept + ALIGNMENT {
            *self = AlignedBuffer::default();
        } else {
            self.memory.truncate(self.start);
        }
    }

    /// Takes away the first `count` bytes; the rest begins at an aligned address again.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn remove_front(&mut self, count: usize) {
        let length = self.len();
        self.memory.copy_within(self.start + count.., self.start);
        self.memory.truncate(self.start + length - count);
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..]
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..]
    }
}

/// May `bytes` go to `offset` of a file directly, on a disk with blocks of `block` bytes?
pub(super) fn is_aligned(bytes: &[u8], offset: u64, block: usize) -> bool {
    (bytes.as_ptr() as usize).is_multiple_of(block)
        && bytes.len().is_multiple_of(block)
        && offset.is_multiple_of(block as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_aligned_however_it_came_to_be() {
        let mut buffer = AlignedBuffer::default();
        assert!(buffer.is_empty());
        let mut expected = Vec::new();
        for round in 0..200_u32 {
            let bytes = vec![round as u8; (round as usize * 37) % 5000];
            buffer.extend_from_slice(&bytes);
            expected.extend_from_slice(&bytes);
            match round % 7 {
                3 => {
                    let count = buffer.len() / 3;
                    buffer.remove_front(count);
                    expected.drain(..count);
                }
                5 => {
                    let length = buffer.len() + 100;
                    buffer.resize(length);
                    expected.resize(length, 0);
                }
                6 => {
                    buffer.resize(17.min(buffer.len()));
                    expected.truncate(17);
                }
                _ => {}
            }
            assert_eq!(&buffer[..], &expected[..]);
            assert!(buffer.is_empty() || (buffer.as_ptr() as usize).is_multiple_of(ALIGNMENT));
        }
        let kept = buffer.as_ptr();
        buffer.clear(1 << 30);
        buffer.extend_from_slice(b"again");
        assert_eq!((&buffer[..], buffer.as_ptr()), (&b"again"[..], kept));
        buffer.clear(0);
        assert_eq!(buffer.memory.capacity(), 0, "memory is given back");
    }

    #[test]
    fn all_three_must_be_aligned() {
        let mut buffer = AlignedBuffer::default();
        buffer.resize(4096);
        assert!(is_aligned(&buffer, 512, 512));
        assert!(!is_aligned(&buffer, 513, 512));
        assert!(!is_aligned(&buffer[..511], 512, 512));
        assert!(!is_aligned(&buffer[1..513], 512, 512));
    }
}

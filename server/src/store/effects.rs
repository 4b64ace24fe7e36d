//! The chained hash of everything applied: equal on two replicas at equal index, or they have diverged (R47).

/// Kinds of effects. Part of what replicas compare: numbers are only added.
pub(super) mod kind {
    pub(in super::super) const ENTRY: u64 = 1;
    pub(in super::super) const PUT: u64 = 2;
    pub(in super::super) const DELETED: u64 = 3;
    pub(in super::super) const EXPIRED: u64 = 4;
    pub(in super::super) const OLDEST_KEPT: u64 = 5;
    /// A transaction over several keys begins: the effects behind it are of one revision.
    pub(in super::super) const TXN: u64 = 6;
    /// The key that was put hangs on this lease.
    pub(in super::super) const ATTACHED: u64 = 7;
    /// Granted or renewed.
    pub(in super::super) const LEASE_SET: u64 = 8;
    pub(in super::super) const LEASE_ENDED: u64 = 9;
    /// Opened, renewed or written in.
    pub(in super::super) const SESSION_SET: u64 = 10;
    pub(in super::super) const SESSION_ENDED: u64 = 11;
    /// The write of this sequence was applied.
    pub(in super::super) const SESSION_WRITE: u64 = 12;
    pub(in super::super) const REMEMBERED: u64 = 13;
    pub(in super::super) const FORGOTTEN: u64 = 14;
}

/// A hash over a chain of effects.
///
/// Sixteen bytes a step through one 64 x 64 -> 128 bit multiplication, so that it costs far less than the map update it
/// describes. It guards against divergence, not against forgery. The old state is added back after each step: without
/// that an input equal to the constant would multiply by zero and wipe out all that came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EffectsHash(u64);

/// Fractional digits of the square roots of 2 and 3: arbitrary, odd, about half their bits set.
const FIRST: u64 = 0x6a09_e667_f3bc_c909;
const SECOND: u64 = 0xbb67_ae85_84ca_a73b;

impl EffectsHash {
    pub(super) const EMPTY: EffectsHash = EffectsHash(FIRST);

    /// The chain as it stood at `value`.
    pub(super) fn restored(value: u64) -> EffectsHash {
        EffectsHash(value)
    }

    pub(super) fn value(self) -> u64 {
        self.0
    }

    /// Adds two numbers.
    pub(super) fn add(&mut self, first: u64, second: u64) {
        let product = u128::from(first ^ self.0) * u128::from(second ^ SECOND);
        let folded = (product as u64) ^ ((product >> 64) as u64);
        self.0 = folded.wrapping_add(self.0.rotate_left(23));
    }

    /// Adds bytes and their count, so that ("ab", "c") differs from ("a", "bc").
    pub(super) fn add_bytes(&mut self, bytes: &[u8]) {
        self.add(bytes.len() as u64, FIRST);
        let (blocks, rest) = bytes.as_chunks::<16>();
        for block in blocks {
            self.add_block(block);
        }
        if !rest.is_empty() {
            let mut block = [0; 16];
            block[..rest.len()].copy_from_slice(rest);
            self.add_block(&block);
        }
    }

    /// Little-endian on every machine: replicas of different make compare hashes.
    fn add_block(&mut self, block: &[u8; 16]) {
        let number = u128::from_le_bytes(*block);
        self.add(number as u64, (number >> 64) as u64);
    }
}

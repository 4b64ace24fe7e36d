//! Amounts in values: what `txn` moves from key to key. Their sum stays what it was, whatever happens, if transactions are
//! atomic.

use crate::load::STAMP_BYTES;

/// Decimal digits of an amount; they stand behind the stamp.
const DIGITS: usize = 8;

/// Where what is behind the amount begins.
pub(crate) const END: usize = STAMP_BYTES + DIGITS;

/// What each key has before anything is moved, and what a value without an amount counts as.
const FIRST: u64 = 1_000;

/// The most that fits.
const LARGEST: u64 = 10_u64.pow(DIGITS as u32) - 1;

/// Writes the first amount.
pub(crate) fn write_first(value: &mut [u8]) {
    write(value, FIRST);
}

/// Writes what the two keys of a transfer have after it. Nothing is moved from a key that has nothing, or to one that is full;
/// both are written nevertheless.
pub(crate) fn write_moved(seen: [Option<&[u8]>; 2], from: &mut [u8], to: &mut [u8]) {
    let [source, sink] = seen.map(|value| value.and_then(read).unwrap_or(FIRST));
    let moved = u64::from(source > 0 && sink < LARGEST);
    write(from, source - moved);
    write(to, sink + moved);
}

fn write(value: &mut [u8], mut amount: u64) {
    for byte in value[STAMP_BYTES..END].iter_mut().rev() {
        *byte = b'0' + (amount % 10) as u8;
        amount /= 10;
    }
}

/// `None` if the value has none.
fn read(value: &[u8]) -> Option<u64> {
    let digits = value.get(STAMP_BYTES..END)?;
    digits.iter().try_fold(0, |amount, byte| {
        byte.is_ascii_digit()
            .then(|| amount * 10 + u64::from(byte - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(amount: u64) -> [u8; END] {
        let mut value = [b'x'; END];
        write(&mut value, amount);
        value
    }

    fn moved(seen: [Option<&[u8]>; 2]) -> [Option<u64>; 2] {
        let (mut from, mut to) = ([b'x'; END], [b'x'; END]);
        write_moved(seen, &mut from, &mut to);
        [read(&from), read(&to)]
    }

    #[test]
    fn what_one_key_loses_the_other_gains() {
        assert_eq!(moved([Some(&value(7)), Some(&value(9))]), [Some(6), Some(10)]);
        assert_eq!(moved([None, Some(b"short")]), [Some(FIRST - 1), Some(FIRST + 1)]);
    }

    #[test]
    fn nobody_owes_and_nothing_overflows() {
        assert_eq!(moved([Some(&value(0)), Some(&value(9))]), [Some(0), Some(9)]);
        let full = [Some(7), Some(LARGEST)];
        assert_eq!(moved([Some(&value(7)), Some(&value(LARGEST))]), full);
    }
}

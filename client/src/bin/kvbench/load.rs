//! The operations and their bytes.

use fastrand::Rng;

use crate::distribution::KeyChooser;
use crate::settings::{Settings, WorkloadName};
use crate::target::{Asked, Found};

/// A value begins with the number of the write that made it, so that a read tells whose value it found: eight digits to
/// the base of 64.
pub(crate) const STAMP_BYTES: usize = 8;

/// Values are made of these, so that they stand in JSON as they are, and are the same bytes at every door.
const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";

/// One operation of a logical client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Get {
        key: u64,
    },
    /// `write` numbers all writes of this run, from 0.
    Put {
        key: u64,
        write: u64,
    },
    /// Reads a page of keys, from this one on.
    Scan {
        key: u64,
    },
    /// The first half of a compare and set: reads the key.
    CasRead {
        key: u64,
        write: u64,
    },
    /// The second half: writes if the key is still what was read.
    CasWrite {
        key: u64,
        write: u64,
    },
}

impl Operation {
    pub(crate) fn key(self) -> u64 {
        match self {
            Operation::Get { key }
            | Operation::Scan { key }
            | Operation::Put { key, .. }
            | Operation::CasRead { key, .. }
            | Operation::CasWrite { key, .. } => key,
        }
    }
}

/// Makes keys and values out of numbers.
#[derive(Clone, Debug)]
pub(crate) struct Encoding {
    key: Vec<u8>,
    value: Vec<u8>,
    scan_keys: u32,
}

impl Encoding {
    pub(crate) fn new(settings: &Settings) -> Encoding {
        // Not to be compressed: what a disk or a network saves on zeros would flatter the figures.
        let mut rng = Rng::with_seed(settings.seed);
        let value = std::iter::repeat_with(|| DIGITS[rng.usize(..DIGITS.len())]);
        Encoding {
            key: vec![b'0'; settings.key_bytes],
            value: value.take(settings.value_bytes).collect(),
            scan_keys: settings.scan_keys,
        }
    }

    /// An operation as it is asked for; the bytes are valid until the next.
    pub(crate) fn asked(&mut self, operation: Operation) -> Asked<'_> {
        match operation {
            Operation::Get { key } | Operation::CasRead { key, .. } => {
                self.write_key(key);
                Asked::Get { key: &self.key }
            }
            Operation::Scan { key } => {
                self.write_key(key);
                Asked::Scan {
                    from: &self.key,
                    keys: self.scan_keys,
                }
            }
            Operation::Put { key, write } => {
                self.write_key(key);
                self.write_stamp(write);
                Asked::Put {
                    key: &self.key,
                    value: &self.value,
                }
            }
            Operation::CasWrite { .. } => {
                unreachable!("it follows a read, and is asked for with what that found")
            }
        }
    }

    /// The second half of a compare and set, after the key was read.
    pub(crate) fn swap<'a>(&'a mut self, key: u64, write: u64, seen: Option<&'a Found>) -> Asked<'a> {
        self.write_key(key);
        self.write_stamp(write);
        Asked::Swap {
            key: &self.key,
            seen,
            value: &self.value,
        }
    }

    fn write_stamp(&mut self, mut write: u64) {
        for byte in self.value[..STAMP_BYTES].iter_mut().rev() {
            *byte = DIGITS[(write % 64) as usize];
            write /= 64;
        }
    }

    /// Decimal, with zeros in front.
    fn write_key(&mut self, mut key: u64) {
        for byte in self.key.iter_mut().rev() {
            *byte = b'0' + (key % 10) as u8;
            key /= 10;
        }
        debug_assert_eq!(key, 0, "the settings make sure that every key fits");
    }

    /// Which write made this value; `None` if none of ours did.
    pub(crate) fn write_of(&self, value: &[u8]) -> Option<u64> {
        let (stamp, rest) = value.split_first_chunk::<STAMP_BYTES>()?;
        if *rest != self.value[STAMP_BYTES..] {
            return None;
        }
        stamp.iter().try_fold(0, |write, byte| {
            let digit = DIGITS.iter().position(|digit| digit == byte)?;
            Some(write * 64 + digit as u64)
        })
    }
}

/// Draws operations for the measured load.
#[derive(Clone, Debug)]
pub(crate) struct Mix {
    workload: WorkloadName,
    keys: KeyChooser,
    read_ratio: f64,
    rng: Rng,
}

impl Mix {
    pub(crate) fn new(settings: &Settings) -> Mix {
        Mix {
            workload: settings.workload,
            keys: KeyChooser::new(settings.distribution, settings.keys),
            read_ratio: settings.read_ratio,
            rng: Rng::with_seed(settings.seed),
        }
    }

    /// The next operation; `next_write` is the number of the next write.
    pub(crate) fn next(&mut self, next_write: &mut u64) -> Operation {
        let key = self.keys.choose(&mut self.rng);
        if self.rng.f64() < self.read_ratio {
            return match self.workload {
                WorkloadName::Scan => Operation::Scan { key },
                _ => Operation::Get { key },
            };
        }
        let write = *next_write;
        *next_write += 1;
        match self.workload {
            WorkloadName::Cas => Operation::CasRead { key, write },
            WorkloadName::Put | WorkloadName::Get | WorkloadName::Mixed | WorkloadName::Scan => {
                Operation::Put { key, write }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::test_settings;

    #[test]
    fn a_value_tells_its_write_and_no_other() {
        let settings = test_settings(&["put", "--value-bytes", "20"]);
        let mut encoding = Encoding::new(&settings);
        for write in [0, 1, 63, 64, 1 << 40] {
            let Asked::Put { value, .. } = encoding.asked(Operation::Put { key: 1, write }) else {
                panic!("a put was asked for");
            };
            let mut value = value.to_vec();
            assert_eq!(encoding.write_of(&value), Some(write));
            assert!(value.iter().all(|byte| DIGITS.contains(byte)));
            value[19] ^= 1;
            assert_eq!(encoding.write_of(&value), None, "a damaged value");
        }
        assert_eq!(encoding.write_of(b"short"), None);
    }
}

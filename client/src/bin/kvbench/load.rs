//! Which operations come, and their bytes.

use std::time::Duration;

use fastrand::Rng;

use crate::amount;
use crate::distribution::KeyChooser;
use crate::operation::{LeaseStep, Operation, Seen, TransferStep};
use crate::settings::{Settings, WorkloadName};
use crate::target::{Asked, Found, Swapped};

/// A value begins with the number of the write that made it, so that a read tells whose value it found: eight digits to
/// the base of 64.
pub(crate) const STAMP_BYTES: usize = 8;

/// Values are made of these, so that they stand in JSON as they are, and are the same bytes at every door.
const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";

/// How long a lease lives when its revocation is lost.
const LEASE_TTL: Duration = Duration::from_secs(60);

/// Makes keys and values out of numbers.
#[derive(Clone, Debug)]
pub(crate) struct Encoding {
    record: Buffers,
    /// The second key of a transfer.
    other: Buffers,
    /// Where what all values have in common begins.
    common_from: usize,
    scan_keys: u32,
}

impl Encoding {
    pub(crate) fn new(settings: &Settings) -> Encoding {
        // Not to be compressed: what a disk or a network saves on zeros would flatter the figures.
        let mut rng = Rng::with_seed(settings.seed);
        let value = std::iter::repeat_with(|| DIGITS[rng.usize(..DIGITS.len())]);
        let mut record = Buffers {
            key: vec![b'0'; settings.key_bytes],
            value: value.take(settings.value_bytes).collect(),
        };
        let common_from = match settings.workload {
            WorkloadName::Txn => {
                amount::write_first(&mut record.value);
                amount::END
            }
            WorkloadName::Put
            | WorkloadName::Get
            | WorkloadName::Mixed
            | WorkloadName::Cas
            | WorkloadName::Lease
            | WorkloadName::Scan => STAMP_BYTES,
        };
        Encoding {
            other: record.clone(),
            record,
            common_from,
            scan_keys: settings.scan_keys,
        }
    }

    /// An operation, or a step of one, as it is asked for after what was read before; the bytes are valid until the next.
    pub(crate) fn asked<'a>(&'a mut self, operation: Operation, seen: &'a Seen) -> Asked<'a> {
        match operation {
            Operation::Get { key } | Operation::CasRead { key, .. } => self.get(key),
            Operation::Scan { key } => {
                self.record.write_key(key);
                Asked::Scan {
                    from: &self.record.key,
                    keys: self.scan_keys,
                }
            }
            Operation::Put { key, write } => {
                let Buffers { key, value } = self.record.written(key, write);
                Asked::Put { key, value }
            }
            Operation::CasWrite { key, write } => {
                Asked::Swap(self.record.written(key, write).over(seen.last.as_ref()))
            }
            Operation::Transfer {
                from,
                to,
                write,
                step,
            } => match step {
                TransferStep::ReadFrom => self.get(from),
                TransferStep::ReadTo => self.get(to),
                TransferStep::Write => self.transfer([from, to], write, seen),
            },
            Operation::Lease { key, write, step } => match step {
                LeaseStep::Grant => Asked::Grant { ttl: LEASE_TTL },
                LeaseStep::Attach(lease) => {
                    let Buffers { key, value } = self.record.written(key, write);
                    Asked::Attach { key, value, lease }
                }
                LeaseStep::Revoke(lease) => Asked::Revoke { lease },
            },
        }
    }

    fn get(&mut self, key: u64) -> Asked<'_> {
        self.record.write_key(key);
        Asked::Get {
            key: &self.record.key,
        }
    }

    fn transfer<'a>(&'a mut self, [from, to]: [u64; 2], write: u64, seen: &'a Seen) -> Asked<'a> {
        let (before, last) = (seen.before.as_ref(), seen.last.as_ref());
        let values = [before, last].map(|found| found.map(|found| &found.value[..]));
        amount::write_moved(values, &mut self.record.value, &mut self.other.value);
        Asked::SwapBoth([
            self.record.written(from, write).over(before),
            self.other.written(to, write).over(last),
        ])
    }

    /// Which write made this value; `None` if none of ours did.
    pub(crate) fn write_of(&self, value: &[u8]) -> Option<u64> {
        let stamp = value.first_chunk::<STAMP_BYTES>()?;
        if value.len() != self.record.value.len() || !value.ends_with(&self.record.value[self.common_from..])
        {
            return None;
        }
        stamp.iter().try_fold(0, |write, byte| {
            let digit = DIGITS.iter().position(|digit| digit == byte)?;
            Some(write * 64 + digit as u64)
        })
    }
}

/// A key and a value, written over and over.
#[derive(Clone, Debug)]
struct Buffers {
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Buffers {
    fn written(&mut self, key: u64, write: u64) -> &Buffers {
        self.write_key(key);
        self.write_stamp(write);
        self
    }

    fn over<'a>(&'a self, seen: Option<&'a Found>) -> Swapped<'a> {
        Swapped {
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
}

/// Draws operations for the measured load.
#[derive(Clone, Debug)]
pub(crate) struct Mix {
    workload: WorkloadName,
    keys: KeyChooser,
    key_count: u64,
    read_ratio: f64,
    rng: Rng,
}

impl Mix {
    pub(crate) fn new(settings: &Settings) -> Mix {
        Mix {
            workload: settings.workload,
            keys: KeyChooser::new(settings.distribution, settings.keys),
            key_count: settings.keys,
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
            WorkloadName::Txn => Operation::Transfer {
                from: key,
                to: self.another(key),
                write,
                step: TransferStep::ReadFrom,
            },
            WorkloadName::Lease => Operation::Lease {
                key,
                write,
                step: LeaseStep::Grant,
            },
            WorkloadName::Put | WorkloadName::Get | WorkloadName::Mixed | WorkloadName::Scan => {
                Operation::Put { key, write }
            }
        }
    }

    /// A key by the same distribution, but not this one.
    fn another(&mut self, key: u64) -> u64 {
        let other = self.keys.choose(&mut self.rng);
        match other == key {
            true => (key + 1) % self.key_count,
            false => other,
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
        let seen = Seen::default();
        for write in [0, 1, 63, 64, 1 << 40] {
            let Asked::Put { value, .. } = encoding.asked(Operation::Put { key: 1, write }, &seen) else {
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

    #[test]
    fn a_transfer_is_between_two_keys_and_its_values_tell_their_write() {
        let line = ["txn", "--keys", "2", "--value-bytes", "20"];
        let settings = test_settings(&line);
        let (mut mix, mut encoding) = (Mix::new(&settings), Encoding::new(&settings));
        for _ in 0..20 {
            let mut next_write = 7;
            let Operation::Transfer { from, to, write, .. } = mix.next(&mut next_write) else {
                panic!("a transfer was drawn");
            };
            assert_eq!((from + to, write, next_write), (1, 7, 8));
        }
        let transfer = Operation::Transfer {
            from: 0,
            to: 1,
            write: 7,
            step: TransferStep::Write,
        };
        let seen = Seen::default();
        let Asked::SwapBoth(writes) = encoding.asked(transfer, &seen) else {
            panic!("two writes were asked for");
        };
        let [from, to] = writes.map(|written| written.value.to_vec());
        assert_ne!(from, to, "an amount was moved");
        assert_eq!(
            [encoding.write_of(&from), encoding.write_of(&to)],
            [Some(7), Some(7)]
        );
    }
}

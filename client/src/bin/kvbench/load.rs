//! The operations and their bytes.

use fastrand::Rng;

use crate::arguments::Settings;
use crate::distribution::KeyChooser;
use crate::target::Asked;

/// A value begins with the number of the write that made it, so that a read tells whose value it found.
pub(crate) const STAMP_BYTES: usize = size_of::<u64>();

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
}

/// Makes keys and values out of numbers.
#[derive(Clone, Debug)]
pub(crate) struct Encoding {
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Encoding {
    pub(crate) fn new(settings: &Settings) -> Encoding {
        // Not to be compressed: what a disk or a network saves on zeros would flatter the figures.
        let mut rng = Rng::with_seed(settings.seed);
        let mut value = vec![0; settings.value_bytes];
        rng.fill(&mut value);
        Encoding {
            key: vec![b'0'; settings.key_bytes],
            value,
        }
    }

    /// An operation as it is asked for; the bytes are valid until the next.
    pub(crate) fn asked(&mut self, operation: Operation) -> Asked<'_> {
        match operation {
            Operation::Get { key } => {
                self.write_key(key);
                Asked::Get { key: &self.key }
            }
            Operation::Put { key, write } => {
                self.write_key(key);
                self.value[..STAMP_BYTES].copy_from_slice(&write.to_le_bytes());
                Asked::Put {
                    key: &self.key,
                    value: &self.value,
                }
            }
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
        (*rest == self.value[STAMP_BYTES..]).then_some(u64::from_le_bytes(*stamp))
    }
}

/// Draws operations for the measured load.
#[derive(Clone, Debug)]
pub(crate) struct Mix {
    keys: KeyChooser,
    read_ratio: f64,
    rng: Rng,
}

impl Mix {
    pub(crate) fn new(settings: &Settings) -> Mix {
        Mix {
            keys: KeyChooser::new(settings.distribution, settings.keys),
            read_ratio: settings.read_ratio,
            rng: Rng::with_seed(settings.seed),
        }
    }

    /// The next operation; `write` is the number of a write, if it is one.
    pub(crate) fn next(&mut self, write: &mut u64) -> Operation {
        let key = self.keys.choose(&mut self.rng);
        if self.rng.f64() < self.read_ratio {
            return Operation::Get { key };
        }
        let operation = Operation::Put { key, write: *write };
        *write += 1;
        operation
    }
}

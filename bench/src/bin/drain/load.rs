//! Keys, values, and how keys are drawn.

use std::error::Error;

use bytes::{Bytes, BytesMut};
use raftkv_protocol::Revision;
use raftkv_server::store::base::{Base as _, CompactionStep, LsmBase, Row};
use raftkv_server::store::{Lineage, Slot, Stored};

use crate::options::{Distribution, Options};

/// Keys of 16 bytes, inside the map's nodes as the store keeps short ones.
pub(crate) type Key = [u8; 16];

pub(crate) fn key(number: u64) -> Key {
    let mut key = *b"user000000000000";
    let mut rest = number;
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

/// A key as a row of the base has it.
pub(crate) fn row_key(key: &[u8]) -> Bytes {
    let mut row = BytesMut::with_capacity(1 + key.len());
    row.extend_from_slice(&[1]);
    row.extend_from_slice(key);
    row.freeze()
}

pub(crate) fn encoded(slot: &Slot) -> Bytes {
    let mut bytes = BytesMut::with_capacity(slot.encoded_len());
    slot.encode(&mut bytes);
    bytes.freeze()
}

/// Draws numbers of keys.
pub(crate) struct Keys {
    count: u64,
    zipfian: Option<Zipfian>,
    chance: fastrand::Rng,
}

impl Keys {
    pub(crate) fn new(options: &Options, seed: u64) -> Keys {
        Keys {
            count: options.keys,
            zipfian: (options.distribution == Distribution::Zipfian).then(|| Zipfian::new(options.keys)),
            chance: fastrand::Rng::with_seed(seed),
        }
    }

    pub(crate) fn draw(&mut self) -> u64 {
        match &self.zipfian {
            None => self.chance.u64(..self.count),
            // Popular keys are not neighbours.
            Some(zipfian) => scatter(zipfian.rank(self.chance.f64())) % self.count,
        }
    }

    pub(crate) fn percent(&mut self) -> u8 {
        self.chance.u8(..100)
    }
}

fn scatter(rank: u64) -> u64 {
    let mixed = rank
        .wrapping_add(0x9E37_79B9_7F4A_7C15)
        .wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed ^ (mixed >> 31)).wrapping_mul(0x94D0_49BB_1331_11EB) >> 8
}

/// Gray's generator, as YCSB has it.
struct Zipfian {
    count: f64,
    alpha: f64,
    zeta: f64,
    eta: f64,
}

const EXPONENT: f64 = 0.99;

impl Zipfian {
    fn new(count: u64) -> Zipfian {
        let zeta = |count: u64| (1..=count).map(|rank| (rank as f64).powf(-EXPONENT)).sum::<f64>();
        let whole = zeta(count);
        let n = count as f64;
        Zipfian {
            count: n,
            alpha: 1.0 / (1.0 - EXPONENT),
            zeta: whole,
            eta: (1.0 - (2.0 / n).powf(1.0 - EXPONENT)) / (1.0 - zeta(2) / whole),
        }
    }

    /// From 0, for a uniform number below 1.
    fn rank(&self, uniform: f64) -> u64 {
        let scaled = uniform * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5_f64.powf(EXPONENT) {
            return 1;
        }
        (self.count * (self.eta * uniform - self.eta + 1.0).powf(self.alpha)) as u64
    }
}

/// A value of its own, as apply copies it out of the log entry.
pub(crate) fn value(template: &[u8], stamp: u64) -> Bytes {
    let mut value = BytesMut::from(template);
    value[..8].copy_from_slice(&stamp.to_le_bytes());
    value.freeze()
}

/// Puts all keys into the base, in ingests of about a generation.
pub(crate) fn fill(base: &LsmBase, options: &Options) -> Result<(), Box<dyn Error>> {
    let template = vec![b'v'; options.value_bytes];
    let rows_per_ingest = (options.generation_mib << 20) / (options.value_bytes + 80);
    let mut number = 0;
    while number < options.keys {
        let until = (number + rows_per_ingest as u64).min(options.keys);
        let rows = (number..until).map(|number| {
            let slot = Slot::Live(Stored {
                value: value(&template, number),
                mod_revision: Revision(number + 1),
                lineage: Lineage::Known {
                    create_revision: Revision(number + 1),
                    version: 1,
                },
                deadline_us: None,
                lease: None,
            });
            Ok(Row {
                key: row_key(&key(number)),
                value: Some(encoded(&slot)),
            })
        });
        base.ingest(&mut rows.into_iter())?;
        number = until;
        while base.compact_step()? == CompactionStep::Done {}
    }
    Ok(())
}

//! Keys, values and commands of the size that all our figures are for.

use bytes::Bytes;
use raftkv_protocol::{CheckedCommand, Command, Condition, Limits};

pub(crate) const KEYS: u64 = 100_000;
const VALUE_BYTES: usize = 256;

/// A key of 16 bytes.
pub(crate) fn key(number: u64) -> Bytes {
    Bytes::from(format!("{:016}", number % KEYS))
}

/// Numbers in an order that has nothing to do with that of the keys.
pub(crate) fn scattered(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20
}

pub(crate) fn put(number: u64) -> CheckedCommand {
    let (key, value) = (key(number), [b'v'; VALUE_BYTES]);
    let put = Command::Put {
        key: &key,
        value: &value,
        condition: Condition::Always,
        ttl_ms: None,
    };
    CheckedCommand::new(&put, &Limits::default()).expect("it is within the limits")
}

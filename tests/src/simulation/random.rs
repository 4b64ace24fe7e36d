//! Random streams. Each component has its own, so that taking one fault away does not shift what the others draw.

use fastrand::Rng;

/// Who draws. The number is part of the stream's seed and never changes, or saved schedules would mean something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Stream {
    Plan = 1,
    Faults = 2,
    Clients = 3,
    Link = 4,
    Disk = 5,
    Node = 6,
    Machine = 7,
    ClientLink = 8,
    Buggify = 9,
    Settle = 10,
    Identity = 11,
    Store = 12,
    Watch = 13,
    Operators = 14,
    Tenants = 15,
    Scrub = 16,
    Quarantine = 17,
}

/// The stream of one component; `which` tells components of a kind apart.
pub(crate) fn stream(seed: u64, of: Stream, which: u64) -> Rng {
    Rng::with_seed(seed_of(seed, of, which))
}

/// A seed of its own for one component.
pub(crate) fn seed_of(seed: u64, of: Stream, which: u64) -> u64 {
    mix(mix(mix(seed, of as u64), which), 0x5eed)
}

/// A fixed mixing of two words: the same on every machine, unlike the standard hasher's keys.
pub(crate) fn mix(hash: u64, word: u64) -> u64 {
    let mut x = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^= x >> 29;
    x = x
        .wrapping_add(hash.rotate_left(23))
        .wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^ (x >> 32)
}

/// Mixes bytes into a hash.
pub(crate) fn mix_bytes(mut hash: u64, bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        hash = mix(
            hash,
            u64::from_le_bytes(word.try_into().expect("chunks of eight")),
        );
    }
    let mut last = [0; 8];
    last[..words.remainder().len()].copy_from_slice(words.remainder());
    mix(mix(hash, u64::from_le_bytes(last)), bytes.len() as u64)
}

/// A number in `low..=high`, each octave as likely as any other. Whole numbers only: the mathematical functions of the
/// standard library may differ in the last bit from machine to machine.
pub(crate) fn log_uniform(rng: &mut Rng, low: u64, high: u64) -> u64 {
    let low = low.max(1);
    let octaves = (high / low).max(1).ilog2();
    let start = low << rng.u32(..=octaves);
    let end = start.saturating_mul(2).min(high.saturating_add(1)).max(start + 1);
    rng.u64(start..end)
}

/// An exponentially distributed time with this mean.
pub(crate) fn exponential(rng: &mut Rng, mean_us: u64) -> u64 {
    (-natural_logarithm(1.0 - rng.f64()) * mean_us as f64) as u64
}

/// ln(x) for 0 < x <= 1 from additions, multiplications and divisions alone, which IEEE 754 defines to the last bit.
fn natural_logarithm(x: f64) -> f64 {
    let bits = x.to_bits();
    let exponent = (bits >> 52) as i64 - 1023;
    let mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let series = 1.0 + square * (1.0 / 3.0 + square * (1.0 / 5.0 + square * (1.0 / 7.0 + square / 9.0)));
    exponent as f64 * std::f64::consts::LN_2 + 2.0 * s * series
}

/// True with this probability.
pub(crate) fn chance(rng: &mut Rng, probability: f64) -> bool {
    probability > 0.0 && rng.f64() < probability
}

/// True with so many chances in a million.
pub(crate) fn chance_ppm(rng: &mut Rng, ppm: u32) -> bool {
    ppm > 0 && rng.u32(..1_000_000) < ppm
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_times_have_their_mean() {
        let rng = &mut Rng::with_seed(1);
        let sum: u64 = (0..20_000).map(|_| exponential(rng, 1_000)).sum();
        assert!((950..1_050).contains(&(sum / 20_000)), "mean {}", sum / 20_000);
    }

    #[test]
    fn log_uniform_stays_in_its_bounds_and_reaches_them() {
        let rng = &mut Rng::with_seed(2);
        let drawn: Vec<u64> = (0..20_000).map(|_| log_uniform(rng, 3, 50)).collect();
        assert_eq!(drawn.iter().min(), Some(&3));
        assert_eq!(drawn.iter().max(), Some(&50));
    }
}

//! Which key comes next.

use clap::ValueEnum;
use fastrand::Rng;

/// Which keys are chosen how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Distribution {
    /// Each as often as any other
    Uniform,
    /// The k-th key in proportion to k^-0.99: few are hot
    Zipfian,
    /// One after the other, over and over
    Sequential,
}

/// The exponent of YCSB's zipfian workloads, so that figures can be compared.
const ZIPFIAN_EXPONENT: f64 = 0.99;

/// Chooses keys, as numbers from 0.
#[derive(Clone, Debug)]
pub(crate) enum KeyChooser {
    Uniform { keys: u64 },
    Zipfian(Zipfian),
    Sequential { keys: u64, next: u64 },
}

impl KeyChooser {
    pub(crate) fn new(distribution: Distribution, keys: u64) -> KeyChooser {
        match distribution {
            Distribution::Uniform => KeyChooser::Uniform { keys },
            Distribution::Zipfian => KeyChooser::Zipfian(Zipfian::new(keys, ZIPFIAN_EXPONENT)),
            Distribution::Sequential => KeyChooser::Sequential { keys, next: 0 },
        }
    }

    pub(crate) fn choose(&mut self, rng: &mut Rng) -> u64 {
        match self {
            KeyChooser::Uniform { keys } => rng.u64(..*keys),
            KeyChooser::Zipfian(zipfian) => zipfian.sample(rng) - 1,
            KeyChooser::Sequential { keys, next } => {
                let key = *next;
                *next = (key + 1) % *keys;
                key
            }
        }
    }
}

/// Draws k from 1..=n with a probability proportional to k^-exponent, by rejection-inversion (Hörmann and Derflinger,
/// "Rejection-inversion to generate variates from monotone discrete distributions", 1996): exact, in constant time and
/// memory, where the usual tables cost O(n) to build.
///
/// The area under x^-exponent is cut into one bar per k, from k - 1/2 to k + 1/2. A point of the area is drawn by inverting
/// its integral; it belongs to k unless it lies above the bar's top.
#[derive(Clone, Debug)]
pub(crate) struct Zipfian {
    n: f64,
    exponent: f64,
    area_begin: f64,
    area_end: f64,
    /// A point this close to the right of k's middle need not be compared with the bar.
    sure: f64,
}

impl Zipfian {
    /// # Panics
    /// If `n` is 0, or the exponent is not in (0, 1).
    pub(crate) fn new(n: u64, exponent: f64) -> Zipfian {
        assert!(
            n > 0 && exponent > 0.0 && exponent < 1.0,
            "expected n > 0 and an exponent in (0, 1)"
        );
        let mut zipfian = Zipfian {
            n: n as f64,
            exponent,
            area_begin: 0.0,
            area_end: 0.0,
            sure: 0.0,
        };
        zipfian.area_begin = zipfian.area(1.5) - zipfian.weight(1.0);
        zipfian.area_end = zipfian.area(zipfian.n + 0.5);
        zipfian.sure = 2.0 - zipfian.inverse_area(zipfian.area(2.5) - zipfian.weight(2.0));
        zipfian
    }

    fn weight(&self, x: f64) -> f64 {
        x.powf(-self.exponent)
    }

    /// The integral of the weight from 1 to x.
    fn area(&self, x: f64) -> f64 {
        let power = 1.0 - self.exponent;
        (x.powf(power) - 1.0) / power
    }

    fn inverse_area(&self, area: f64) -> f64 {
        let power = 1.0 - self.exponent;
        (area * power + 1.0).powf(1.0 / power)
    }

    pub(crate) fn sample(&self, rng: &mut Rng) -> u64 {
        loop {
            let point = self.area_end + rng.f64() * (self.area_begin - self.area_end);
            let x = self.inverse_area(point);
            let k = x.round().clamp(1.0, self.n);
            if k - x <= self.sure || point >= self.area(k + 0.5) - self.weight(k) {
                return k as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zipfian_ranks_come_as_often_as_their_weight_says() {
        const KEYS: u64 = 1_000;
        const SAMPLES: u64 = 1_000_000;
        let zipfian = Zipfian::new(KEYS, ZIPFIAN_EXPONENT);
        let mut rng = Rng::with_seed(7);
        let mut counts = vec![0_u64; KEYS as usize + 1];
        for _ in 0..SAMPLES {
            counts[zipfian.sample(&mut rng) as usize] += 1;
        }
        let weight = |k: u64| (k as f64).powf(-ZIPFIAN_EXPONENT);
        let total: f64 = (1..=KEYS).map(weight).sum();
        assert_eq!(counts[0], 0);
        for k in (1..=20).chain([100, 500, KEYS]) {
            let expected = weight(k) / total * SAMPLES as f64;
            // Five standard deviations of a binomial count: a right generator fails once in a million runs, not here.
            let tolerance = 5.0 * expected.sqrt();
            let count = counts[k as usize] as f64;
            assert!(
                (count - expected).abs() < tolerance,
                "rank {k}: {count} of {expected}"
            );
        }
    }

    #[test]
    fn every_distribution_stays_within_its_keys() {
        for distribution in [
            Distribution::Uniform,
            Distribution::Zipfian,
            Distribution::Sequential,
        ] {
            for keys in [1, 2, 3, 1_000_000] {
                let mut chooser = KeyChooser::new(distribution, keys);
                let mut rng = Rng::with_seed(keys);
                assert!(
                    (0..10_000).all(|_| chooser.choose(&mut rng) < keys),
                    "{distribution:?} over {keys}"
                );
            }
        }
    }

    #[test]
    fn sequential_visits_every_key_before_any_twice() {
        let mut chooser = KeyChooser::new(Distribution::Sequential, 3);
        let mut rng = Rng::with_seed(1);
        let keys: Vec<u64> = (0..7).map(|_| chooser.choose(&mut rng)).collect();
        assert_eq!(keys, [0, 1, 2, 0, 1, 2, 0]);
    }
}

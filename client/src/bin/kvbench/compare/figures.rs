//! What the rounds brought for one store and one cell.

use std::time::Duration;

use crate::recorder::percentile_us;
use crate::report::Report;

/// An open loop that answers less than this share of what is due does not keep up.
const KEEPS_UP: f64 = 0.98;

/// One measurement.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Load(LoadFigures),
    /// Of a fail-over, one per trial.
    Gaps(Vec<Duration>),
    Failed(String),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LoadFigures {
    pub(super) rate: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    /// All server processes together, per operation.
    pub(super) server_cpu_us: f64,
    /// Of the load itself, per operation.
    pub(super) client_cpu_us: f64,
    /// Operations that failed.
    pub(super) failures: u64,
}

impl Outcome {
    pub(super) fn load(report: &Report) -> Outcome {
        let latencies = report.latencies();
        Outcome::Load(LoadFigures {
            rate: report.operations_per_second(),
            p50_us: percentile_us(&latencies, 50.0),
            p99_us: percentile_us(&latencies, 99.0),
            server_cpu_us: report.server_cpu_us().unwrap_or_default(),
            client_cpu_us: report.client_cpu_us(),
            failures: report.recorder.failures(),
        })
    }
}

/// All rounds of one cell; empty if the store can not be asked for it.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    rounds: Vec<Outcome>,
}

impl Figures {
    pub(super) fn add(&mut self, outcome: Outcome) {
        self.rounds.push(outcome);
    }

    /// Why a round failed, if one did.
    pub(super) fn failure(&self) -> Option<&str> {
        self.rounds.iter().find_map(|outcome| match outcome {
            Outcome::Failed(why) => Some(why.as_str()),
            Outcome::Load(_) | Outcome::Gaps(_) => None,
        })
    }

    /// The median of each figure; failures are summed up.
    pub(super) fn load(&self) -> Option<LoadFigures> {
        let loads: Vec<LoadFigures> = self
            .rounds
            .iter()
            .filter_map(|outcome| match outcome {
                Outcome::Load(figures) => Some(*figures),
                Outcome::Gaps(_) | Outcome::Failed(_) => None,
            })
            .collect();
        let of = |figure: fn(&LoadFigures) -> f64| median(loads.iter().map(figure).collect());
        Some(LoadFigures {
            rate: of(|figures| figures.rate)?,
            p50_us: of(|figures| figures.p50_us)?,
            p99_us: of(|figures| figures.p99_us)?,
            server_cpu_us: of(|figures| figures.server_cpu_us)?,
            client_cpu_us: of(|figures| figures.client_cpu_us)?,
            failures: loads.iter().map(|figures| figures.failures).sum(),
        })
    }

    /// The median of all trials of all rounds, in milliseconds, and the slowest.
    pub(super) fn gap_ms(&self) -> Option<(f64, f64)> {
        let gaps: Vec<f64> = self
            .rounds
            .iter()
            .flat_map(|outcome| match outcome {
                Outcome::Gaps(gaps) => gaps.as_slice(),
                Outcome::Load(_) | Outcome::Failed(_) => &[],
            })
            .map(|gap| gap.as_secs_f64() * 1e3)
            .collect();
        let most = gaps.iter().copied().fold(0.0, f64::max);
        median(gaps).map(|median| (median, most))
    }
}

impl LoadFigures {
    /// Did it answer what was due?
    pub(super) fn keeps_up(&self, rate_due: f64) -> bool {
        self.rate >= rate_due * KEEPS_UP
    }
}

/// The middle one; of an even number the lower of the two, so that it is one that was measured.
fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len().checked_sub(1)? / 2;
    numbers.get(middle).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_taken_figure_by_figure_and_failures_add_up() {
        let mut figures = Figures::default();
        assert_eq!(figures.load(), None);
        for (rate, p50_us) in [(10.0, 3.0), (30.0, 1.0), (20.0, 2.0)] {
            figures.add(Outcome::Load(LoadFigures {
                rate,
                p50_us,
                p99_us: 9.0,
                server_cpu_us: 1.0,
                client_cpu_us: 1.0,
                failures: 2,
            }));
        }
        let medians = figures.load().unwrap();
        assert_eq!((medians.rate, medians.p50_us, medians.failures), (20.0, 2.0, 6));
        assert!(medians.keeps_up(20.0) && !medians.keeps_up(25.0));
        assert_eq!(figures.failure(), None);
        figures.add(Outcome::Failed("gone".to_owned()));
        assert_eq!(figures.failure(), Some("gone"));
    }

    #[test]
    fn gaps_of_all_rounds_are_one_sample() {
        let mut figures = Figures::default();
        let ms = Duration::from_millis;
        figures.add(Outcome::Gaps(vec![ms(300), ms(100)]));
        figures.add(Outcome::Gaps(vec![ms(200)]));
        assert_eq!(figures.gap_ms(), Some((200.0, 300.0)));
    }
}

//! How the load went from one interval to the next.

use std::time::{Duration, Instant};

use crate::recorder::{Latencies, latencies, percentile_us, record};
use crate::settings::Length;

/// One second, and in a run of under ten a tenth of it: enough points for a line.
const INTERVAL: Duration = Duration::from_secs(1);
const LEAST_POINTS: u32 = 10;

/// Shorter, and single wake-ups of the load itself would be seen.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(50);

/// One interval: what was answered in it, whenever it was asked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Point {
    /// The middle of the interval, seconds since the begin of the measurement.
    pub(crate) at_s: f64,
    /// Answers per second.
    pub(crate) rate: f64,
    /// `None`: nothing was answered.
    pub(crate) latency: Option<PointLatency>,
    /// Operations that failed.
    pub(crate) failed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct PointLatency {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
}

/// Collects points. Answers come in the order of time, so only one interval is open.
#[derive(Debug)]
pub(crate) struct Series {
    begin: Instant,
    interval: Duration,
    points: Vec<Point>,
    open: Latencies,
    failed: u64,
}

impl Series {
    pub(crate) fn new(begin: Instant, length: Length) -> Series {
        let interval = match length {
            Length::Time(duration) => (duration / LEAST_POINTS).clamp(SHORTEST_INTERVAL, INTERVAL),
            Length::Operations(_) => INTERVAL,
        };
        Series {
            begin,
            interval,
            points: Vec::new(),
            open: latencies(),
            failed: 0,
        }
    }

    pub(crate) fn answered(&mut self, now: Instant, latency: Duration) {
        if now >= self.begin {
            self.close_until(now);
            record(&mut self.open, latency);
        }
    }

    pub(crate) fn failed(&mut self, now: Instant) {
        if now >= self.begin {
            self.close_until(now);
            self.failed += 1;
        }
    }

    /// The points of the first `elapsed`; what is left of an interval at the end is no point, unless there is no other.
    pub(crate) fn finish(mut self, elapsed: Duration) -> Vec<Point> {
        self.close_until(self.begin + elapsed);
        let whole = (elapsed.as_nanos() / self.interval.as_nanos()) as usize;
        self.points.truncate(whole);
        if self.points.is_empty() && !elapsed.is_zero() {
            self.interval = elapsed;
            self.close();
        }
        self.points
    }

    fn end_of_open(&self) -> Instant {
        self.begin + self.interval * (self.points.len() as u32 + 1)
    }

    fn close_until(&mut self, now: Instant) {
        while self.end_of_open() <= now {
            self.close();
        }
    }

    fn close(&mut self) {
        let seconds = self.interval.as_secs_f64();
        self.points.push(Point {
            at_s: (self.points.len() as f64 + 0.5) * seconds,
            rate: self.open.len() as f64 / seconds,
            latency: (!self.open.is_empty()).then(|| PointLatency {
                p50_us: percentile_us(&self.open, 50.0),
                p99_us: percentile_us(&self.open, 99.0),
                max_us: percentile_us(&self.open, 100.0),
            }),
            failed: std::mem::take(&mut self.failed),
        });
        self.open.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_interval_is_a_point_even_if_nothing_was_answered_in_it() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let mut series = Series::new(begin, Length::Time(Duration::from_secs(12)));
        series.answered(begin - Duration::from_millis(1), Duration::from_millis(1));
        for (ms, latency_ms) in [(0, 1), (999, 3), (2500, 7)] {
            series.answered(at(ms), Duration::from_millis(latency_ms));
        }
        series.failed(at(2600));
        let points = series.finish(Duration::from_secs(12));
        assert_eq!(points.len(), 12);
        let rates: Vec<f64> = points.iter().map(|point| point.rate).collect();
        assert_eq!(rates[..4], [2.0, 0.0, 1.0, 0.0]);
        assert_eq!((points[1].latency, points[2].failed), (None, 1));
        assert_eq!((points[0].at_s, points[11].at_s), (0.5, 11.5));
    }

    #[test]
    fn a_short_run_has_shorter_intervals_and_at_least_one_point() {
        let begin = Instant::now();
        let points = Series::new(begin, Length::Time(Duration::from_secs(2))).finish(Duration::from_secs(2));
        assert_eq!(points.len(), 10);
        let mut series = Series::new(begin, Length::Operations(5));
        series.answered(begin + Duration::from_millis(30), Duration::from_millis(1));
        let points = series.finish(Duration::from_millis(100));
        assert_eq!(points.len(), 1);
        assert!((points[0].rate - 10.0).abs() < 1e-9);
    }
}

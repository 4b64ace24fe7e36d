//! The measured load.

use std::time::{Duration, Instant};

use crate::load::Mix;
use crate::once::History;
use crate::operation::Operation;
use crate::recorder::{Latencies, Recorder, latencies, percentile_us, record};
use crate::series::{Point, Series};
use crate::settings::{Length, Settings};
use crate::target::Answered;
use crate::work::Work;

/// Operations drawn from the mix, recorded from the end of the warm-up on.
#[derive(Debug)]
pub(crate) struct Measured {
    mix: Mix,
    history: History,
    /// The end of the warm-up.
    begin: Instant,
    end: End,
    last_answer: Instant,
    recorder: Recorder,
    series: Series,
    since_progress: Interval,
}

/// What happened since progress was last shown.
#[derive(Debug)]
struct Interval {
    begin: Instant,
    latencies: Latencies,
}

/// When nothing more is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    At(Instant),
    After { left: u64 },
}

/// What the measurement brought.
#[derive(Debug)]
pub(crate) struct Measurement {
    pub(crate) recorder: Recorder,
    pub(crate) series: Vec<Point>,
    pub(crate) elapsed: Duration,
    pub(crate) history: History,
}

impl Measured {
    pub(crate) fn new(settings: &Settings, history: History, begin: Instant) -> Measured {
        Measured {
            mix: Mix::new(settings),
            history,
            begin,
            end: match settings.length {
                Length::Time(duration) => End::At(begin + duration),
                Length::Operations(count) => End::After { left: count },
            },
            last_answer: begin,
            recorder: Recorder::new(),
            series: Series::new(begin, settings.length),
            since_progress: Interval {
                begin: Instant::now(),
                latencies: latencies(),
            },
        }
    }

    pub(crate) fn finish(self) -> Measurement {
        let elapsed = match self.end {
            End::At(end) => end - self.begin,
            End::After { .. } => self.last_answer - self.begin,
        };
        Measurement {
            recorder: self.recorder,
            series: self.series.finish(elapsed),
            elapsed,
            history: self.history,
        }
    }

    fn is_answered_in_time(&self, since: Instant, now: Instant) -> bool {
        match self.end {
            End::At(end) => now >= self.begin && now < end,
            End::After { .. } => since >= self.begin,
        }
    }
}

impl Work for Measured {
    fn next(&mut self, since: Instant, now: Instant) -> Option<Operation> {
        if self.is_over(now) {
            return None;
        }
        if let End::After { left } = &mut self.end {
            *left -= u64::from(since >= self.begin);
        }
        Some(self.mix.next(&mut self.history.next_write))
    }

    fn completed(&mut self, operation: Operation, since: Instant, now: Instant, answered: &Answered) {
        self.history.note(operation, answered);
        match answered {
            Answered::Read(_)
            | Answered::Scanned { .. }
            | Answered::Written(_)
            | Answered::Conflict
            | Answered::Granted(_)
            | Answered::Revoked => {}
            Answered::Refused(reason) | Answered::Unknown(reason) => {
                *self.recorder.errors.entry(reason).or_default() += u64::from(since >= self.begin);
                self.series.failed(now);
                return;
            }
        }
        self.series.answered(now, now - since);
        record(&mut self.since_progress.latencies, now - since);
        if self.is_answered_in_time(since, now) {
            self.recorder.answers += 1;
            if let Answered::Scanned { keys } = answered {
                self.recorder.scanned_keys += keys;
            }
            self.last_answer = now;
        }
        if since >= self.begin {
            self.recorder.misses += u64::from(*answered == Answered::Read(None));
            self.recorder.conflicts += u64::from(*answered == Answered::Conflict);
            let latencies = match operation {
                Operation::Get { .. } | Operation::Scan { .. } => &mut self.recorder.reads,
                Operation::Put { .. }
                | Operation::CasRead { .. }
                | Operation::CasWrite { .. }
                | Operation::Transfer { .. }
                | Operation::Lease { .. } => &mut self.recorder.writes,
            };
            record(latencies, now - since);
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        match self.end {
            End::At(end) => now >= end,
            End::After { left } => left == 0,
        }
    }

    fn progress(&mut self, now: Instant) -> String {
        let interval = &mut self.since_progress;
        let seconds = (now - interval.begin).as_secs_f64();
        let line = format!(
            "{}: {:.0}/s, p50 {:.0} µs, p99 {:.0} µs, {} errors",
            if now < self.begin { "warm-up" } else { "measuring" },
            interval.latencies.len() as f64 / seconds,
            percentile_us(&interval.latencies, 50.0),
            percentile_us(&interval.latencies, 99.0),
            self.recorder.failures()
        );
        interval.begin = now;
        interval.latencies.reset();
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::test_settings;
    use raftkv_client::Revision;

    fn measured(line: &[&str], begin: Instant) -> Measured {
        Measured::new(&test_settings(line), History::new(None), begin)
    }

    #[test]
    fn throughput_counts_answers_in_the_measured_time_and_latency_what_was_started_in_it() {
        let begin = Instant::now();
        let mut work = measured(&["put", "--duration", "10s"], begin + Duration::from_secs(1));
        let at = |second: u64| begin + Duration::from_secs(second);
        let answered = Answered::Written(Some(Revision(2)));
        // Started in the warm-up, answered in the measured time; wholly in it; answered after its end.
        for (since, now) in [(0, 2), (2, 3), (10, 14)] {
            let operation = work.next(at(since), at(since)).unwrap();
            work.completed(operation, at(since), at(now), &answered);
        }
        assert_eq!(work.next(at(11), at(11)), None);
        let measurement = work.finish();
        assert_eq!(measurement.elapsed, Duration::from_secs(10));
        assert_eq!(measurement.recorder.answers, 2);
        assert_eq!(measurement.recorder.writes.len(), 2);
        assert!(measurement.recorder.writes.max() >= 3_990_000_000);
    }

    #[test]
    fn a_number_of_operations_counts_from_the_end_of_the_warm_up() {
        let begin = Instant::now();
        let mut work = measured(&["get", "--operations", "2"], begin);
        // Due in the warm-up, though started after it.
        assert!(work.next(begin - Duration::from_millis(1), begin).is_some());
        assert!(work.next(begin, begin).is_some());
        assert!(!work.is_over(begin));
        assert!(work.next(begin, begin).is_some());
        assert!(work.is_over(begin));
        assert_eq!(work.next(begin, begin), None);
    }

    #[test]
    fn errors_are_counted_by_reason_and_not_as_answers() {
        let begin = Instant::now();
        let mut work = measured(&["put"], begin);
        for answered in [
            Answered::Refused("overloaded"),
            Answered::Unknown("connection_lost"),
            Answered::Refused("overloaded"),
        ] {
            let operation = work.next(begin, begin).unwrap();
            work.completed(operation, begin, begin, &answered);
        }
        let recorder = work.finish().recorder;
        assert_eq!(
            (
                recorder.answers,
                recorder.failures(),
                recorder.errors["overloaded"]
            ),
            (0, 3, 2)
        );
    }
}

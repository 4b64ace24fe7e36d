//! How much simulated time a CPU minute buys.

use super::run::{Options, run};
use super::schedule::Scenario;

/// The measure: simulated hours of a five-node cluster under load per CPU minute.
#[derive(Clone, Copy, Debug)]
pub struct Speed {
    /// Simulated seconds.
    pub simulated_seconds: f64,
    /// CPU seconds they took.
    pub cpu_seconds: f64,
    /// Events that happened, per CPU second.
    pub events_per_second: f64,
    /// Operations that were answered, per simulated second.
    pub operations_per_second: f64,
}

impl Speed {
    /// Simulated hours per CPU minute.
    #[must_use]
    pub fn hours_per_minute(&self) -> f64 {
        (self.simulated_seconds / 3600.0) / (self.cpu_seconds / 60.0)
    }
}

/// Runs a healthy five-node cluster under a steady load for so many simulated seconds.
///
/// # Errors
/// The violations, should there be any: a run that is wrong measures nothing.
pub fn measure(simulated_seconds: u64) -> Result<Speed, Vec<super::Violation>> {
    let scenario = Scenario::healthy(7, simulated_seconds);
    let before = thread_cpu_seconds();
    let outcome = run(&scenario, Options::default());
    let cpu_seconds = thread_cpu_seconds() - before;
    if !outcome.violations.is_empty() {
        return Err(outcome.violations);
    }
    let simulated = outcome.statistics.simulated_us as f64 / 1e6;
    Ok(Speed {
        simulated_seconds: simulated,
        cpu_seconds,
        events_per_second: outcome.statistics.events as f64 / cpu_seconds,
        operations_per_second: outcome.statistics.answered as f64 / simulated,
    })
}

/// CPU time of this thread so far, seconds. Where the system does not tell, real time stands in for it.
#[must_use]
pub fn thread_cpu_seconds() -> f64 {
    use std::sync::LazyLock;
    use std::time::Instant;
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = told.and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
    nanoseconds.map_or_else(|| START.elapsed().as_secs_f64(), |nanoseconds| nanoseconds / 1e9)
}

//! What was typed, and what it means.

use std::num::NonZeroU32;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use raftkv_client::Consistency;
use raftkv_client::command_line::{DEFAULT_ENDPOINT, ENDPOINTS_VARIABLE, parse_duration};

use crate::distribution::Distribution;
use crate::trouble::Trouble;

const AFTER_HELP: &str = "\
Latency is that of operations started in the measured time, throughput counts the answers that came in it. With --rate,
latency counts from the moment at which an operation was due, so that a stalled server can not hide behind clients that
wait for it.

Exit codes: 0 done, 1 --verify found a write missing or wrong, 2 the command line is wrong, 3 the cluster can not be used.";

/// Puts load on a raftkv cluster and measures what it does.
#[derive(Debug, Parser)]
#[command(name = "kvbench", version, after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    /// What the clients do
    #[arg(value_enum)]
    workload: WorkloadName,
    /// Servers, separated by commas
    #[arg(
        long,
        value_name = "HOST:PORT,...",
        env = ENDPOINTS_VARIABLE,
        value_delimiter = ',',
        default_value = DEFAULT_ENDPOINT
    )]
    endpoints: Vec<String>,
    /// Whom the connections go to
    #[arg(long, value_enum, default_value_t = Route::Leader)]
    route: Route,
    /// Logical clients, each with one operation at a time
    #[arg(long, default_value = "64")]
    clients: NonZeroU32,
    /// Connections that the clients share; at most one per client is used
    #[arg(long, default_value = "16")]
    connections: NonZeroU32,
    /// How long to measure
    #[arg(long, value_parser = parse_duration, default_value = "10s", conflicts_with = "operations")]
    duration: Duration,
    /// Measures so many operations instead of a time
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    operations: Option<u64>,
    /// Load before the measurement begins
    #[arg(long, value_parser = parse_duration, default_value = "2s")]
    warmup: Duration,
    /// Open loop: so many operations per second are due, whether earlier ones are answered or not
    #[arg(long, value_name = "PER_SECOND")]
    rate: Option<NonZeroU32>,
    /// Number of keys
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// Length of each key
    #[arg(long, default_value_t = 16)]
    key_bytes: usize,
    /// Length of each value
    #[arg(long, default_value_t = 256)]
    value_bytes: usize,
    /// Which keys are chosen how often
    #[arg(long, value_enum, default_value_t = Distribution::Uniform)]
    distribution: Distribution,
    /// Share of reads in the mixed workload, 0 to 1
    #[arg(long, default_value_t = 0.9)]
    read_ratio: f64,
    /// What reads promise
    #[arg(long, value_enum, default_value_t = Promise::Linearizable)]
    consistency: Promise,
    /// Writes every key once before; gets and mixes do so unless told otherwise
    #[arg(long, value_enum, default_value_t = Preload::Auto)]
    preload: Preload,
    /// Reads back at the end what was acknowledged, and fails if anything is missing or wrong
    #[arg(long)]
    verify: bool,
    /// How long an operation may take
    #[arg(long, value_parser = parse_duration, default_value = "5s")]
    timeout: Duration,
    /// Reports the CPU time of these processes per operation
    #[arg(long, value_name = "PID,...", value_delimiter = ',')]
    server_pids: Vec<u32>,
    /// Seed of keys and values
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WorkloadName {
    /// Writes
    Put,
    /// Reads
    Get,
    /// Reads and writes; see --read-ratio
    Mixed,
}

/// Whom connections go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Route {
    /// All to the leader, found through the endpoints
    Leader,
    /// To the endpoints, in turn
    Endpoints,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Promise {
    /// Sees every write acknowledged before
    Linearizable,
    /// Possibly old
    Stale,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Preload {
    /// If the workload reads
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A summary for people
    Text,
    /// One JSON document, settings and versions included
    Json,
}

/// When the measurement ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    Time(Duration),
    Operations(u64),
}

/// A benchmark that makes sense.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) workload: WorkloadName,
    /// Share of reads, 0 to 1.
    pub(crate) read_ratio: f64,
    pub(crate) consistency: Consistency,
    pub(crate) endpoints: Vec<String>,
    pub(crate) route: Route,
    pub(crate) clients: usize,
    /// No more than clients.
    pub(crate) connections: usize,
    pub(crate) length: Length,
    pub(crate) warmup: Duration,
    /// Operations due per second; `None`: closed loop.
    pub(crate) rate: Option<NonZeroU32>,
    pub(crate) keys: u64,
    pub(crate) key_bytes: usize,
    pub(crate) value_bytes: usize,
    pub(crate) distribution: Distribution,
    pub(crate) preload: bool,
    pub(crate) verify: bool,
    pub(crate) timeout: Duration,
    pub(crate) server_pids: Vec<u32>,
    pub(crate) seed: u64,
}

impl Arguments {
    /// Checks what the flags mean together.
    pub(crate) fn settings(&self) -> Result<Settings, Trouble> {
        let digits = (self.keys - 1).checked_ilog10().unwrap_or(0) as usize + 1;
        if self.key_bytes < digits {
            let message = format!(
                "{} keys need --key-bytes of at least {digits}, not {}",
                self.keys, self.key_bytes
            );
            return Err(Trouble::Usage(message));
        }
        if self.value_bytes < crate::load::STAMP_BYTES {
            let least = crate::load::STAMP_BYTES;
            return Err(Trouble::Usage(format!(
                "--value-bytes must be at least {least}: each value tells its write"
            )));
        }
        if !(0.0..=1.0).contains(&self.read_ratio) {
            return Err(Trouble::Usage(format!(
                "--read-ratio must be from 0 to 1, not {}",
                self.read_ratio
            )));
        }
        let read_ratio = match self.workload {
            WorkloadName::Put => 0.0,
            WorkloadName::Get => 1.0,
            WorkloadName::Mixed => self.read_ratio,
        };
        let clients = self.clients.get() as usize;
        Ok(Settings {
            workload: self.workload,
            read_ratio,
            consistency: match self.consistency {
                Promise::Linearizable => Consistency::Linearizable,
                Promise::Stale => Consistency::Stale,
            },
            endpoints: self.endpoints.clone(),
            route: self.route,
            clients,
            connections: clients.min(self.connections.get() as usize),
            length: self
                .operations
                .map_or(Length::Time(self.duration), Length::Operations),
            warmup: self.warmup,
            rate: self.rate,
            keys: self.keys,
            key_bytes: self.key_bytes,
            value_bytes: self.value_bytes,
            distribution: self.distribution,
            preload: match self.preload {
                Preload::Auto => read_ratio > 0.0,
                Preload::Always => true,
                Preload::Never => false,
            },
            verify: self.verify,
            timeout: self.timeout,
            server_pids: self.server_pids.clone(),
            seed: self.seed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn settings(line: &[&str]) -> Result<Settings, Trouble> {
        Arguments::try_parse_from(std::iter::once(&"kvbench").chain(line))
            .expect("it parses")
            .settings()
    }

    #[test]
    fn the_definition_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn no_more_connections_than_clients() {
        assert_eq!(settings(&["put", "--clients", "4"]).unwrap().connections, 4);
        assert_eq!(settings(&["put", "--clients", "400"]).unwrap().connections, 16);
    }

    #[test]
    fn workloads_that_read_find_every_key() {
        assert!(!settings(&["put"]).unwrap().preload);
        assert!(settings(&["get"]).unwrap().preload);
        assert!(settings(&["mixed"]).unwrap().preload);
        assert!(!settings(&["get", "--preload", "never"]).unwrap().preload);
    }

    #[test]
    fn keys_that_do_not_fit_and_ratios_beyond_one_are_refused() {
        for line in [
            &["put", "--keys", "1001", "--key-bytes", "3"][..],
            &["put", "--value-bytes", "7"],
            &["mixed", "--read-ratio", "1.1"],
        ] {
            assert!(matches!(settings(line), Err(Trouble::Usage(_))), "{line:?}");
        }
        assert!(settings(&["put", "--keys", "1000", "--key-bytes", "3"]).is_ok());
    }
}

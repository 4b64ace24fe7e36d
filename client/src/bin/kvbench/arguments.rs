//! What was typed, and what it means.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, ValueEnum};
use raftkv_client::command_line::{ENDPOINTS_VARIABLE, TlsOptions, parse_duration};

use crate::amount;
use crate::compare::CompareArguments;
use crate::distribution::Distribution;
use crate::load::STAMP_BYTES;
use crate::settings::{Length, Promise, Route, Settings, WorkloadName, WriteOnce};
use crate::target::TargetName;
use crate::trouble::Trouble;
use crate::watch::WatchArguments;

const AFTER_HELP: &str = "\
Latency is that of operations started in the measured time, throughput counts the answers that came in it. With --rate,
latency counts from the moment at which an operation was due, so that a stalled server can not hide behind clients that
wait for it.

Exit codes: 0 done, 1 --verify found a write missing or wrong, 2 the command line is wrong, 3 the cluster can not be used.";

/// Puts load on a raftkv cluster, or on another store, and measures what it does.
#[derive(Debug, Parser)]
#[command(name = "kvbench", version, after_help = "Flags of a load: kvbench put --help")]
pub(crate) enum CommandLine {
    /// Writes
    Put(Arguments),
    /// Reads
    Get(Arguments),
    /// Reads and writes; see --read-ratio
    Mixed(Arguments),
    /// Compare and set: a read, then a write if the key is still what was read; one operation, timed as one
    Cas(Arguments),
    /// Moves an amount between two keys: reads both, then a transaction writes both if both are still what was read; one operation
    Txn(Arguments),
    /// Grants a lease, puts a key that hangs on it, and revokes it, which deletes the key; one operation, timed as one
    Lease(Arguments),
    /// Many watches, and one writer: how fast a change reaches all of them
    Watch(WatchArguments),
    /// Pages of keys, each from some key on; see --scan-keys
    Scan(Arguments),
    /// Starts raftkv and, where they are found, etcd and Redis, and puts the same loads on each in turn
    Compare(CompareArguments),
}

/// A load.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    /// Which store, and through which door
    #[arg(long, value_enum, default_value_t = TargetName::Native)]
    target: TargetName,
    /// Servers, separated by commas; the usual address of the target unless said, for `native` that of KVCTL_ENDPOINTS
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',')]
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
    /// Share of reads in `mixed`, 0 to 1
    #[arg(long, default_value_t = 0.9)]
    read_ratio: f64,
    /// Keys in each page of `scan`
    #[arg(long, default_value = "100", value_parser = clap::value_parser!(u32).range(1..))]
    scan_keys: u32,
    /// What reads promise
    #[arg(long, value_enum, default_value_t = Promise::Linearizable)]
    consistency: Promise,
    /// Whether writes could be sent again without being applied twice; of the native target alone
    #[arg(long, value_enum, default_value_t = WriteOnce::AtMostOnce)]
    writes: WriteOnce,
    /// Writes every key once before; what reads does so unless told otherwise
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
    /// Writes the result as one HTML file too, with plots
    #[arg(long, value_name = "FILE.html")]
    pub(crate) report: Option<PathBuf>,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,
    #[command(flatten)]
    tls: TlsOptions,
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

impl Arguments {
    /// Checks what the flags mean together.
    pub(crate) fn settings(&self, workload: WorkloadName) -> Result<Settings, Trouble> {
        self.check()?;
        self.check_workload(workload)?;
        let read_ratio = match workload {
            WorkloadName::Put | WorkloadName::Cas | WorkloadName::Txn | WorkloadName::Lease => 0.0,
            WorkloadName::Get | WorkloadName::Scan => 1.0,
            WorkloadName::Mixed => self.read_ratio,
        };
        let clients = self.clients.get() as usize;
        let reads = match workload {
            WorkloadName::Put | WorkloadName::Lease => false,
            WorkloadName::Get
            | WorkloadName::Mixed
            | WorkloadName::Cas
            | WorkloadName::Txn
            | WorkloadName::Scan => true,
        };
        Ok(Settings {
            target: self.target,
            workload,
            read_ratio,
            scan_keys: self.scan_keys,
            promise: self.consistency,
            writes: self.writes,
            endpoints: self.endpoints(),
            tls: self.tls.clone(),
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
                Preload::Auto => reads,
                Preload::Always => true,
                Preload::Never => false,
            },
            verify: self.verify,
            timeout: self.timeout,
            server_pids: self.server_pids.clone(),
            seed: self.seed,
        })
    }

    /// Checks what this workload asks for.
    fn check_workload(&self, workload: WorkloadName) -> Result<(), Trouble> {
        let refused = |message: String| Err(Trouble::Usage(message));
        if let Some(reason) = self.target.refusal(workload) {
            return refused(reason.to_owned());
        }
        match workload {
            WorkloadName::Txn if self.keys < 2 => {
                refused("txn needs --keys of at least 2: it moves between two".to_owned())
            }
            WorkloadName::Txn if self.value_bytes < amount::END => {
                let least = amount::END;
                refused(format!(
                    "txn needs --value-bytes of at least {least}: each value has an amount"
                ))
            }
            WorkloadName::Lease if self.verify => {
                refused("lease leaves no key that --verify could read back".to_owned())
            }
            WorkloadName::Put
            | WorkloadName::Get
            | WorkloadName::Mixed
            | WorkloadName::Cas
            | WorkloadName::Txn
            | WorkloadName::Lease
            | WorkloadName::Scan => Ok(()),
        }
    }

    fn check(&self) -> Result<(), Trouble> {
        let digits = (self.keys - 1).checked_ilog10().unwrap_or(0) as usize + 1;
        if self.key_bytes < digits {
            let (keys, given) = (self.keys, self.key_bytes);
            let message = format!("{keys} keys need --key-bytes of at least {digits}, not {given}");
            return Err(Trouble::Usage(message));
        }
        if self.value_bytes < STAMP_BYTES {
            let message = format!("--value-bytes must be at least {STAMP_BYTES}: each value tells its write");
            return Err(Trouble::Usage(message));
        }
        if !(0.0..=1.0).contains(&self.read_ratio) {
            let message = format!("--read-ratio must be from 0 to 1, not {}", self.read_ratio);
            return Err(Trouble::Usage(message));
        }
        if self.writes == WriteOnce::ExactlyOnce && self.target != TargetName::Native {
            let message = "this target has no sessions: --writes exactly-once is of the native one alone";
            return Err(Trouble::Usage(message.to_owned()));
        }
        if self.tls.tls_ca.is_some() && self.target != TargetName::Native {
            let message = "--tls-ca is for the native target alone: the others are loaded without TLS";
            return Err(Trouble::Usage(message.to_owned()));
        }
        if !self.target.can_promise(self.consistency) {
            let message = "this target has no reads of that --consistency: its reads are linearizable";
            return Err(Trouble::Usage(message.to_owned()));
        }
        Ok(())
    }

    fn endpoints(&self) -> Vec<String> {
        if !self.endpoints.is_empty() {
            return self.endpoints.clone();
        }
        // What is set for kvctl says nothing about other protocols' addresses.
        let from_environment = match self.target {
            TargetName::Native => std::env::var(ENDPOINTS_VARIABLE).ok(),
            _ => None,
        };
        let list = from_environment.unwrap_or_else(|| self.target.default_endpoint().to_owned());
        list.split(',').map(str::to_owned).collect()
    }
}

/// The settings that a command line means.
#[cfg(test)]
pub(crate) fn settings(line: &[&str]) -> Result<Settings, Trouble> {
    let line = CommandLine::try_parse_from(std::iter::once(&"kvbench").chain(line)).expect("it parses");
    let (workload, arguments) = match &line {
        CommandLine::Put(arguments) => (WorkloadName::Put, arguments),
        CommandLine::Get(arguments) => (WorkloadName::Get, arguments),
        CommandLine::Mixed(arguments) => (WorkloadName::Mixed, arguments),
        CommandLine::Cas(arguments) => (WorkloadName::Cas, arguments),
        CommandLine::Txn(arguments) => (WorkloadName::Txn, arguments),
        CommandLine::Lease(arguments) => (WorkloadName::Lease, arguments),
        CommandLine::Scan(arguments) => (WorkloadName::Scan, arguments),
        CommandLine::Watch(_) | CommandLine::Compare(_) => panic!("{line:?} is no load"),
    };
    arguments.settings(workload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        CommandLine::command().debug_assert();
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
        assert!(settings(&["cas"]).unwrap().preload);
        assert!(settings(&["txn"]).unwrap().preload);
        assert!(!settings(&["lease"]).unwrap().preload);
        assert!(settings(&["scan"]).unwrap().preload);
        assert!(!settings(&["get", "--preload", "never"]).unwrap().preload);
    }

    #[test]
    fn each_target_has_its_usual_address_unless_told_otherwise() {
        assert_eq!(
            settings(&["put", "--target", "http"]).unwrap().endpoints,
            ["127.0.0.1:8080"]
        );
        let told = settings(&["put", "--target", "http", "--endpoints", "a:1,b:2"]).unwrap();
        assert_eq!(told.endpoints, ["a:1", "b:2"]);
    }

    #[test]
    fn keys_that_do_not_fit_and_ratios_beyond_one_are_refused() {
        for line in [
            &["put", "--keys", "1001", "--key-bytes", "3"][..],
            &["put", "--value-bytes", "7"],
            &["mixed", "--read-ratio", "1.1"],
            &["get", "--target", "http", "--consistency", "stale"],
            &["scan", "--target", "http"],
            &["txn", "--keys", "1"],
            &["txn", "--value-bytes", "15"],
            &["lease", "--verify"],
            &["put", "--target", "http", "--writes", "exactly-once"],
        ] {
            assert!(matches!(settings(line), Err(Trouble::Usage(_))), "{line:?}");
        }
        assert!(settings(&["put", "--keys", "1000", "--key-bytes", "3"]).is_ok());
        assert!(settings(&["lease", "--target", "http"]).is_ok());
        #[cfg(feature = "redis")]
        assert!(settings(&["lease", "--target", "redis"]).is_err());
        #[cfg(feature = "etcd")]
        assert!(settings(&["lease", "--target", "etcd"]).is_err());
    }
}

//! What is measured: flags in their meaning.

use std::num::NonZeroU32;
use std::time::Duration;

use clap::ValueEnum;
use raftkv_client::command_line::TlsOptions;

use crate::distribution::Distribution;
use crate::target::TargetName;

/// What the clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WorkloadName {
    /// Writes
    Put,
    /// Reads
    Get,
    /// Reads and writes; see --read-ratio
    Mixed,
    /// Compare and set: a read, then a write if the key is still what was read; one operation, timed as one
    Cas,
    /// Moves an amount between two keys: reads both, then writes both if both are still what was read; timed as one
    Txn,
    /// Grants a lease, writes a key that hangs on it, and revokes it; timed as one
    Lease,
    /// Pages of keys, each from some key on; see --scan-keys
    Scan,
}

/// Whom connections go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Route {
    /// All to the leader, found through the endpoints
    Leader,
    /// To the endpoints, in turn
    Endpoints,
}

/// What a read promises. Each target matches on it, so that a new promise of the protocol is asked of every one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Promise {
    /// Sees every write acknowledged before
    Linearizable,
    /// Possibly old
    Stale,
}

/// What becomes of a write whose answer is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WriteOnce {
    /// Nobody knows whether it happened
    AtMostOnce,
    /// It could be sent again: each connection has a session, within which writes are numbered
    ExactlyOnce,
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
    pub(crate) target: TargetName,
    pub(crate) workload: WorkloadName,
    /// Share of reads, 0 to 1.
    pub(crate) read_ratio: f64,
    /// Keys in a page of a scan.
    pub(crate) scan_keys: u32,
    pub(crate) promise: Promise,
    pub(crate) writes: WriteOnce,
    pub(crate) endpoints: Vec<String>,
    pub(crate) tls: TlsOptions,
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

/// The settings that a command line means.
#[cfg(test)]
pub(crate) fn test_settings(line: &[&str]) -> Settings {
    crate::arguments::settings(line).expect("it makes sense")
}

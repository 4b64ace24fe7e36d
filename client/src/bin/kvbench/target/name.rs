//! Which store is driven, and what is known of it before it is asked.

use clap::ValueEnum;
use raftkv_client::command_line::DEFAULT_ENDPOINT;

use crate::settings::{Promise, WorkloadName};

/// What is driven. The load is the same for all: keys, values, clock and histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TargetName {
    /// raftkv, native protocol
    Native,
    /// raftkv, HTTP API: one request at a time on each keep-alive connection, further clients queue for it
    Http,
    /// etcd, v3 gRPC
    #[cfg(feature = "etcd")]
    Etcd,
    /// One Redis, pipelined
    #[cfg(feature = "redis")]
    Redis,
}

#[cfg(any(feature = "etcd", feature = "redis"))]
const NO_LEASES: &str = "lease is of the targets native and http alone";

/// How acknowledged writes of one key are ordered when they are read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Each has a revision.
    ByRevision,
    /// By what was acknowledged before what began.
    #[cfg_attr(
        not(feature = "redis"),
        allow(dead_code, reason = "every other store has revisions")
    )]
    ByValue,
}

impl TargetName {
    /// Where it is when nothing else is said: each store's own convention.
    pub(crate) fn default_endpoint(self) -> &'static str {
        match self {
            TargetName::Native => DEFAULT_ENDPOINT,
            TargetName::Http => "127.0.0.1:8080",
            #[cfg(feature = "etcd")]
            TargetName::Etcd => "127.0.0.1:2379",
            #[cfg(feature = "redis")]
            TargetName::Redis => "127.0.0.1:6379",
        }
    }

    /// Does it have reads that keep this promise, under that name?
    pub(crate) fn can_promise(self, promise: Promise) -> bool {
        match (self, promise) {
            (TargetName::Native, Promise::Linearizable | Promise::Stale) => true,
            (TargetName::Http, Promise::Linearizable) => true,
            (TargetName::Http, Promise::Stale) => false,
            #[cfg(feature = "etcd")]
            (TargetName::Etcd, Promise::Linearizable | Promise::Stale) => true,
            // The only copy there is.
            #[cfg(feature = "redis")]
            (TargetName::Redis, Promise::Linearizable) => true,
            #[cfg(feature = "redis")]
            (TargetName::Redis, Promise::Stale) => false,
        }
    }

    /// Why this workload is not put on it; `None`: it is.
    pub(crate) fn refusal(self, workload: WorkloadName) -> Option<&'static str> {
        match workload {
            WorkloadName::Put
            | WorkloadName::Get
            | WorkloadName::Mixed
            | WorkloadName::Cas
            | WorkloadName::Txn => None,
            WorkloadName::Scan => match self {
                TargetName::Native => None,
                _ => Some("scans are of the native target alone"),
            },
            WorkloadName::Lease => match self {
                TargetName::Native | TargetName::Http => None,
                #[cfg(feature = "etcd")]
                TargetName::Etcd => Some(NO_LEASES),
                #[cfg(feature = "redis")]
                TargetName::Redis => Some(NO_LEASES),
            },
        }
    }

    pub(crate) fn order(self) -> Order {
        match self {
            TargetName::Native | TargetName::Http => Order::ByRevision,
            #[cfg(feature = "etcd")]
            TargetName::Etcd => Order::ByRevision,
            #[cfg(feature = "redis")]
            TargetName::Redis => Order::ByValue,
        }
    }
}

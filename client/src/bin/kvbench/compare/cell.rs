//! One load of the comparison.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use super::arguments::Plan;
use super::store::{Running, StoreName};
use raftkv_client::command_line::TlsOptions;

use crate::distribution::Distribution;
use crate::settings::{Length, Promise, Route, Settings, WorkloadName, WriteOnce};
use crate::target::TargetName;

/// So many operations of an open loop may wait at once; what is due beyond is counted as not started.
const OPEN_LOOP_CLIENTS: usize = 1024;

const KEY_BYTES: usize = 16;
const MIXED_READ_RATIO: f64 = 0.9;
const TIMEOUT: Duration = Duration::from_secs(5);

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    Load(Load),
    /// From kill -9 of the leader to the first write that is acknowledged.
    FailOver {
        trials: u32,
    },
}

/// A row that is measured by a load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// Clients over the shared connections, each with its next operation once the last was answered.
    Closed { workload: WorkloadName, clients: usize },
    /// Puts that are due at a fixed rate.
    Open { rate: NonZeroU32 },
    /// As `Closed`, through the HTTP API, a connection each.
    Http {
        workload: WorkloadName,
        connections: usize,
    },
}

impl Cell {
    /// Can this store be asked for it?
    pub(super) fn is_for(&self, store: StoreName) -> bool {
        match (self, store) {
            (_, StoreName::Raftkv) | (Cell::Load(Load::Closed { .. } | Load::Open { .. }), _) => true,
            (Cell::Load(Load::Http { .. }) | Cell::FailOver { .. }, StoreName::Etcd | StoreName::Redis) => {
                false
            }
        }
    }

    /// The rate that is due, in an open loop.
    pub(super) fn rate_due(&self) -> Option<f64> {
        match self {
            Cell::Load(Load::Open { rate }) => Some(f64::from(rate.get())),
            Cell::Load(Load::Closed { .. } | Load::Http { .. }) | Cell::FailOver { .. } => None,
        }
    }
}

impl FromStr for Cell {
    type Err = String;

    fn from_str(text: &str) -> Result<Cell, String> {
        let (kind, number) = text.split_once(':').unwrap_or((text, ""));
        let number: NonZeroU32 = number.parse().map_err(|_| {
            format!("{text:?} is no cell: write a kind, a colon and a number, such as put:256")
        })?;
        let clients = number.get() as usize;
        let closed = |workload| Cell::Load(Load::Closed { workload, clients });
        let http = |workload| {
            let connections = clients;
            Cell::Load(Load::Http {
                workload,
                connections,
            })
        };
        match kind {
            "put" => Ok(closed(WorkloadName::Put)),
            "get" => Ok(closed(WorkloadName::Get)),
            "mixed" => Ok(closed(WorkloadName::Mixed)),
            "cas" => Ok(closed(WorkloadName::Cas)),
            "open" => Ok(Cell::Load(Load::Open { rate: number })),
            "http-put" => Ok(http(WorkloadName::Put)),
            "http-get" => Ok(http(WorkloadName::Get)),
            "failover" => Ok(Cell::FailOver { trials: number.get() }),
            _ => Err(format!(
                "{kind:?} is no kind of cell; known are put, get, mixed, cas, open, http-put, http-get and failover"
            )),
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |workload: &WorkloadName| match workload {
            WorkloadName::Put => "put",
            WorkloadName::Get => "get",
            WorkloadName::Mixed => "90 % get",
            WorkloadName::Cas => "compare and set",
            WorkloadName::Txn => "txn",
            WorkloadName::Lease => "lease",
            WorkloadName::Scan => "scan",
        };
        match self {
            Cell::Load(Load::Closed { workload, clients: 1 }) => write!(f, "{}, 1 client", name(workload)),
            Cell::Load(Load::Closed { workload, clients }) => {
                write!(f, "{}, {clients} clients", name(workload))
            }
            Cell::Load(Load::Open { rate }) => write!(f, "open loop, {rate} puts/s"),
            Cell::Load(Load::Http {
                workload,
                connections,
            }) => {
                write!(f, "HTTP {}, {connections} connections", name(workload))
            }
            Cell::FailOver { .. } => f.write_str("fail-over"),
        }
    }
}

impl Load {
    pub(super) fn settings(&self, plan: &Plan, running: &Running) -> Settings {
        let base = base(plan, running);
        match *self {
            Load::Closed { workload, clients } => Settings {
                workload,
                read_ratio: read_ratio(workload),
                clients,
                connections: plan.connections.min(clients),
                ..base
            },
            Load::Open { rate } => Settings {
                rate: Some(rate),
                ..base
            },
            Load::Http {
                workload,
                connections,
            } => Settings {
                target: TargetName::Http,
                endpoints: running.http_endpoints(),
                workload,
                read_ratio: read_ratio(workload),
                clients: connections,
                connections,
                ..base
            },
        }
    }
}

/// What writes every key once, before the first cell.
pub(super) fn preload(plan: &Plan, running: &Running) -> Settings {
    Settings {
        preload: true,
        length: Length::Operations(1),
        warmup: Duration::ZERO,
        ..base(plan, running)
    }
}

fn read_ratio(workload: WorkloadName) -> f64 {
    match workload {
        WorkloadName::Put | WorkloadName::Cas | WorkloadName::Txn | WorkloadName::Lease => 0.0,
        WorkloadName::Get | WorkloadName::Scan => 1.0,
        WorkloadName::Mixed => MIXED_READ_RATIO,
    }
}

fn base(plan: &Plan, running: &Running) -> Settings {
    Settings {
        target: running.target(),
        workload: WorkloadName::Put,
        read_ratio: 0.0,
        scan_keys: 100,
        promise: Promise::Linearizable,
        writes: WriteOnce::AtMostOnce,
        endpoints: running.endpoints(),
        tls: TlsOptions::default(),
        route: Route::Leader,
        clients: OPEN_LOOP_CLIENTS,
        connections: plan.connections,
        length: Length::Time(plan.duration),
        warmup: plan.warmup,
        rate: None,
        keys: plan.keys,
        key_bytes: KEY_BYTES,
        value_bytes: plan.value_bytes,
        distribution: Distribution::Uniform,
        preload: false,
        verify: false,
        timeout: TIMEOUT,
        server_pids: running.process_ids(),
        seed: 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_a_kind_and_a_number() {
        for (text, name) in [
            ("put:1", "put, 1 client"),
            ("mixed:256", "90 % get, 256 clients"),
            ("open:6500", "open loop, 6500 puts/s"),
            ("http-get:256", "HTTP get, 256 connections"),
            ("failover:10", "fail-over"),
        ] {
            assert_eq!(
                text.parse::<Cell>().map(|cell| cell.to_string()).as_deref(),
                Ok(name)
            );
        }
        for wrong in ["put", "put:", "put:0", "put:x", "scan:1", ":1", ""] {
            assert!(wrong.parse::<Cell>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn other_stores_have_no_http_api_of_ours_and_are_not_killed() {
        let is_for = |text: &str, store| text.parse::<Cell>().is_ok_and(|cell| cell.is_for(store));
        assert!(is_for("http-put:4", StoreName::Raftkv) && !is_for("http-put:4", StoreName::Etcd));
        assert!(is_for("failover:1", StoreName::Raftkv) && !is_for("failover:1", StoreName::Redis));
        assert!(is_for("open:10", StoreName::Redis) && is_for("cas:10", StoreName::Etcd));
    }
}

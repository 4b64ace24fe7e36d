//! The result as one JSON document.

use serde_json::{Value, json};

use super::settings_table::name_of;
use super::{LISTED_VIOLATIONS, Report};
use crate::ledger::Ledger;
use crate::machine::Machine;
use crate::recorder::{Latencies, percentile_us};
use crate::series::Point;
use crate::settings::Length;

impl Report {
    /// One document.
    pub(crate) fn json(&self) -> Value {
        json!({
            "versions": { "kvbench": env!("CARGO_PKG_VERSION"), "server": self.server_version },
            "machine": machine_json(&self.machine),
            "settings": self.settings_json(),
            "operations": self.recorder.answers,
            "seconds": self.elapsed.as_secs_f64(),
            "operations_per_second": self.operations_per_second(),
            "latency_us": {
                "all": latencies_json(&self.latencies()),
                "get": latencies_json(&self.recorder.reads),
                "put": latencies_json(&self.recorder.writes),
            },
            "server_cpu_us_per_operation": self.server_cpu_us(),
            "client_cpu_us_per_operation": self.client_cpu_us(),
            "errors": self.recorder.errors,
            "misses": self.recorder.misses,
            "conflicts": self.recorder.conflicts,
            "unstarted": self.unstarted,
            "series": self.series.iter().map(point_json).collect::<Vec<_>>(),
            "verified": self.ledger.as_ref().map(ledger_json),
        })
    }

    fn settings_json(&self) -> Value {
        let settings = &self.settings;
        let (duration_s, operations) = match settings.length {
            Length::Time(duration) => (Some(duration.as_secs_f64()), None),
            Length::Operations(count) => (None, Some(count)),
        };
        json!({
            "target": name_of(&settings.target),
            "workload": name_of(&settings.workload),
            "read_ratio": settings.read_ratio,
            "consistency": name_of(&settings.promise),
            "writes": name_of(&settings.writes),
            "endpoints": settings.endpoints,
            "route": name_of(&settings.route),
            "clients": settings.clients,
            "connections": settings.connections,
            "duration_s": duration_s,
            "operations": operations,
            "warmup_s": settings.warmup.as_secs_f64(),
            "rate": settings.rate,
            "keys": settings.keys,
            "key_bytes": settings.key_bytes,
            "value_bytes": settings.value_bytes,
            "distribution": name_of(&settings.distribution),
            "preload": settings.preload,
            "seed": settings.seed,
        })
    }
}

fn latencies_json(latencies: &Latencies) -> Value {
    if latencies.is_empty() {
        return Value::Null;
    }
    json!({
        "count": latencies.len(),
        "mean": latencies.mean() / 1_000.0,
        "p50": percentile_us(latencies, 50.0),
        "p90": percentile_us(latencies, 90.0),
        "p99": percentile_us(latencies, 99.0),
        "p999": percentile_us(latencies, 99.9),
        "max": percentile_us(latencies, 100.0),
    })
}

/// Numbers of one interval. Their names are not those of the whole run, so that a search for those finds one place.
fn point_json(point: &Point) -> Value {
    json!({
        "at_s": point.at_s,
        "rate": point.rate,
        "p50_us": point.latency.map(|latency| latency.p50_us),
        "p99_us": point.latency.map(|latency| latency.p99_us),
        "max_us": point.latency.map(|latency| latency.max_us),
        "failed": point.failed,
    })
}

fn machine_json(machine: &Machine) -> Value {
    json!({
        "cores": machine.cores,
        "cpu": machine.cpu,
        "kernel": machine.kernel,
        "memory_mib": machine.memory_mib,
    })
}

fn ledger_json(ledger: &Ledger) -> Value {
    let listed = ledger.violations().iter().take(LISTED_VIOLATIONS);
    json!({
        "acknowledged": ledger.acknowledged(),
        "unknown": ledger.in_doubt(),
        "wrong": ledger.violations().len(),
        "violations": listed.map(ToString::to_string).collect::<Vec<_>>(),
    })
}

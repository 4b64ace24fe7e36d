//! The result, for people and for programs.

use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::arguments::{Length, Settings};
use crate::cpu::CpuTime;
use crate::ledger::Ledger;
use crate::recorder::{Latencies, Recorder, percentile_us};
use crate::run::per_second;

/// Broken promises beyond so many are counted, not listed.
const LISTED_VIOLATIONS: usize = 10;

pub(crate) struct Report {
    pub(crate) settings: Settings,
    pub(crate) server_version: String,
    pub(crate) recorder: Recorder,
    pub(crate) elapsed: Duration,
    pub(crate) cpu: CpuTime,
    /// Operations of an open loop that were due and for which there was no free client.
    pub(crate) unstarted: u64,
    /// After reading back; `None`: not asked for.
    pub(crate) ledger: Option<Ledger>,
}

impl Report {
    pub(crate) fn exit_code(&self) -> ExitCode {
        let is_violated = self
            .ledger
            .as_ref()
            .is_some_and(|ledger| !ledger.violations().is_empty());
        ExitCode::from(u8::from(is_violated))
    }

    fn operations_per_second(&self) -> f64 {
        per_second(self.recorder.answers, self.elapsed)
    }

    fn cpu_us_per_operation(&self, spent: Duration) -> f64 {
        spent.as_secs_f64() * 1e6 / self.recorder.answers.max(1) as f64
    }

    /// Server CPU per operation; `None`: not asked for.
    fn server_cpu_us(&self) -> Option<f64> {
        (!self.settings.server_pids.is_empty()).then(|| self.cpu_us_per_operation(self.cpu.servers))
    }

    /// A summary.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        self.write_text(&mut text)
            .expect("writing to a string does not fail");
        text
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        let (settings, recorder) = (&self.settings, &self.recorder);
        let loop_kind = settings
            .rate
            .map_or("closed loop".to_owned(), |rate| format!("{rate} per second due"));
        writeln!(
            out,
            "{} · {} clients over {} connections · {loop_kind} · {} keys {} · values of {} bytes",
            name_of(&settings.workload),
            settings.clients,
            settings.connections,
            settings.keys,
            name_of(&settings.distribution),
            settings.value_bytes
        )?;
        let (count, seconds) = (recorder.answers, self.elapsed.as_secs_f64());
        writeln!(
            out,
            "{:.0} operations per second ({count} in {seconds:.1} s)",
            self.operations_per_second()
        )?;
        for (name, latencies) in [("get", &recorder.reads), ("put", &recorder.writes)] {
            if !latencies.is_empty() {
                write_latencies(out, name, latencies)?;
            }
        }
        if let Some(server) = self.server_cpu_us() {
            let client = self.cpu_us_per_operation(self.cpu.client);
            writeln!(
                out,
                "CPU per operation: servers {server:.1} µs together, this program {client:.1} µs"
            )?;
        }
        for (reason, count) in &recorder.errors {
            writeln!(out, "failed ({reason}): {count}")?;
        }
        for (what, count) in [
            ("gets that found no key", recorder.misses),
            ("due but not started", self.unstarted),
        ] {
            if count > 0 {
                writeln!(out, "{what}: {count}")?;
            }
        }
        self.ledger
            .as_ref()
            .map_or(Ok(()), |ledger| write_ledger(out, ledger))
    }

    /// One document.
    pub(crate) fn json(&self) -> Value {
        json!({
            "versions": { "kvbench": env!("CARGO_PKG_VERSION"), "server": self.server_version },
            "settings": self.settings_json(),
            "operations": self.recorder.answers,
            "seconds": self.elapsed.as_secs_f64(),
            "operations_per_second": self.operations_per_second(),
            "latency_us": {
                "all": latencies_json(&all(&self.recorder)),
                "get": latencies_json(&self.recorder.reads),
                "put": latencies_json(&self.recorder.writes),
            },
            "server_cpu_us_per_operation": self.server_cpu_us(),
            "client_cpu_us_per_operation": self.cpu_us_per_operation(self.cpu.client),
            "errors": self.recorder.errors,
            "misses": self.recorder.misses,
            "unstarted": self.unstarted,
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
            "workload": name_of(&settings.workload),
            "read_ratio": settings.read_ratio,
            "consistency": format!("{:?}", settings.consistency).to_lowercase(),
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

/// A setting as it is spelt on the command line.
fn name_of(value: &impl ValueEnum) -> String {
    value
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned())
}

fn all(recorder: &Recorder) -> Latencies {
    let mut all = recorder.reads.clone();
    all.add(&recorder.writes).expect("both have the same bounds");
    all
}

fn write_latencies(out: &mut String, name: &str, latencies: &Latencies) -> std::fmt::Result {
    let us = |percentile| percentile_us(latencies, percentile);
    writeln!(
        out,
        "{name} latency µs: p50 {:.0}, p90 {:.0}, p99 {:.0}, p99.9 {:.0}, max {:.0}",
        us(50.0),
        us(90.0),
        us(99.0),
        us(99.9),
        us(100.0)
    )
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

fn write_ledger(out: &mut String, ledger: &Ledger) -> std::fmt::Result {
    let (acknowledged, in_doubt) = (ledger.acknowledged(), ledger.in_doubt());
    let violations = ledger.violations();
    writeln!(
        out,
        "read back: {acknowledged} acknowledged writes, {in_doubt} of unknown outcome, {} wrong",
        violations.len()
    )?;
    violations
        .iter()
        .take(LISTED_VIOLATIONS)
        .try_for_each(|violation| writeln!(out, "  {violation}"))
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

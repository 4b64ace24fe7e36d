//! The result as a summary for people.

use std::fmt::Write;

use super::settings_table::rows;
use super::{LISTED_VIOLATIONS, Report};
use crate::ledger::Ledger;
use crate::recorder::{Latencies, percentile_us};
use crate::settings::WorkloadName;

impl Report {
    /// A summary.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        self.write_text(&mut text)
            .expect("writing to a string does not fail");
        text
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        let recorder = &self.recorder;
        for (name, value) in rows(self) {
            writeln!(out, "{name}: {value}")?;
        }
        let (count, seconds) = (recorder.answers, self.elapsed.as_secs_f64());
        writeln!(
            out,
            "{:.0} operations per second ({count} in {seconds:.1} s)",
            self.operations_per_second()
        )?;
        if recorder.scanned_keys > 0 {
            let rate = recorder.scanned_keys as f64 / seconds;
            writeln!(out, "{rate:.0} keys per second")?;
        }
        let read = match self.settings.workload {
            WorkloadName::Scan => "scan",
            _ => "get",
        };
        let write = match self.settings.workload {
            WorkloadName::Txn => "txn",
            WorkloadName::Lease => "lease",
            _ => "put",
        };
        for (name, latencies) in [(read, &recorder.reads), (write, &recorder.writes)] {
            if !latencies.is_empty() {
                write_latencies(out, name, latencies)?;
            }
        }
        if let Some(server) = self.server_cpu_us() {
            let client = self.client_cpu_us();
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
            ("compares that another came before", recorder.conflicts),
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

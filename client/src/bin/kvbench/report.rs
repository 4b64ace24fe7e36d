//! The result, for people and for programs.

mod html;
mod json;
mod settings_table;
mod text;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crate::cpu::CpuTime;
use crate::ledger::Ledger;
use crate::machine::Machine;
use crate::recorder::{Latencies, Recorder};
use crate::run::per_second;
use crate::series::Point;
use crate::settings::Settings;
use crate::trouble::Trouble;

/// Broken promises beyond so many are counted, not listed.
const LISTED_VIOLATIONS: usize = 10;

/// Everything that is told about one run.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) settings: Settings,
    pub(crate) server_version: String,
    pub(crate) machine: Machine,
    pub(crate) recorder: Recorder,
    pub(crate) series: Vec<Point>,
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

    pub(crate) fn operations_per_second(&self) -> f64 {
        per_second(self.recorder.answers, self.elapsed)
    }

    pub(crate) fn client_cpu_us(&self) -> f64 {
        self.cpu_us_per_operation(self.cpu.client)
    }

    fn cpu_us_per_operation(&self, spent: Duration) -> f64 {
        spent.as_secs_f64() * 1e6 / self.recorder.answers.max(1) as f64
    }

    /// Server CPU per operation; `None`: not asked for.
    pub(crate) fn server_cpu_us(&self) -> Option<f64> {
        (!self.settings.server_pids.is_empty()).then(|| self.cpu_us_per_operation(self.cpu.servers))
    }

    /// Latencies of reads and writes together.
    pub(crate) fn latencies(&self) -> Latencies {
        let mut all = self.recorder.reads.clone();
        all.add(&self.recorder.writes).expect("both have the same bounds");
        all
    }
}

/// Writes a result where it was asked for.
pub(crate) fn write_file(path: &Path, text: &str) -> Result<(), Trouble> {
    std::fs::write(path, text).map_err(|source| Trouble::WriteFile {
        path: path.to_owned(),
        source,
    })
}

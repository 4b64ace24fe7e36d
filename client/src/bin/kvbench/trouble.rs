//! Why there is no result.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use thiserror::Error;

use crate::plot::PlotError;

#[derive(Debug, Error)]
pub(crate) enum Trouble {
    #[error("{0}")]
    Usage(String),
    #[error("cannot start: {0}; the system is out of file descriptors or memory")]
    Runtime(io::Error),
    #[error("no server can be used: {0}; check --endpoints and that a majority of the cluster runs")]
    Unavailable(String),
    #[error(
        "the operations are refused before they are sent ({reason}): check --key-bytes and --value-bytes"
    )]
    Refused { reason: &'static str },
    #[error(
        "{phase} did not come to its end: {failures} operations failed, {left} keys are left; look at the servers"
    )]
    TooManyFailures {
        phase: &'static str,
        failures: u64,
        left: u64,
    },
    #[error(
        "cannot read the CPU time of process {pid}: {source}; --server-pids takes ids of running processes, on Linux"
    )]
    Cpu { pid: u32, source: io::Error },
    #[error("cannot write {}: {source}", path.display())]
    WriteFile { path: PathBuf, source: io::Error },
    #[error("cannot draw a plot: {0}")]
    Plot(PlotError),
    #[error("cannot prepare {what}: {source}")]
    Prepare { what: String, source: io::Error },
    #[error("{} lies in memory ({file_system}), where a sync costs nothing: name a directory on a disk with --dir", path.display())]
    InMemory { path: PathBuf, file_system: String },
    #[error("{name} did not become ready; its output ends:\n{output}")]
    NotReady { name: String, output: String },
    #[error("no write was acknowledged within {after:?} of the leader's end")]
    NoFailOver { after: Duration },
    #[error("interrupted; what was started is stopped and removed")]
    Interrupted,
}

impl Trouble {
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Trouble::Usage(_)
            | Trouble::Refused { .. }
            | Trouble::Cpu { .. }
            | Trouble::WriteFile { .. }
            | Trouble::InMemory { .. } => ExitCode::from(2),
            Trouble::Plot(_)
            | Trouble::Runtime(_)
            | Trouble::Unavailable(_)
            | Trouble::TooManyFailures { .. }
            | Trouble::Prepare { .. }
            | Trouble::NotReady { .. }
            | Trouble::NoFailOver { .. } => ExitCode::from(3),
            // As a shell says of a process that ended by SIGINT.
            Trouble::Interrupted => ExitCode::from(130),
        }
    }
}

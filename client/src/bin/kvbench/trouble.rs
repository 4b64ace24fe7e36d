//! Why there is no result.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

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
}

impl Trouble {
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Trouble::Usage(_) | Trouble::Refused { .. } | Trouble::Cpu { .. } | Trouble::WriteFile { .. } => {
                ExitCode::from(2)
            }
            Trouble::Plot(_)
            | Trouble::Runtime(_)
            | Trouble::Unavailable(_)
            | Trouble::TooManyFailures { .. } => ExitCode::from(3),
        }
    }
}

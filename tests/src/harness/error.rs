//! What can keep the harness from doing its part.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// The harness could not do what a test asked; says nothing about the server.
#[derive(Debug, Error)]
pub enum HarnessError {
    /// The product could not be built.
    #[error("cargo could not build server and kvctl ({status}); its output is above")]
    Build {
        /// How cargo ended.
        status: std::process::ExitStatus,
    },
    /// A binary is not where it should be.
    #[error("there is no {}: build it, or point RAFTKV_BIN_DIR at a directory that holds server and kvctl", path.display())]
    NoBinary {
        /// Where it should be.
        path: PathBuf,
    },
    /// All blocks of ports are taken.
    #[error("no free block of ports on this machine: are hundreds of test processes running?")]
    NoPorts,
    /// Something the system refused.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl HarnessError {
    pub(super) fn system(what: &'static str) -> impl FnOnce(io::Error) -> HarnessError {
        move |source| HarnessError::System { what, source }
    }
}

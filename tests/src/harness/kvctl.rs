//! The command line client, as people and scripts use it.

use std::io::Write;
use std::process::{Command, Stdio};

use super::Binaries;

/// Runs `kvctl` against these endpoints.
#[derive(Clone, Debug)]
pub struct Kvctl {
    endpoints: String,
}

/// What a run printed, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Printed {
    /// The exit code.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Kvctl {
    /// A client of these native ports of 127.0.0.1.
    #[must_use]
    pub fn new(native_ports: &[u16]) -> Kvctl {
        let endpoints: Vec<String> = native_ports
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        Kvctl {
            endpoints: endpoints.join(","),
        }
    }

    /// Runs it with nothing on standard input.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Printed {
        self.run_with_input(arguments, b"")
    }

    /// Runs it with this on standard input.
    ///
    /// # Panics
    /// When it can not be run.
    #[must_use]
    pub fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Printed {
        let mut child = Command::new(&Binaries::get().kvctl)
            .args(arguments)
            .env("KVCTL_ENDPOINTS", &self.endpoints)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kvctl can be started");
        if let Some(mut stdin) = child.stdin.take() {
            // A kvctl that does not read its input may be gone already.
            let _ = stdin.write_all(input);
        }
        let output = child.wait_with_output().expect("a child can be waited for");
        Printed {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

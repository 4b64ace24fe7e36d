//! The command line client, as people and scripts use it.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use rustix::process::{Pid, Signal, kill_process};

use super::{Binaries, Deadline, wait_for};

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

/// What a run printed on standard output, if it succeeded.
///
/// # Panics
/// When it did not.
#[track_caller]
pub fn ok(printed: Printed) -> String {
    assert_eq!(printed.code, Some(0), "{printed:?}");
    printed.stdout
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
            .env("KVCTL", &Binaries::get().kvctl)
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

    /// Starts one that goes on until it is ended.
    ///
    /// # Panics
    /// When it can not be started.
    #[must_use]
    pub fn start(&self, arguments: &[&str]) -> RunningKvctl {
        let mut child = Command::new(&Binaries::get().kvctl)
            .args(arguments)
            .env("KVCTL_ENDPOINTS", &self.endpoints)
            // What it runs may call it.
            .env("KVCTL", &Binaries::get().kvctl)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kvctl can be started");
        let stdout = child.stdout.take().expect("it is piped");
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
            lines.try_for_each(|line| sender.send(line))
        });
        RunningKvctl { child, lines }
    }
}

/// A `kvctl` that runs; killed when dropped.
#[derive(Debug)]
pub struct RunningKvctl {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl RunningKvctl {
    /// Waits for the next line on standard output.
    ///
    /// # Panics
    /// When there is none by the deadline.
    #[track_caller]
    pub fn line(&self, deadline: Deadline) -> String {
        let line = self.lines.recv_timeout(deadline.left());
        line.unwrap_or_else(|error| panic!("waited in vain for a line of kvctl: {error}"))
    }

    /// As Ctrl-C does, and how it ended: with the lines that were not taken yet.
    ///
    /// # Panics
    /// When it does not end by the deadline.
    #[track_caller]
    pub fn interrupt(self, deadline: Deadline) -> Printed {
        self.signal(Signal::INT);
        self.wait(deadline)
    }

    /// Stops it, as if it had no processor any more.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Waits for its end, and how it ended: with the lines that were not taken yet.
    ///
    /// # Panics
    /// When it does not end by the deadline.
    #[track_caller]
    pub fn wait(mut self, deadline: Deadline) -> Printed {
        let status = wait_for("the end of kvctl", deadline, || {
            self.child.try_wait().ok().flatten().ok_or("it still runs")
        });
        let mut stderr = String::new();
        if let Some(mut errors) = self.child.stderr.take() {
            errors.read_to_string(&mut stderr).expect("a text");
        }
        Printed {
            code: status.code(),
            stdout: self.lines.iter().map(|line| line + "\n").collect(),
            stderr,
        }
    }
}

impl Drop for RunningKvctl {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

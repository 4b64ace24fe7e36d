//! One server process.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{Binaries, Deadline, HttpClient, wait_for};

/// How long a process may take to end after a signal that ends it.
const END_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the harness's own requests wait.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Lines of output that a failing test shows of each node.
const SHOWN_LINES: usize = 40;

/// The command line of a node.
#[derive(Clone, Debug)]
pub struct NodeFlags {
    /// Name, used for the log file too.
    pub name: String,
    /// All flags.
    pub arguments: Vec<String>,
    /// The HTTP port of 127.0.0.1 that they name.
    pub http_port: u16,
    /// The native port.
    pub native_port: u16,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Exit {
        match status.code() {
            Some(code) => Exit::Code(code),
            None => Exit::Signal(status.signal().unwrap_or(0)),
        }
    }
}

/// A server process, or the place of one. Killed when dropped.
#[derive(Debug)]
pub struct Node {
    flags: NodeFlags,
    directory: PathBuf,
    process: Option<RefCell<Child>>,
    http: HttpClient,
}

impl Node {
    /// A node that runs in `directory` (its working directory, where its output is kept too); not started yet.
    #[must_use]
    pub fn new(flags: NodeFlags, directory: &Path) -> Node {
        Node {
            http: HttpClient::new(flags.http_port, REQUEST_TIMEOUT),
            directory: directory.to_owned(),
            process: None,
            flags,
        }
    }

    /// Starts the process; it may not listen yet when this returns.
    ///
    /// # Panics
    /// When it already runs, or can not be started.
    pub fn start(&mut self) {
        assert!(!self.is_running(), "{} already runs", self.name());
        let output = self.open_output();
        let errors = output.try_clone().expect("a second handle of an open file");
        let child = Command::new(&Binaries::get().server)
            .args(&self.flags.arguments)
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            // A group of its own: Ctrl-C at the test's terminal must not end the node before its logs were shown.
            .process_group(0)
            .spawn();
        self.process = Some(RefCell::new(
            child.unwrap_or_else(|error| panic!("starting the server: {error}")),
        ));
    }

    /// `kill -9`; returns once the process is gone.
    pub fn kill9(&mut self) {
        if let Some(child) = self.process.take() {
            let mut child = child.into_inner();
            // It may be gone already.
            let _ = child.kill();
            child.wait().expect("a child can be waited for");
        }
    }

    /// `SIGTERM`, and how the process ended.
    ///
    /// # Panics
    /// When it does not run, or does not end.
    pub fn stop(&mut self) -> Exit {
        self.signal(Signal::TERM);
        self.wait_for_exit()
    }

    /// Waits until the process ends by itself.
    ///
    /// # Panics
    /// When it was not started, or does not end.
    pub fn wait_for_exit(&mut self) -> Exit {
        let name = self.name();
        let child = self
            .process
            .as_ref()
            .unwrap_or_else(|| panic!("{name} does not run"));
        let deadline = Deadline::after(END_TIMEOUT);
        let status = wait_for(&format!("the end of {name}"), deadline, || {
            child
                .borrow_mut()
                .try_wait()
                .ok()
                .flatten()
                .ok_or("it still runs")
        });
        self.process = None;
        status.into()
    }

    /// `SIGSTOP`: the process stands still, its connections stay open.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// `SIGCONT`.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Does the process run (or stand paused)?
    #[must_use]
    pub fn is_running(&self) -> bool {
        let runs = |child: &RefCell<Child>| matches!(child.borrow_mut().try_wait(), Ok(None));
        self.process.as_ref().is_some_and(runs)
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.flags.name
    }

    /// The process, while it runs.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(|child| child.borrow().id())
    }

    /// Its HTTP API.
    #[must_use]
    pub fn http(&self) -> &HttpClient {
        &self.http
    }

    /// Its HTTP port.
    #[must_use]
    pub fn http_port(&self) -> u16 {
        self.flags.http_port
    }

    /// Its native port, behind the proxy if there is one.
    #[must_use]
    pub fn native_port(&self) -> u16 {
        self.flags.native_port
    }

    /// All it has printed, over all its starts.
    #[must_use]
    pub fn output(&self) -> String {
        let bytes = fs::read(self.output_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The end of its output, for a failing test.
    #[must_use]
    pub fn output_tail(&self) -> String {
        let output = self.output();
        let lines: Vec<&str> = output.lines().collect();
        let mut text = format!(
            "--- {}, last lines of {}\n",
            self.name(),
            self.output_path().display()
        );
        for line in &lines[lines.len().saturating_sub(SHOWN_LINES)..] {
            let _ = writeln!(text, "{line}");
        }
        text
    }

    /// Does `/readyz` say that it is ready? The error says what it is instead.
    ///
    /// # Errors
    /// When it is not ready, or does not answer.
    pub fn ready(&self) -> Result<(), String> {
        match self.http.get_path("/readyz") {
            Ok(reply) if reply.status == 200 => Ok(()),
            Ok(reply) => Err(format!("{} answers {} {}", self.name(), reply.status, reply.body)),
            Err(error) => Err(format!("{} does not answer: {error}", self.name())),
        }
    }

    /// Waits until it is ready.
    ///
    /// # Panics
    /// When it is not by the deadline, or its process ended.
    #[track_caller]
    pub fn wait_until_ready(&self, deadline: Deadline) {
        wait_for("a ready node", deadline, || {
            let ready = self.ready();
            assert!(
                ready.is_ok() || self.is_running(),
                "{} ended; its output is below",
                self.name()
            );
            ready
        });
    }

    fn signal(&self, signal: Signal) {
        let child = self
            .process
            .as_ref()
            .unwrap_or_else(|| panic!("{} does not run", self.name()));
        let pid = Pid::from_child(&child.borrow());
        kill_process(pid, signal).unwrap_or_else(|error| panic!("signal to {}: {error}", self.name()));
    }

    fn output_path(&self) -> PathBuf {
        self.directory.join(format!("{}.log", self.name()))
    }

    fn open_output(&self) -> File {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.output_path());
        file.unwrap_or_else(|error| panic!("opening {}: {error}", self.output_path().display()))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.output_tail());
        }
        self.kill9();
    }
}

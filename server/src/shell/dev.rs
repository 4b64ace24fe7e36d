//! `server dev`: a whole cluster on this machine, one child process per node.
//!
//! Each child's standard input is a pipe from this process and ends with it, however it ends; a child stops gracefully
//! at that end (`--stop-with-input`). So nothing is left running, and no signal needs to be passed on.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use super::ServerError;
use super::console::{complain, tell};
use crate::config::{DevFlags, LogFlags, LogFormat, LogLevel};

/// HTTP port of node 1; node k has the k-th from here.
const FIRST_HTTP_PORT: u16 = 8080;

/// A cluster that is not ready by then has said why in its log lines.
const READY_TIMEOUT: Duration = Duration::from_secs(10);

/// Between two looks whether the cluster is ready.
const READY_PAUSE: Duration = Duration::from_millis(50);

struct DevNode {
    name: String,
    http: u16,
    child: Child,
    /// Dropped to stop the node.
    lifeline: Option<ChildStdin>,
}

/// What happens to the cluster, as its watchers tell.
enum DevEvent {
    Interrupted,
    /// A node's log has ended, and so has the node.
    Ended(usize),
}

/// Runs a local cluster until Ctrl-C.
///
/// # Errors
/// When a node can not be started, or ends with an error.
pub(super) fn run_dev(flags: &DevFlags, log: &LogFlags) -> Result<(), ServerError> {
    let (events, happened) = mpsc::channel();
    watch_signals(events.clone())?;
    let mut nodes = Vec::new();
    for number in 1..=flags.nodes {
        nodes.push(DevNode::start(number, flags, log)?);
    }
    for (place, node) in nodes.iter_mut().enumerate() {
        node.relay_log(place, events.clone())?;
    }
    let outcome = wait_until_ready(&nodes, &happened).unwrap_or_else(|| watch(&mut nodes, &happened));
    for node in &mut nodes {
        node.lifeline = None;
    }
    for node in &mut nodes {
        // It is gone or about to go; how it ended was said by its own log.
        let _ = node.child.wait();
    }
    outcome
}

/// Introduces the cluster once it serves; `Some` when it should be stopped instead.
fn wait_until_ready(nodes: &[DevNode], happened: &Receiver<DevEvent>) -> Option<Result<(), ServerError>> {
    let until = Instant::now() + READY_TIMEOUT;
    while !nodes.iter().all(DevNode::is_ready) {
        if Instant::now() > until {
            tell(format_args!(
                "The cluster is not ready yet; the lines above say why."
            ));
            return None;
        }
        match happened.recv_timeout(READY_PAUSE) {
            Ok(DevEvent::Interrupted) => return Some(Ok(())),
            Ok(DevEvent::Ended(place)) => {
                return Some(Err(ServerError::DevNode {
                    name: nodes[place].name.clone(),
                }));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Some(Ok(())),
        }
    }
    introduce(nodes);
    None
}

fn introduce(nodes: &[DevNode]) {
    tell(format_args!(
        "The cluster is ready. Every node answers every request:"
    ));
    for node in nodes {
        tell(format_args!("  {}  http://127.0.0.1:{}", node.name, node.http));
    }
    tell(format_args!("Try, in another terminal:"));
    tell(format_args!(
        "  curl -X POST http://127.0.0.1:{FIRST_HTTP_PORT}/set -d '{{\"key\":\"greeting\",\"value\":\"hello\"}}'"
    ));
    let last = nodes.last().map_or(FIRST_HTTP_PORT, |node| node.http);
    tell(format_args!("  curl 'http://127.0.0.1:{last}/get?key=greeting'"));
    tell(format_args!("Ctrl-C stops it."));
}

/// Waits for Ctrl-C. A node that was killed is no reason to stop: that is what people try.
fn watch(nodes: &mut [DevNode], happened: &Receiver<DevEvent>) -> Result<(), ServerError> {
    let mut running = nodes.len();
    while let Ok(DevEvent::Ended(place)) = happened.recv() {
        let node = &mut nodes[place];
        let status = node.child.wait().map_err(|source| ServerError::Dev { source })?;
        if status.code().is_some() {
            return Err(ServerError::DevNode {
                name: node.name.clone(),
            });
        }
        tell(format_args!(
            "{} was killed ({status}); the others go on. Start `server dev` again to bring it back.",
            node.name
        ));
        running -= 1;
        if running == 0 {
            break;
        }
    }
    Ok(())
}

fn watch_signals(events: Sender<DevEvent>) -> Result<(), ServerError> {
    let start = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        if let Ok(runtime) = runtime {
            runtime.block_on(super::signals::stop_requested());
        }
        // The receiver is gone only when the program ends anyway.
        let _ = events.send(DevEvent::Interrupted);
    };
    let thread = std::thread::Builder::new().name("signals".into()).spawn(start);
    thread.map(drop).map_err(|source| ServerError::Dev { source })
}

impl DevNode {
    fn start(number: u16, flags: &DevFlags, log: &LogFlags) -> Result<DevNode, ServerError> {
        let failed = |source| ServerError::Dev { source };
        let name = format!("node{number}");
        let http = FIRST_HTTP_PORT + number - 1;
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        command.args(["--id", &name, "--http", &format!(":{http}"), "--stop-with-input"]);
        let peers: Vec<_> = (1..=flags.nodes)
            .filter(|k| *k != number)
            .map(|k| format!("node{k}"))
            .collect();
        if !peers.is_empty() {
            command.args(["--peers", &peers.join(",")]);
        }
        command.arg("--data-dir").arg(flags.data_dir.join(&name));
        command
            .args(log_arguments(log))
            .stdin(Stdio::piped())
            .stderr(Stdio::piped());
        // A group of its own: Ctrl-C reaches this process alone, which then stops its nodes.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(failed)?;
        let lifeline = child.stdin.take();
        Ok(DevNode {
            name,
            http,
            child,
            lifeline,
        })
    }

    /// Copies the node's log lines, labelled; their end is the node's end.
    fn relay_log(&mut self, place: usize, events: Sender<DevEvent>) -> Result<(), ServerError> {
        let Some(log) = self.child.stderr.take() else {
            return Ok(());
        };
        let name = self.name.clone();
        let relay = move || {
            for line in BufReader::new(log).lines().map_while(Result::ok) {
                complain(format_args!("{name} | {line}"));
            }
            let _ = events.send(DevEvent::Ended(place));
        };
        let thread = std::thread::Builder::new()
            .name(format!("log of {}", self.name))
            .spawn(relay);
        thread.map(drop).map_err(|source| ServerError::Dev { source })
    }

    fn is_ready(&self) -> bool {
        asks_ready(self.http).unwrap_or(false)
    }
}

fn log_arguments(log: &LogFlags) -> [&'static str; 4] {
    let format = match log.log_format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    };
    let level = match log.log_level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    ["--log-format", format, "--log-level", level]
}

/// One plain `GET /readyz`; the status line says all.
fn asks_ready(port: u16) -> std::io::Result<bool> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, READY_TIMEOUT)?;
    stream.set_read_timeout(Some(READY_TIMEOUT))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut start = [0; 12];
    stream.read_exact(&mut start)?;
    Ok(start.ends_with(b" 200"))
}

//! What was typed.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

/// A strongly consistent, fault-tolerant key-value store.
///
/// One process is one node. Started alone it is a cluster of one; started with --peers on each node, the nodes form a
/// cluster as soon as all have met. Every node answers every request. Flags may be written with one dash or two.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "server",
    version,
    max_term_width = 100,
    args_conflicts_with_subcommands = true,
    after_help = EXAMPLES,
)]
pub struct Flags {
    #[command(subcommand)]
    #[allow(missing_docs)]
    pub command: Option<Command>,

    /// This node's name, such as node1. A name that ends in a number k listens on 127.0.0.1:(7000+k) unless --listen
    /// says otherwise.
    #[arg(long, value_name = "NAME")]
    pub id: Option<String>,

    /// Where to serve the HTTP API. Without a host (:8080) it is this machine only; 0.0.0.0:8080 is every interface.
    /// Left out: no HTTP API.
    #[arg(long, value_name = "[HOST]:PORT")]
    pub http: Option<String>,

    /// Where to answer /healthz, /readyz and /metrics, and nothing else, always without TLS: for an orchestrator and monitoring
    /// that have no certificate. They are answered at --http, too.
    #[arg(long, value_name = "[HOST]:PORT")]
    pub probes: Option<String>,

    /// Where to listen for the other nodes and for native clients (one port for both).
    #[arg(long, value_name = "[HOST]:PORT")]
    pub listen: Option<String>,

    /// The other nodes to form a cluster with, separated by commas: NAME (by the convention of --id) or NAME=HOST:PORT.
    /// Every node must be told the same set. Once the cluster is formed, what it has stored wins over this flag.
    #[arg(long, value_name = "LIST")]
    pub peers: Vec<String>,

    /// Join a running cluster instead of forming one: the --listen address of any of its members. The node waits until it is
    /// let in with `kvctl member add NAME` (or `kvctl member replace NAME`, in the place of one that is lost). Without effect
    /// once it is a member.
    #[arg(long, value_name = "HOST:PORT")]
    pub join: Option<String>,

    /// Where to keep everything; made if it does not exist. Default: ./data/NAME
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// The address other nodes are told, where --listen is not reachable for them.
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Option<String>,

    /// The HTTP address clients are told, where --http is not reachable for them.
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise_http: Option<String>,

    /// How long a request waits for its answer, unless it says so itself. In milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 5000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub request_timeout_ms: u64,

    /// Keep leader leases, so that reads that ask for it (consistency leader_lease) are served by the leader alone: how far
    /// the rate of any node's clock may be off, in millionths. Quartz is within 200; virtual machines that are moved may need
    /// more. Beyond it such a read may be stale. All nodes must be told the same; change it with all nodes stopped.
    #[arg(long, value_name = "PPM", value_parser = clap::value_parser!(u32).range(1..=200_000))]
    pub leader_leases_max_drift_ppm: Option<u32>,

    /// Stop gracefully when standard input ends: for a parent that wants to take its nodes along.
    #[arg(long, hide = true)]
    pub stop_with_input: bool,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub log: LogFlags,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub tls: TlsFlags,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub storage: StorageFlags,
}

/// Who may connect.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "TLS")]
pub struct TlsFlags {
    /// This node's certificate (PEM, with those between it and its authority). With it all connections are within TLS 1.3, on
    /// both ports and between nodes, and an address without a host (:8080) is every interface. It must name the hosts and IP
    /// addresses at which others reach this node, and allow both ends of a connection: `kvctl certificate` makes such ones.
    /// Files that change are read again by themselves.
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// Its key (PEM). With one of an elliptic curve a new connection costs the node far less than with RSA.
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// The authorities that sign certificates of nodes and clients (PEM). A certificate that allows both ends of a connection
    /// (extended key usage serverAuth and clientAuth) makes a node, one for clientAuth alone a client.
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,

    /// Lists of certificates that the authorities have revoked (PEM), one of each authority. Who presents one of those is not let
    /// in, and who had connected before is cut off once the file says so. `kvctl certificate revoke` adds to such a list.
    #[arg(long, value_name = "FILE")]
    pub tls_crl: Option<PathBuf>,

    /// Must clients have a certificate, too? They must where --tls-ca is given, unless this says otherwise.
    #[arg(long, value_enum, value_name = "WHEN")]
    pub tls_client_certificates: Option<AskClients>,
}

/// Must clients have a certificate?
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AskClients {
    /// Nobody connects without one.
    Required,
    /// Whoever can reach a port may use it; other nodes still need one.
    Optional,
}

/// How much memory and disk the node takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Memory and disk")]
pub struct StorageFlags {
    /// Memory for writes that are not in the base on disk yet, MiB. More: less CPU for each write, and more of the log to
    /// replay after a crash (at most a third more than this, for keys that are written again and again).
    #[arg(long, value_name = "MIB", default_value_t = 192, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub overlay_mib: u64,

    /// Memory for records that were read from disk, MiB.
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub cache_mib: u64,

    /// History is kept for so long, seconds of the cluster's own time. The leader's setting decides for all nodes.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub history_seconds: u64,

    /// ... at most so many changes.
    #[arg(long, value_name = "COUNT", default_value_t = 10_000_000)]
    pub history_events: u64,

    /// ... and at most so much on disk, MiB.
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(0..=1 << 30))]
    pub history_mib: u64,

    /// Log kept behind what the base holds, for nodes that are behind, MiB. A node further behind gets a snapshot; until it
    /// has caught up, up to 16 times as much is kept, or as much as the snapshot is large.
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(0..=1 << 20))]
    pub log_tail_mib: u64,

    /// Size of one file of the log, MiB. Log is given up by whole files.
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub log_segment_mib: u64,

    /// Writes are refused (no_space) while the disk has less room than this, MiB; deletes and reads go on.
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u64).range(0..=1 << 20))]
    pub disk_reserve_mib: u64,

    /// The nodes compare all that they have stored so often, a MiB a second at most: hours, or off. A node whose records
    /// are not those of the majority stops serving. The leader's setting decides for all nodes.
    #[arg(long, value_name = "HOURS", default_value = "24")]
    pub scrub_hours: ScrubHours,
}

/// How often all stored records are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScrubHours {
    /// Never.
    Off,
    /// A pass begins so many hours after the one before.
    Every(NonZeroU32),
}

impl ScrubHours {
    /// `None`: never.
    #[must_use]
    pub fn interval(self) -> Option<Duration> {
        match self {
            ScrubHours::Off => None,
            ScrubHours::Every(hours) => Some(Duration::from_secs(u64::from(hours.get()) * 3600)),
        }
    }
}

impl FromStr for ScrubHours {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<ScrubHours, &'static str> {
        match text {
            "off" => Ok(ScrubHours::Off),
            _ => text
                .parse()
                .map(ScrubHours::Every)
                .map_err(|_| "it is a number of hours, at least 1, or off"),
        }
    }
}

/// What the process tells its operator.
#[derive(Clone, Debug, Args)]
pub struct LogFlags {
    /// Form of the log lines, which go to standard error.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// How much to log. At info: starting, stopping, elections, membership, and what needs attention.
    #[arg(long, value_enum, default_value_t = LogLevel::Info)]
    pub log_level: LogLevel,
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// What else the program does.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run a whole cluster on this machine, for trying things out. Ctrl-C stops it.
    Dev(DevFlags),
    /// Make a cluster of one node from the data directory of a stopped one, after the majority of its cluster is lost for
    /// ever. What it has stored becomes the new cluster's; what only the lost nodes had is lost.
    Recover(RecoverFlags),
}

/// Flags of `server recover`.
#[derive(Clone, Debug, Args)]
pub struct RecoverFlags {
    /// The surviving data directory. Copy it first: this can not be undone.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,

    /// Says that you mean it: the result is a new cluster, with a new identity and a new history epoch, which the other nodes
    /// of the old one can never join. Start them anew, with empty data directories and --join.
    #[arg(long, required = true)]
    pub new_cluster: bool,
}

/// Flags of `server dev`.
#[derive(Clone, Debug, Args)]
pub struct DevFlags {
    /// How many nodes. Node k listens on 127.0.0.1:(7000+k) and serves HTTP on 127.0.0.1:(8079+k).
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub nodes: u16,

    /// Where to keep the nodes' data, which stays there for the next run.
    #[arg(long, value_name = "DIR", default_value = "data/dev")]
    pub data_dir: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  A cluster of three on this machine, in one terminal:
    server dev

  One node, with its data in ./data/node1:
    server --id node1 --http :8080

  Three nodes on this machine, a terminal each:
    server --id node1 --http :8080 --peers node2,node3
    server --id node2 --http :8081 --peers node1,node3
    server --id node3 --http :8082 --peers node1,node2

  The first of three machines:
    server --id n1 --listen 10.0.0.1:7000 --http 10.0.0.1:8080 \\
           --peers n2=10.0.0.2:7000,n3=10.0.0.3:7000 --data-dir /var/lib/raftkv

  A further node for a running cluster, let in with `kvctl member add node4`:
    server --id node4 --http :8083 --join 127.0.0.1:7001

Exit status: 0 after a graceful stop (SIGTERM, Ctrl-C), 2 for a wrong command line, 1 for everything else.";

/// Reads the command line, the program's name first.
///
/// # Errors
/// When clap refuses it, and when it asked for help or the version: [`clap::Error::exit`] does the right thing for all.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Flags, clap::Error> {
    Flags::try_parse_from(double_dashes(arguments))
}

/// Turns `-id` and `-id=x` into `--id` and `--id=x`, never in the place of a flag's value or behind `--`. Names that are
/// not flags are turned too: there are no letters to combine behind one dash, and an error should show the whole word.
fn double_dashes(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let names = long_names();
    let mut is_value = true; // the program's name stays as it is
    let mut is_verbatim = false;
    let mut normal = Vec::new();
    for argument in arguments {
        let is_literal = std::mem::take(&mut is_value) || is_verbatim;
        let Some(text) = argument.to_str().filter(|_| !is_literal) else {
            normal.push(argument);
            continue;
        };
        is_verbatim = text == "--";
        let bare = text.trim_start_matches('-');
        let dashes = text.len() - bare.len();
        let (name, has_value) = bare
            .split_once('=')
            .map_or((bare, false), |(name, _)| (name, true));
        let known = names.iter().find(|known| known.name == name);
        match known {
            Some(known) if dashes == 1 || dashes == 2 => {
                is_value = known.takes_value && !has_value;
                normal.push(format!("--{bare}").into());
            }
            None if dashes == 1 && is_word(name) => normal.push(format!("--{bare}").into()),
            Some(_) | None => normal.push(argument),
        }
    }
    normal
}

/// More than the letter of a short flag such as `-h`, and no number.
fn is_word(name: &str) -> bool {
    name.len() > 1 && name.starts_with(|c: char| c.is_ascii_alphabetic())
}

struct LongName {
    name: String,
    takes_value: bool,
}

fn long_names() -> Vec<LongName> {
    let mut program = Flags::command();
    program.build();
    let commands = std::iter::once(&program).chain(program.get_subcommands());
    commands
        .flat_map(clap::Command::get_arguments)
        .filter_map(|argument| {
            Some(LongName {
                name: argument.get_long()?.to_owned(),
                takes_value: argument.get_action().takes_values(),
            })
        })
        .collect()
}

//! From the command line to what it means.
//!
//! Two stages, two types: [`Flags`] is what was typed, [`Config`] what it means. Everything the flags leave open is
//! decided in between, in one place, and every refusal is one sentence that says what to type instead.

mod address;
mod error;
mod flags;
mod peers;

use std::path::PathBuf;
use std::time::Duration;

use raftkv_protocol::{Address, Limits, NodeName};
use raftkv_raft as raft;
use raftkv_tls::{ClientCertificates, TlsFiles};

pub use address::{HostPort, InvalidAddress};
pub use error::ConfigError;
pub use flags::{
    AskClients, Command, DevFlags, Flags, LogFlags, LogFormat, LogLevel, RecoverFlags, StorageFlags,
    TlsFlags, parse,
};

use crate::log::LogConfig;
use crate::replica::{RetentionConfig, ScrubConfig};
use crate::store::StoreConfig;
use crate::store::base::BaseConfig;
use crate::store::history::HistoryLimits;
pub use crate::transport::TlsConfig;

/// All a server needs to know before it starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// The operator's label for this node.
    pub name: NodeName,
    /// Where to listen for peers and native clients.
    pub listen: HostPort,
    /// Where to serve the HTTP API; `None`: it is not served.
    pub http: Option<HostPort>,
    /// Where to answer probes and monitoring, and nothing else, without TLS; `None`: nowhere but at `http`.
    pub probes: Option<HostPort>,
    /// What others are told instead of `listen`.
    pub advertise: Option<HostPort>,
    /// What others are told instead of `http`.
    pub advertise_http: Option<HostPort>,
    /// The other nodes to form a cluster with, sorted by name; empty: form alone.
    pub peers: Vec<(NodeName, Address)>,
    /// A member of the running cluster to join; `None`: form one with the peers.
    pub join: Option<HostPort>,
    /// TLS on both ports and to other nodes; `None`: connections are plain.
    pub tls: Option<TlsConfig>,
    /// Where this node keeps everything.
    pub data_dir: PathBuf,
    /// Bounds of the shell.
    pub bounds: Bounds,
    /// Sizes of requests.
    pub limits: Limits,
    /// Consensus.
    pub raft: raft::Config,
    /// The durable log.
    pub log: LogConfig,
    /// The state machine's memory.
    pub store: StoreConfig,
    /// The engine under it.
    pub base: BaseConfig,
    /// When memory drains, and how much of log and history is kept.
    pub retention: RetentionConfig,
    /// When what the members have stored is compared.
    pub scrub: ScrubConfig,
}

/// What the shell refuses or waits for at most. Everything has a limit, and the limit has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Most connections open on the native port at once; one more client is refused, other nodes still get through.
    pub max_connections: usize,
    /// Most connections open on the HTTP port at once; one more waits to be accepted.
    pub max_http_connections: usize,
    /// Most connections open on the port of probes at once; places of their own, so that a busy API lets probes through.
    pub max_probe_connections: usize,
    /// Most requests of one native connection that wait for their answers; the rest waits unread in its socket.
    pub max_connection_requests: usize,
    /// Unsent answers of one native connection, bytes; beyond, answers wait unencoded and nothing more is read from it.
    pub max_connection_unsent_bytes: usize,
    /// Most watches of this node. Each costs some 2 KiB while nothing is on its way to it.
    pub max_watches: usize,
    /// Most watches of one native connection.
    pub max_connection_watches: usize,
    /// Messages that wait for one peer, bytes; beyond, the oldest are dropped, heartbeats first.
    pub max_peer_unsent_bytes: usize,
    /// Largest frame accepted from a peer, bytes.
    pub max_peer_frame_bytes: usize,
    /// Most requests that wait in this node, whatever door they came through.
    pub max_pending_requests: usize,
    /// Most bytes of requests that wait in this node; a further one is refused as overload.
    pub max_pending_bytes: usize,
    /// A new connection says who it is within this time, or is closed.
    pub handshake_timeout: Duration,
    /// The body of an HTTP request arrives within this time, or the request is refused.
    pub http_body_timeout: Duration,
    /// A client's request that names no time-out of its own waits this long for its answer.
    pub request_timeout: Duration,
    /// How long a request waits for a leader, at most.
    pub leader_wait: Duration,
    /// How long a graceful stop waits for the requests that are under way.
    pub drain_timeout: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            max_connections: 4096,
            max_http_connections: 1024,
            max_probe_connections: 64,
            max_connection_requests: 4096,
            max_connection_unsent_bytes: 4 << 20,
            max_watches: 100_000,
            max_connection_watches: 20_000,
            max_peer_unsent_bytes: 32 << 20,
            max_peer_frame_bytes: 64 << 20,
            max_pending_requests: 65_536,
            max_pending_bytes: 256 << 20,
            handshake_timeout: Duration::from_secs(5),
            http_body_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(5),
            leader_wait: Duration::from_secs(1),
            drain_timeout: Duration::from_secs(2),
        }
    }
}

impl Config {
    /// A node with this name that listens on loopback ports of the system's choice, alone: the start for an embedded one.
    #[must_use]
    pub fn local(name: &str, data_dir: PathBuf) -> Config {
        Config {
            name: NodeName::from(name),
            listen: HostPort::loopback(0),
            http: Some(HostPort::loopback(0)),
            probes: None,
            advertise: None,
            advertise_http: None,
            peers: Vec::new(),
            join: None,
            tls: None,
            data_dir,
            bounds: Bounds::default(),
            limits: Limits::default(),
            raft: raft::Config::default(),
            log: LogConfig::default(),
            store: StoreConfig::default(),
            base: BaseConfig::default(),
            retention: RetentionConfig::default(),
            scrub: ScrubConfig::default(),
        }
    }

    /// What the flags mean.
    ///
    /// # Errors
    /// When they leave something open, or contradict each other.
    pub fn from_flags(flags: &Flags) -> Result<Config, ConfigError> {
        let id = flags.id.as_deref().ok_or(ConfigError::NoId)?;
        let name = peers::name(id)?;
        let tls = tls(flags)?;
        // What an address without a host means: nobody else may connect where nothing protects it.
        let anywhere = if tls.is_some() { "0.0.0.0" } else { "127.0.0.1" };
        let listen = match &flags.listen {
            Some(text) => address::parse("--listen", text)?.or(anywhere),
            None => {
                peers::by_convention(&name).ok_or_else(|| ConfigError::NoListen { name: name.clone() })?
            }
        };
        let http = optional_address("--http", flags.http.as_deref())?.map(|http| http.or(anywhere));
        let probes = optional_address("--probes", flags.probes.as_deref())?.map(|probes| probes.or(anywhere));
        let advertise = reachable("--advertise", flags.advertise.as_deref())?;
        if advertise.is_none() && listen.is_unspecified() {
            return Err(ConfigError::UnreachableListen { listen });
        }
        let own = Address::from(advertise.as_ref().unwrap_or(&listen));
        let bounds = Bounds {
            request_timeout: Duration::from_millis(flags.request_timeout_ms),
            ..Bounds::default()
        };
        Ok(Config {
            peers: peers::parse(&flags.peers, &name, &own)?,
            join: join(flags, &own)?,
            tls,
            data_dir: flags
                .data_dir
                .clone()
                .unwrap_or_else(|| PathBuf::from("data").join(&*name.0)),
            advertise_http: reachable("--advertise-http", flags.advertise_http.as_deref())?,
            name,
            listen,
            http,
            probes,
            advertise,
            bounds,
            limits: Limits::default(),
            raft: raft::Config {
                leader_leases: leader_leases(flags.leader_leases_max_drift_ppm),
                ..raft::Config::default()
            },
            log: LogConfig {
                segment_size_bytes: mebibytes(flags.storage.log_segment_mib),
                ..LogConfig::default()
            },
            store: StoreConfig {
                overlay_bytes: mebibytes(flags.storage.overlay_mib),
                cache_bytes: mebibytes(flags.storage.cache_mib),
            },
            base: BaseConfig {
                // A quarter is for log and drains alone.
                compaction_reserve_bytes: mebibytes(flags.storage.disk_reserve_mib) / 4,
                ..BaseConfig::default()
            },
            retention: retention(&flags.storage),
            scrub: ScrubConfig {
                interval: flags.storage.scrub_hours.interval(),
                ..ScrubConfig::default()
            },
        })
    }
}

fn leader_leases(max_drift_ppm: Option<u32>) -> raft::LeaderLeases {
    max_drift_ppm.map_or(raft::LeaderLeases::Off, |max_clock_drift_ppm| {
        raft::LeaderLeases::On { max_clock_drift_ppm }
    })
}

fn mebibytes(mib: u64) -> u64 {
    mib << 20
}

fn retention(flags: &StorageFlags) -> RetentionConfig {
    RetentionConfig {
        // A key that is written again and again fills the log alone. So much of it (256 MiB at the default) is replayed in about a
        // second, and with less small sets of keys drain more often than anything else asks for (`bench/README.md`).
        freeze_log_bytes: mebibytes(flags.overlay_mib.saturating_mul(4) / 3),
        log_tail_bytes: mebibytes(flags.log_tail_mib),
        history: HistoryLimits {
            max_age_us: flags.history_seconds.saturating_mul(1_000_000),
            max_events: flags.history_events,
            max_bytes: mebibytes(flags.history_mib),
        },
        reserve_bytes: mebibytes(flags.disk_reserve_mib),
        ..RetentionConfig::default()
    }
}

fn optional_address(flag: &'static str, text: Option<&str>) -> Result<Option<HostPort>, ConfigError> {
    text.map(|text| address::parse(flag, text)).transpose()
}

fn tls(flags: &Flags) -> Result<Option<TlsConfig>, ConfigError> {
    let TlsFlags {
        tls_cert,
        tls_key,
        tls_ca,
        tls_crl,
        tls_client_certificates,
    } = &flags.tls;
    if tls_crl.is_some() && tls_ca.is_none() {
        return Err(ConfigError::ListWithoutAuthority);
    }
    let (certificate, key) = match (tls_cert, tls_key) {
        (Some(certificate), Some(key)) => (certificate.clone(), key.clone()),
        (None, None) if tls_ca.is_none() && tls_client_certificates.is_none() => return Ok(None),
        _ => return Err(ConfigError::HalfIdentity),
    };
    let has_others = !flags.peers.is_empty() || flags.join.is_some();
    let clients = match (tls_client_certificates, tls_ca) {
        (Some(AskClients::Required), None) => return Err(ConfigError::NoAuthority),
        (_, None) if has_others => return Err(ConfigError::NoAuthorityForNodes),
        (Some(AskClients::Optional), _) | (None, None) => ClientCertificates::Optional,
        (Some(AskClients::Required) | None, Some(_)) => ClientCertificates::Required,
    };
    let files = TlsFiles {
        certificate: Some(certificate),
        key: Some(key),
        authorities: tls_ca.clone(),
        revoked: tls_crl.clone(),
    };
    Ok(Some(TlsConfig { files, clients }))
}

/// Whom to ask to be let in. An address of our own would be asked for ever.
fn join(flags: &Flags, own: &Address) -> Result<Option<HostPort>, ConfigError> {
    let Some(join) = optional_address("--join", flags.join.as_deref())? else {
        return Ok(None);
    };
    let join = join.or("127.0.0.1");
    if !flags.peers.is_empty() {
        return Err(ConfigError::JoinAndPeers);
    }
    if Address::from(&join) == *own || join.is_unspecified() || join.port == 0 {
        return Err(ConfigError::UselessJoin { join });
    }
    Ok(Some(join))
}

/// An address that others are told: it needs a host that means something to them.
fn reachable(flag: &'static str, text: Option<&str>) -> Result<Option<HostPort>, ConfigError> {
    let address = optional_address(flag, text)?;
    match address {
        Some(address) if address.host.is_empty() || address.is_unspecified() || address.port == 0 => {
            Err(ConfigError::UnreachableAdvertise { flag, address })
        }
        other => Ok(other),
    }
}

#[cfg(test)]
mod tests;

//! A server from its configuration to its end: starts the threads, and stops them.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use raftkv_protocol::{Address, Introduction};
use tokio::sync::oneshot;

use super::answer_post::answer_post;
use super::inbox::{Letter, Mailbox};
use super::listeners::{self, Listeners};
use super::node_context::Identity;
use super::node_thread::{self, NodeSetup};
use super::{Door, ServerError, signals, storage};
use crate::config::{Bounds, Command, Config, Flags, HostPort};
use crate::http::{HttpPort, HttpServer, HttpSettings, Served};
use crate::replica::NodeConfig;
use crate::transport::Tls;

/// Starts servers.
#[derive(Debug)]
pub struct Server;

/// A running server. Dropped, it stops by itself in the background.
#[derive(Debug)]
pub struct ServerHandle {
    native: SocketAddr,
    http: Option<SocketAddr>,
    probes: Option<SocketAddr>,
    mailbox: Mailbox,
    threads: Option<Threads>,
    ended: Option<oneshot::Receiver<()>>,
}

#[derive(Debug)]
struct Threads {
    node: JoinHandle<Result<(), ServerError>>,
    http: Option<HttpServer>,
}

impl Server {
    /// Binds the ports and starts. On return connections are accepted; the node may still be forming a cluster.
    ///
    /// # Errors
    /// When a port is taken, or the data directory is locked, foreign or damaged.
    pub fn start(config: &Config) -> Result<ServerHandle, ServerError> {
        let listeners = Listeners::bind(config)?;
        Server::start_on(config, listeners)
    }

    /// Like [`Server::start`], on sockets that are bound already: so several servers of one process can name each other
    /// before the first of them starts.
    ///
    /// # Errors
    /// When the data directory is locked, foreign or damaged.
    pub fn start_on(config: &Config, listeners: Listeners) -> Result<ServerHandle, ServerError> {
        config.raft.validate()?;
        let native = listeners.native_address()?;
        let (http, probes) = (listeners.http_address()?, listeners.probes_address()?);
        let tls = config.tls.as_ref().map(Tls::new).transpose()?.map(Arc::new);
        let storage = storage::open(config)?;
        listeners::announce(config, native, http, probes);
        let identity = Identity {
            name: config.name.clone(),
            identity: storage.identity,
            address: advertised(config.advertise.as_ref(), &config.listen, native),
            http: advertised_http(config, native, http),
            cluster: storage.membership.as_ref().map(|membership| membership.cluster),
        };
        if let Some(tls) = &tls {
            tls.warn_of_names(std::iter::once(&identity.address).chain(&identity.http));
        }
        let mailbox = Mailbox::default();
        let (door, calls) = Door::new(mailbox.clone());
        let (answers, round) = answer_post();
        let ports = http_ports(&config.bounds, listeners.http, listeners.probes);
        let settings = HttpSettings {
            limits: config.limits,
            request_timeout: config.bounds.request_timeout,
            body_timeout: config.bounds.http_body_timeout,
            tls: tls.clone(),
        };
        let http_server = (!ports.is_empty()).then(|| HttpServer::start(ports, settings, door, round));
        let http_server = http_server.transpose().map_err(ServerError::Threads)?;
        let (end, ended) = oneshot::channel();
        let setup = NodeSetup {
            node: node_config(config, &identity),
            identity,
            limits: config.limits,
            bounds: config.bounds,
            tls,
            log: config.log,
            storage,
            listener: listeners.native,
            calls,
            answers,
            mailbox: mailbox.clone(),
        };
        let node = node_thread::spawn(setup, end)?;
        Ok(ServerHandle {
            native,
            http,
            probes,
            mailbox,
            threads: Some(Threads {
                node,
                http: http_server,
            }),
            ended: Some(ended),
        })
    }
}

impl ServerHandle {
    /// Where peers and native clients connect.
    #[must_use]
    pub fn native_address(&self) -> SocketAddr {
        self.native
    }

    /// Where the HTTP API is served.
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Where probes and monitoring alone are answered.
    #[must_use]
    pub fn probes_address(&self) -> Option<SocketAddr> {
        self.probes
    }

    /// Stops gracefully: takes no more requests, answers those under way (for a bounded time), makes the log durable, and
    /// returns when all threads are gone and the data directory is free.
    ///
    /// # Errors
    /// When the server had failed, or fails while it stops.
    pub fn stop(mut self) -> Result<(), ServerError> {
        self.mailbox.send(Letter::Stop);
        self.join()
    }

    /// Waits until the server ends by itself, which only a failure makes it do.
    ///
    /// # Errors
    /// That failure.
    pub fn wait(mut self) -> Result<(), ServerError> {
        self.join()
    }

    fn join(&mut self) -> Result<(), ServerError> {
        let Some(threads) = self.threads.take() else {
            return Ok(());
        };
        let outcome = threads.node.join().unwrap_or(Err(ServerError::NodeThread));
        if let Some(http) = threads.http {
            http.stop();
        }
        outcome
    }
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        self.mailbox.send(Letter::Stop);
    }
}

/// Runs a server until a signal stops it (exit gracefully) or it fails.
///
/// # Errors
/// When it can not start, and when it fails.
pub fn run(config: &Config) -> Result<(), ServerError> {
    supervise(config, std::future::pending())
}

/// Runs what the command line asks for; see [`run`].
///
/// # Errors
/// When it can not start, and when it fails.
pub fn run_flags(flags: &Flags, config: &Config) -> Result<(), ServerError> {
    if flags.stop_with_input {
        supervise(config, signals::input_ended())
    } else {
        run(config)
    }
}

/// Runs `server dev` or `server recover`.
///
/// # Errors
/// When a node can not be started, or fails; when a data directory can not be recovered from.
pub fn run_command(command: &Command, flags: &Flags) -> Result<(), ServerError> {
    match command {
        Command::Dev(dev) => super::dev::run_dev(dev, &flags.log),
        Command::Recover(recover) => super::recover::run_recover(recover),
    }
}

fn supervise(config: &Config, stop: impl Future<Output = ()>) -> Result<(), ServerError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(ServerError::Threads)?;
    let mut server = Server::start(config)?;
    let ended = server.ended.take();
    let has_ended = runtime.block_on(async {
        let ended = async {
            match ended {
                Some(ended) => drop(ended.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = ended => true,
            () = signals::stop_requested() => false,
            () = stop => false,
        }
    });
    if has_ended {
        return server.wait();
    }
    // From here on a second signal ends the process at once.
    let stop_at_once = move || {
        runtime.block_on(signals::stop_requested());
        tracing::warn!("second signal: stopping at once");
        std::process::exit(1);
    };
    // Without the thread only this shortcut is missing.
    let _ = std::thread::Builder::new()
        .name("signals".into())
        .spawn(stop_at_once);
    server.stop()?;
    tracing::info!("stopped");
    Ok(())
}

fn node_config(config: &Config, identity: &Identity) -> NodeConfig {
    let mut peers = config.peers.clone();
    peers.push((identity.name.clone(), identity.address.clone()));
    peers.sort();
    NodeConfig {
        introduction: Introduction {
            name: identity.name.clone(),
            identity: identity.identity,
            address: identity.address.clone(),
            http: identity.http.clone(),
            peers,
            heard: Vec::new(),
            formed: None,
        },
        join: config.join.as_ref().map(Address::from),
        raft: config.raft.clone(),
        limits: config.limits,
        max_pending_requests: config.bounds.max_pending_requests,
        leader_wait: config.bounds.leader_wait,
        store: config.store,
        retention: config.retention,
        scrub: config.scrub,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// What others are told: what the operator says, else what was bound (whose port is known even where 0 was asked for).
fn advertised(said: Option<&HostPort>, asked: &HostPort, bound: SocketAddr) -> Address {
    let by_name = HostPort {
        host: asked.host.clone(),
        port: bound.port(),
    };
    Address::from(said.unwrap_or(&by_name))
}

fn http_ports(bounds: &Bounds, http: Option<TcpListener>, probes: Option<TcpListener>) -> Vec<HttpPort> {
    let ports = [
        (http, Served::All, bounds.max_http_connections),
        (probes, Served::Probes, bounds.max_probe_connections),
    ];
    let bound = ports
        .into_iter()
        .filter_map(|(listener, served, max_connections)| {
            Some(HttpPort {
                listener: listener?,
                served,
                max_connections,
            })
        });
    bound.collect()
}

fn advertised_http(config: &Config, native: SocketAddr, bound: Option<SocketAddr>) -> Option<Address> {
    let (asked, bound) = (config.http.as_ref()?, bound?);
    if config.advertise_http.is_none() && asked.is_unspecified() {
        // "Every interface" tells a client nothing, but the host at which peers reach this node does.
        let native = config.advertise.clone().unwrap_or_else(|| native.into());
        return Some(Address::from(&HostPort {
            host: native.host,
            port: bound.port(),
        }));
    }
    Some(advertised(config.advertise_http.as_ref(), asked, bound))
}

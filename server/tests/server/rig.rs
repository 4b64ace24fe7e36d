//! Servers on ports of the system's choice, in temporary directories, and clients that wait for conditions.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use raftkv_protocol::{Address, NodeName};
use raftkv_server::config::{Config, HostPort};
use raftkv_server::{Listeners, Server, ServerHandle};
use serde_json::Value;
use tempfile::TempDir;

/// Long enough for any machine; a test that gets here has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) json: Value,
    pub(crate) headers: ureq::http::HeaderMap,
}

/// Servers in this process.
pub(crate) struct Cluster {
    nodes: Vec<Option<ServerHandle>>,
    configs: Vec<Config>,
    dir: TempDir,
}

impl Cluster {
    /// One node, alone.
    pub(crate) fn single() -> Cluster {
        Cluster::of(1)
    }

    /// Starts nodes that were told of each other.
    pub(crate) fn of(size: usize) -> Cluster {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let listeners: Vec<Listeners> = (0..size).map(|_| fresh_listeners()).collect();
        let name = |k: usize| NodeName::from(format!("node{}", k + 1).as_str());
        let peers: Vec<(NodeName, Address)> = listeners
            .iter()
            .enumerate()
            .map(|(k, on)| (name(k), Address::from(&*native(on).to_string())))
            .collect();
        let configs: Vec<Config> = (0..size)
            .map(|k| {
                let mut config = Config::local(&name(k).0, dir.path().join(&*name(k).0));
                config.peers = peers
                    .iter()
                    .filter(|(peer, _)| *peer != name(k))
                    .cloned()
                    .collect();
                // 64 MiB for each of many tests' logs would only make them slow.
                config.log.segment_size_bytes = 1 << 20;
                config
            })
            .collect();
        let start = |(config, on): (&Config, Listeners)| Some(Server::start_on(config, on).expect("starts"));
        let nodes = configs.iter().zip(listeners).map(start).collect();
        Cluster { nodes, configs, dir }
    }

    /// Starts a further node, called `node{k + 1}`, that asks node `at` to be let in; its number.
    pub(crate) fn start_joining(&mut self, at: usize) -> usize {
        let k = self.nodes.len();
        let name = format!("node{}", k + 1);
        let mut config = Config::local(&name, self.dir.path().join(&name));
        config.join = Some(HostPort::from(self.node(at).native_address()));
        config.log.segment_size_bytes = 1 << 20;
        self.nodes.push(Some(
            Server::start_on(&config, fresh_listeners()).expect("starts"),
        ));
        self.configs.push(config);
        k
    }

    /// The addresses of those that run, for the client library.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        let running = self.nodes.iter().flatten();
        running.map(|node| node.native_address().to_string()).collect()
    }

    /// Which node leads.
    pub(crate) fn leader(&self) -> usize {
        let mut leader = None;
        eventually("someone leads", || {
            let mut running = (0..self.nodes.len()).filter(|k| self.nodes[*k].is_some());
            leader = running.find(|k| get(&self.url(*k, "/status")).json["role"] == "leader");
            leader.is_some()
        });
        leader.expect("waited for")
    }

    pub(crate) fn node(&self, k: usize) -> &ServerHandle {
        self.nodes[k].as_ref().expect("is running")
    }

    pub(crate) fn config_mut(&mut self, k: usize) -> &mut Config {
        &mut self.configs[k]
    }

    pub(crate) fn config(&self, k: usize) -> &Config {
        &self.configs[k]
    }

    pub(crate) fn stop(&mut self, k: usize) {
        self.nodes[k].take().expect("is running").stop().expect("stops");
    }

    /// Starts a stopped node again, at the address it had.
    pub(crate) fn restart(&mut self, k: usize, native: SocketAddr) {
        let listeners = Listeners {
            native: TcpListener::bind(native).expect("its port is free again"),
            http: Some(TcpListener::bind("127.0.0.1:0").expect("loopback")),
            probes: None,
        };
        self.nodes[k] = Some(Server::start_on(&self.configs[k], listeners).expect("starts"));
    }

    pub(crate) fn url(&self, k: usize, path: &str) -> String {
        format!(
            "http://{}{path}",
            self.node(k).http_address().expect("serves HTTP")
        )
    }

    pub(crate) fn wait_ready(&self) {
        for k in (0..self.nodes.len()).filter(|k| self.nodes[*k].is_some()) {
            eventually("the node is ready", || get(&self.url(k, "/readyz")).status == 200);
        }
    }

    pub(crate) fn set(&self, k: usize, key: &str, value: &str) -> Answer {
        let body = serde_json::json!({ "key": key, "value": value });
        post(&self.url(k, "/set"), &body.to_string())
    }

    pub(crate) fn get(&self, k: usize, key: &str) -> Answer {
        get(&self.url(k, &format!("/get?key={key}")))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(node) = node.take() {
                // A test that fails for another reason should say that reason.
                let _ = node.stop();
            }
        }
    }
}

fn fresh_listeners() -> Listeners {
    Listeners {
        native: TcpListener::bind("127.0.0.1:0").expect("loopback"),
        http: Some(TcpListener::bind("127.0.0.1:0").expect("loopback")),
        probes: None,
    }
}

fn native(listeners: &Listeners) -> SocketAddr {
    listeners.native.local_addr().expect("bound")
}

/// Waits for a condition.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(PATIENCE));
    config.build().into()
}

pub(crate) fn get(url: &str) -> Answer {
    answer(agent().get(url).call())
}

pub(crate) fn delete(url: &str) -> Answer {
    answer(agent().delete(url).call())
}

pub(crate) fn post(url: &str, body: &str) -> Answer {
    answer(agent().post(url).send(body))
}

fn answer(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Answer {
    let mut response = response.expect("an answer");
    let body = response.body_mut().read_to_string().expect("a body");
    Answer {
        status: response.status().as_u16(),
        json: serde_json::from_str(&body).unwrap_or_else(|error| panic!("{body:?} is not JSON: {error}")),
        headers: response.headers().clone(),
    }
}

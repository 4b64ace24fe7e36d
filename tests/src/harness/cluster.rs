//! A cluster of server processes.

use std::path::{Path, PathBuf};

use raftkv_protocol::NodeId;
use tempfile::TempDir;

use super::{Binaries, DataFiles, Deadline, Node, NodeFlags, PortBlock, Status, wait_for};
use crate::proxy::Network;

/// Names of the nodes, in order.
pub const NODE_NAMES: [&str; 5] = ["n1", "n2", "n3", "n4", "n5"];

/// How long a whole cluster may take for what normally takes a second, on a machine that is busy with other tests.
const SETTLE_SECONDS: u64 = 60;

/// What is between the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// Nothing: they connect to each other's ports.
    Direct,
    /// A proxy in front of each node, that can cut, delay and reset. The nodes advertise their proxies.
    Proxied,
}

/// Nodes that know each other by explicit addresses.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    network: Option<Network>,
    _ports: PortBlock,
    directory: TempDir,
}

impl Cluster {
    /// Starts `count` nodes, connected directly, and waits until all are ready.
    ///
    /// # Panics
    /// When they do not become ready.
    #[must_use]
    pub fn start(count: usize) -> Cluster {
        let mut cluster = Cluster::prepare(count, Links::Direct);
        cluster.start_all();
        cluster.wait_until_ready();
        cluster
    }

    /// Starts `count` nodes behind proxies, and waits until all are ready.
    ///
    /// # Panics
    /// When they do not become ready.
    #[must_use]
    pub fn start_behind_proxies(count: usize) -> Cluster {
        let mut cluster = Cluster::prepare(count, Links::Proxied);
        cluster.start_all();
        cluster.wait_until_ready();
        cluster
    }

    /// Nodes with ports and directories, not started.
    ///
    /// # Panics
    /// When the system refuses ports or directories.
    #[must_use]
    pub fn prepare(count: usize, links: Links) -> Cluster {
        Cluster::prepare_with(count, links, &[])
    }

    /// As [`Cluster::prepare`], each node with these flags as well.
    ///
    /// # Panics
    /// When the system refuses ports or directories.
    #[must_use]
    pub fn prepare_with(count: usize, links: Links, more: &[&str]) -> Cluster {
        // Building them, if that is needed, must not count as the time that a node takes to start.
        let _ = Binaries::get();
        assert!(
            (1..=NODE_NAMES.len()).contains(&count),
            "a cluster of {count} nodes"
        );
        let ports = PortBlock::take().unwrap_or_else(|error| panic!("{error}"));
        let directory = tempfile::Builder::new()
            .prefix("raftkv-")
            .tempdir()
            .expect("a temporary directory");
        let network = match links {
            Links::Direct => None,
            Links::Proxied => {
                let destinations: Vec<u16> = (0..count).map(|node| ports.port(native(node))).collect();
                Some(Network::start(&destinations).expect("proxies on free ports"))
            }
        };
        let reached_at: Vec<u16> = (0..count)
            .map(|node| {
                network
                    .as_ref()
                    .map_or(ports.port(native(node)), |network| network.port(node))
            })
            .collect();
        let nodes = (0..count).map(|node| {
            let mut flags = flags(node, &ports, &reached_at);
            flags.arguments.extend(more.iter().map(|&flag| flag.to_owned()));
            Node::new(flags, directory.path())
        });
        Cluster {
            nodes: nodes.collect(),
            network,
            _ports: ports,
            directory,
        }
    }

    /// Starts every node that does not run.
    pub fn start_all(&mut self) {
        for node in &mut self.nodes {
            if !node.is_running() {
                node.start();
            }
        }
    }

    /// All nodes.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// One node, counted from 0.
    #[must_use]
    pub fn node(&self, node: usize) -> &Node {
        &self.nodes[node]
    }

    /// One node, to kill, stop or start.
    pub fn node_mut(&mut self, node: usize) -> &mut Node {
        &mut self.nodes[node]
    }

    /// Kills all nodes, one right after the other.
    pub fn kill9_all(&mut self) {
        for node in &mut self.nodes {
            node.kill9();
        }
    }

    /// Where the nodes keep their data and output.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The data directory of a node.
    #[must_use]
    pub fn data_directory(&self, node: usize) -> PathBuf {
        self.directory().join("data").join(self.nodes[node].name())
    }

    /// What is in it now.
    #[must_use]
    pub fn data_files(&self, node: usize) -> DataFiles {
        DataFiles::of(&self.data_directory(node))
    }

    /// The native ports of all nodes.
    #[must_use]
    pub fn native_ports(&self) -> Vec<u16> {
        self.nodes.iter().map(Node::native_port).collect()
    }

    /// The links between the nodes.
    ///
    /// # Panics
    /// When the nodes are connected directly.
    #[must_use]
    pub fn network(&self) -> &Network {
        self.network
            .as_ref()
            .expect("a cluster that was started behind proxies")
    }

    /// Waits until every node is ready.
    ///
    /// # Panics
    /// When one is not in time.
    #[track_caller]
    pub fn wait_until_ready(&self) {
        let deadline = Deadline::seconds(SETTLE_SECONDS);
        for node in &self.nodes {
            node.wait_until_ready(deadline);
        }
        self.introduce_to_network();
    }

    /// Waits until one node leads and a majority says so, and returns it.
    ///
    /// # Panics
    /// When there is none in time.
    #[track_caller]
    pub fn wait_for_leader(&self, deadline: Deadline) -> usize {
        wait_for("a leader", deadline, || self.leader())
    }

    /// The node that leads by its own word and that of a majority; the error tells what each says.
    ///
    /// # Errors
    /// When there is none at the moment.
    pub fn leader(&self) -> Result<usize, String> {
        let statuses: Vec<Option<Status>> = self.nodes.iter().map(|node| node.http().status().ok()).collect();
        let newest = statuses.iter().flatten().map(|status| status.term).max();
        let leads = |status: &Status| status.role == "leader" && Some(status.term) == newest;
        let leader = statuses
            .iter()
            .position(|status| status.as_ref().is_some_and(leads));
        let agreeing = |name: &str| {
            let follows = |status: &&Status| status.leader.as_deref() == Some(name);
            statuses.iter().flatten().filter(follows).count()
        };
        match leader {
            Some(leader) if agreeing(self.nodes[leader].name()) > self.nodes.len() / 2 => Ok(leader),
            Some(_) | None => Err(format!("{statuses:?}")),
        }
    }

    /// Waits until every node has applied all that any node has committed, and all are at one revision.
    ///
    /// # Panics
    /// When they are not in time.
    #[track_caller]
    pub fn wait_until_caught_up(&self) {
        wait_for("all nodes to catch up", Deadline::seconds(SETTLE_SECONDS), || {
            let statuses: Result<Vec<Status>, String> =
                self.nodes.iter().map(|node| node.http().status()).collect();
            let statuses = statuses?;
            let committed = statuses.iter().map(|status| status.commit_index).max();
            let is_level = statuses
                .iter()
                .all(|status| Some(status.applied_index) == committed);
            if is_level
                && statuses
                    .windows(2)
                    .all(|pair| pair[0].revision == pair[1].revision)
            {
                Ok(())
            } else {
                Err(format!("{statuses:?}"))
            }
        });
    }

    /// Tells the proxies which identity is which node, so that they know who connects.
    fn introduce_to_network(&self) {
        let Some(network) = &self.network else {
            return;
        };
        for (index, node) in self.nodes.iter().enumerate() {
            let reply = node.http().get_path("/status").ok();
            let identity = reply.and_then(|reply| reply.node_identity);
            network.introduce(NodeId(identity.expect("a ready node tells its identity")), index);
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.directory.disable_cleanup(true);
            eprintln!(
                "the nodes' data and output stay in {}",
                self.directory.path().display()
            );
        }
    }
}

fn http(node: usize) -> usize {
    node * 2
}

fn native(node: usize) -> usize {
    node * 2 + 1
}

fn flags(node: usize, ports: &PortBlock, reached_at: &[u16]) -> NodeFlags {
    let address = |port: u16| format!("127.0.0.1:{port}");
    let peers: Vec<String> = (0..reached_at.len())
        .filter(|&peer| peer != node)
        .map(|peer| format!("{}={}", NODE_NAMES[peer], address(reached_at[peer])))
        .collect();
    let (name, http_port, native_port) = (NODE_NAMES[node], ports.port(http(node)), ports.port(native(node)));
    let mut arguments: Vec<String> = ["--id", name, "--http", &address(http_port)]
        .map(str::to_owned)
        .into();
    arguments.extend(["--listen".to_owned(), address(native_port)]);
    if reached_at[node] != native_port {
        arguments.extend(["--advertise".to_owned(), address(reached_at[node])]);
    }
    if !peers.is_empty() {
        arguments.extend(["--peers".to_owned(), peers.join(",")]);
    }
    NodeFlags {
        name: name.to_owned(),
        arguments,
        http_port,
        native_port,
    }
}

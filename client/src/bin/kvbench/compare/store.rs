//! The stores: where their programs are, how they are started, when they are ready.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use tempfile::TempDir;
use tokio::time::sleep;

use super::ports::free_addresses;
use super::process::{Process, Start};
use crate::target::{self, TargetName};
use crate::trouble::Trouble;

const READY_TIMEOUT: Duration = Duration::from_secs(30);
const READY_PAUSE: Duration = Duration::from_millis(50);

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum StoreName {
    /// Three nodes of ours
    Raftkv,
    /// Three nodes of etcd
    Etcd,
    /// One Redis, its append-only file synced at every write
    Redis,
}

impl StoreName {
    pub(super) const ALL: [StoreName; 3] = [StoreName::Raftkv, StoreName::Etcd, StoreName::Redis];

    fn nodes(self) -> usize {
        match self {
            StoreName::Raftkv | StoreName::Etcd => 3,
            StoreName::Redis => 1,
        }
    }

    /// How it is driven; `None`: this program was built without that.
    fn target(self) -> Option<TargetName> {
        match self {
            StoreName::Raftkv => Some(TargetName::Native),
            #[cfg(feature = "etcd")]
            StoreName::Etcd => Some(TargetName::Etcd),
            #[cfg(not(feature = "etcd"))]
            StoreName::Etcd => None,
            #[cfg(feature = "redis")]
            StoreName::Redis => Some(TargetName::Redis),
            #[cfg(not(feature = "redis"))]
            StoreName::Redis => None,
        }
    }

    /// Why it can not take part, when it can not.
    pub(super) fn absence(self) -> &'static str {
        match (self, self.target()) {
            (_, None) => "kvbench was built without it; build with --features etcd,redis",
            (StoreName::Raftkv, Some(_)) => {
                "its server is not beside kvbench; build it, or name it with --server"
            }
            (StoreName::Etcd, Some(_)) => "there is no etcd on PATH",
            (StoreName::Redis, Some(_)) => "there is no redis-server on PATH",
        }
    }
}

impl fmt::Display for StoreName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StoreName::Raftkv => "raftkv",
            StoreName::Etcd => "etcd",
            StoreName::Redis => "Redis",
        })
    }
}

/// A store's server program.
#[derive(Clone, Debug)]
pub(super) struct Binary {
    pub(super) store: StoreName,
    target: TargetName,
    program: PathBuf,
}

impl Binary {
    /// Looks for it on PATH; ours is known.
    pub(super) fn find(store: StoreName, server: &Path) -> Option<Binary> {
        let target = store.target()?;
        let on_path = |name: &str| {
            let directories = env::var_os("PATH")?;
            let mut paths = env::split_paths(&directories).map(|directory| directory.join(name));
            paths.find(|path| path.is_file())
        };
        let program = match store {
            StoreName::Raftkv => server.is_file().then(|| server.to_owned()),
            StoreName::Etcd => on_path("etcd"),
            StoreName::Redis => on_path("redis-server"),
        };
        program.map(|program| Binary {
            store,
            target,
            program,
        })
    }
}

/// Where one node is, on loopback.
#[derive(Clone, Debug)]
struct Place {
    name: String,
    /// For clients.
    address: String,
    /// raftkv: its HTTP API. etcd: for the other nodes.
    second: String,
    data: String,
}

/// A store that runs. Dropping it stops it and removes its data: fields are dropped in this order.
#[derive(Debug)]
pub(super) struct Running {
    target: TargetName,
    store: StoreName,
    nodes: Vec<Process>,
    places: Vec<Place>,
    _data: TempDir,
}

impl Running {
    /// Starts it with no data, and waits until it serves.
    pub(super) async fn start(binary: &Binary, directory: &Path) -> Result<Running, Trouble> {
        let prepare = |source| Trouble::Prepare {
            what: binary.store.to_string(),
            source,
        };
        let data = tempfile::Builder::new()
            .prefix("kvbench-")
            .tempdir_in(directory)
            .map_err(prepare)?;
        let places = places(binary.store, data.path()).map_err(prepare)?;
        let mut nodes = Vec::new();
        for place in &places {
            std::fs::create_dir(&place.data).map_err(prepare)?;
            nodes.push(Process::start(Start {
                name: format!("{} {}", binary.store, place.name),
                program: binary.program.clone(),
                arguments: arguments(binary.store, place, &places),
                log: data.path().join(format!("{}.log", place.name)),
            })?);
        }
        let mut running = Running {
            target: binary.target,
            store: binary.store,
            nodes,
            places,
            _data: data,
        };
        running.wait_until_ready().await?;
        Ok(running)
    }

    pub(super) async fn wait_until_ready(&mut self) -> Result<(), Trouble> {
        let deadline = Instant::now() + READY_TIMEOUT;
        for (node, place) in self.nodes.iter_mut().zip(&self.places) {
            while !is_ready(self.store, place).await {
                if node.has_ended() || Instant::now() > deadline {
                    return Err(node.not_ready());
                }
                sleep(READY_PAUSE).await;
            }
        }
        Ok(())
    }

    pub(super) fn target(&self) -> TargetName {
        self.target
    }

    pub(super) fn endpoints(&self) -> Vec<String> {
        self.places.iter().map(|place| place.address.clone()).collect()
    }

    /// Of our own HTTP API.
    pub(super) fn http_endpoints(&self) -> Vec<String> {
        self.places.iter().map(|place| place.second.clone()).collect()
    }

    pub(super) fn process_ids(&self) -> Vec<u32> {
        self.nodes.iter().map(Process::id).collect()
    }

    /// The node that serves clients there.
    pub(super) fn node_at(&mut self, address: &str) -> Option<&mut Process> {
        let place = self.places.iter().position(|place| place.address == address)?;
        self.nodes.get_mut(place)
    }
}

async fn is_ready(store: StoreName, place: &Place) -> bool {
    match store {
        StoreName::Raftkv => target::get(&place.second, "/readyz").await.is_ok(),
        StoreName::Etcd => target::get(&place.address, "/health").await.is_ok(),
        StoreName::Redis => tokio::net::TcpStream::connect(&place.address).await.is_ok(),
    }
}

fn places(store: StoreName, data: &Path) -> std::io::Result<Vec<Place>> {
    let addresses = free_addresses(2 * store.nodes())?;
    let places = addresses.chunks_exact(2).zip(1..).map(|(pair, number)| {
        let name = format!("node{number}");
        Place {
            address: pair[0].clone(),
            second: pair[1].clone(),
            data: data.join(&name).display().to_string(),
            name,
        }
    });
    Ok(places.collect())
}

fn arguments(store: StoreName, place: &Place, all: &[Place]) -> Vec<String> {
    let flags = match store {
        StoreName::Raftkv => raftkv_flags(place, all),
        StoreName::Etcd => etcd_flags(place, all),
        StoreName::Redis => redis_flags(place),
    };
    flags
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect()
}

fn raftkv_flags(place: &Place, all: &[Place]) -> Vec<(&'static str, String)> {
    let others = all.iter().filter(|other| other.name != place.name);
    let peers: Vec<String> = others
        .map(|other| format!("{}={}", other.name, other.address))
        .collect();
    vec![
        ("--id", place.name.clone()),
        ("--listen", place.address.clone()),
        ("--http", place.second.clone()),
        ("--peers", peers.join(",")),
        ("--data-dir", place.data.clone()),
    ]
}

fn etcd_flags(place: &Place, all: &[Place]) -> Vec<(&'static str, String)> {
    let url = |address: &str| format!("http://{address}");
    let cluster: Vec<String> = all
        .iter()
        .map(|node| format!("{}={}", node.name, url(&node.second)))
        .collect();
    vec![
        ("--name", place.name.clone()),
        ("--data-dir", place.data.clone()),
        ("--listen-client-urls", url(&place.address)),
        ("--advertise-client-urls", url(&place.address)),
        ("--listen-peer-urls", url(&place.second)),
        ("--initial-advertise-peer-urls", url(&place.second)),
        ("--initial-cluster", cluster.join(",")),
        ("--log-level", "error".to_owned()),
        // The default of 2 GiB is full after some minutes of puts; etcd advises no more than this.
        ("--quota-backend-bytes", (8_u64 << 30).to_string()),
    ]
}

fn redis_flags(place: &Place) -> Vec<(&'static str, String)> {
    let port = place.address.rsplit(':').next().unwrap_or_default().to_owned();
    vec![
        ("--bind", "127.0.0.1".to_owned()),
        ("--port", port),
        ("--dir", place.data.clone()),
        ("--appendonly", "yes".to_owned()),
        ("--appendfsync", "always".to_owned()),
        // No snapshots beside the load.
        ("--save", String::new()),
    ]
}

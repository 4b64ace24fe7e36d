//! Real server processes on this machine, for tests: started, killed, paused, restarted, asked.
//!
//! Everything is on loopback, in temporary directories and on ports that no other test process uses at the same time.
//! Waiting is always for a condition, with a deadline. A test that fails shows the end of each node's output and
//! keeps its directory.
//!
//! What runs is the product: [`Binaries`] builds `server`, `kvctl` and `kvbench` by themselves, so that the feature
//! `simulation`, which this crate turns on for its own copy of the server's library, is never in them.

mod binaries;
mod cluster;
mod error;
mod files;
mod http;
mod kvctl;
mod node;
mod ports;
mod wait;

pub use binaries::Binaries;
pub use cluster::{Cluster, Links, NODE_NAMES};
pub use error::HarnessError;
pub use files::DataFiles;
pub use http::{HttpClient, Reply, Status};
pub use kvctl::{Kvctl, Printed, RunningKvctl, ok};
pub use node::{Exit, Node, NodeFlags};
pub use ports::{ConventionPorts, PortBlock};
pub use wait::{Deadline, wait_for};

//! The floor: three processes that replicate and sync as ours do, with nothing of what makes it safe.
//!
//! No election, no terms, no checksums, no revisions, no history, nothing drained or read back: a fixed leader gathers
//! what waits into a batch, writes and syncs it on a thread beside while it goes to both followers, and answers when two
//! of the three have it. What a real store costs more is what it does more; what the machine costs is in here.
//! It speaks as much RESP as `kvbench --target redis` needs, so the load is the same one.
//!
//! ```text
//! leader.rs    clients, batches, what a majority has
//! follower.rs  a copy
//! resp.rs      commands and answers
//! frames.rs    what goes between leader and follower
//! log.rs       the thread that writes and syncs
//! map.rs       keys and values
//! outbox.rs    what is to leave by a connection
//! ```
//! `bench/floor.sh` measures it beside the server.

mod follower;
mod frames;
mod leader;
mod log;
mod map;
mod outbox;
mod resp;

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use tikv_jemallocator::Jemalloc;
use tokio::task::LocalSet;

/// As in the server.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Replication without consensus, for comparison. Never keep data in it.
#[derive(Parser)]
struct Options {
    /// Where clients connect. Two followers are started beside it
    #[arg(long, default_value = "127.0.0.1:6399")]
    listen: SocketAddr,
    /// Where the three logs lie, on a disk; must not exist yet
    #[arg(long)]
    directory: PathBuf,
    /// The leader to follow: how the followers are started
    #[arg(long, hide = true)]
    follow: Option<SocketAddr>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let local = LocalSet::new();
    match options.follow {
        Some(leader) => local.block_on(&runtime, follower::run(leader, &options.directory)),
        None => local.block_on(&runtime, leader::run(options.listen, &options.directory)),
    }
}

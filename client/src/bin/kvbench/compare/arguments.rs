//! What `kvbench compare` was told, and what it means.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use raftkv_client::command_line::parse_duration;

use super::cell::Cell;
use super::disk;
use super::store::{Binary, StoreName};
use crate::trouble::Trouble;

/// The table that issue 7 asks for.
const MATRIX: &str = "put:1,put:16,put:64,put:256,put:1024,get:1,get:64,get:256,mixed:256,open:6500,open:100000,\
                      http-put:256,http-get:256,failover:10";

const AFTER_HELP: &str = "\
Cells: put:CLIENTS, get:CLIENTS, mixed:CLIENTS (90 % reads), cas:CLIENTS: closed loop, clients share --connections;
open:RATE: so many puts per second are due; http-put:CONNECTIONS and http-get:CONNECTIONS: raftkv's HTTP API, a keep-alive
connection per client; failover:TRIALS: raftkv, from kill -9 of the leader to the first acknowledged write.

etcd and redis-server are searched on PATH, and take part if this program was built with the features etcd and redis.

Exit codes: 0 done, 2 the command line is wrong, 3 a store or a cell failed, 130 interrupted.";

/// Flags of the comparison.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct CompareArguments {
    /// What is measured, in this order
    #[arg(long, value_name = "CELL,...", value_delimiter = ',', default_value = MATRIX)]
    matrix: Vec<Cell>,
    /// Rounds of the whole matrix; results are medians
    #[arg(long, default_value = "3")]
    rounds: NonZeroU32,
    /// Measured time of each cell
    #[arg(long, value_parser = parse_duration, default_value = "10s")]
    duration: Duration,
    /// Load before each measurement
    #[arg(long, value_parser = parse_duration, default_value = "2s")]
    warmup: Duration,
    /// Connections that clients share, the same for every store
    #[arg(long, default_value = "16")]
    connections: NonZeroU32,
    /// Number of keys, all written before
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// Length of each value
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(8..))]
    value_bytes: u64,
    /// Only these stores; all that are found unless said
    #[arg(long, value_enum, value_delimiter = ',')]
    stores: Vec<StoreName>,
    /// raftkv's server program; beside this program unless said
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
    /// Where data is written while it runs, on a disk; beside this program unless said
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,
    /// Writes the tables here too, and a plot beside them (.svg)
    #[arg(long, value_name = "FILE.md")]
    pub(crate) out: Option<PathBuf>,
}

/// A comparison that can be made.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) cells: Vec<Cell>,
    pub(super) rounds: u32,
    pub(super) duration: Duration,
    pub(super) warmup: Duration,
    pub(super) connections: usize,
    pub(super) keys: u64,
    pub(super) value_bytes: usize,
    pub(super) stores: Vec<Binary>,
    pub(super) directory: PathBuf,
}

impl CompareArguments {
    /// Looks for what is needed.
    fn plan_in(&self, own_directory: &Path) -> Result<Plan, Trouble> {
        let directory = self.dir.clone().unwrap_or_else(|| own_directory.to_owned());
        disk::check(&directory)?;
        let server = self
            .server
            .clone()
            .unwrap_or_else(|| own_directory.join("server"));
        Ok(Plan {
            cells: self.matrix.clone(),
            rounds: self.rounds.get(),
            duration: self.duration,
            warmup: self.warmup,
            connections: self.connections.get() as usize,
            keys: self.keys,
            value_bytes: self.value_bytes as usize,
            stores: self.binaries(&server)?,
            directory,
        })
    }

    /// The same, with what lies beside this program.
    pub(super) fn plan(&self) -> Result<Plan, Trouble> {
        let own = std::env::current_exe().map_err(|source| Trouble::Prepare {
            what: "the search for raftkv's server".to_owned(),
            source,
        })?;
        self.plan_in(own.parent().unwrap_or(Path::new(".")))
    }

    fn binaries(&self, server: &Path) -> Result<Vec<Binary>, Trouble> {
        let is_wanted = |store: &StoreName| self.stores.is_empty() || self.stores.contains(store);
        let mut binaries = Vec::new();
        for store in StoreName::ALL.into_iter().filter(is_wanted) {
            match Binary::find(store, server) {
                Some(binary) => binaries.push(binary),
                // Without a word of it, whoever reads the table would take it for the whole.
                None if self.stores.is_empty() && store != StoreName::Raftkv => {
                    eprintln!("{store} does not take part: {}", store.absence());
                }
                None => {
                    return Err(Trouble::Usage(format!(
                        "{store} can not take part: {}",
                        store.absence()
                    )));
                }
            }
        }
        Ok(binaries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::CommandLine;
    use clap::Parser;

    fn arguments(line: &[&str]) -> CompareArguments {
        let line = ["kvbench", "compare"].iter().chain(line);
        match CommandLine::try_parse_from(line).expect("it parses") {
            CommandLine::Compare(arguments) => arguments,
            other => panic!("{other:?} is no comparison"),
        }
    }

    #[test]
    fn the_whole_table_is_measured_unless_told_otherwise() {
        assert_eq!(arguments(&[]).matrix.len(), 14);
        let cells = arguments(&["--matrix", "put:2,failover:1"]).matrix;
        assert_eq!(
            cells.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["put, 2 clients", "fail-over"]
        );
    }

    #[test]
    fn without_a_server_there_is_nothing_to_compare() {
        let empty = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a directory");
        let plan = arguments(&["--stores", "raftkv"]).plan_in(empty.path());
        assert!(matches!(plan, Err(Trouble::Usage(_))), "{plan:?}");
    }
}

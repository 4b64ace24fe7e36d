//! A node that was away for longer than the log reaches back: it gets a snapshot, while writes go on.
//!
//! `CATCH_UP_KEYS` says how many keys there are (12,000 by default; 100,000 make the long test); twice as many requests
//! are answered while the node is away.

use std::time::{Duration, Instant};

use bytes::Bytes;
use raftkv_tests::harness::{Cluster, DataFiles, Deadline, Links, wait_for};
use raftkv_tests::ledger::{Ledger, Load, LoadPlan, assert_all_keys, read_stale};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const PROGRESS_SECONDS: u64 = 120;
const WRITERS: u32 = 120;
/// What each message waits on its way, where a transfer is to last: parts of it go one at a time.
const SLOW: Duration = Duration::from_millis(60);
const INSTALLED: &str = "its state comes from a snapshot now";

/// So little log is kept that any node that was away is behind it.
const SHORT_LOG: [&str; 8] = [
    "--overlay-mib",
    "4",
    "--log-segment-mib",
    "1",
    "--log-tail-mib",
    "1",
    "--disk-reserve-mib",
    "16",
];

fn keys() -> u64 {
    let keys = std::env::var("CATCH_UP_KEYS").ok();
    keys.map_or(12_000, |keys| keys.parse().expect("CATCH_UP_KEYS is a number"))
}

/// Three nodes under load, one of them so far behind that the log does not reach back to it.
struct Scene {
    cluster: Cluster,
    load: Load,
    behind: usize,
    leader: usize,
}

impl Scene {
    fn start(links: Links) -> Scene {
        let mut cluster = Cluster::prepare_with(3, links, &SHORT_LOG);
        cluster.start_all();
        cluster.wait_until_ready();
        let leader = cluster.wait_for_leader(Deadline::seconds(PROGRESS_SECONDS));
        let plan = LoadPlan {
            writers: WRITERS,
            keys_each: usize::try_from(keys() / u64::from(WRITERS)).expect("a small number"),
            value_bytes: 500,
            round: 0,
        };
        let load = Load::start(plan, &cluster.native_ports(), REQUEST_TIMEOUT);
        load.wait_for_answers(keys(), Deadline::seconds(PROGRESS_SECONDS));
        let behind = (leader + 1) % 3;
        cluster.node_mut(behind).kill9();
        let newest_there = *cluster.data_files(behind).segments.last().expect("a log");
        load.wait_for_answers(2 * keys(), Deadline::seconds(PROGRESS_SECONDS));
        wait_for(
            "the log to be cut behind the node that is away",
            Deadline::seconds(PROGRESS_SECONDS),
            || match cluster.data_files(leader) {
                files if files.segments[0] > newest_there + 1 => Ok(()),
                files => Err(format!("{newest_there} of {files:?}")),
            },
        );
        Scene {
            cluster,
            load,
            behind,
            leader,
        }
    }

    fn installs(&self) -> usize {
        self.cluster.node(self.behind).output().matches(INSTALLED).count()
    }

    #[track_caller]
    fn wait_until_installed(&self) {
        wait_for("a snapshot", Deadline::seconds(PROGRESS_SECONDS), || {
            match self.installs() {
                0 => Err("none came"),
                _ => Ok(()),
            }
        });
    }

    /// Starts the node that is behind, with a slow way to it, and returns when its files show this.
    #[track_caller]
    fn receive_until(&mut self, what: &str, is_there: impl Fn(&DataFiles) -> bool) {
        for other in (0..3).filter(|&node| node != self.behind) {
            self.cluster.network().delay(other, self.behind, SLOW);
        }
        self.cluster.node_mut(self.behind).start();
        wait_for(what, Deadline::seconds(PROGRESS_SECONDS), || {
            match self.cluster.data_files(self.behind) {
                files if is_there(&files) => Ok(()),
                files => Err(format!("{files:?}, {} installed", self.installs())),
            }
        });
        assert_eq!(self.installs(), 0, "the transfer was over before its middle");
    }

    /// Ends the load, and shows that all nodes hold what they should, and keep nothing of what was received in vain.
    #[track_caller]
    fn end(mut self) {
        if self.cluster.nodes().iter().any(|node| !node.is_running()) {
            self.cluster.start_all();
        }
        let mut ledger = Ledger::default();
        self.load
            .wait_for_answers(500, Deadline::seconds(PROGRESS_SECONDS));
        self.load.finish_into(&mut ledger);
        self.cluster.wait_until_ready();
        self.cluster.wait_until_caught_up();
        let keys: Vec<Bytes> = ledger.keys().cloned().collect();
        wait_for("three equal states", Deadline::seconds(PROGRESS_SECONDS), || {
            let states = self
                .cluster
                .nodes()
                .iter()
                .map(|node| read_stale(node, keys.clone()));
            let states: Vec<_> = states.collect();
            // Keys expire at any time, but for a moment all are equal.
            match states.windows(2).all(|pair| pair[0] == pair[1]) {
                true => Ok(()),
                false => Err("they differ"),
            }
        });
        for node in self.cluster.nodes() {
            assert_all_keys(node, &ledger);
            let output = node.output();
            assert!(!output.contains("panicked"), "{}", node.output_tail());
        }
        let behind = self.behind;
        wait_for(
            "a clean data directory",
            Deadline::seconds(PROGRESS_SECONDS),
            || {
                let files = self.cluster.data_files(behind);
                let current = *files.stores.last().expect("a base");
                let is_clean = files.stores.len() == 1
                    && files.generations.iter().all(|(store, _)| *store == current)
                    && current > 1;
                if is_clean {
                    Ok(())
                } else {
                    Err(format!("{files:?}"))
                }
            },
        );
    }
}

#[test]
fn a_node_behind_the_log_catches_up_by_a_snapshot_while_writes_go_on() {
    let mut scene = Scene::start(Links::Direct);
    let rate = |answers: u64, since: Instant| answers as f64 / since.elapsed().as_secs_f64();
    let (before, since) = (scene.load.answered(), Instant::now());
    scene
        .load
        .wait_for_answers(keys() / 4, Deadline::seconds(PROGRESS_SECONDS));
    let alone = rate(scene.load.answered() - before, since);

    let (before, since) = (scene.load.answered(), Instant::now());
    scene.cluster.node_mut(scene.behind).start();
    scene.wait_until_installed();
    let meanwhile = scene.load.answered() - before;
    println!(
        "{alone:.0} requests/s with a node away, {:.0} while it got its snapshot, which took {:?} from its start",
        rate(meanwhile, since),
        since.elapsed()
    );
    assert!(meanwhile > 0, "writes go on");
    let leader = scene.cluster.node(scene.leader);
    wait_for(
        "the sender to say so",
        Deadline::seconds(PROGRESS_SECONDS),
        || match leader.output().contains("the snapshot has arrived") {
            true => Ok(()),
            false => Err(leader.output_tail()),
        },
    );
    scene.end();
}

#[test]
fn a_receiver_killed_again_and_again_catches_up_at_last() {
    let mut scene = Scene::start(Links::Proxied);
    scene.receive_until("a new store", |files| files.stores.len() > 1);
    scene.cluster.node_mut(scene.behind).kill9();
    scene.receive_until("rows in the new store", |files| {
        files.stores.len() > 1 && files.tables.0 > 0
    });
    scene.cluster.node_mut(scene.behind).kill9();
    scene.receive_until("history in the new store", |files| {
        files.generations.iter().any(|(store, _)| *store > 1)
    });
    scene.cluster.node_mut(scene.behind).kill9();
    scene.cluster.network().heal();
    scene.cluster.node_mut(scene.behind).start();
    scene.wait_until_installed();
    scene.end();
}

#[test]
fn a_sender_killed_in_the_middle_is_replaced_by_the_next_leader() {
    let mut scene = Scene::start(Links::Proxied);
    scene.receive_until("rows in the new store", |files| {
        files.stores.len() > 1 && files.tables.0 > 0
    });
    scene.cluster.node_mut(scene.leader).kill9();
    scene.wait_until_installed();
    scene.cluster.network().heal();
    scene.end();
}

//! What a node that is cut off may still say, and what it does when it comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use raftkv_tests::harness::{Cluster, Deadline, HttpClient, Links, wait_for};

const GENEROUS: u64 = 60;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// Several election time-outs.
const LONG_AWAY: Duration = Duration::from_secs(2);

/// A read that was answered with a value.
#[derive(Debug)]
struct Seen {
    began: Instant,
    value: String,
}

/// Reads one key at one node, over and over.
struct Reader {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Seen>>,
}

impl Reader {
    fn start(port: u16, consistency: &str) -> Reader {
        let is_over = Arc::new(AtomicBool::new(false));
        let path = format!("/get?key=k&consistency={consistency}");
        let thread = std::thread::spawn({
            let is_over = Arc::clone(&is_over);
            move || read_until(&is_over, &HttpClient::new(port, REQUEST_TIMEOUT), &path)
        });
        Reader { is_over, thread }
    }

    fn end(self) -> Vec<Seen> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("a reader only records what it is told")
    }
}

fn read_until(is_over: &AtomicBool, node: &HttpClient, path: &str) -> Vec<Seen> {
    let mut seen = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let began = Instant::now();
        let Ok(reply) = node.get_path(path) else { continue };
        if let (200, Some(value)) = (reply.status, reply.body["value"].as_str()) {
            seen.push(Seen {
                began,
                value: value.to_owned(),
            });
        }
    }
    seen
}

/// Waits until this node, which leads, serves by lease: what is shown later would hold without leases too.
fn wait_for_lease(leader: &HttpClient) {
    wait_for("a read by lease", Deadline::seconds(GENEROUS), || {
        match leader.get_path("/get?key=k&consistency=leader_lease") {
            Ok(reply) if reply.basis.as_deref() == Some("leader_lease") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

fn start_with_leases(links: Links) -> Cluster {
    let mut cluster = Cluster::prepare_with(3, links, &["--leader-leases-max-drift-ppm", "1000"]);
    cluster.start_all();
    cluster.wait_until_ready();
    cluster
}

/// The leader, which has taken the old value and serves by lease.
fn leader_with_lease(cluster: &Cluster) -> usize {
    let leader = cluster.wait_for_leader(Deadline::seconds(GENEROUS));
    let http = cluster.node(leader).http();
    assert_eq!(http.set("k", "old").expect("an answer").status, 200);
    wait_for_lease(http);
    leader
}

/// Writes at whichever node takes it, and returns when it was acknowledged.
fn write_elsewhere(cluster: &Cluster, away: usize, value: &str) -> Instant {
    let others: Vec<_> = (0..3).filter(|&node| node != away).collect();
    let mut turn = 0;
    wait_for("the others to take a write", Deadline::seconds(GENEROUS), || {
        turn += 1;
        let node = others[turn % others.len()];
        match cluster.node(node).http().set("k", value) {
            Ok(reply) if reply.status == 200 => Ok(Instant::now()),
            other => Err(format!("{other:?}")),
        }
    })
}

/// Whatever the isolated leader was asked for after others acknowledged a newer value, it must not have answered the old one.
fn assert_never_old(seen: &[Seen], acknowledged: Instant) {
    let old: Vec<_> = seen
        .iter()
        .filter(|read| read.began > acknowledged && read.value == "old")
        .collect();
    assert!(
        old.is_empty(),
        "{} reads saw a value that was overwritten before: {:?}",
        old.len(),
        old.first()
    );
}

#[test]
fn isolated_leader_serves_no_read_that_others_have_overtaken() {
    let cluster = start_with_leases(Links::Proxied);
    for _ in 0..3 {
        let leader = leader_with_lease(&cluster);
        let port = cluster.node(leader).http_port();
        let by_lease = Reader::start(port, "leader_lease");
        let by_index = Reader::start(port, "linearizable");
        cluster.network().isolate(leader);
        let acknowledged = write_elsewhere(&cluster, leader, "new");
        std::thread::sleep(LONG_AWAY / 2);
        cluster.network().heal();
        cluster.wait_until_ready();
        let (by_lease, by_index) = (by_lease.end(), by_index.end());
        assert_never_old(&by_lease, acknowledged);
        assert_never_old(&by_index, acknowledged);
    }
}

#[test]
fn leader_that_stood_still_serves_no_read_that_others_have_overtaken() {
    let cluster = start_with_leases(Links::Direct);
    let leader = leader_with_lease(&cluster);
    let by_lease = Reader::start(cluster.node(leader).http_port(), "leader_lease");
    cluster.node(leader).pause();
    let acknowledged = write_elsewhere(&cluster, leader, "new");
    cluster.node(leader).resume();
    cluster.wait_until_ready();
    assert_never_old(&by_lease.end(), acknowledged);
}

#[test]
fn follower_that_returns_does_not_depose_the_leader() {
    let cluster = Cluster::start_behind_proxies(3);
    let leader = cluster.wait_for_leader(Deadline::seconds(GENEROUS));
    let term = cluster.node(leader).http().status().expect("a status").term;
    for follower in (0..3).filter(|&node| node != leader) {
        cluster.network().isolate(follower);
        wait_for(
            "it to miss the leader",
            Deadline::seconds(GENEROUS),
            || match cluster.node(follower).http().status() {
                Ok(status) if status.leader.is_none() => Ok(()),
                other => Err(format!("{other:?}")),
            },
        );
        // Time enough to campaign again and again: pre-vote must not let it raise its term.
        std::thread::sleep(LONG_AWAY);
        cluster.network().heal();
        cluster.wait_until_ready();
        assert_eq!(
            cluster
                .node(leader)
                .http()
                .set("k", "v")
                .expect("an answer")
                .status,
            200
        );
    }
    let status = cluster.node(leader).http().status().expect("a status");
    assert_eq!((status.role.as_str(), status.term), ("leader", term));
}

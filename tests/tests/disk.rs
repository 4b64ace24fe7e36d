//! A full disk, a real one: a small file system in memory, where this machine lets a test mount one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use raftkv_tests::harness::{Cluster, Deadline, HttpClient, Links, Node, wait_for};

/// Room for a new node, and not for much more.
const SMALL_MIB: u32 = 160;
const LARGE_MIB: u32 = 600;

/// Most of the disk is for data, and a reserve is kept.
const WITH_RESERVE: [&str; 10] = [
    "--overlay-mib",
    "4",
    "--cache-mib",
    "4",
    "--log-segment-mib",
    "1",
    "--log-tail-mib",
    "1",
    "--disk-reserve-mib",
    "48",
];
/// Nothing is kept: the disk gets really full.
const WITHOUT_RESERVE: [&str; 8] = [
    "--overlay-mib",
    "4",
    "--log-segment-mib",
    "8",
    "--log-tail-mib",
    "8",
    "--disk-reserve-mib",
    "0",
];
const PATIENCE_SECONDS: u64 = 60;

/// A file system in memory; unmounted when dropped.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// `None`, with the reason printed, where it may not be mounted.
    fn mount(path: &Path) -> Option<SmallDisk> {
        std::fs::create_dir_all(path).expect("a directory to mount on");
        match mount(path, &format!("size={SMALL_MIB}m")) {
            Ok(()) => Some(SmallDisk {
                path: path.to_owned(),
            }),
            Err(reason) => {
                println!("skipped: no file system can be mounted here ({reason})");
                None
            }
        }
    }

    fn grow(&self) {
        mount(&self.path, &format!("remount,size={LARGE_MIB}m")).expect("what was mounted can be remounted");
    }
}

fn mount(path: &Path, options: &str) -> Result<(), String> {
    let output = Command::new("mount")
        .args(["-t", "tmpfs", "-o", options, "tmpfs"])
        .arg(path)
        .output();
    let output = output.map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the server may be about to end. What is left then is a line in the system's list of mounts.
        let _ = Command::new("umount")
            .arg("-l")
            .arg(&self.path)
            .stderr(Stdio::null())
            .status();
    }
}

/// Writes large values until the node refuses or dies, and returns what was acknowledged.
fn fill(node: &Node) -> Vec<(String, u64)> {
    let http = HttpClient::new(node.http_port(), Duration::from_secs(10));
    let value = "x".repeat(1 << 20);
    let mut acknowledged = Vec::new();
    for number in 0..2 * LARGE_MIB {
        let key = format!("filling {number}");
        match http.set(&key, &value) {
            Ok(reply) if reply.status == 200 => {
                acknowledged.push((key, reply.revision().expect("a revision")));
            }
            Ok(reply) => {
                println!(
                    "refused after {} MiB: {} {}",
                    acknowledged.len(),
                    reply.status,
                    reply.body
                );
                return acknowledged;
            }
            Err(error) => {
                println!("no answer after {} MiB: {error}", acknowledged.len());
                return acknowledged;
            }
        }
    }
    panic!("{} MiB went onto a disk of {SMALL_MIB} MiB", 2 * LARGE_MIB);
}

#[track_caller]
fn assert_all_there(node: &Node, acknowledged: &[(String, u64)]) {
    assert!(
        !acknowledged.is_empty(),
        "nothing fitted on the disk, so nothing was shown"
    );
    for (key, revision) in acknowledged {
        let got = node.http().get(key).expect("an answer");
        assert_eq!(
            (got.status, got.revision()),
            (200, Some(*revision)),
            "{key} is missing: {}",
            got.body
        );
    }
}

#[test]
fn full_disk_costs_no_acknowledged_write() {
    let mut cluster = Cluster::prepare_with(1, Links::Direct, &WITHOUT_RESERVE);
    let Some(disk) = SmallDisk::mount(&cluster.data_directory(0)) else {
        return;
    };
    cluster.start_all();
    cluster.wait_until_ready();
    let acknowledged = fill(cluster.node(0));
    if !cluster.node_mut(0).is_running() {
        let output = cluster.node(0).output();
        assert!(
            output.contains("space") || output.contains("the disk is full"),
            "a node that stops says why: {}",
            cluster.node(0).output_tail()
        );
        assert!(!output.contains("panicked"), "{}", cluster.node(0).output_tail());
    }
    cluster.kill9_all();
    disk.grow();
    cluster.start_all();
    cluster.wait_until_ready();
    assert_all_there(cluster.node(0), &acknowledged);
    assert_eq!(
        cluster
            .node(0)
            .http()
            .set("room", "again")
            .expect("an answer")
            .status,
        200
    );
}

#[test]
fn full_disk_of_one_node_does_not_stop_the_others() {
    let mut cluster = Cluster::prepare_with(3, Links::Direct, &WITHOUT_RESERVE);
    let Some(disk) = SmallDisk::mount(&cluster.data_directory(0)) else {
        return;
    };
    cluster.start_all();
    cluster.wait_until_ready();
    let value = "x".repeat(1 << 20);
    let mut acknowledged = Vec::new();
    let others = [cluster.node(1).http().clone(), cluster.node(2).http().clone()];
    for number in 0..SMALL_MIB + 40 {
        let key = format!("filling {number}");
        let reply = wait_for("the two others to go on", Deadline::seconds(60), || {
            // Writing the same value again after an unknown outcome is harmless here.
            match others[number as usize % 2].set(&key, &value) {
                Ok(reply) if reply.status == 200 => Ok(reply),
                Ok(reply) => Err(reply.body.to_string()),
                Err(error) => Err(error.to_string()),
            }
        });
        acknowledged.push((key, reply.revision().expect("a revision")));
    }
    cluster.node_mut(0).kill9();
    disk.grow();
    cluster.node_mut(0).start();
    cluster.wait_until_ready();
    cluster.wait_until_caught_up();
    for node in cluster.nodes() {
        assert_all_there(node, &acknowledged);
    }
}

/// One node on a small disk that keeps a reserve; `None` where there can be none.
fn node_with_reserve() -> Option<(Cluster, SmallDisk)> {
    let mut cluster = Cluster::prepare_with(1, Links::Direct, &WITH_RESERVE);
    let disk = SmallDisk::mount(&cluster.data_directory(0))?;
    cluster.start_all();
    cluster.wait_until_ready();
    Some((cluster, disk))
}

/// Puts until it is done; refusals for want of space, and those alone, are tried again until the deadline.
fn put_patiently(node: &Node, key: &str, value: &str, patience: Deadline) -> Result<u64, String> {
    loop {
        let reply = node.http().set(key, value).expect("an answer");
        match (reply.status, reply.code()) {
            (200, _) => return Ok(reply.revision().expect("a revision")),
            (503, Some("no_space")) if patience.has_passed() => return Err(reply.body.to_string()),
            (503, Some("no_space")) => std::thread::sleep(Duration::from_millis(20)),
            _ => panic!("{key}: {} {}", reply.status, reply.body),
        }
    }
}

/// Fills the disk until puts are refused, and stay so.
fn fill_up_to_the_reserve(node: &Node, value: &str) -> BTreeMap<String, u64> {
    let mut acknowledged = BTreeMap::new();
    for number in 0.. {
        let key = format!("filling {number}");
        match put_patiently(node, &key, value, Deadline::seconds(2)) {
            Ok(revision) => acknowledged.insert(key, revision),
            Err(refusal) => {
                println!("refused after {} keys: {refusal}", acknowledged.len());
                return acknowledged;
            }
        };
    }
    unreachable!("a disk of {SMALL_MIB} MiB has an end")
}

#[track_caller]
fn assert_never_stopped(node: &Node) {
    assert!(node.is_running(), "{}", node.output_tail());
    let output = node.output();
    assert!(!output.contains("panicked"), "{}", node.output_tail());
    assert!(
        output.contains("puts are refused (no_space)"),
        "{}",
        node.output_tail()
    );
}

#[test]
fn puts_are_refused_before_the_disk_is_full_and_taken_again_when_keys_were_deleted() {
    let Some((mut cluster, _disk)) = node_with_reserve() else {
        return;
    };
    let value = "x".repeat(64 << 10);
    let mut acknowledged = fill_up_to_the_reserve(cluster.node(0), &value);
    assert!(acknowledged.len() > 100, "{} keys", acknowledged.len());
    let there: Vec<_> = acknowledged.clone().into_iter().collect();
    assert_all_there(cluster.node(0), &there);

    cluster.kill9_all();
    cluster.start_all();
    cluster.wait_until_ready();
    assert_all_there(cluster.node(0), &there);

    let every_key = acknowledged.keys().cloned().enumerate();
    let given_up: Vec<String> = every_key
        .filter(|(place, _)| place % 4 > 0)
        .map(|(_, key)| key)
        .collect();
    for key in &given_up {
        let reply = cluster.node(0).http().delete(key).expect("an answer");
        assert_eq!(
            (reply.status, reply.body["deleted"].as_bool()),
            (200, Some(true)),
            "{key}: {}",
            reply.body
        );
        acknowledged.remove(key);
    }
    let patience = Deadline::seconds(PATIENCE_SECONDS);
    if let Err(refusal) = put_patiently(cluster.node(0), "again", &value, patience) {
        panic!("deleting three quarters of all keys made no room: {refusal}");
    }
    assert_all_there(cluster.node(0), &acknowledged.into_iter().collect::<Vec<_>>());
    for key in given_up {
        let got = cluster.node(0).http().get(&key).expect("an answer");
        assert_eq!(got.code(), Some("key_not_found"), "{key}: {}", got.body);
    }
    assert_never_stopped(cluster.node(0));
}

/// What is left of the disk but for so much is taken by somebody else, until the file is removed.
fn leave_mib(disk: &SmallDisk, mib: u64) -> PathBuf {
    let output = Command::new("df")
        .args(["-BM", "--output=avail"])
        .arg(&disk.path)
        .output();
    let output = String::from_utf8(output.expect("df runs").stdout).expect("text");
    let free = output
        .lines()
        .last()
        .expect("a line")
        .trim()
        .trim_end_matches('M');
    let free: u64 = free.parse().expect("a number");
    let file = disk.path.join("of somebody else");
    let size = free.checked_sub(mib).expect("room to take") << 20;
    std::fs::write(&file, vec![1; size as usize]).expect("the room was there");
    file
}

#[test]
fn small_values_written_over_large_ones_do_not_fill_the_disk_with_what_was_there() {
    let Some((mut cluster, disk)) = node_with_reserve() else {
        return;
    };
    let value = "x".repeat(64 << 10);
    let key = |number: u32| format!("key {number}");
    for number in 0..500 {
        let patience = Deadline::seconds(PATIENCE_SECONDS);
        put_patiently(cluster.node(0), &key(number), &value, patience).expect("there is room for 32 MiB");
    }
    for number in 0..500 {
        let patience = Deadline::seconds(PATIENCE_SECONDS);
        put_patiently(cluster.node(0), &key(number), "small", patience).expect("that takes hardly any");
    }
    // Less than the before-images of these writes would take, and less than the reserve: so they drain now.
    let taken = leave_mib(&disk, 20);
    wait_for("the drain", Deadline::seconds(PATIENCE_SECONDS), || {
        let output = cluster.node(0).output();
        let is_over = output.contains("older revisions are given up on this node");
        is_over.then_some(()).ok_or(output)
    });
    for number in 0..500 {
        let got = cluster.node(0).http().get(key(number)).expect("an answer");
        assert_eq!(got.body["value"].as_str(), Some("small"), "{}", got.body);
    }
    assert_never_stopped(cluster.node(0));
    cluster.kill9_all();
    cluster.start_all();
    cluster.wait_until_ready();
    std::fs::remove_file(taken).expect("the file");
    let patience = Deadline::seconds(PATIENCE_SECONDS);
    put_patiently(cluster.node(0), "again", &value, patience).expect("there is room again");
    for number in 0..500 {
        let got = cluster.node(0).http().get(key(number)).expect("an answer");
        assert_eq!(got.body["value"].as_str(), Some("small"), "{}", got.body);
    }
    assert_never_stopped(cluster.node(0));
}

#[test]
fn history_and_log_alone_never_fill_the_disk() {
    let Some((cluster, _disk)) = node_with_reserve() else {
        return;
    };
    // A small state that is written over and over: far more than the disk holds.
    let value = "x".repeat(64 << 10);
    for number in 0..SMALL_MIB * 3 * 16 {
        let key = format!("key {}", number % 100);
        let patience = Deadline::seconds(PATIENCE_SECONDS);
        if let Err(refusal) = put_patiently(cluster.node(0), &key, &value, patience) {
            panic!("after {number} puts on 100 keys there is no room any more: {refusal}");
        }
    }
    assert_never_stopped(cluster.node(0));
}

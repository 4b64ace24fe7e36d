//! A full disk, a real one: a small file system in memory, where this machine lets a test mount one.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use raftkv_tests::harness::{Cluster, Deadline, HttpClient, Links, Node, wait_for};

/// Room for a new node, and not for much more.
const SMALL_MIB: u32 = 160;
const LARGE_MIB: u32 = 600;

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

fn data_directory(cluster: &Cluster, node: &str) -> PathBuf {
    cluster.directory().join("data").join(node)
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
    let mut cluster = Cluster::prepare(1, Links::Direct);
    let Some(disk) = SmallDisk::mount(&data_directory(&cluster, "n1")) else {
        return;
    };
    cluster.start_all();
    cluster.wait_until_ready();
    let acknowledged = fill(cluster.node(0));
    if !cluster.node_mut(0).is_running() {
        let output = cluster.node(0).output();
        assert!(
            output.contains("space"),
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
    let mut cluster = Cluster::prepare(3, Links::Direct);
    let Some(disk) = SmallDisk::mount(&data_directory(&cluster, "n1")) else {
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

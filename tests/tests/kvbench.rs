//! The load generator against real clusters: what it says of them is what they do.

use std::process::Command;
use std::thread;
use std::time::Duration;

use raftkv_tests::harness::{Binaries, Cluster, Deadline, Kvctl, ok};
use serde_json::Value;

/// For what takes less than a second on an idle machine.
const GENEROUS: u64 = 60;

fn addresses(cluster: &Cluster, target: &str) -> String {
    let ports = cluster.nodes().iter().map(|node| match target {
        "http" => node.http_port(),
        _ => node.native_port(),
    });
    let addresses: Vec<String> = ports.map(|port| format!("127.0.0.1:{port}")).collect();
    addresses.join(",")
}

fn kvbench(line: &str, endpoints: &str) -> Value {
    let output = Command::new(&Binaries::get().kvbench)
        .args(line.split(' '))
        .args(["--endpoints", endpoints, "--output", "json"])
        .output()
        .expect("kvbench can be started");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{line}: {stderr}{}",
        String::from_utf8_lossy(&output.stdout)
    );
    serde_json::from_slice(&output.stdout).expect("one JSON document")
}

#[test]
fn every_workload_runs_through_both_doors_and_is_read_back() {
    let cluster = Cluster::start(3);
    cluster.wait_until_ready();
    for target in ["native", "http"] {
        let endpoints = addresses(&cluster, target);
        for workload in [
            "put",
            "get",
            "mixed --read-ratio 0.5",
            "cas --distribution zipfian",
        ] {
            let line = format!(
                "{workload} --target {target} --clients 32 --connections 8 --keys 200 --operations 500 --warmup 0s --verify"
            );
            let report = kvbench(&line, &endpoints);
            assert_eq!(report["operations"], 500, "{line}: {report}");
            assert_eq!(report["errors"], serde_json::json!({}), "{line}: {report}");
            assert_eq!(report["misses"], 0, "{line}: {report}");
            assert_eq!(report["verified"]["wrong"], 0, "{line}: {report}");
            assert!(
                report["verified"]["acknowledged"].as_u64() >= Some(200),
                "{line}: {report}"
            );
        }
    }
}

/// Everything that the cluster holds, as `kvctl` lists it.
fn listing(cluster: &Cluster) -> Value {
    let kvctl = Kvctl::new(&[cluster.node(0).native_port()]);
    let printed = ok(kvctl.run(&["get", "--prefix", "", "--output", "json"]));
    serde_json::from_str(&printed).expect("one JSON document")
}

/// The amount in a value of `txn`: the eight digits behind the stamp of as many.
fn amount(kv: &Value) -> u64 {
    let value = kv["value"].as_str().expect("a text");
    value[8..16].parse().expect("digits")
}

#[test]
fn transfers_keep_the_sum_and_write_two_keys_each_unless_another_came_before() {
    const ACCOUNTS: u64 = 10;
    for target in ["native", "http"] {
        let cluster = Cluster::start(3);
        cluster.wait_until_ready();
        let line = format!(
            "txn --target {target} --clients 16 --connections 8 --keys {ACCOUNTS} --operations 500 --warmup 0s --verify"
        );
        let report = kvbench(&line, &addresses(&cluster, target));
        assert_eq!(report["operations"], 500, "{report}");
        assert_eq!(report["errors"], serde_json::json!({}), "{report}");
        assert_eq!(report["verified"]["wrong"], 0, "{report}");
        let conflicts = report["conflicts"].as_u64().expect("a number");
        assert!(conflicts > 0, "sixteen clients meet on ten accounts: {report}");
        let listing = listing(&cluster);
        let kvs = listing["kvs"].as_array().expect("a list");
        assert_eq!(kvs.len() as u64, ACCOUNTS, "{listing}");
        let sum: u64 = kvs.iter().map(amount).sum();
        assert_eq!(sum, ACCOUNTS * 1_000, "{listing}");
        assert!(
            kvs.iter().any(|kv| amount(kv) != 1_000),
            "nothing moved: {listing}"
        );
        let versions = kvs.iter().map(|kv| kv["version"].as_u64().expect("a number"));
        let written = versions.sum::<u64>() - ACCOUNTS;
        assert_eq!(written, 2 * (500 - conflicts), "{report}");
    }
}

#[test]
fn the_churn_of_leases_makes_two_revisions_each_and_leaves_no_lease_and_no_key() {
    for target in ["native", "http"] {
        let cluster = Cluster::start(3);
        cluster.wait_until_ready();
        let before = listing(&cluster)["revision"].as_u64().expect("a number");
        // In sequence, so that no two leases want one key.
        let line = format!(
            "lease --target {target} --clients 16 --connections 8 --distribution sequential --operations 300 --warmup 0s"
        );
        let report = kvbench(&line, &addresses(&cluster, target));
        assert_eq!(report["operations"], 300, "{report}");
        assert_eq!(report["errors"], serde_json::json!({}), "{report}");
        let kvctl = Kvctl::new(&[cluster.node(0).native_port()]);
        assert_eq!(ok(kvctl.run(&["lease", "list"])), "");
        let after = listing(&cluster);
        assert_eq!(after["kvs"], serde_json::json!([]), "{after}");
        // The put and the deletion; to grant a lease changes no key.
        assert_eq!(after["revision"], before + 600, "{report}");
    }
}

#[test]
fn no_acknowledged_write_of_either_door_is_lost_when_the_leader_is_killed() {
    for target in ["native", "http"] {
        let mut cluster = Cluster::start(3);
        cluster.wait_until_ready();
        let leader = cluster.wait_for_leader(Deadline::seconds(GENEROUS));
        let endpoints = addresses(&cluster, target);
        let load = thread::spawn(move || {
            let line =
                format!("put --target {target} --clients 16 --keys 500 --duration 4s --warmup 0s --verify");
            kvbench(&line, &endpoints)
        });
        thread::sleep(Duration::from_secs(1));
        cluster.node_mut(leader).kill9();
        let report = load.join().expect("the load ends well");
        assert_eq!(report["verified"]["wrong"], 0, "{report}");
        assert!(
            report["errors"]
                .as_object()
                .is_some_and(|errors| !errors.is_empty()),
            "{report}"
        );
        let series = report["series"].as_array().expect("a series");
        let last = series.last().expect("points");
        assert!(
            last["rate"].as_f64() > Some(0.0),
            "it goes on after the election: {report}"
        );
    }
}

//! `server recover`: what one node has stored becomes a cluster of its own.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::rig::{Cluster, delete, eventually, get, post};

fn recover(data_dir: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_server"));
    command
        .arg("recover")
        .arg("--data-dir")
        .arg(data_dir)
        .args(arguments);
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status.code(), text(stdout), text(stderr))
}

fn cluster_id(cluster: &Cluster, k: usize) -> Value {
    get(&cluster.url(k, "/status")).json["cluster_id"].clone()
}

#[test]
fn a_survivor_becomes_a_new_cluster_with_all_that_was_acknowledged() {
    let mut cluster = Cluster::of(3);
    cluster.wait_ready();
    for n in 0..50 {
        assert_eq!(cluster.set(0, &format!("k{n}"), &format!("v{n}")).status, 200);
    }
    assert_eq!(delete(&cluster.url(0, "/delete?key=k7")).status, 200);
    // The survivor has it all, as no one else may be asked afterwards.
    eventually("the survivor has applied everything", || {
        get(&cluster.url(0, "/status")).json["revision"] == 52
    });
    let old = cluster_id(&cluster, 0);
    let natives: Vec<_> = (0..3).map(|k| cluster.node(k).native_address()).collect();
    (0..3).for_each(|k| cluster.stop(k));

    let data_dir = cluster.config(0).data_dir.clone();
    let (code, told, said) = recover(&data_dir, &["--new-cluster"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        told.contains("node1 is now the only member") && told.contains("history epoch 2"),
        "{told}"
    );
    // Far behind revision 52: what was lost may have had those that come next.
    assert!(told.contains("from revision 1000000000052"), "{told}");

    let peers = std::mem::take(&mut cluster.config_mut(0).peers);
    assert_eq!(peers.len(), 2);
    cluster.restart(0, natives[0]);
    cluster.wait_ready();
    assert_ne!(cluster_id(&cluster, 0), old);
    for n in (0..50).filter(|n| *n != 7) {
        let answer = cluster.get(0, &format!("k{n}"));
        assert_eq!(answer.json["value"], format!("v{n}"), "{answer:?}");
        assert_eq!(answer.json["revision"], 2 + n);
        assert_eq!(answer.headers["raftkv-history-epoch"], "2");
    }
    assert_eq!(cluster.get(0, "k7").status, 404);
    let revision = &cluster.set(0, "after", "v").json["revision"];
    assert_eq!(*revision, 1_000_000_000_053_u64);
    let members = get(&cluster.url(0, "/v1/members"));
    assert_eq!(members.json["members"].as_array().map(Vec::len), Some(1));

    // It starts again as any node does, and the old ones never mix with it.
    cluster.stop(0);
    cluster.restart(0, natives[0]);
    cluster.restart(1, natives[1]);
    cluster.restart(2, natives[2]);
    eventually("the survivor serves", || cluster.get(0, "after").status == 200);
    eventually("the old two serve what they had", || {
        cluster.get(1, "k1").status == 200
    });
    assert_eq!(cluster.get(1, "after").status, 404);
    assert_eq!(cluster_id(&cluster, 1), old);
    let members = get(&cluster.url(0, "/v1/members"));
    assert_eq!(members.json["members"].as_array().map(Vec::len), Some(1));

    // A second recovery forks history once more.
    cluster.stop(0);
    let (code, told, said) = recover(&data_dir, &["--new-cluster"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        told.contains("history epoch 3") && told.contains("from revision 2000000000053"),
        "{told}"
    );
    cluster.restart(0, natives[0]);
    eventually("it serves again", || cluster.get(0, "after").status == 200);

    // The new log begins behind what a newcomer has, so its state comes in a snapshot.
    let k = cluster.start_joining(0);
    let name = format!("node{}", k + 1);
    eventually("it knocks", || {
        get(&cluster.url(k, "/readyz")).json["error"]
            .as_str()
            .is_some_and(|reason| reason.contains(&format!("kvctl member add {name}")))
    });
    let added = post(
        &cluster.url(0, "/v1/members"),
        &serde_json::json!({ "name": name }).to_string(),
    );
    assert_eq!(added.status, 200, "{added:?}");
    eventually("it is ready", || get(&cluster.url(k, "/readyz")).status == 200);
    assert_eq!(cluster.get(k, "k3").json["value"], "v3");
    assert_eq!(cluster.get(k, "k3").json["revision"], 5);
    assert_eq!(
        cluster.set(k, "later", "v").json["revision"],
        2_000_000_000_054_u64
    );
}

#[test]
fn a_recovery_is_refused_without_the_flag_beside_a_server_and_where_nothing_is() {
    let cluster = Cluster::single();
    cluster.wait_ready();
    let data_dir = cluster.config(0).data_dir.clone();
    let (code, _, said) = recover(&data_dir, &[]);
    assert_eq!(code, Some(2));
    assert!(said.contains("--new-cluster"), "{said}");
    let (code, _, said) = recover(&data_dir, &["--new-cluster"]);
    assert_eq!(code, Some(1));
    assert!(
        said.contains("another") || said.contains("lock") || said.contains("use"),
        "{said}"
    );
    let empty = tempfile::tempdir().expect("a temporary directory");
    for path in [empty.path().to_owned(), empty.path().join("missing")] {
        let (code, _, said) = recover(&path, &["--new-cluster"]);
        assert_eq!(code, Some(1));
        assert!(said.contains("nothing to recover"), "{said}");
        assert!(!empty.path().join("missing").exists());
    }
    assert_eq!(
        cluster.set(0, "k", "v").status,
        200,
        "the running one was left alone"
    );
}

//! Nodes that do what they are for.

use std::time::{Duration, Instant};

use raftkv_server::config::Config;
use raftkv_server::{Server, ServerError};
use serde_json::json;

use crate::rig::{Cluster, agent, delete, eventually, get, post};

#[test]
fn a_single_node_serves_within_a_second() {
    let start = Instant::now();
    let cluster = Cluster::single();
    cluster.wait_ready();
    assert_eq!(cluster.set(0, "k", "v").status, 200);
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "took {:?}",
        start.elapsed()
    );
}

#[test]
fn three_nodes_form_and_each_serves_everything() {
    let cluster = Cluster::of(3);
    cluster.wait_ready();
    for k in 0..3 {
        let answer = cluster.set(k, &format!("key{k}"), &format!("value{k}"));
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(
            answer.json,
            json!({ "key": format!("key{k}"), "revision": 2 + k })
        );
    }
    for (asked, k) in (0..3).flat_map(|asked| (0..3).map(move |k| (asked, k))) {
        let answer = cluster.get(asked, &format!("key{k}"));
        assert_eq!(answer.json["value"], format!("value{k}"), "{answer:?}");
        assert_eq!(answer.json["revision"], 2 + k);
    }
    for k in 0..3 {
        let answer = delete(&cluster.url(k, &format!("/delete?key=key{k}")));
        assert_eq!(
            answer.json,
            json!({ "key": format!("key{k}"), "deleted": true, "revision": 5 + k })
        );
        assert_eq!(cluster.get((k + 1) % 3, &format!("key{k}")).status, 404);
    }
    let nothing = delete(&cluster.url(0, "/delete?key=key0"));
    assert_eq!(
        nothing.json,
        json!({ "key": "key0", "deleted": false, "revision": 7 })
    );
}

#[test]
fn all_nodes_tell_the_same_cluster() {
    let cluster = Cluster::of(3);
    cluster.wait_ready();
    let statuses: Vec<_> = (0..3).map(|k| get(&cluster.url(k, "/status"))).collect();
    for (k, status) in statuses.iter().enumerate() {
        assert_eq!(status.json["id"], format!("node{}", k + 1));
        assert_eq!(status.json["cluster_id"], statuses[0].json["cluster_id"]);
        assert_eq!(status.json["leader"], statuses[0].json["leader"]);
        assert_eq!(status.json["members"], statuses[0].json["members"]);
        assert_eq!(
            status.headers["raftkv-cluster-id"],
            status.json["cluster_id"].as_str().expect("text")
        );
    }
    let leaders = statuses
        .iter()
        .filter(|status| status.json["role"] == "leader")
        .count();
    assert_eq!(leaders, 1);
}

#[test]
fn conditions_hold_or_tell_the_revision() {
    let cluster = Cluster::single();
    cluster.wait_ready();
    let set = |body: serde_json::Value| post(&cluster.url(0, "/set"), &body.to_string());
    let created = set(json!({ "key": "k", "value": "1", "if_revision": 0 }));
    assert_eq!((created.status, &created.json["revision"]), (200, &json!(2)));
    let again = set(json!({ "key": "k", "value": "2", "if_revision": 0 }));
    assert_eq!(
        (again.status, &again.json["code"]),
        (409, &json!("revision_mismatch"))
    );
    assert_eq!(again.json["revision"], 2);
    assert_eq!(
        set(json!({ "key": "k", "value": "3", "if_revision": 2 })).status,
        200
    );
    let stale = delete(&cluster.url(0, "/delete?key=k&if_revision=2"));
    assert_eq!((stale.status, &stale.json["revision"]), (409, &json!(3)));
    assert_eq!(delete(&cluster.url(0, "/delete?key=k&if_revision=3")).status, 200);
}

#[test]
fn any_bytes_can_be_keys_and_values() {
    let cluster = Cluster::single();
    cluster.wait_ready();
    let body = json!({ "key_base64": "/w==", "value_base64": "AP8=" });
    let answer = post(&cluster.url(0, "/set"), &body.to_string());
    assert_eq!(answer.json, json!({ "key_base64": "/w==", "revision": 2 }));
    let answer = get(&cluster.url(0, "/get?key=%ff"));
    assert_eq!(
        answer.json,
        json!({ "key_base64": "/w==", "value_base64": "AP8=", "revision": 2 })
    );
}

#[test]
fn a_key_with_a_ttl_goes_away_by_itself() {
    let cluster = Cluster::single();
    cluster.wait_ready();
    let body = json!({ "key": "k", "value": "v", "ttl_seconds": 0.2 });
    assert_eq!(post(&cluster.url(0, "/set"), &body.to_string()).status, 200);
    eventually("the key is gone", || cluster.get(0, "k").status == 404);
}

#[test]
fn without_a_majority_nothing_is_promised() {
    let mut cluster = Cluster::of(3);
    cluster.wait_ready();
    cluster.set(0, "k", "v");
    cluster.stop(1);
    cluster.stop(2);
    let read = cluster.get(0, "k");
    assert_eq!(
        (read.status, &read.json["code"]),
        (503, &json!("no_leader")),
        "{read:?}"
    );
    let ready = get(&cluster.url(0, "/readyz"));
    assert_eq!(ready.status, 503);
    assert!(ready.json["error"].is_string(), "{ready:?}");
    assert_eq!(get(&cluster.url(0, "/healthz")).status, 200);
    let write = cluster.set(0, "k", "w");
    assert!(write.status == 503 || write.status == 504, "{write:?}");
}

#[test]
fn acknowledged_writes_survive_a_restart_of_all() {
    let mut cluster = Cluster::of(3);
    cluster.wait_ready();
    for k in 0..30 {
        assert_eq!(cluster.set(k % 3, &format!("key{k}"), "v").status, 200);
    }
    let natives: Vec<_> = (0..3).map(|k| cluster.node(k).native_address()).collect();
    for k in 0..3 {
        cluster.stop(k);
    }
    for (k, native) in natives.into_iter().enumerate() {
        cluster.restart(k, native);
    }
    cluster.wait_ready();
    for k in 0..30 {
        assert_eq!(cluster.get((k + 1) % 3, &format!("key{k}")).status, 200, "key{k}");
    }
}

#[test]
fn a_stopped_node_comes_back_and_catches_up() {
    let mut cluster = Cluster::of(3);
    cluster.wait_ready();
    let native = cluster.node(2).native_address();
    cluster.stop(2);
    for k in 0..20 {
        // The leader may just have been stopped: a refused write is tried again.
        eventually("the write is taken", || {
            cluster.set(k % 2, &format!("key{k}"), "v").status == 200
        });
    }
    cluster.restart(2, native);
    cluster.wait_ready();
    assert_eq!(cluster.get(2, "key19").status, 200);
}

#[test]
fn a_graceful_stop_answers_what_is_under_way_and_frees_everything() {
    let cluster = Cluster::single();
    cluster.wait_ready();
    let mut cluster = cluster;
    let url = cluster.url(0, "/set");
    let writer = std::thread::spawn(move || {
        let agent = agent();
        let mut acknowledged = 0_u32;
        // The answer of a write is never lost by a stop: it comes, or the write is refused, or the door is closed.
        while let Ok(mut response) = agent
            .post(&url)
            .send(format!(r#"{{"key":"k{acknowledged}","value":"v"}}"#))
        {
            if response.status() != 200 {
                let body = response.body_mut().read_to_string().expect("a body");
                assert_eq!(response.status(), 503, "{body}");
                break;
            }
            acknowledged += 1;
        }
        acknowledged
    });
    let native = cluster.node(0).native_address();
    eventually("writes are under way", || cluster.get(0, "k20").status == 200);
    cluster.stop(0);
    let acknowledged = writer.join().expect("no other status");
    cluster.restart(0, native);
    cluster.wait_ready();
    for k in 0..acknowledged {
        assert_eq!(
            cluster.get(0, &format!("k{k}")).status,
            200,
            "k{k} of {acknowledged}"
        );
    }
}

#[test]
fn a_data_directory_has_one_server() {
    let cluster = Cluster::single();
    let second = Config::local("node9", cluster.config(0).data_dir.clone());
    let error = Server::start(&second).expect_err("is locked");
    assert!(matches!(error, ServerError::DataDirectory { .. }), "{error:?}");
    assert!(error.to_string().contains("data directory"), "{error}");
}

#[test]
fn a_taken_port_is_named() {
    let cluster = Cluster::single();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut config = Config::local("node9", dir.path().to_path_buf());
    config.listen = cluster.node(0).native_address().into();
    let error = Server::start(&config).expect_err("is taken").to_string();
    assert!(
        error.contains(&cluster.node(0).native_address().to_string()),
        "{error}"
    );
    assert!(error.contains("--listen"), "{error}");
}

//! Members at the HTTP door, and nodes that are stopped one after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use raftkv_client::{Client, Consistency, ReadBasis};
use serde_json::{Value, json};

use crate::rig::{Answer, Cluster, delete, eventually, get, post};

fn members(answer: &Answer) -> Vec<(String, bool)> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let members = answer.json["members"].as_array().expect("members");
    let member = |member: &Value| {
        let id = member["id"].as_str().expect("an id").to_owned();
        (id, member["voter"] == true)
    };
    members.iter().map(member).collect()
}

fn refusal(answer: &Answer) -> &str {
    assert_eq!(
        (answer.status, &answer.json["code"]),
        (409, &json!("membership_refused")),
        "{answer:?}"
    );
    answer.json["error"].as_str().expect("a sentence")
}

#[test]
fn a_node_joins_leads_and_leaves_over_http() {
    let mut cluster = Cluster::of(3);
    cluster.wait_ready();
    assert_eq!(cluster.set(0, "k", "v").status, 200);
    let k = cluster.start_joining(1);
    eventually("it waits, and says for what", || {
        let answer = get(&cluster.url(k, "/readyz"));
        let reason = answer.json["error"].as_str().unwrap_or_default();
        answer.status == 503 && reason.contains("kvctl member add node4")
    });
    let added = post(
        &cluster.url(2, "/v1/members"),
        &json!({ "name": "node4" }).to_string(),
    );
    assert_eq!(members(&added).len(), 4);
    eventually("it votes", || {
        members(&get(&cluster.url(0, "/v1/members")))[3] == ("node4".to_owned(), true)
    });
    eventually("it is ready", || get(&cluster.url(k, "/readyz")).status == 200);
    assert_eq!(cluster.get(k, "k").json["value"], "v");

    let to = json!({ "to": "node4" }).to_string();
    let moved = post(&cluster.url(0, "/v1/members/transfer-leader"), &to);
    assert_eq!(moved.status, 200, "{moved:?}");
    assert_eq!(cluster.leader(), k);
    let removed = delete(&cluster.url(0, "/v1/members/node4"));
    assert_eq!(members(&removed).len(), 3, "the leader handed over and left");
    eventually("it says that it was removed", || {
        let answer = get(&cluster.url(k, "/readyz"));
        answer.json["error"]
            .as_str()
            .is_some_and(|reason| reason.contains("removed"))
    });
    assert_eq!(get(&cluster.url(k, "/healthz")).status, 200);
    assert_eq!(cluster.set(1, "k", "w").status, 200);
}

#[test]
fn what_is_refused_says_why() {
    let cluster = Cluster::of(3);
    cluster.wait_ready();
    let url = |path: &str| cluster.url(0, path);
    let unknown = delete(&url("/v1/members/node9"));
    assert!(refusal(&unknown).contains("no member is called node9"));
    let silent = post(&url("/v1/members"), &json!({ "name": "node4" }).to_string());
    assert!(refusal(&silent).contains("--join"));
    let alive = post(&url("/v1/members/node2/replace"), "");
    assert!(refusal(&alive).contains("alive"));
    let votes = post(&url("/v1/members/node2/promote"), "");
    assert!(refusal(&votes).contains("votes already"));
    for (answer, status) in [
        (post(&url("/v1/members"), "{}"), 400),
        (delete(&url("/v1/members/node2?really=true")), 400),
        (delete(&url("/v1/members")), 405),
        (get(&url("/v1/members/node2")), 405),
        (get(&url("/v1/nothing")), 404),
    ] {
        assert_eq!(
            (answer.status, &answer.json["code"]),
            (status, &json!("bad_request"))
        );
    }
}

#[test]
fn reads_say_what_they_rest_on() {
    let cluster = Cluster::single();
    cluster.wait_ready();
    cluster.set(0, "k", "v");
    let stale = get(&cluster.url(0, "/get?key=k&consistency=stale"));
    assert_eq!(stale.json["value"], "v");
    assert_eq!(stale.headers["raftkv-read-basis"], "local");
    assert_eq!(stale.headers["raftkv-leader-contact-ms"], "0");
    assert!(stale.headers.contains_key("raftkv-applied-index"));
    let leased = get(&cluster.url(0, "/get?key=nothing&consistency=leader_lease"));
    assert_eq!(leased.status, 404);
    assert_eq!(
        leased.headers["raftkv-read-basis"], "read_index",
        "leases are off"
    );
}

/// Nodes are stopped and started one after the other, under writes and reads of a client that tries again as it always does.
#[test]
fn a_rolling_restart_fails_no_request_of_the_client_library() {
    let mut cluster = Cluster::of(3);
    cluster.wait_ready();
    let endpoints = cluster.endpoints();
    let is_over = Arc::new(AtomicBool::new(false));
    let load = {
        let is_over = is_over.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(write_and_read(endpoints, is_over))
        })
    };
    std::thread::sleep(Duration::from_millis(300));
    for k in 0..3 {
        let native = cluster.node(k).native_address();
        cluster.stop(k);
        std::thread::sleep(Duration::from_millis(300));
        cluster.restart(k, native);
        cluster.wait_ready();
    }
    std::thread::sleep(Duration::from_millis(300));
    is_over.store(true, Ordering::Relaxed);
    let (count, longest, failures) = load.join().expect("no panic");
    assert_eq!(failures, Vec::<String>::new(), "of {count} requests");
    assert!(count > 100, "{count} requests");
    assert!(longest < Duration::from_secs(1), "one request took {longest:?}");
}

async fn write_and_read(endpoints: Vec<String>, is_over: Arc<AtomicBool>) -> (usize, Duration, Vec<String>) {
    let endpoints = endpoints.iter().map(String::as_str);
    let client = Client::builder().endpoints(endpoints).build().expect("a client");
    let (mut count, mut longest, mut failures) = (0, Duration::ZERO, Vec::new());
    while !is_over.load(Ordering::Relaxed) {
        let began = Instant::now();
        let key = format!("k{count}");
        if let Err(error) = client.set(key.clone(), "v").await {
            failures.push(format!("set {key}: {error}"));
        }
        match client.get(key.clone()).await {
            Ok(Some(_)) => {}
            Ok(None) => failures.push(format!("{key} was lost")),
            Err(error) => failures.push(format!("get {key}: {error}")),
        }
        let stale = client.get(key).consistency(Consistency::Stale).with_basis().await;
        if !matches!(stale, Ok((_, Some(ReadBasis::Local { .. })))) {
            failures.push(format!("stale get: {stale:?}"));
        }
        longest = longest.max(began.elapsed());
        count += 3;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    (count, longest, failures)
}

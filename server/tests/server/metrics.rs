//! `GET /metrics` of whole servers: what was done shows in the figures of those that did it.

use crate::rig::{Cluster, agent, delete, eventually, get, post};

/// A node's figures.
struct Metrics(String);

impl Metrics {
    fn of(cluster: &Cluster, k: usize) -> Metrics {
        let mut response = agent().get(cluster.url(k, "/metrics")).call().expect("an answer");
        assert_eq!(response.status(), 200);
        assert_eq!(
            response.headers()["content-type"],
            "text/plain; version=0.0.4; charset=utf-8"
        );
        Metrics(response.body_mut().read_to_string().expect("text"))
    }

    /// The value of a name with its labels; 0 where it is not told.
    fn value(&self, name: &str) -> f64 {
        let line = self.0.lines().find_map(|line| {
            line.strip_prefix(name)?
                .strip_prefix(' ')
                .map(|value| value.parse().expect("a number"))
        });
        line.unwrap_or(0.0)
    }
}

/// What leader and follower tell after some requests; `None` when the leader did not lead all the time, so that some were
/// answered elsewhere or sent again.
fn after_requests(cluster: &Cluster) -> Option<(Metrics, Metrics)> {
    cluster.wait_ready();
    let leader = cluster.leader();
    let term = Metrics::of(cluster, leader).value("raftkv_term");
    let follower = (leader + 1) % 3;
    for k in [leader, follower, follower] {
        assert_eq!(cluster.set(k, "a", "1").status, 200);
    }
    assert_eq!(cluster.get(follower, "a").status, 200);
    let refused = get(&cluster.url(leader, "/get?key=a&revision=99"));
    assert_eq!(refused.status, 400);
    assert_eq!(get(&cluster.url(leader, "/nowhere")).status, 404);
    let at_follower = Metrics::of(cluster, follower);
    let at_leader = Metrics::of(cluster, leader);
    let led_on = at_leader.value("raftkv_is_leader") == 1.0 && at_leader.value("raftkv_term") == term;
    led_on.then_some((at_leader, at_follower))
}

#[test]
fn requests_are_counted_where_they_were_answered() {
    let (at_leader, at_follower) = (0..10)
        .find_map(|_| after_requests(&Cluster::of(3)))
        .expect("one cluster in ten whose first leader stays for a moment");
    for (metrics, labels, count) in [
        (&at_leader, r#"kind="write",from="client",code="ok""#, 1.0),
        (
            &at_leader,
            r#"kind="range",from="client",code="future_revision""#,
            1.0,
        ),
        (&at_leader, r#"kind="write",from="node",code="ok""#, 2.0),
        (&at_follower, r#"kind="write",from="client",code="ok""#, 2.0),
        (&at_follower, r#"kind="get",from="client",code="ok""#, 1.0),
    ] {
        let name = format!("raftkv_requests_total{{{labels}}}");
        assert_eq!(metrics.value(&name), count, "{name}");
    }
    let slowest = r#"raftkv_request_duration_seconds_bucket{kind="write",from="node",le="+Inf"}"#;
    assert_eq!(at_leader.value(slowest), 2.0);
    let took = at_leader.value(r#"raftkv_request_duration_seconds_sum{kind="write",from="node"}"#);
    assert!(took > 0.0 && took < 60.0, "{took}");
    assert_eq!(at_leader.value("raftkv_requests_waiting"), 0.0);
    assert_eq!(
        at_leader.value(r#"raftkv_http_responses_total{status="400"}"#),
        1.0
    );
    assert_eq!(
        at_leader.value(r#"raftkv_http_responses_total{status="404"}"#),
        1.0
    );
    assert!(
        at_leader.value(r#"raftkv_connections{protocol="native"}"#) >= 1.0,
        "the follower's"
    );
    assert!(
        at_follower.value(r#"raftkv_connections{protocol="http"}"#) >= 1.0,
        "this one"
    );
}

#[test]
fn a_leader_tells_how_far_the_others_are() {
    let mut cluster = Cluster::of(3);
    cluster.wait_ready();
    let leader = cluster.leader();
    let stopped = (leader + 1) % 3;
    cluster.stop(stopped);
    assert_eq!(cluster.set(leader, "a", "1").status, 200);
    let metrics = Metrics::of(&cluster, leader);
    let of = |k: usize, name: &str| metrics.value(&format!("{name}{{member=\"node{}\"}}", k + 1));
    let last = metrics.value("raftkv_log_last_index");
    assert!(of(stopped, "raftkv_follower_match_index") < last);
    assert_eq!(of((leader + 2) % 3, "raftkv_follower_match_index"), last);
    assert_eq!(metrics.value("raftkv_is_leader"), 1.0);
    assert_eq!(metrics.value("raftkv_revision"), 2.0);
    assert_eq!(metrics.value("raftkv_voters"), 3.0);
    assert!(metrics.value("raftkv_elections_won_total") >= 1.0);
    assert!(metrics.value("raftkv_log_write_duration_seconds_count") >= 2.0);
    let other = Metrics::of(&cluster, (leader + 2) % 3);
    assert_eq!(other.value("raftkv_is_leader"), 0.0);
    assert!(!other.0.contains("raftkv_follower_match_index"));
    eventually("the stopped node is silent", || {
        let silence = format!(
            "raftkv_follower_contact_seconds{{member=\"node{}\"}}",
            stopped + 1
        );
        Metrics::of(&cluster, leader).value(&silence) > 0.2
    });
}

#[test]
fn figures_need_no_leader() {
    let mut cluster = Cluster::of(3);
    cluster.wait_ready();
    cluster.stop(1);
    cluster.stop(2);
    eventually("no leader is known", || {
        Metrics::of(&cluster, 0).value("raftkv_has_leader") == 0.0
    });
    assert_eq!(Metrics::of(&cluster, 0).value("raftkv_ready"), 0.0);
}

#[test]
fn what_the_store_does_shows() {
    let mut cluster = Cluster::single();
    cluster.wait_ready();
    let native = cluster.node(0).native_address();
    cluster.stop(0);
    cluster.config_mut(0).store.overlay_bytes = 1 << 20;
    cluster.restart(0, native);
    cluster.wait_ready();
    let watch = agent().get(cluster.url(0, "/v1/watch?prefix=k")).call();
    let watch = watch.expect("a watch");
    let value = "v".repeat(4096);
    for k in 0..200 {
        assert_eq!(cluster.set(0, &format!("k{k}"), &value).status, 200);
    }
    assert_eq!(delete(&cluster.url(0, "/delete?key=k0")).status, 200);
    assert_eq!(
        post(&cluster.url(0, "/v1/leases"), r#"{"ttl_seconds":60}"#).status,
        200
    );
    eventually("it has drained", || {
        let metrics = Metrics::of(&cluster, 0);
        metrics.value("raftkv_drain_duration_seconds_count") >= 1.0
            && metrics.value("raftkv_base_bytes") > 0.0
    });
    let metrics = Metrics::of(&cluster, 0);
    assert_eq!(metrics.value("raftkv_history_events"), 201.0);
    assert!(metrics.value("raftkv_history_bytes") > 200.0 * 4096.0);
    assert_eq!(metrics.value("raftkv_leases"), 1.0);
    assert_eq!(metrics.value("raftkv_watches"), 1.0);
    assert_eq!(metrics.value("raftkv_overlay_limit_bytes"), f64::from(1 << 20));
    assert!(metrics.value("raftkv_disk_free_bytes") > 0.0);
    assert_eq!(metrics.value("raftkv_disk_is_low"), 0.0);
    drop(watch);
    eventually("the watch is gone", || {
        Metrics::of(&cluster, 0).value("raftkv_watches") == 0.0
    });
}

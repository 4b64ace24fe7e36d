//! Bad input at the HTTP door: a clear error each time, and the server serves on.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::rig::{Cluster, PATIENCE, agent, get, post};

fn assert_serves(cluster: &Cluster) {
    assert_eq!(cluster.set(0, "still", "here").status, 200);
    assert_eq!(cluster.get(0, "still").json["value"], "here");
}

#[test]
fn bad_requests_get_a_clear_error() {
    let cluster = Cluster::single();
    cluster.wait_ready();
    let long_key = "k".repeat(4097);
    let set = cluster.url(0, "/set");
    let cases = [
        (post(&set, "{\"key\":"), 400, "bad_request"),
        (post(&set, r#"{"value":"v"}"#), 400, "bad_request"),
        (post(&set, r#"{"key":"","value":"v"}"#), 400, "bad_request"),
        (
            post(&set, &format!(r#"{{"key":"{long_key}","value":"v"}}"#)),
            413,
            "too_large",
        ),
        (
            post(
                &set,
                &format!(r#"{{"key":"k","value":"{}"}}"#, "v".repeat((2 << 20) + 1)),
            ),
            413,
            "too_large",
        ),
        (post(&set, &" ".repeat((8 << 20) + 1)), 413, "too_large"),
        (get(&cluster.url(0, "/get")), 400, "bad_request"),
        (get(&cluster.url(0, "/get?key=")), 400, "bad_request"),
        (
            get(&cluster.url(0, &format!("/get?key={long_key}"))),
            413,
            "too_large",
        ),
        (get(&cluster.url(0, "/get?key=%f")), 400, "bad_request"),
        (get(&cluster.url(0, "/no/such/path")), 404, "bad_request"),
        (get(&set), 405, "bad_request"),
    ];
    for (answer, status, code) in cases {
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.json["code"], code, "{answer:?}");
        assert!(
            answer.json["error"]
                .as_str()
                .is_some_and(|error| error.len() > 10),
            "{answer:?}"
        );
    }
    assert_serves(&cluster);
}

#[test]
fn the_largest_key_and_value_are_taken() {
    let cluster = Cluster::single();
    cluster.wait_ready();
    let key = "k".repeat(4096);
    let value = "v".repeat(2 << 20);
    assert_eq!(cluster.set(0, &key, &value).status, 200);
    let mut response = agent()
        .get(cluster.url(0, &format!("/get?key={key}")))
        .call()
        .expect("an answer");
    let body = response
        .body_mut()
        .with_config()
        .limit(8 << 20)
        .read_to_string()
        .expect("a body");
    assert!(body.contains(&value));
}

#[test]
fn garbage_instead_of_http_is_refused() {
    let cluster = Cluster::single();
    cluster.wait_ready();
    let address = cluster.node(0).http_address().expect("serves HTTP");
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream
        .write_all(b"\x00\xff\x16\x03garbage\r\n\r\n")
        .expect("sent");
    let mut answer = Vec::new();
    // Refused with or without an answer, but always closed.
    let _ = stream.read_to_end(&mut answer);
    assert_serves(&cluster);
}

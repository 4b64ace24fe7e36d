//! The port of probes: tells of the node to whoever asks, and nothing of what it stores.

use std::net::TcpStream;

use raftkv_server::config::{Config, HostPort};
use raftkv_server::{Server, ServerHandle};

use crate::rig::{agent, eventually, get, post};

fn start(change: impl FnOnce(&mut Config)) -> (ServerHandle, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut config = Config::local("node1", dir.path().join("data"));
    config.probes = Some(HostPort::loopback(0));
    change(&mut config);
    (Server::start(&config).expect("starts"), dir)
}

fn probe(server: &ServerHandle, path: &str) -> String {
    format!("http://{}{path}", server.probes_address().expect("is served"))
}

fn text(url: &str) -> String {
    let mut answer = agent().get(url).call().expect("an answer");
    assert_eq!(answer.status(), 200, "{url}");
    answer.body_mut().read_to_string().expect("text")
}

#[test]
fn probes_are_answered_there_and_nothing_else() {
    let (server, _dir) = start(|_| {});
    eventually("the node is ready", || {
        get(&probe(&server, "/readyz")).status == 200
    });
    text(&probe(&server, "/healthz"));
    assert!(text(&probe(&server, "/metrics")).contains("raftkv_term "));
    let all = format!("http://{}", server.http_address().expect("is served"));
    assert_eq!(
        post(&format!("{all}/set"), r#"{"key":"a","value":"1"}"#).status,
        200
    );
    for path in ["/get?key=a", "/v1/kv/a", "/status", "/openapi.json", "/"] {
        let refused = get(&probe(&server, path));
        assert_eq!(refused.status, 404, "{path}: {}", refused.json);
        let sentence = refused.json["error"].as_str().expect("a sentence");
        assert!(
            sentence.contains("/healthz") && !sentence.contains("/set"),
            "{sentence}"
        );
    }
    let refused = post(&probe(&server, "/set"), r#"{"key":"a","value":"2"}"#);
    assert_eq!(refused.status, 404, "{}", refused.json);
    assert_eq!(get(&format!("{all}/get?key=a")).json["value"], "1");
    server.stop().expect("stops");
}

#[test]
fn probes_are_answered_when_every_place_of_the_api_is_taken() {
    let (server, _dir) = start(|config| config.bounds.max_http_connections = 1);
    let http = server.http_address().expect("is served");
    let held = TcpStream::connect(http).expect("it listens");
    eventually("the place is taken", || {
        text(&probe(&server, "/metrics")).contains("raftkv_connections{protocol=\"http\"} 2\n")
    });
    eventually("the node is ready", || {
        get(&probe(&server, "/readyz")).status == 200
    });
    drop(held);
    server.stop().expect("stops");
}

#[test]
fn probes_need_no_api_beside_them() {
    let (server, _dir) = start(|config| config.http = None);
    assert_eq!(server.http_address(), None);
    eventually("the node is ready", || {
        get(&probe(&server, "/readyz")).status == 200
    });
    server.stop().expect("stops");
}

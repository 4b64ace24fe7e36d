//! The HTTP thread against a node that answers by rote: every status, header and body of the contract.

use std::io::{Read, Write};
use std::net::TcpListener as StdListener;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use raftkv_protocol::{
    Answer, ClusterId, ErrorCode, Failure, Header, HistoryEpoch, LeaderHint, Limits, NodeId, Record, Request,
    Response, Revision, RoleName, Status,
};
use tokio::sync::oneshot;

use super::*;
use crate::shell::{Door, Mailbox, answer_post};

const HEADER: Header = Header {
    cluster: Some(ClusterId(0xc1)),
    node: NodeId(0xa2),
    term: 3,
    revision: Revision(9),
    epoch: HistoryEpoch(1),
};

/// An HTTP thread whose node gives every request the same answer.
struct Rote {
    address: SocketAddr,
    server: Option<HttpServer>,
    /// Its node ends when this is dropped.
    _node: oneshot::Sender<()>,
}

/// Runs a node's end of things on a thread of its own, until what is returned is dropped.
fn node_thread(node: impl Future<Output = ()> + Send + 'static) -> oneshot::Sender<()> {
    let (end, ended) = oneshot::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.expect("a runtime").block_on(async {
            tokio::select! {
                () = node => {}
                _ = ended => {}
            }
        });
    });
    end
}

fn all(listener: StdListener, max_connections: usize) -> HttpPort {
    HttpPort {
        listener,
        served: Served::All,
        max_connections,
    }
}

impl Rote {
    fn answering(outcome: Result<Answer, Failure>) -> Rote {
        Rote::deciding(move |_| outcome.clone())
    }

    fn deciding(mut decide: impl FnMut(Request) -> Result<Answer, Failure> + Send + 'static) -> Rote {
        let (door, mut calls) = Door::new(Mailbox::default());
        let (mut post, round) = answer_post();
        let node = async move {
            let mut taken = Vec::new();
            loop {
                calls.take(&mut taken).await;
                for call in taken.drain(..) {
                    let response = Response {
                        header: HEADER,
                        outcome: decide(call.request),
                    };
                    call.answer.send_by(&mut post, response);
                }
                // What waits is answered in one batch, as the node does.
                post.flush();
            }
        };
        let listener = StdListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        let settings = HttpSettings {
            limits: Limits {
                key_bytes: 64,
                value_bytes: 1024,
                request_bytes: 4096,
            },
            request_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_millis(200),
            tls: None,
        };
        let server = HttpServer::start(vec![all(listener, 16)], settings, door, round).expect("starts");
        Rote {
            address,
            server: Some(server),
            _node: node_thread(node),
        }
    }

    /// Sends one request as it stands and returns status line and headers, and body.
    fn raw(&self, request: &[u8]) -> (String, String) {
        let mut stream = TcpStream::connect(self.address).expect("connects");
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a time-out");
        stream.write_all(request).expect("sent");
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .expect("an answer, then the end");
        let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
        (head.to_lowercase(), body.to_owned())
    }

    fn call(&self, method: &str, target: &str, body: &str) -> (String, String) {
        let length = body.len();
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        self.raw(request.as_bytes())
    }
}

impl Drop for Rote {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
        }
    }
}

fn status(answer: &(String, String)) -> &str {
    &answer.0["http/1.1 ".len()..][..3]
}

fn record(value: &'static [u8]) -> Record {
    Record {
        value: Bytes::from_static(value),
        create_revision: Revision(2),
        mod_revision: Revision(5),
        version: 2,
        lease: None,
    }
}

#[test]
fn get_answers_the_record_and_where_in_history_it_was_read() {
    let rote = Rote::answering(Ok(Answer::Found(record(b"v"))));
    let answer = rote.call("GET", "/get?key=k", "");
    assert_eq!(status(&answer), "200");
    assert_eq!(answer.1, r#"{"key":"k","value":"v","revision":5}"#);
    for field in [
        "raftkv-cluster-id: 00000000000000c1",
        "raftkv-node-id: 00000000000000a2",
        "raftkv-term: 3",
        "raftkv-revision: 9",
        "raftkv-history-epoch: 1",
        "content-type: application/json",
    ] {
        assert!(answer.0.contains(field), "{field} in {}", answer.0);
    }
}

#[test]
fn get_passes_the_key_on_as_bytes() {
    let rote = Rote::deciding(|request| {
        let Request::Get { key, .. } = request else {
            panic!("not a get")
        };
        assert_eq!(key, &b"\xff/ x"[..]);
        Ok(Answer::Found(record(b"\xfe")))
    });
    let answer = rote.call("GET", "/get?key=%ff%2F+x", "");
    assert_eq!(
        answer.1,
        r#"{"key_base64":"/y8geA==","value_base64":"/g==","revision":5}"#
    );
}

#[test]
fn a_key_that_is_absent_is_404() {
    let answer = Rote::answering(Ok(Answer::NotFound)).call("GET", "/get?key=k", "");
    assert_eq!(status(&answer), "404");
    assert_eq!(
        answer.1,
        r#"{"error":"the key does not exist","code":"key_not_found"}"#
    );
    assert!(answer.0.contains("raftkv-revision: 9"), "{}", answer.0);
}

#[test]
fn set_and_delete_answer_the_revision() {
    let answer = Rote::answering(Ok(Answer::Put {
        revision: Revision(7),
    }));
    let answer = answer.call("POST", "/set", r#"{"key":"k","value":"v"}"#);
    assert_eq!(
        (status(&answer), answer.1.as_str()),
        ("200", r#"{"key":"k","revision":7}"#)
    );
    let rote = Rote::answering(Ok(Answer::Deleted {
        existed: true,
        revision: Revision(8),
    }));
    let answer = rote.call("DELETE", "/delete?key=k&if_revision=7", "");
    assert_eq!(
        (status(&answer), answer.1.as_str()),
        ("200", r#"{"key":"k","deleted":true,"revision":8}"#)
    );
}

#[test]
fn a_failed_condition_is_409_with_the_revision_now() {
    let rote = Rote::answering(Ok(Answer::ConditionFailed {
        current: Some(Revision(4)),
    }));
    for answer in [
        rote.call("POST", "/set", r#"{"key":"k","value":"v","if_revision":0}"#),
        rote.call("DELETE", "/delete?key=k&if_revision=3", ""),
    ] {
        assert_eq!(status(&answer), "409");
        assert!(
            answer.1.ends_with(r#""code":"revision_mismatch","revision":4}"#),
            "{}",
            answer.1
        );
    }
}

#[test]
fn a_node_without_a_leader_says_what_it_knows() {
    let leader = LeaderHint {
        name: "n2".into(),
        address: "h:7000".into(),
        http: Some("h:80".into()),
    };
    let failure = Failure {
        code: ErrorCode::NoLeader,
        message: "no leader".into(),
        leader: Some(leader),
    };
    let answer = Rote::answering(Err(failure)).call("GET", "/get?key=k", "");
    assert_eq!(status(&answer), "503");
    let expected =
        r#"{"error":"no leader","code":"no_leader","leader":{"id":"n2","address":"h:7000","http":"h:80"}}"#;
    assert_eq!(answer.1, expected);
}

#[test]
fn bad_requests_never_reach_the_node() {
    let rote = Rote::deciding(|request| panic!("reached the node: {request:?}"));
    let long_key = "k".repeat(65);
    let long_value = "v".repeat(1025);
    let set = |key: &str, value: &str| format!(r#"{{"key":"{key}","value":"{value}"}}"#);
    for (method, target, body, expected_status, expected) in [
        ("GET", "/get".to_owned(), String::new(), "400", "key is missing"),
        (
            "GET",
            "/get?key=a&key=b".to_owned(),
            String::new(),
            "400",
            "twice",
        ),
        (
            "POST",
            "/set".to_owned(),
            "{\"key\":".to_owned(),
            "400",
            "not usable",
        ),
        ("POST", "/set".to_owned(), set("", "v"), "400", "bad_request"),
        ("POST", "/set".to_owned(), set(&long_key, "v"), "413", "too_large"),
        (
            "POST",
            "/set".to_owned(),
            set("k", &long_value),
            "413",
            "too_large",
        ),
        (
            "POST",
            "/set".to_owned(),
            set("k", &"v".repeat(5000)),
            "413",
            "larger than 4096 bytes",
        ),
        (
            "DELETE",
            "/delete".to_owned(),
            String::new(),
            "400",
            "key is missing",
        ),
        (
            "GET",
            "/nothing/here".to_owned(),
            String::new(),
            "404",
            "/nothing/here",
        ),
        (
            "GET",
            "/set".to_owned(),
            String::new(),
            "405",
            "does not take GET",
        ),
        (
            "PUT",
            "/get?key=k".to_owned(),
            String::new(),
            "405",
            "does not take PUT",
        ),
    ] {
        let answer = rote.call(method, &target, &body);
        assert_eq!(
            status(&answer),
            expected_status,
            "{method} {target}: {}",
            answer.1
        );
        assert!(answer.1.contains(expected), "{method} {target}: {}", answer.1);
        let json: serde_json::Value = serde_json::from_str(&answer.1).expect("errors are JSON");
        assert!(json["error"].is_string() && json["code"].is_string(), "{json}");
    }
}

#[test]
fn a_wrong_method_is_told_the_right_one() {
    let answer = Rote::answering(Ok(Answer::NotFound)).call("PUT", "/set", "{}");
    assert!(answer.0.contains("allow: post"), "{}", answer.0);
}

#[test]
fn a_chunked_body_is_bounded_too() {
    let rote = Rote::answering(Ok(Answer::NotFound));
    let mut request =
        b"POST /set HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..3 {
        request.extend_from_slice(b"800\r\n");
        request.extend_from_slice(&[b' '; 0x800]);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\n\r\n");
    let answer = rote.raw(&request);
    assert_eq!(status(&answer), "413", "{}", answer.1);
}

fn told(ready: bool) -> Answer {
    Answer::Status(Box::new(Status {
        name: "n1".into(),
        role: RoleName::Follower,
        leader: ready.then(|| "n2".into()),
        term: 3,
        commit_index: 8,
        applied_index: 7,
        revision: Revision(9),
        cluster: Some(ClusterId(0xc1)),
        version: "1.2.3".into(),
        members: vec![raftkv_protocol::Member {
            name: "n1".into(),
            identity: NodeId(0xa2),
            address: "h:1".into(),
            http: None,
            voter: true,
        }],
        ready,
        not_ready_because: (!ready).then(|| "no leader; start the others".into()),
    }))
}

#[test]
fn status_tells_about_the_node() {
    let answer = Rote::answering(Ok(told(true))).call("GET", "/status", "");
    let expected = concat!(
        r#"{"id":"n1","role":"follower","leader":"n2","term":3,"commit_index":8,"applied_index":7,"revision":9,"#,
        r#""cluster_id":"00000000000000c1","version":"1.2.3","#,
        r#""members":[{"id":"n1","address":"h:1","http":null,"voter":true}]}"#
    );
    assert_eq!((status(&answer), answer.1.as_str()), ("200", expected));
}

#[test]
fn readiness_gives_its_reason() {
    let answer = Rote::answering(Ok(told(true))).call("GET", "/readyz", "");
    assert_eq!((status(&answer), answer.1.as_str()), ("200", r#"{"ready":true}"#));
    let answer = Rote::answering(Ok(told(false))).call("GET", "/readyz", "");
    assert_eq!(status(&answer), "503");
    assert_eq!(
        answer.1,
        r#"{"error":"no leader; start the others","code":"no_leader","ready":false}"#
    );
}

#[test]
fn liveness_does_not_ask_the_node() {
    let answer = Rote::deciding(|request| panic!("asked the node: {request:?}")).call("GET", "/healthz", "");
    assert_eq!(
        (status(&answer), answer.1.as_str()),
        ("200", r#"{"healthy":true}"#)
    );
}

#[test]
fn a_write_whose_answer_is_lost_is_unknown() {
    let (door, mut calls) = Door::new(Mailbox::default());
    let node = node_thread(async move {
        let mut taken = Vec::new();
        calls.take(&mut taken).await;
        taken[0].take();
    });
    let listener = StdListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound");
    let settings = HttpSettings {
        limits: Limits::default(),
        request_timeout: Duration::from_secs(5),
        body_timeout: Duration::from_secs(5),
        tls: None,
    };
    let rote = Rote {
        address,
        server: Some(
            HttpServer::start(vec![all(listener, 1)], settings, door, answer_post().1).expect("starts"),
        ),
        _node: node,
    };
    let answer = rote.call("POST", "/set", r#"{"key":"k","value":"v"}"#);
    assert_eq!(status(&answer), "504", "{}", answer.1);
    assert!(answer.1.contains("outcome_unknown"), "{}", answer.1);
}

#[test]
fn a_body_that_does_not_arrive_in_time_is_refused_and_its_connection_ends() {
    let rote = Rote::answering(Ok(Answer::NotFound));
    let (head, body) =
        rote.raw(b"POST /set HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{\"key\":\"k\",");
    assert!(head.starts_with("http/1.1 400"), "{head}");
    assert!(body.contains("did not arrive whole within 200ms"), "{body}");
}

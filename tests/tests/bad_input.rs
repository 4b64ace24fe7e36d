//! A real server and whoever means it ill, or just errs: a clear error or a closed connection, and it serves on.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use raftkv_protocol::{Hello, Limits, MAGIC, Speaker, encode_hello};
use raftkv_tests::harness::{Cluster, Deadline, Node, Reply};

/// How long a connection may stay open that never becomes a proper one.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(60);

struct Server {
    cluster: Cluster,
}

impl Server {
    fn start() -> Server {
        Server {
            cluster: Cluster::start(1),
        }
    }

    fn node(&self) -> &Node {
        self.cluster.node(0)
    }

    /// An ordinary client is still served.
    #[track_caller]
    fn serves_on(&self) {
        let set = self.node().http().set("still", "here").expect("an answer");
        assert_eq!(set.status, 200, "{}", set.body);
        let got = self.node().http().get("still").expect("an answer");
        assert_eq!(got.body["value"], "here");
    }

    /// Connects to the native port and sends these bytes.
    fn native(&self, bytes: &[u8]) -> TcpStream {
        let mut stream =
            TcpStream::connect(("127.0.0.1", self.node().native_port())).expect("the server listens");
        stream
            .set_read_timeout(Some(CLOSE_TIMEOUT))
            .expect("a time-out is no problem");
        // The server may close while we still send: then what follows shows it.
        let _ = stream.write_all(bytes);
        stream
    }
}

/// An error as every error of the HTTP API is: JSON with a code and a sentence.
#[track_caller]
fn assert_error(reply: &Reply, status: u16, code: &str) {
    assert_eq!(
        (reply.status, reply.code()),
        (status, Some(code)),
        "{}",
        reply.body
    );
    let sentence = reply.body["error"].as_str().unwrap_or_default();
    assert!(
        sentence.len() > 10,
        "an error tells people what is wrong: {}",
        reply.body
    );
}

/// Reads what the server has to say until it closes.
#[track_caller]
fn assert_closed(mut stream: TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Ok(_) => said,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => said,
        Err(error) => panic!("the connection stays open ({error}); the server said {said:?}"),
    }
}

fn hello() -> Vec<u8> {
    let mut bytes = bytes::BytesMut::new();
    encode_hello(&mut bytes, &Hello::new(Speaker::Client, None, None));
    bytes.to_vec()
}

#[test]
fn malformed_bodies_are_bad_requests() {
    let server = Server::start();
    let http = server.node().http();
    let bodies: [&[u8]; 11] = [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{\"key\":\"k\"",
        b"{\"key\":\"k\",\"value\":\"v\"} trailing",
        b"{\"key\":1,\"value\":\"v\"}",
        b"{\"key\":\"k\",\"value\":[]}",
        b"{\"key\":\"k\",\"value_base64\":\"not base64!\"}",
        b"{\"key\":\"k\",\"value\":\"v\",\"if_revision\":-1}",
        b"\xff\xfe\x00garbage",
    ];
    for body in bodies {
        let reply = http.post("/set", body).expect("an answer");
        assert_error(&reply, 400, "bad_request");
    }
    server.serves_on();
}

#[test]
fn missing_and_empty_keys_and_values_are_bad_requests() {
    let server = Server::start();
    let http = server.node().http();
    for body in [
        "{}",
        r#"{"value":"v"}"#,
        r#"{"key":"","value":"v"}"#,
        r#"{"key":"k"}"#,
    ] {
        assert_error(
            &http.post("/set", body.as_bytes()).expect("an answer"),
            400,
            "bad_request",
        );
    }
    for path in ["/get", "/get?key=", "/get?other=1", "/get?key=%zz"] {
        assert_error(&http.get_path(path).expect("an answer"), 400, "bad_request");
    }
    assert_error(&http.delete("").expect("an answer"), 400, "bad_request");
    server.serves_on();
}

#[test]
fn sizes_are_refused_right_above_the_limits_and_taken_at_them() {
    let server = Server::start();
    let http = server.node().http();
    let limits = Limits::default();
    let (key, value) = ("k".repeat(limits.key_bytes), "v".repeat(limits.value_bytes));
    let set = http.set(&key, &value).expect("an answer");
    assert_eq!(set.status, 200, "{}", set.body);
    assert_eq!(
        http.get(&key).expect("an answer").body["value"]
            .as_str()
            .map(str::len),
        Some(value.len())
    );

    let long_key = format!("{key}k");
    assert_error(&http.set(&long_key, "v").expect("an answer"), 413, "too_large");
    assert_error(&http.get(&long_key).expect("an answer"), 413, "too_large");
    assert_error(&http.delete(&long_key).expect("an answer"), 413, "too_large");
    assert_error(
        &http.set("k", &format!("{value}v")).expect("an answer"),
        413,
        "too_large",
    );
    let huge = vec![b' '; limits.request_bytes + 1];
    assert_error(&http.post("/set", &huge).expect("an answer"), 413, "too_large");
    server.serves_on();
}

#[test]
fn unknown_paths_and_wrong_methods_are_told() {
    let server = Server::start();
    let http = server.node().http();
    for path in ["/", "/nothing", "/get/k", "/set/"] {
        let reply = http.get_path(path).expect("an answer");
        assert_eq!(reply.status, 404, "{path}: {}", reply.body);
        assert!(reply.code().is_some(), "{path}: {}", reply.body);
    }
    for path in ["/set", "/delete?key=k"] {
        let reply = http.get_path(path).expect("an answer");
        assert_eq!(reply.status, 405, "{path}: {}", reply.body);
        assert!(reply.code().is_some(), "{path}: {}", reply.body);
    }
    assert_eq!(http.post("/get?key=k", b"").expect("an answer").status, 405);
    server.serves_on();
}

#[test]
fn keys_are_bytes_and_come_back_as_they_were() {
    let server = Server::start();
    let http = server.node().http();
    let body = br#"{"key_base64":"/wAv","value_base64":"/gA="}"#;
    assert_eq!(http.post("/set", body).expect("an answer").status, 200);
    let got = http.get(b"\xff\x00/").expect("an answer");
    let (key, value) = (got.body["key_base64"].as_str(), got.body["value_base64"].as_str());
    assert_eq!(
        (got.status, key, value),
        (200, Some("/wAv"), Some("/gA=")),
        "{}",
        got.body
    );
}

#[test]
fn garbage_on_the_http_port_is_refused() {
    let server = Server::start();
    let mut stream =
        TcpStream::connect(("127.0.0.1", server.node().http_port())).expect("the server listens");
    stream
        .set_read_timeout(Some(CLOSE_TIMEOUT))
        .expect("a time-out is no problem");
    let _ = stream.write_all(b"\x00\x01\x02\x03 this is not HTTP\r\n\r\n");
    assert_closed(stream);
    server.serves_on();
}

#[test]
fn garbage_on_the_native_port_closes_the_connection() {
    let server = Server::start();
    let mut rng = fastrand::Rng::with_seed(1);
    for length in [1, 7, 8, 64, 4096, 100_000] {
        let garbage: Vec<u8> = (0..length).map(|_| rng.u8(..)).collect();
        let stream = server.native(&garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        assert_closed(stream);
    }
    assert_closed(server.native(b"GET /status HTTP/1.1\r\nHost: here\r\n\r\n"));
    server.serves_on();
}

#[test]
fn announced_lengths_cost_nothing_and_close_the_connection() {
    let server = Server::start();
    for length in [u32::MAX, 1 << 30, 0] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend([0; 4]);
        bytes.extend(MAGIC);
        assert_closed(server.native(&bytes));
    }
    // Behind a good handshake too.
    let mut bytes = hello();
    bytes.extend(u32::MAX.to_le_bytes());
    bytes.extend([0; 4]);
    assert_closed(server.native(&bytes));
    server.serves_on();
}

#[test]
fn half_frames_do_not_hurt() {
    let server = Server::start();
    let whole = hello();
    for length in 0..whole.len() {
        drop(server.native(&whole[..length]));
    }
    let mut damaged = whole.clone();
    *damaged.last_mut().expect("not empty") ^= 1;
    assert_closed(server.native(&damaged));
    // A good handshake, then a request that never ends, then the end.
    let mut bytes = whole;
    bytes.extend([100, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7]);
    let stream = server.native(&bytes);
    stream.shutdown(std::net::Shutdown::Write).expect("still open");
    assert_closed(stream);
    server.serves_on();
}

#[test]
fn one_byte_a_second_is_cut_off_and_hinders_nobody() {
    let server = Server::start();
    let (start, deadline) = (Instant::now(), Deadline::after(CLOSE_TIMEOUT));
    let mut native = server.native(b"");
    let mut http = TcpStream::connect(("127.0.0.1", server.node().http_port())).expect("the server listens");
    let bytes = hello();
    for (native_byte, http_byte) in bytes
        .iter()
        .cycle()
        .zip(b"GET /status HTTP/1.1\r\nX: ".iter().cycle())
    {
        let is_closed = native.write_all(&[*native_byte]).is_err() || has_ended(&mut native);
        let _ = http.write_all(&[*http_byte]);
        server.serves_on();
        if is_closed {
            break;
        }
        assert!(
            !deadline.has_passed(),
            "a connection that never says who it is stays open"
        );
        // The pace is what is tested.
        std::thread::sleep(Duration::from_secs(1));
    }
    println!("closed after {:?}", start.elapsed());
}

fn has_ended(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).expect("a socket");
    let ended = match stream.read(&mut [0; 64]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    };
    stream.set_nonblocking(false).expect("a socket");
    ended
}

#[test]
fn hundreds_of_silent_connections_hinder_nobody() {
    let server = Server::start();
    let silent: Vec<TcpStream> = (0..300).map(|_| server.native(b"")).collect();
    server.serves_on();
    drop(silent);
    server.serves_on();
}

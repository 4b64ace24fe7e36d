//! The native port: what it answers, and what it does with nonsense.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use raftkv_protocol::{
    Answer, CheckedCommand, ClusterId, Command, Condition, Consistency, ErrorCode, FrameDecoder,
    HandshakeReply, Hello, Limits, NodeId, RejectionCode, Request, RequestId, Response, Speaker, Welcome,
    decode_handshake_reply, decode_response, encode_hello, encode_request, write_frame,
};
use raftkv_server::Server;
use raftkv_server::config::Config;
use tokio_util::codec::Decoder;

use crate::rig::{Cluster, PATIENCE};

/// A blocking connection.
struct Connection {
    stream: TcpStream,
    received: BytesMut,
    decoder: FrameDecoder,
}

impl Connection {
    fn open(address: SocketAddr) -> Connection {
        let stream = TcpStream::connect(address).expect("connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        Connection {
            stream,
            received: BytesMut::new(),
            decoder: FrameDecoder::new(64 << 20),
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sent");
    }

    fn frame(&mut self) -> Bytes {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.received).expect("frames") {
                return frame;
            }
            let mut piece = [0; 65_536];
            let count = self.stream.read(&mut piece).expect("an answer in time");
            assert!(count > 0, "the connection was closed instead of an answer");
            self.received.extend_from_slice(&piece[..count]);
        }
    }

    fn greet(&mut self, hello: &Hello) -> HandshakeReply {
        let mut out = BytesMut::new();
        encode_hello(&mut out, hello);
        self.send(&out);
        decode_handshake_reply(&self.frame()).expect("a reply")
    }

    fn welcome(&mut self, speaker: Speaker) -> Welcome {
        match self.greet(&Hello::new(speaker, None, None)) {
            HandshakeReply::Welcome(welcome) => welcome,
            HandshakeReply::Rejection(rejection) => panic!("{rejection}"),
        }
    }

    fn ask(&mut self, id: u64, request: &Request) {
        let mut out = BytesMut::new();
        encode_request(&mut out, RequestId(id), 5000, request);
        self.send(&out);
    }

    fn response(&mut self, welcome: &Welcome) -> (u64, Response) {
        let (id, response) = decode_response(self.frame(), &welcome.into()).expect("an answer");
        (id.0, response)
    }

    /// Waits for the end of the connection; anything that comes before is thrown away.
    fn wait_closed(&mut self) {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
        }
    }
}

fn put(key: &str, value: &[u8]) -> Request {
    let command = Command::Put {
        key: key.as_bytes(),
        value,
        condition: Condition::Always,
        ttl_ms: None,
    };
    Request::Write(CheckedCommand::new(&command, &Limits::default()).expect("within limits"))
}

fn get(key: &str) -> Request {
    Request::Get {
        key: Bytes::copy_from_slice(key.as_bytes()),
        consistency: Consistency::Linearizable,
    }
}

fn serving() -> (Cluster, SocketAddr) {
    let cluster = Cluster::single();
    cluster.wait_ready();
    let address = cluster.node(0).native_address();
    (cluster, address)
}

fn assert_serves(address: SocketAddr) {
    let mut connection = Connection::open(address);
    let welcome = connection.welcome(Speaker::Client);
    connection.ask(1, &put("still", b"here"));
    assert!(connection.response(&welcome).1.outcome.is_ok());
}

#[test]
fn many_requests_are_under_way_on_one_connection() {
    let (_cluster, address) = serving();
    let mut connection = Connection::open(address);
    let welcome = connection.welcome(Speaker::Client);
    assert!(welcome.cluster.is_some());
    for id in 0..1000 {
        connection.ask(id, &put(&format!("k{id}"), b"v"));
    }
    let mut answered: Vec<u64> = (0..1000).map(|_| connection.response(&welcome).0).collect();
    answered.sort_unstable();
    assert_eq!(answered, (0..1000).collect::<Vec<_>>());
}

#[test]
fn a_client_that_does_not_read_holds_only_itself_up() {
    let (_cluster, address) = serving();
    let mut greedy = Connection::open(address);
    let welcome = greedy.welcome(Speaker::Client);
    greedy.ask(0, &put("big", &vec![7; 1 << 20]));
    assert!(greedy.response(&welcome).1.outcome.is_ok());
    // 500 MiB of answers are asked for before the first is read.
    for id in 1..=500 {
        greedy.ask(id, &get("big"));
    }
    assert_serves(address);
    for _ in 1..=500 {
        match greedy.response(&welcome).1.outcome {
            Ok(Answer::Found(record)) => assert_eq!(record.value.len(), 1 << 20),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_request_over_a_limit_is_answered_and_the_connection_goes_on() {
    let (_cluster, address) = serving();
    let mut connection = Connection::open(address);
    let welcome = connection.welcome(Speaker::Client);
    connection.ask(1, &get(""));
    connection.ask(2, &get(&"k".repeat(5000)));
    connection.ask(3, &get("absent"));
    let mut outcomes: Vec<_> = (0..3).map(|_| connection.response(&welcome)).collect();
    outcomes.sort_by_key(|(id, _)| *id);
    let code = |k: usize| outcomes[k].1.outcome.as_ref().expect_err("refused").code;
    assert_eq!(code(0), ErrorCode::BadRequest);
    assert_eq!(code(1), ErrorCode::TooLarge);
    assert_eq!(outcomes[2].1.outcome, Ok(Answer::NotFound));
}

#[test]
fn another_cluster_is_refused_with_the_reason() {
    let (_cluster, address) = serving();
    let mut connection = Connection::open(address);
    match connection.greet(&Hello::new(Speaker::Client, Some(ClusterId(1)), None)) {
        HandshakeReply::Rejection(rejection) => assert_eq!(rejection.code, RejectionCode::WrongCluster),
        HandshakeReply::Welcome(_) => panic!("welcomed"),
    }
    connection.wait_closed();
}

#[test]
fn nonsense_closes_the_connection_and_the_server_serves_on() {
    let (_cluster, address) = serving();
    let pieces: [&[u8]; 4] = [
        b"\xff\xff\xff\xff\x00\x00\x00\x00",
        &[0; 64],
        b"\x16\x03\x01\x02\x00\x01",
        b"SSH-2.0-x\r\n",
    ];
    for piece in pieces {
        let mut connection = Connection::open(address);
        connection.send(piece);
        connection.wait_closed();
    }
    assert_serves(address);
}

#[test]
fn nonsense_after_the_handshake_closes_the_connection_too() {
    let (_cluster, address) = serving();
    for speaker in [Speaker::Client, Speaker::Forwarder] {
        let mut connection = Connection::open(address);
        connection.welcome(speaker);
        let mut frame = BytesMut::new();
        write_frame(&mut frame, |body| {
            body.extend_from_slice(b"\xff\xff\xff no request")
        });
        connection.send(&frame);
        connection.wait_closed();
    }
    assert_serves(address);
}

#[test]
fn half_a_frame_costs_nobody_else_anything() {
    let (_cluster, address) = serving();
    let mut connection = Connection::open(address);
    let welcome = connection.welcome(Speaker::Client);
    let mut frame = BytesMut::new();
    encode_request(&mut frame, RequestId(1), 5000, &put("k", b"v"));
    let (first, second) = frame.split_at(frame.len() / 2);
    connection.send(first);
    assert_serves(address);
    connection.send(second);
    assert!(connection.response(&welcome).1.outcome.is_ok());
    connection.send(first);
    connection.stream.shutdown(Shutdown::Write).expect("half closed");
    connection.wait_closed();
}

#[test]
fn a_handshake_one_byte_a_second_is_given_up() {
    let (_cluster, address) = serving();
    let mut slow = Connection::open(address);
    let mut hello = BytesMut::new();
    encode_hello(&mut hello, &Hello::new(Speaker::Client, None, None));
    let mut closed = false;
    for byte in hello.iter().take(15) {
        // The pace is the point here; nothing is waited for by sleeping.
        std::thread::sleep(Duration::from_secs(1));
        if slow.stream.write_all(&[*byte]).is_err() {
            closed = true;
            break;
        }
        assert_serves(address);
    }
    assert!(closed, "the connection was still open after 15 s");
}

#[test]
fn http_on_the_native_port_is_told_where_to_go() {
    let (cluster, address) = serving();
    let answer = crate::rig::get(&format!("http://{address}/status"));
    assert_eq!(answer.status, 400);
    let http = cluster.node(0).http_address().expect("serves HTTP").to_string();
    assert!(
        answer.json["error"]
            .as_str()
            .is_some_and(|error| error.contains(&http)),
        "{answer:?}"
    );
}

#[test]
fn clients_over_the_limit_are_refused_and_other_nodes_still_get_through() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut config = Config::local("node1", dir.path().join("node1"));
    config.bounds.max_connections = 1;
    let server = Server::start(&config).expect("starts");
    let open = |speaker| {
        let mut connection = Connection::open(server.native_address());
        let reply = connection.greet(&Hello::new(speaker, None, Some(NodeId(7))));
        (connection, reply)
    };
    let (_first, reply) = open(Speaker::Client);
    assert!(matches!(reply, HandshakeReply::Welcome(_)), "{reply:?}");
    let (_second, reply) = open(Speaker::Client);
    match reply {
        HandshakeReply::Rejection(rejection) => {
            assert_eq!(rejection.code, RejectionCode::TooManyConnections);
        }
        HandshakeReply::Welcome(_) => panic!("one client too many was welcomed"),
    }
    for speaker in [Speaker::Peer, Speaker::Forwarder] {
        let (_node, reply) = open(speaker);
        assert!(
            matches!(reply, HandshakeReply::Welcome(_)),
            "{speaker:?}: {reply:?}"
        );
    }
    server.stop().expect("stops");
}

//! The proxy with plain sockets on both sides.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use raftkv_protocol::{Hello, NodeId, Speaker, encode_hello};

use super::*;

/// Nothing arrives within this: the link is taken as cut.
const SILENCE: Duration = Duration::from_millis(100);

/// What should arrive has this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Two destinations behind proxies; the nodes 0 and 1 have the identities 100 and 101.
struct Rig {
    listeners: [TcpListener; 2],
    network: Network,
}

impl Rig {
    fn start() -> Rig {
        let listen = || TcpListener::bind("127.0.0.1:0").expect("a free port");
        let listeners = [listen(), listen()];
        let port = |listener: &TcpListener| listener.local_addr().expect("it listens").port();
        let network = Network::start(&[port(&listeners[0]), port(&listeners[1])]).expect("a proxy");
        network.introduce(NodeId(100), 0);
        network.introduce(NodeId(101), 1);
        Rig { listeners, network }
    }

    /// Connects to node 1 and says hello; the second stream is node 1's end.
    fn connect(&self, speaker: Speaker, identity: Option<NodeId>) -> (TcpStream, TcpStream) {
        let mut client = self.dial(speaker, identity);
        let (mut server, _) = self.listeners[1].accept().expect("the proxy connects");
        server.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let mut came = hello(speaker, identity);
        server
            .read_exact(&mut came)
            .expect("the handshake passes the proxy");
        assert_eq!(came, hello(speaker, identity));
        client.write_all(b"x").expect("open");
        assert_eq!(receive(&mut server, 1), b"x");
        (client, server)
    }

    fn dial(&self, speaker: Speaker, identity: Option<NodeId>) -> TcpStream {
        let mut client = TcpStream::connect(("127.0.0.1", self.network.port(1))).expect("the proxy listens");
        client.set_read_timeout(Some(PATIENCE)).expect("a socket");
        client.write_all(&hello(speaker, identity)).expect("open");
        client
    }

    fn connect_as_node_0(&self) -> (TcpStream, TcpStream) {
        self.connect(Speaker::Peer, Some(NodeId(100)))
    }
}

fn hello(speaker: Speaker, identity: Option<NodeId>) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    encode_hello(&mut bytes, &Hello::new(speaker, None, identity));
    bytes.to_vec()
}

fn receive(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).expect("bytes");
    bytes
}

#[track_caller]
fn assert_silent(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(SILENCE)).expect("a socket");
    let error = stream
        .read(&mut [0; 16])
        .expect_err("nothing arrives, not even the end");
    assert!(
        matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        "{error}"
    );
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
}

#[test]
fn whole_links_carry_bytes_and_ends_both_ways() {
    let rig = Rig::start();
    let (mut client, mut server) = rig.connect_as_node_0();
    let long: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let sent = long.clone();
    let mut writing = client.try_clone().expect("a socket");
    let writer = std::thread::spawn(move || writing.write_all(&sent));
    assert!(
        receive(&mut server, long.len()) == long,
        "bytes changed on the way"
    );
    writer.join().expect("no panic").expect("open");
    server.write_all(b"back").expect("open");
    assert_eq!(receive(&mut client, 4), b"back");
    drop(client);
    assert_eq!(server.read(&mut [0; 1]).expect("the end"), 0);
}

#[test]
fn cut_direction_stands_still_and_goes_on_where_it_stood() {
    let rig = Rig::start();
    let (mut client, mut server) = rig.connect_as_node_0();
    rig.network.cut(0, 1);
    client.write_all(b"held").expect("the kernel takes it");
    assert_silent(&mut server);
    server.write_all(b"the other way").expect("open");
    assert_eq!(receive(&mut client, 13), b"the other way");
    drop(client);
    assert_silent(&mut server);
    rig.network.heal();
    assert_eq!(receive(&mut server, 4), b"held");
    assert_eq!(server.read(&mut [0; 1]).expect("the end"), 0);
}

#[test]
fn cut_way_back_holds_answers_only() {
    let rig = Rig::start();
    let (mut client, mut server) = rig.connect_as_node_0();
    rig.network.cut(1, 0);
    client.write_all(b"question").expect("open");
    assert_eq!(receive(&mut server, 8), b"question");
    server.write_all(b"answer").expect("open");
    assert_silent(&mut client);
    rig.network.heal();
    assert_eq!(receive(&mut client, 6), b"answer");
}

#[test]
fn new_connections_do_not_get_through_a_cut() {
    let rig = Rig::start();
    rig.network.isolate(1);
    let _client = rig.dial(Speaker::Peer, Some(NodeId(100)));
    rig.listeners[1].set_nonblocking(true).expect("a socket");
    std::thread::sleep(SILENCE);
    let error = rig.listeners[1].accept().map(drop).expect_err("nobody connects");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    rig.listeners[1].set_nonblocking(false).expect("a socket");
    rig.network.heal();
    rig.listeners[1].accept().expect("now it gets through");
}

#[test]
fn requests_that_a_node_passes_on_obey_its_link_and_clients_do_not() {
    let rig = Rig::start();
    let (mut forwarder, mut from_forwarder) = rig.connect(Speaker::Forwarder, Some(NodeId(100)));
    let (mut client, mut from_client) = rig.connect(Speaker::Client, None);
    rig.network.separate(&[0]);
    forwarder.write_all(b"held").expect("open");
    assert_silent(&mut from_forwarder);
    client.write_all(b"free").expect("open");
    assert_eq!(receive(&mut from_client, 4), b"free");
}

#[test]
fn delayed_bytes_arrive_later_and_in_order() {
    let rig = Rig::start();
    let (mut client, mut server) = rig.connect_as_node_0();
    let delay = Duration::from_millis(80);
    rig.network.delay(0, 1, delay);
    let start = Instant::now();
    client.write_all(b"first").expect("open");
    client.write_all(b"second").expect("open");
    assert_eq!(receive(&mut server, 11), b"firstsecond");
    assert!(start.elapsed() >= delay, "{:?}", start.elapsed());
}

#[test]
fn reset_ends_connections_on_both_sides_and_hinders_no_new_one() {
    let rig = Rig::start();
    let (mut client, mut server) = rig.connect_as_node_0();
    rig.network.reset(0, 1);
    for stream in [&mut client, &mut server] {
        let error = stream.read(&mut [0; 1]).expect_err("a reset is no orderly end");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    rig.connect_as_node_0();
}

#[test]
fn node_that_is_introduced_late_obeys_the_rules_from_then_on() {
    let rig = Rig::start();
    let (mut client, mut server) = rig.connect(Speaker::Peer, Some(NodeId(102)));
    rig.network.cut(0, 1);
    client.write_all(b"a").expect("open");
    assert_eq!(receive(&mut server, 1), b"a");
    rig.network.introduce(NodeId(102), 0);
    client.write_all(b"b").expect("open");
    assert_silent(&mut server);
}

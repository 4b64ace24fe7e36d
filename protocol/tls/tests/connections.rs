//! Connections within TLS over real sockets: who gets through, who does not and is told why, and what moves.
#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as expected"
)]

use std::io;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use bytes::BytesMut;
use raftkv_tls::mint::{Authority, Holder, Minted};
use raftkv_tls::{
    ClientCertificates, ClientTls, Flushed, HandshakeError, Reload, ServerTls, Stream, TlsError, TlsFiles,
};
use tokio::net::{TcpListener, TcpStream};

const DAY: Duration = Duration::from_secs(86_400);
const PATIENCE: Duration = Duration::from_secs(20);

/// Certificates in a directory: `NAME.pem` and `NAME.key`.
struct Place {
    directory: tempfile::TempDir,
    authority: Authority,
}

impl Place {
    fn new() -> Place {
        let directory = tempfile::tempdir().unwrap();
        let (authority, minted) = Authority::create().unwrap();
        let place = Place { directory, authority };
        place.put("ca", &minted);
        place.issue("node", &node(), DAY);
        place.issue("client", &Holder::Client, DAY);
        place
    }

    fn issue(&self, name: &str, holder: &Holder, lifetime: Duration) {
        self.put(name, &self.authority.issue(name, holder, lifetime).unwrap());
    }

    fn put(&self, name: &str, minted: &Minted) {
        std::fs::write(self.path().join(format!("{name}.pem")), &minted.certificate).unwrap();
        std::fs::write(self.path().join(format!("{name}.key")), &minted.key).unwrap();
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Presents `name` and trusts `authority`.
    fn files(&self, name: Option<&str>, authority: Option<&str>) -> TlsFiles {
        TlsFiles {
            certificate: name.map(|name| self.path().join(format!("{name}.pem"))),
            key: name.map(|name| self.path().join(format!("{name}.key"))),
            authorities: authority.map(|name| self.path().join(format!("{name}.pem"))),
            revoked: None,
        }
    }

    fn server(&self, clients: ClientCertificates) -> ServerTls {
        ServerTls::new(self.files(Some("node"), Some("ca")), clients).unwrap()
    }

    fn client(&self, name: Option<&str>) -> ClientTls {
        ClientTls::new(self.files(name, Some("ca"))).unwrap()
    }
}

fn node() -> Holder {
    let hosts = vec!["127.0.0.1".to_owned(), "node1.example".to_owned()];
    Holder::Node { hosts }
}

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialled = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (dialled, listener.accept().await.unwrap().0)
}

/// Both ends of one connection; what the listener made of it, and what the dialler.
async fn connect(
    server: &ServerTls,
    client: &ClientTls,
    address: &str,
) -> (Result<Stream, HandshakeError>, Result<Stream, HandshakeError>) {
    let (dialled, accepted) = sockets().await;
    let both = async { tokio::join!(server.accept(accepted), client.dial(dialled, address)) };
    tokio::time::timeout(PATIENCE, both).await.unwrap()
}

async fn read_some(stream: &Stream, bytes: &mut BytesMut) -> io::Result<usize> {
    tokio::time::timeout(PATIENCE, stream.read(bytes)).await.unwrap()
}

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[tokio::test]
async fn what_is_written_at_one_end_is_read_at_the_other_both_ways_and_in_any_size() {
    let place = Place::new();
    let server = place.server(ClientCertificates::Required);
    let (here, there) = connect(&server, &place.client(Some("client")), "127.0.0.1:1").await;
    let (here, there) = (here.unwrap(), there.unwrap());
    let sent: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    for (from, to) in [(&here, &there), (&there, &here)] {
        for size in [1, 100, 16_384, 70_000, sent.len()] {
            let write = async { from.write_all(&sent[..size]).await.unwrap() };
            let read = async {
                let mut received = BytesMut::new();
                while received.len() < size {
                    assert_ne!(read_some(to, &mut received).await.unwrap(), 0);
                }
                received
            };
            let ((), received) = tokio::join!(write, read);
            assert!(received == sent[..size], "{size} bytes arrive as they were sent");
        }
    }
    drop(here);
    assert_eq!(read_some(&there, &mut BytesMut::new()).await.unwrap(), 0);
}

#[tokio::test]
async fn a_socket_that_is_full_says_so_and_loses_nothing() {
    let place = Place::new();
    let server = place.server(ClientCertificates::Optional);
    let (here, there) = connect(&server, &place.client(None), "127.0.0.1:1").await;
    let (here, there) = (here.unwrap(), there.unwrap());
    let piece = vec![7; 100_000];
    let mut taken = 0;
    loop {
        match here.try_write(&piece) {
            Ok(count) => taken += count,
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                break;
            }
        }
        assert!(taken < 1 << 30, "a socket that nobody reads is full some time");
    }
    assert!(here.has_unsent());
    assert_eq!(here.try_flush().unwrap(), Flushed::Part);
    let flush = async { here.write_all(&[]).await.unwrap() };
    let read = async {
        let mut received = BytesMut::new();
        while received.len() < taken {
            read_some(&there, &mut received).await.unwrap();
        }
        received
    };
    let ((), received) = tokio::join!(flush, read);
    assert_eq!(received.len(), taken);
    assert!(received.iter().all(|byte| *byte == 7));
    assert!(!here.has_unsent());
}

#[tokio::test]
async fn what_a_client_sends_with_its_last_word_of_the_handshake_is_there_to_be_read() {
    let place = Place::new();
    let server = place.server(ClientCertificates::Optional);
    let client = place.client(None);
    let (dialled, accepted) = sockets().await;
    // The server reads only when all of it has arrived.
    let dial = async {
        let stream = client.dial(dialled, "node1.example:1").await.unwrap();
        stream.write_all(b"at once").await.unwrap();
        stream
    };
    let (stream, dialled) = tokio::join!(server.accept(accepted), dial);
    let mut received = BytesMut::new();
    let stream = stream.unwrap();
    while received.len() < 7 {
        assert_ne!(read_some(&stream, &mut received).await.unwrap(), 0);
    }
    assert_eq!(&received[..], b"at once");
    drop(dialled);
}

#[tokio::test]
async fn only_a_certificate_that_allows_both_ends_makes_a_node() {
    let place = Place::new();
    let server = place.server(ClientCertificates::Optional);
    for (name, is_node) in [(Some("node"), true), (Some("client"), false), (None, false)] {
        let (accepted, dialled) = connect(&server, &place.client(name), "127.0.0.1:1").await;
        assert!(dialled.is_ok(), "{name:?}");
        assert_eq!(server.is_node(&accepted.unwrap()), is_node, "{name:?}");
    }
}

#[tokio::test]
async fn nodes_dial_each_other() {
    let place = Place::new();
    let server = place.server(ClientCertificates::Required);
    let (dialled, accepted) = sockets().await;
    let both = async { tokio::join!(server.accept(accepted), server.dial(dialled, "127.0.0.1:1")) };
    let (accepted, dialled) = tokio::time::timeout(PATIENCE, both).await.unwrap();
    assert!(server.is_node(&accepted.unwrap()));
    assert!(dialled.is_ok());
}

#[tokio::test]
async fn who_is_not_trusted_is_not_let_in_and_both_sides_are_told_why() {
    let place = Place::new();
    let stranger = Place::new();
    place.issue(
        "elsewhere",
        &Holder::Node {
            hosts: vec!["10.0.0.1".to_owned()],
        },
        DAY,
    );
    let presents =
        |name| ServerTls::new(place.files(Some(name), Some("ca")), ClientCertificates::Optional).unwrap();
    let anonymous = place.client(None);
    let for_clients = place.files(Some("client"), None);
    let for_clients = ServerTls::new(for_clients, ClientCertificates::Optional).unwrap();
    for (server, client, expected) in [
        (
            presents("elsewhere"),
            &anonymous,
            "must name the host or IP address that was dialled",
        ),
        (for_clients, &anonymous, "does not allow this use"),
        (
            presents("node"),
            &stranger.client(None),
            "is not signed by the authority given here",
        ),
    ] {
        let (accepted, dialled) = connect(&server, client, "127.0.0.1:1").await;
        let error = told(dialled.unwrap_err());
        assert!(error.contains(expected), "{error}");
        assert!(matches!(accepted, Err(HandshakeError::Tls(_))), "{accepted:?}");
    }
    // Here the dialler learns it with the first answer: its own part of the handshake was over.
    let required = place.server(ClientCertificates::Required);
    for (client, expected) in [
        (&anonymous, "give one, with its key"),
        (
            &stranger_known_here(&place, &stranger),
            "does not trust the authority",
        ),
    ] {
        let (accepted, dialled) = connect(&required, client, "127.0.0.1:1").await;
        assert!(matches!(accepted, Err(HandshakeError::Tls(_))), "{accepted:?}");
        let error = told(
            read_some(&dialled.unwrap(), &mut BytesMut::new())
                .await
                .unwrap_err(),
        );
        assert!(error.contains(expected), "{error}");
    }
}

/// A client of a foreign authority that trusts ours.
fn stranger_known_here(place: &Place, stranger: &Place) -> ClientTls {
    let files = TlsFiles {
        authorities: place.files(None, Some("ca")).authorities,
        ..stranger.files(Some("client"), None)
    };
    ClientTls::new(files).unwrap()
}

#[tokio::test]
async fn who_does_not_speak_tls_is_told_apart() {
    let place = Place::new();
    let server = place.server(ClientCertificates::Optional);
    let (dialled, accepted) = sockets().await;
    let plain = Stream::from(dialled);
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let error = told(server.accept(accepted).await.unwrap_err());
    assert!(error.contains("does the other side speak TLS at all?"), "{error}");

    let (dialled, accepted) = sockets().await;
    let plain = Stream::from(accepted);
    plain
        .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        .await
        .unwrap();
    let error = told(place.client(None).dial(dialled, "127.0.0.1:1").await.unwrap_err());
    assert!(error.contains("does the other side speak TLS at all?"), "{error}");

    let (dialled, accepted) = sockets().await;
    drop(accepted);
    let error = told(place.client(None).dial(dialled, "127.0.0.1:1").await.unwrap_err());
    assert!(error.contains("the connection failed"), "{error}");
    let (dialled, _accepted) = sockets().await;
    let error = place.client(None).dial(dialled, "a b:1").await.unwrap_err();
    assert!(
        matches!(&error, HandshakeError::Name(name) if name == "a b"),
        "{error}"
    );
}

#[tokio::test]
async fn a_certificate_holds_until_its_time_is_over() {
    let place = Place::new();
    place.issue("node", &node(), Duration::ZERO);
    let server = place.server(ClientCertificates::Optional);
    let client = place.client(None);
    let deadline = Instant::now() + PATIENCE;
    // The time in a certificate is one of whole seconds.
    let error = loop {
        let (_, dialled) = connect(&server, &client, "127.0.0.1:1").await;
        match dialled {
            Ok(_) => assert!(Instant::now() < deadline, "it is over"),
            Err(error) => break told(error),
        }
    };
    assert!(error.contains("has expired: renew it"), "{error}");
}

#[test]
fn a_certificate_that_other_nodes_would_not_accept_is_refused_at_once() {
    let (place, stranger) = (Place::new(), Place::new());
    let foreign = TlsFiles {
        authorities: stranger.files(None, Some("ca")).authorities,
        ..place.files(Some("node"), None)
    };
    for (files, expected) in [
        (place.files(Some("client"), Some("ca")), "does not allow this use"),
        (foreign, "is not signed by the authority given here"),
    ] {
        let error = told(ServerTls::new(files, ClientCertificates::Required).unwrap_err());
        assert!(error.contains("other nodes will not accept"), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn no_session_is_resumed_so_that_each_connection_proves_itself() {
    let acceptor = Place::new().server(ClientCertificates::Required).acceptor();
    assert_eq!(acceptor.send_tls13_tickets, 0);
    assert!(!acceptor.session_storage.can_cache());
}

#[test]
fn whose_certificate_it_is_stands_in_it() {
    let server = Place::new().server(ClientCertificates::Required);
    for (address, is_named) in [
        ("127.0.0.1:7001", true),
        ("node1.example:1", true),
        ("127.0.0.2:7001", false),
        ("node2.example:1", false),
        ("[::1]:7001", false),
        ("no host:1", false),
    ] {
        assert_eq!(server.names(address), is_named, "{address}");
    }
}

#[test]
fn when_a_certificate_expires_is_known() {
    let place = Place::new();
    let expires = place.server(ClientCertificates::Optional).expires();
    let left = expires.duration_since(SystemTime::now()).unwrap();
    assert!(left <= DAY && left > DAY - Duration::from_secs(600), "{left:?}");
}

#[test]
fn files_that_can_not_be_used_are_named() {
    let place = Place::new();
    place.issue("other", &node(), DAY);
    std::fs::write(place.path().join("empty.pem"), "nothing here\n").unwrap();
    let with = |certificate: &str, key: &str, authority: &str| TlsFiles {
        certificate: Some(place.path().join(certificate)),
        key: Some(place.path().join(key)),
        authorities: Some(place.path().join(authority)),
        revoked: None,
    };
    for (files, expected) in [
        (with("none.pem", "node.key", "ca.pem"), "cannot read"),
        (
            with("empty.pem", "node.key", "ca.pem"),
            "empty.pem holds no certificate in PEM form",
        ),
        (
            with("node.pem", "node.pem", "ca.pem"),
            "node.pem holds no private key in PEM form",
        ),
        (
            with("node.pem", "node.key", "empty.pem"),
            "empty.pem holds no certificate in PEM form",
        ),
        (
            with("node.pem", "other.key", "ca.pem"),
            "can not be used together",
        ),
    ] {
        let error = told(ServerTls::new(files, ClientCertificates::Required).unwrap_err());
        assert!(error.contains(expected), "{error}");
    }
    let half = TlsFiles {
        key: None,
        ..with("node.pem", "node.key", "ca.pem")
    };
    let outcome = ServerTls::new(half, ClientCertificates::Required);
    assert!(matches!(outcome, Err(TlsError::HalfIdentity)), "{outcome:?}");
    let outcome = ServerTls::new(place.files(Some("node"), None), ClientCertificates::Required);
    assert!(matches!(outcome, Err(TlsError::NoAuthority)), "{outcome:?}");
    let outcome = ClientTls::new(place.files(Some("client"), None));
    assert!(matches!(outcome, Err(TlsError::NoAuthority)), "{outcome:?}");
}

/// Looks until the files were read again: they are looked at once a second.
impl Place {
    /// Lists these as revoked.
    fn revoke(&self, names: &[&str]) -> String {
        let mut list = self.authority.revoke_none().unwrap();
        for name in names {
            let certificate = std::fs::read_to_string(self.path().join(format!("{name}.pem"))).unwrap();
            list = self.authority.revoke(&list, &certificate).unwrap();
        }
        std::fs::write(self.path().join("ca.crl"), &list).unwrap();
        list
    }

    fn strict_files(&self, name: &str) -> TlsFiles {
        TlsFiles {
            revoked: Some(self.path().join("ca.crl")),
            ..self.files(Some(name), Some("ca"))
        }
    }
}

#[tokio::test]
async fn who_is_revoked_is_not_let_in_and_who_was_let_in_is_told_apart() {
    let place = Place::new();
    place.issue("other", &Holder::Client, DAY);
    place.issue("lost", &node(), DAY);
    place.revoke(&[]);
    let server = ServerTls::new(place.strict_files("node"), ClientCertificates::Required).unwrap();
    let accept = async |name: &str| connect(&server, &place.client(Some(name)), "127.0.0.1:1").await.0;
    let accepted = accept("client").await.unwrap();
    let chain = accepted.peer_certificates().unwrap();
    assert!(server.still_accepts(&chain));

    let once = place.revoke(&["client"]);
    assert!(matches!(reload(&server), Reload::Renewed));
    assert!(!server.still_accepts(&chain));
    let refused = accept("client").await.unwrap_err();
    assert!(told(&refused).contains("has been revoked"), "{refused}");
    accept("other").await.unwrap();

    // More are revoked without those before being forgotten, a node among them; twice is as once.
    let again = place.revoke(&["client", "lost", "client"]);
    assert!(again.len() > once.len());
    assert!(matches!(reload(&server), Reload::Renewed));
    assert!(!server.still_accepts(&chain));
    let lost = ServerTls::new(
        place.files(Some("lost"), Some("ca")),
        ClientCertificates::Required,
    )
    .unwrap();
    let (tcp, listening) = sockets().await;
    let (dialled, _) = tokio::join!(server.dial(tcp, "127.0.0.1:1"), lost.accept(listening));
    let refused = dialled.unwrap_err();
    assert!(told(&refused).contains("has been revoked"), "{refused}");
}

#[test]
fn lists_that_can_not_be_used_are_refused_at_once() {
    let (place, stranger) = (Place::new(), Place::new());
    let start = || ServerTls::new(place.strict_files("node"), ClientCertificates::Required);
    assert!(told(start().unwrap_err()).contains("cannot read"));
    std::fs::write(place.path().join("ca.crl"), "nothing").unwrap();
    assert!(told(start().unwrap_err()).contains("no list of revoked certificates"));
    std::fs::write(place.path().join("ca.crl"), stranger.revoke(&[])).unwrap();
    let error = told(start().unwrap_err());
    assert!(error.contains("it must have one"), "{error}");
    place.revoke(&["node"]);
    let error = told(start().unwrap_err());
    assert!(error.contains("other nodes will not accept"), "{error}");
    let list = place.revoke(&[]);
    let foreign = std::fs::read_to_string(stranger.path().join("client.pem")).unwrap();
    let error = place.authority.revoke(&list, &foreign).unwrap_err();
    assert!(error.to_string().contains("another authority"), "{error}");
    start().unwrap();
}

fn reload(server: &ServerTls) -> Reload {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match server.look() {
            Reload::Same => assert!(Instant::now() < deadline, "the change is seen"),
            other => return other,
        }
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn renewed_certificates_serve_new_connections_and_damaged_ones_change_nothing() {
    let place = Place::new();
    let server = place.server(ClientCertificates::Optional);
    let client = place.client(None);
    let presented = |stream: Stream| stream.peer_certificates().unwrap().remove(0);
    let (_, dialled) = connect(&server, &client, "127.0.0.1:1").await;
    let before = presented(dialled.unwrap());

    std::fs::write(place.path().join("node.pem"), "half of a fi").unwrap();
    let outcome = reload(&server);
    assert!(
        matches!(&outcome, Reload::Failed(TlsError::Content { .. })),
        "{outcome:?}"
    );
    let (_, dialled) = connect(&server, &client, "127.0.0.1:1").await;
    assert_eq!(presented(dialled.unwrap()), before);

    place.issue("node", &node(), DAY);
    // The time stamps of files may be as coarse as this.
    let later = SystemTime::now() + Duration::from_secs(10);
    let file = std::fs::File::options()
        .append(true)
        .open(place.path().join("node.pem"));
    file.unwrap().set_modified(later).unwrap();
    assert!(matches!(reload(&server), Reload::Renewed));
    let (_, dialled) = connect(&server, &client, "127.0.0.1:1").await;
    assert_ne!(presented(dialled.unwrap()), before);
}

//! A cluster within TLS: it works as one without, and who proves nothing gets nothing.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream as StdStream};
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use raftkv_client::TlsFiles;
use raftkv_protocol::{
    FrameDecoder, HANDSHAKE_BYTES, HandshakeReply, Hello, NodeId, RejectionCode, Speaker,
    decode_handshake_reply, encode_hello,
};
use raftkv_tests::harness::{Cluster, Deadline, HttpClient, Kvctl, Links, PortBlock, Printed, ok, wait_for};
use raftkv_tls::{ClientTls, Stream};
use tokio::net::TcpStream;
use tokio_util::codec::Decoder as _;

/// For what takes less than a second on an idle machine.
const GENEROUS: u64 = 60;

/// Certificates of one authority: `node` for all nodes, `client` for all clients.
struct Certificates {
    directory: PathBuf,
}

impl Certificates {
    fn make(directory: &Path) -> Certificates {
        let certificates = Certificates {
            directory: directory.to_owned(),
        };
        certificates.issue(&["node", "node", "--host", "127.0.0.1"]);
        certificates.issue(&["client", "client"]);
        certificates
    }

    fn issue(&self, arguments: &[&str]) {
        let directory = self.directory.to_string_lossy();
        let line = [&["certificate"], arguments, &["--directory", &directory]].concat();
        ok(Kvctl::new(&[1]).run(&line));
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).to_string_lossy().into_owned()
    }

    /// The flags of a client that presents `name`, if it presents any.
    fn flags(&self, name: Option<&str>) -> Vec<String> {
        let mut flags = vec!["--tls-ca".to_owned(), self.path("ca.pem")];
        if let Some(name) = name {
            let pair = |flag: &str, ending: &str| [flag.to_owned(), self.path(&format!("{name}.{ending}"))];
            flags.extend(
                pair("--tls-cert", "pem")
                    .into_iter()
                    .chain(pair("--tls-key", "key")),
            );
        }
        flags
    }

    fn client(&self, name: Option<&str>) -> ClientTls {
        let file = |ending: &str| name.map(|name| self.directory.join(format!("{name}.{ending}")));
        let files = TlsFiles {
            certificate: file("pem"),
            key: file("key"),
            authorities: Some(self.directory.join("ca.pem")),
            revoked: None,
        };
        ClientTls::new(files).expect("certificates that were just made")
    }

    /// Runs kvctl as the client that presents `name`.
    fn kvctl(&self, ports: &[u16], name: Option<&str>, arguments: &[&str]) -> Printed {
        let flags = self.flags(name);
        let line: Vec<&str> = arguments
            .iter()
            .copied()
            .chain(flags.iter().map(String::as_str))
            .collect();
        Kvctl::new(ports).run(&line)
    }
}

/// What the nodes of a cluster are told, whose working directory holds the certificates.
const NODE_FLAGS: [&str; 6] = [
    "--tls-ca",
    "certificates/ca.pem",
    "--tls-cert",
    "certificates/node.pem",
    "--tls-key",
    "certificates/node.key",
];

fn prepare(count: usize, more: &[&str]) -> (Cluster, Certificates) {
    let cluster = Cluster::prepare_with(count, Links::Direct, &[&NODE_FLAGS, more].concat());
    let certificates = Certificates::make(&cluster.directory().join("certificates"));
    (cluster, certificates)
}

fn start(count: usize, more: &[&str]) -> (Cluster, Certificates) {
    let (mut cluster, certificates) = prepare(count, more);
    cluster.start_all();
    wait_for_writes(&cluster.native_ports(), &certificates, "begin");
    (cluster, certificates)
}

/// Waits until nodes that listen here take a write of this key.
fn wait_for_writes(ports: &[u16], certificates: &Certificates, key: &str) {
    wait_for("a cluster that takes writes", Deadline::seconds(GENEROUS), || {
        let printed = certificates.kvctl(ports, Some("client"), &["set", key, "1"]);
        match printed.code {
            Some(0) => Ok(()),
            _ => Err(printed.stderr),
        }
    });
}

/// One HTTP request within TLS: the status line, and the body.
fn https(
    certificates: &Certificates,
    name: Option<&str>,
    port: u16,
    asked: &str,
    body: &str,
) -> Result<(String, String), String> {
    block_on(async {
        let stream = dial(&certificates.client(name), port).await?;
        let length = body.len();
        let request = format!(
            "{asked} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        let failed = |error: std::io::Error| error.to_string();
        stream.write_all(request.as_bytes()).await.map_err(failed)?;
        let mut reply = BytesMut::new();
        while stream.read(&mut reply).await.map_err(failed)? > 0 {}
        let reply = String::from_utf8_lossy(&reply).into_owned();
        let (head, body) = reply.split_once("\r\n\r\n").ok_or("half an answer")?;
        Ok((
            head.lines().next().unwrap_or_default().to_owned(),
            body.to_owned(),
        ))
    })
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let within = async { tokio::time::timeout(Deadline::seconds(GENEROUS).left(), future).await };
    runtime
        .expect("a runtime")
        .block_on(within)
        .expect("an end in time")
}

async fn dial(client: &ClientTls, port: u16) -> Result<Stream, String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let tcp = TcpStream::connect(address)
        .await
        .map_err(|error| error.to_string())?;
    client
        .dial(tcp, &address.to_string())
        .await
        .map_err(|error| error.to_string())
}

#[test]
fn a_cluster_within_tls_forms_serves_at_every_door_and_survives_its_leader() {
    let (mut cluster, certificates) = start(3, &[]);
    let client = Some("client");
    for number in 0..3 {
        let (port, key) = (cluster.node(number).http_port(), format!("k{number}"));
        let body = format!("{{\"key\":\"{key}\",\"value\":\"value\"}}");
        let (status, body) = https(&certificates, client, port, "POST /set", &body).expect("an answer");
        assert!(status.contains(" 200 "), "{status} {body}");
        for reader in 0..3 {
            let get = format!("GET /get?key={key}");
            let (status, body) =
                https(&certificates, client, cluster.node(reader).http_port(), &get, "").expect("an answer");
            assert!(
                status.contains(" 200 ") && body.contains("\"value\":\"value\""),
                "{status} {body}"
            );
        }
    }
    // What a lock runs is a client of the same cluster.
    let lock = ["lock", "l", "--", "sh", "-c", "\"$KVCTL\" set --guarded locked 1"];
    let flags = certificates.flags(client);
    let line: Vec<&str> = flags.iter().map(String::as_str).chain(lock).collect();
    ok(Kvctl::new(&cluster.native_ports()).run(&line));
    let port = cluster.node(0).http_port();
    let (_, metrics) = https(&certificates, client, port, "GET /metrics", "").expect("an answer");
    let expires = metrics
        .lines()
        .find(|line| line.starts_with("raftkv_certificate_expires_timestamp_seconds "));
    assert!(expires.is_some(), "{metrics}");
    let status = ok(certificates.kvctl(&cluster.native_ports(), client, &["status", "--output", "json"]));
    let leader = cluster
        .nodes()
        .iter()
        .position(|node| status.contains(&format!("\"leader\":\"{}\"", node.name())));
    let leader = leader.unwrap_or_else(|| panic!("a leader in {status}"));
    cluster.node_mut(leader).kill9();
    let survivors: Vec<u16> = (0..3)
        .filter(|number| *number != leader)
        .map(|number| cluster.node(number).native_port())
        .collect();
    wait_for_writes(&survivors, &certificates, "after");
    cluster.node_mut(leader).start();
    let back = cluster.node(leader).native_port();
    wait_for("the node that was killed", Deadline::seconds(GENEROUS), || {
        let printed = certificates.kvctl(&[back], client, &["get", "after"]);
        match &*printed.stdout {
            "1\n" => Ok(()),
            _ => Err(printed.stderr),
        }
    });
}

#[test]
fn who_has_no_certificate_gets_nothing_and_is_told_what_is_missing() {
    let (cluster, certificates) = start(1, &[]);
    let (native, http) = (cluster.node(0).native_port(), cluster.node(0).http_port());
    let plain = Kvctl::new(&[native]).run(&["get", "begin"]);
    assert_eq!(plain.code, Some(3), "{plain:?}");
    assert!(
        plain.stderr.contains("got TLS where none was expected"),
        "{plain:?}"
    );
    let anonymous = certificates.kvctl(&[native], None, &["get", "begin"]);
    assert_eq!(anonymous.code, Some(3), "{anonymous:?}");
    assert!(
        anonymous.stderr.contains("give one, with its key"),
        "{anonymous:?}"
    );
    let error = https(&certificates, None, http, "GET /get?key=begin", "").expect_err("no certificate");
    assert!(error.contains("give one, with its key"), "{error}");

    let stranger = Certificates::make(&cluster.directory().join("foreign"));
    let distrusts = stranger.kvctl(&[native], Some("client"), &["get", "begin"]);
    assert_eq!(distrusts.code, Some(3), "{distrusts:?}");
    assert!(
        distrusts
            .stderr
            .contains("is not signed by the authority given here"),
        "{distrusts:?}"
    );

    let mut plain = String::new();
    let mut stream = StdStream::connect((Ipv4Addr::LOCALHOST, http)).expect("it listens");
    std::io::Write::write_all(
        &mut stream,
        b"GET /get?key=begin HTTP/1.1\r\nHost: localhost\r\n\r\n",
    )
    .expect("sent");
    std::io::Read::read_to_string(&mut stream, &mut plain).expect("an answer");
    assert!(
        plain.starts_with("HTTP/1.1 400 ") && plain.contains("write https://"),
        "{plain}"
    );
}

#[test]
fn probes_and_monitoring_need_no_certificate_where_they_have_a_port_of_their_own() {
    let ports = PortBlock::take().expect("free ports");
    let address = format!("127.0.0.1:{}", ports.port(0));
    let (cluster, _certificates) = start(1, &["--probes", &address]);
    let probes = HttpClient::new(ports.port(0), Deadline::seconds(GENEROUS).left());
    for (path, status) in [
        ("/readyz", 200),
        ("/healthz", 200),
        ("/metrics", 200),
        ("/get?key=begin", 404),
    ] {
        let reply = probes.get_path(path).expect("an answer without TLS");
        assert_eq!(reply.status, status, "{path}: {}", reply.body);
    }
    let output = cluster.node(0).output();
    assert!(
        output.contains(&address) && output.contains("without TLS"),
        "{output}"
    );
}

/// Connects to the native port, and hears what the node says to this speaker.
async fn greet(client: &ClientTls, port: u16, speaker: Speaker) -> (Stream, HandshakeReply) {
    let stream = dial(client, port).await.expect("it listens");
    let mut bytes = BytesMut::new();
    encode_hello(&mut bytes, &Hello::new(speaker, None, Some(NodeId(99))));
    stream.write_all(&bytes).await.expect("sent");
    let (mut arrived, mut decoder) = (BytesMut::new(), FrameDecoder::awaiting_handshake(HANDSHAKE_BYTES));
    loop {
        if let Some(frame) = decoder.decode(&mut arrived).expect("a frame") {
            let reply = decode_handshake_reply(&frame).expect("a reply");
            return (stream, reply);
        }
        assert_ne!(stream.read(&mut arrived).await.expect("a reply"), 0);
    }
}

/// Reads until the other side ends the connection, in whatever way.
async fn end_of(stream: &Stream) {
    let mut bytes = BytesMut::new();
    while stream.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
}

#[test]
fn who_is_revoked_is_cut_off_and_not_let_in_again_while_others_go_on() {
    let (cluster, certificates) = start(3, &["--tls-crl", "certificates/ca.crl"]);
    certificates.issue(&["client", "alice"]);
    let (ports, http) = (cluster.native_ports(), cluster.node(0).http_port());
    let get = ["get", "begin"];
    assert_eq!(ok(certificates.kvctl(&ports, Some("alice"), &get)), "1\n");
    block_on(async {
        let (alice, other) = (
            certificates.client(Some("alice")),
            certificates.client(Some("client")),
        );
        let (native, welcome) = greet(&alice, ports[0], Speaker::Client).await;
        assert!(matches!(welcome, HandshakeReply::Welcome(_)), "{welcome:?}");
        let (trusted, _) = greet(&other, ports[0], Speaker::Client).await;
        let web = dial(&alice, http).await.expect("it listens");
        let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
        web.write_all(request).await.expect("sent");
        assert_ne!(web.read(&mut BytesMut::new()).await.expect("an answer"), 0);

        certificates.issue(&["revoke", "alice"]);
        end_of(&native).await;
        end_of(&web).await;
        let still_open = tokio::select! {
            biased;
            () = end_of(&trusted) => false,
            () = std::future::ready(()) => true,
        };
        assert!(still_open, "nothing was revoked of this one");
    });
    for port in ports {
        let refused = wait_for(
            "all nodes to have read the list",
            Deadline::seconds(GENEROUS),
            || {
                let printed = certificates.kvctl(&[port], Some("alice"), &get);
                match printed.code {
                    Some(0) => Err("alice is let in"),
                    _ => Ok(printed),
                }
            },
        );
        assert_eq!(refused.code, Some(3), "{refused:?}");
        assert!(refused.stderr.contains("has been revoked"), "{refused:?}");
    }
    ok(certificates.kvctl(&cluster.native_ports(), Some("client"), &["set", "after", "1"]));
}

#[test]
fn a_clients_certificate_makes_no_node() {
    let (cluster, certificates) = start(1, &["--tls-client-certificates", "optional"]);
    let port = cluster.node(0).native_port();
    assert_eq!(ok(certificates.kvctl(&[port], None, &["get", "begin"])), "1\n");
    let reply = |name, speaker| block_on(greet(&certificates.client(name), port, speaker)).1;
    for speaker in [Speaker::Peer, Speaker::Forwarder] {
        for name in [None, Some("client")] {
            let reply = reply(name, speaker);
            let is_refused = matches!(&reply, HandshakeReply::Rejection(rejection) if rejection.code == RejectionCode::Authentication);
            assert!(is_refused, "{name:?} as {speaker:?}: {reply:?}");
        }
        let reply = reply(Some("node"), speaker);
        assert!(
            matches!(reply, HandshakeReply::Welcome(_)),
            "{speaker:?}: {reply:?}"
        );
    }
}

#[test]
fn a_certificate_that_does_not_name_its_node_is_told() {
    let (mut cluster, certificates) = prepare(1, &[]);
    certificates.issue(&["node", "node", "--host", "elsewhere.example", "--renew"]);
    cluster.node_mut(0).start();
    wait_for("a word about the name", Deadline::seconds(GENEROUS), || {
        let output = cluster.node(0).output();
        match output.contains("does not name the host at which others reach it") {
            true => Ok(()),
            false => Err(output),
        }
    });
    let refused = certificates.kvctl(&cluster.native_ports(), Some("client"), &["get", "k"]);
    assert!(
        refused
            .stderr
            .contains("must name the host or IP address that was dialled"),
        "{refused:?}"
    );
}

#[test]
fn nodes_that_do_not_agree_on_tls_say_so_and_certificates_are_renewed_without_a_restart() {
    let (mut cluster, certificates) = prepare(2, &[]);
    cluster.node_mut(0).start();
    wait_for(
        "its certificates to be read",
        Deadline::seconds(GENEROUS),
        || match cluster.node(0).output().contains("starting") {
            true => Ok(()),
            false => Err("it has not begun"),
        },
    );
    // Of an authority of its own.
    let foreign = cluster.directory().join("certificates");
    let kept = cluster.directory().join("kept");
    std::fs::rename(&foreign, &kept).expect("a directory is renamed");
    Certificates::make(&foreign);
    cluster.node_mut(1).start();
    wait_for(
        "what keeps the nodes apart, in their logs",
        Deadline::seconds(GENEROUS),
        || {
            let mut silent = String::new();
            for node in cluster.nodes() {
                if !node.output().contains("a node can not be reached within TLS") {
                    let _ = write!(silent, "{} says nothing; ", node.name());
                }
            }
            if silent.is_empty() { Ok(()) } else { Err(silent) }
        },
    );
    // The right ones take their place while both run.
    std::fs::remove_dir_all(&foreign).expect("a directory is removed");
    std::fs::rename(&kept, &foreign).expect("a directory is renamed");
    certificates.issue(&["node", "node", "--host", "127.0.0.1", "--renew"]);
    wait_for_writes(&cluster.native_ports(), &certificates, "begin");
    let renewed = cluster.node(1).output();
    assert!(
        renewed.contains("the certificate files have changed"),
        "{renewed}"
    );
}

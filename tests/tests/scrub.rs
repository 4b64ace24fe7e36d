//! A node that has lost what it stored, behind the back of every checksum: it is found, stops serving, stays so over a
//! restart, and is replaced, while the others go on.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use raftkv_server::store::base::{Base, BaseConfig, BaseView, LsmBase, Row};
use raftkv_tests::harness::{Deadline, Exit, Kvctl, Node, NodeFlags, PortBlock, wait_for};
use serde_json::Value;

/// For what takes seconds on an idle machine.
const GENEROUS: u64 = 120;
/// A generation is full after a few hundred kilobytes: what was written then is in the base soon.
const SMALL: [&str; 4] = ["--overlay-mib", "1", "--disk-reserve-mib", "16"];
const ROTTEN_KEY: &str = "rotten";

struct Scene {
    nodes: Vec<Node>,
    ports: PortBlock,
    directory: tempfile::TempDir,
}

impl Scene {
    fn start() -> Scene {
        let ports = PortBlock::take().expect("ports");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut nodes: Vec<Node> = (0..3)
            .map(|place| {
                let peers: Vec<String> = (0..3)
                    .filter(|peer| *peer != place)
                    .map(|peer| format!("n{}=127.0.0.1:{}", peer + 1, ports.port(2 * peer)))
                    .collect();
                node(place, &ports, &["--peers", &peers.join(",")], directory.path())
            })
            .collect();
        nodes.iter_mut().for_each(Node::start);
        for node in &nodes {
            node.wait_until_ready(Deadline::seconds(GENEROUS));
        }
        Scene {
            nodes,
            ports,
            directory,
        }
    }

    fn kvctl(&self, at: usize, arguments: &[&str]) -> String {
        let printed = Kvctl::new(&[self.nodes[at].native_port()]).run(arguments);
        assert_eq!(printed.code, Some(0), "{arguments:?}: {}", printed.stderr);
        printed.stdout
    }

    fn data_directory(&self, at: usize) -> PathBuf {
        self.directory.path().join("data").join(self.nodes[at].name())
    }

    fn follower(&self) -> usize {
        wait_for("a follower", Deadline::seconds(GENEROUS), || {
            let is_follower =
                |node: &Node| node.http().status().is_ok_and(|status| status.role == "follower");
            self.nodes.iter().position(is_follower).ok_or("none says so")
        })
    }

    /// Writes what fills a generation or two.
    fn fill(&self, at: usize, round: usize) {
        for number in 0..100 {
            let (key, value) = (format!("filler{number}"), format!("{round}").repeat(8_000));
            let reply = self.nodes[at].http().set(&key, &value).expect("an answer");
            assert_eq!(reply.status, 200, "{}", reply.body);
        }
    }

    /// How the scrub stands at a node, as HTTP tells it.
    fn scrub(&self, at: usize) -> Value {
        let reply = self.nodes[at].http().get_path("/v1/scrub").expect("an answer");
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.body
    }

    #[track_caller]
    fn wait_for_scrub(&self, at: usize, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, Deadline::seconds(GENEROUS), || {
            let told = self.scrub(at);
            if holds(&told) {
                Ok(told)
            } else {
                Err(told.to_string())
            }
        })
    }
}

fn node(place: usize, ports: &PortBlock, more: &[&str], directory: &Path) -> Node {
    let (native, http) = (ports.port(2 * place), ports.port(2 * place + 1));
    let name = format!("n{}", place + 1);
    let (listen, serve) = (format!("127.0.0.1:{native}"), format!("127.0.0.1:{http}"));
    let own = ["--id", &name, "--listen", &listen, "--http", &serve];
    let arguments = own.iter().chain(&SMALL).chain(more).map(|&flag| flag.to_owned());
    let flags = NodeFlags {
        arguments: arguments.collect(),
        name: name.clone(),
        http_port: http,
        native_port: native,
    };
    Node::new(flags, directory)
}

/// Changes the last byte of a record in a stopped node's base, through the engine: all checksums are right again. `None`:
/// it is not in the base yet.
fn rot(data_directory: &Path) -> Option<()> {
    let base = data_directory.join("base-0001");
    let base = LsmBase::open(&base, &BaseConfig::default()).expect("the stopped node's base");
    let key: Bytes = [b"\x01", ROTTEN_KEY.as_bytes()].concat().into();
    let value = base.view().expect("a view").get(&key).expect("a read")?;
    let value = [&value[..value.len() - 1], b"?"].concat().into();
    let row = Row {
        key,
        value: Some(value),
    };
    base.ingest(&mut std::iter::once(Ok(row))).expect("it is changed");
    Some(())
}

#[test]
fn a_node_whose_stored_record_changed_is_found_by_a_pass_and_stays_in_quarantine_until_it_is_replaced() {
    let mut scene = Scene::start();
    assert_eq!(
        scene.nodes[0]
            .http()
            .set(ROTTEN_KEY, "value")
            .expect("an answer")
            .status,
        200
    );
    let rotten = scene.follower();
    let others = [(rotten + 1) % 3, (rotten + 2) % 3];
    let mut round = 0;
    wait_for(
        "the record to be in the base",
        Deadline::seconds(GENEROUS),
        || {
            scene.fill(others[0], round);
            round += 1;
            assert_eq!(scene.nodes[rotten].stop(), Exit::Code(0));
            let is_rotten = rot(&scene.data_directory(rotten));
            scene.nodes[rotten].start();
            scene.nodes[rotten].wait_until_ready(Deadline::seconds(GENEROUS));
            is_rotten.ok_or("it is not there yet")
        },
    );
    let read = scene.nodes[rotten].http().get(ROTTEN_KEY).expect("an answer");
    assert_eq!(read.body["value"], "valu?", "nothing has noticed so far");

    // Asked of any node, and seen by all.
    let begun = scene.kvctl(rotten, &["scrub", "start"]);
    assert_eq!(begun, "a pass over all keys begins, or goes on\n");
    let told = scene.wait_for_scrub(rotten, "a quarantine", |told| told["quarantine"].is_string());
    let why = told["quarantine"].as_str().expect("a text").to_owned();
    assert!(
        why.contains("stored records differ") && why.contains("kvctl member replace"),
        "{why}"
    );
    let name = scene.nodes[rotten].name().to_owned();
    let other = scene.wait_for_scrub(others[0], "the end of the pass", |told| {
        told["pass"]["ended_ms_ago"].is_u64() && told["differing"][0].is_object()
    });
    assert_eq!(other["quarantine"], Value::Null);
    assert_eq!(other["differing"][0]["id"], *name, "{other}");
    let printed = scene.kvctl(others[0], &["scrub", "status", "--output", "table"]);
    assert!(
        printed.contains("in quarantine") && printed.contains("differs since entry"),
        "{printed}"
    );

    // It serves nothing, also after a restart, and says what to do; the others go on.
    for _ in 0..2 {
        let refused = scene.nodes[rotten].http().get(ROTTEN_KEY).expect("an answer");
        assert_eq!(
            (refused.status, refused.code()),
            (503, Some("no_leader")),
            "{}",
            refused.body
        );
        assert!(
            scene.nodes[rotten]
                .ready()
                .is_err_and(|reason| reason.contains("member replace"))
        );
        let good = scene.nodes[others[1]].http().get(ROTTEN_KEY).expect("an answer");
        assert_eq!(good.body["value"], "value");
        scene.fill(others[0], 9);
        scene.nodes[rotten].kill9();
        scene.nodes[rotten].start();
        wait_for("its HTTP door", Deadline::seconds(GENEROUS), || {
            scene.nodes[rotten].http().status().map(drop)
        });
    }

    // As it says itself: another directory, and another node in its place.
    assert_eq!(scene.nodes[rotten].stop(), Exit::Code(0));
    std::fs::rename(scene.data_directory(rotten), scene.directory.path().join("kept"))
        .expect("kept for a report");
    let join = format!("127.0.0.1:{}", scene.ports.port(2 * others[0]));
    scene.nodes[rotten] = node(rotten, &scene.ports, &["--join", &join], scene.directory.path());
    scene.nodes[rotten].start();
    scene.kvctl(others[0], &["member", "replace", &name]);
    scene.nodes[rotten].wait_until_ready(Deadline::seconds(GENEROUS));
    let healed = scene.nodes[rotten].http().get(ROTTEN_KEY).expect("an answer");
    assert_eq!(healed.body["value"], "value");

    let posted = scene.nodes[rotten]
        .http()
        .post("/v1/scrub", b"")
        .expect("an answer");
    assert_eq!(posted.status, 200, "{}", posted.body);
    let told = scene.wait_for_scrub(rotten, "a pass that agrees", |told| {
        let pass = &told["pass"];
        pass["ended_ms_ago"].is_u64() && pass["agreed"][0]["pieces"] == pass["pieces"]
    });
    assert_eq!(told["quarantine"], Value::Null);
}

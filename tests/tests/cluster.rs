//! Clusters of real processes: forming, electing, answering on every node.

use std::time::{Duration, Instant};

use raftkv_tests::harness::{
    Cluster, ConventionPorts, Deadline, Exit, Links, Node, NodeFlags, PortBlock, wait_for,
};

/// For what takes less than a second on an idle machine.
const GENEROUS: u64 = 60;

/// The three commands of the README, as typed.
fn three_terminals(directory: &std::path::Path) -> Vec<Node> {
    let node = |number: u16, peers: &str| {
        let command = format!("-id node{number} -http :{} -peers {peers}", 8079 + number);
        let flags = NodeFlags {
            name: format!("node{number}"),
            arguments: command.split(' ').map(str::to_owned).collect(),
            http_port: 8079 + number,
            native_port: 7000 + number,
        };
        Node::new(flags, directory)
    };
    vec![
        node(1, "node2,node3"),
        node(2, "node1,node3"),
        node(3, "node1,node2"),
    ]
}

#[test]
fn three_terminals_of_the_readme_form_a_cluster() {
    let Some(_ports) = ConventionPorts::take().expect("a directory for locks") else {
        println!(
            "skipped: one of the ports {:?} is taken by something else",
            ConventionPorts::ALL
        );
        return;
    };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut nodes = three_terminals(directory.path());
    for node in &mut nodes {
        node.start();
    }
    for node in &nodes {
        node.wait_until_ready(Deadline::seconds(GENEROUS));
    }
    let set = nodes[0].http().set("greeting", "hello").expect("an answer");
    assert_eq!((set.status, set.revision()), (200, Some(2)), "{}", set.body);
    for node in &nodes {
        let got = node.http().get("greeting").expect("an answer");
        assert_eq!(got.body["value"], "hello", "{} says {}", node.name(), got.body);
    }
    for node in &nodes {
        assert!(
            directory.path().join("data").join(node.name()).is_dir(),
            "the data directory of the convention"
        );
    }
    for node in &mut nodes {
        assert_eq!(node.stop(), Exit::Code(0));
    }
}

#[test]
fn every_node_answers_every_request() {
    let cluster = Cluster::start(3);
    for (writer, node) in cluster.nodes().iter().enumerate() {
        let (key, value) = (format!("from {writer}"), format!("value \u{e9} {writer}"));
        let set = node.http().set(&key, &value).expect("an answer");
        assert_eq!(set.status, 200, "{}", set.body);
        for reader in cluster.nodes() {
            let got = reader.http().get(&key).expect("an answer");
            assert_eq!(
                (got.status, got.body["value"].as_str()),
                (200, Some(value.as_str()))
            );
            assert_eq!(got.revision(), set.revision());
        }
        let next = cluster.node((writer + 1) % 3);
        let deleted = next.http().delete(&key).expect("an answer");
        assert_eq!(
            (deleted.status, deleted.body["deleted"].as_bool()),
            (200, Some(true))
        );
        for reader in cluster.nodes() {
            assert_eq!(
                reader.http().get(&key).expect("an answer").code(),
                Some("key_not_found")
            );
        }
    }
}

#[test]
fn all_nodes_tell_one_cluster_one_leader_and_three_members() {
    let cluster = Cluster::start(3);
    cluster.wait_for_leader(Deadline::seconds(GENEROUS));
    let statuses: Vec<_> = cluster
        .nodes()
        .iter()
        .map(|node| node.http().status().expect("a ready node"))
        .collect();
    assert!(statuses[0].cluster_id.is_some());
    for status in &statuses {
        assert_eq!(status.cluster_id, statuses[0].cluster_id);
    }
    assert_eq!(
        statuses.iter().filter(|status| status.role == "leader").count(),
        1,
        "{statuses:?}"
    );
    let members = cluster
        .node(0)
        .http()
        .get_path("/status")
        .expect("an answer")
        .body["members"]
        .clone();
    let names: Vec<_> = members
        .as_array()
        .expect("a list")
        .iter()
        .map(|member| member["id"].clone())
        .collect();
    assert_eq!(names, ["n1", "n2", "n3"]);
}

#[test]
fn node_without_peers_is_ready_within_a_second() {
    let mut cluster = Cluster::prepare(1, Links::Direct);
    let start = Instant::now();
    cluster.start_all();
    cluster.wait_until_ready();
    println!(
        "ready {:?} after its start (promised: 1 s on a machine that is not overloaded)",
        start.elapsed()
    );
    let set = cluster.node(0).http().set("k", "v").expect("an answer");
    assert_eq!(set.status, 200, "{}", set.body);
}

#[test]
fn three_nodes_elect_a_leader_within_two_seconds_of_the_last_start() {
    let mut cluster = Cluster::prepare(3, Links::Direct);
    cluster.node_mut(0).start();
    cluster.node_mut(1).start();
    // Two of three unformed nodes never form: they know that one is missing.
    wait_for("two nodes that answer", Deadline::seconds(GENEROUS), || {
        cluster.nodes()[..2]
            .iter()
            .try_for_each(|node| node.http().status().map(drop))
    });
    assert!(cluster.node(0).ready().is_err() && cluster.node(1).ready().is_err());
    let last = Instant::now();
    cluster.node_mut(2).start();
    cluster.wait_for_leader(Deadline::seconds(GENEROUS));
    println!(
        "a leader {:?} after the last start (promised: 2 s on a machine that is not overloaded)",
        last.elapsed()
    );
}

#[test]
fn restarted_cluster_keeps_its_data_and_its_identity() {
    let mut cluster = Cluster::start(3);
    let before = cluster.node(0).http().status().expect("a ready node").cluster_id;
    let set = cluster
        .node(1)
        .http()
        .set("kept", "over the restart")
        .expect("an answer");
    assert_eq!(set.status, 200, "{}", set.body);
    for node in 0..3 {
        assert_eq!(
            cluster.node_mut(node).stop(),
            Exit::Code(0),
            "SIGTERM is a graceful stop"
        );
    }
    cluster.start_all();
    cluster.wait_until_ready();
    for node in cluster.nodes() {
        let got = node.http().get("kept").expect("an answer");
        assert_eq!(
            (got.body["value"].as_str(), got.revision()),
            (Some("over the restart"), set.revision())
        );
        assert_eq!(node.http().status().expect("a ready node").cluster_id, before);
    }
}

#[test]
fn nodes_with_different_peer_lists_do_not_form_and_say_so() {
    let ports = PortBlock::take().expect("free ports");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = |number: usize, peers: &[usize]| {
        let address = |node: usize| format!("127.0.0.1:{}", ports.port(node));
        let peers: Vec<String> = peers
            .iter()
            .map(|&peer| format!("n{peer}={}", address(peer)))
            .collect();
        let name = format!("n{number}");
        let http = address(number + 8);
        let arguments = [
            "--id",
            &name,
            "--listen",
            &address(number),
            "--http",
            &http,
            "--peers",
            &peers.join(","),
        ];
        let flags = NodeFlags {
            arguments: arguments.map(str::to_owned).into(),
            http_port: ports.port(number + 8),
            native_port: ports.port(number),
            name,
        };
        Node::new(flags, directory.path())
    };
    let mut nodes = [node(1, &[2]), node(2, &[1, 3]), node(3, &[1, 2])];
    for node in &mut nodes {
        node.start();
    }
    for node in &nodes {
        // Each names the other's list, so that the operator sees which differ: also n3, whom n1 does not list.
        wait_for("a word about the lists", Deadline::seconds(GENEROUS), || {
            let output = node.output();
            let says_so = output
                .lines()
                .any(|line| line.contains("n1") && line.contains("n2") && line.contains("peers"));
            if says_so { Ok(()) } else { Err(output) }
        });
    }
    for node in &nodes {
        assert!(node.ready().is_err(), "{} must not be ready", node.name());
    }
}

#[test]
fn wiped_node_stays_out_and_names_the_command_that_mends_it() {
    let mut cluster = Cluster::start(3);
    assert_eq!(cluster.node_mut(1).stop(), Exit::Code(0));
    let data = cluster.directory().join("data").join("n2");
    std::fs::remove_dir_all(data).expect("the data of a node that does not run");
    cluster.node_mut(1).start();
    wait_for("the command that mends it", Deadline::seconds(GENEROUS), || {
        let why = cluster.node(1).ready().expect_err("a wiped node must not serve");
        if why.contains("kvctl member replace n2") {
            Ok(())
        } else {
            Err(why)
        }
    });
    let said = cluster.node(1).output();
    assert!(said.contains("mend it with: kvctl member replace n2"), "{said}");
    assert_eq!(
        cluster.node(0).http().set("k", "v").expect("an answer").status,
        200
    );
}

#[test]
fn started_node_answers_within_the_deadline_of_a_request() {
    // Two of three are down: no majority, so an answer can not be right; it must still come, and say so.
    let mut cluster = Cluster::start(3);
    cluster.wait_for_leader(Deadline::seconds(GENEROUS));
    cluster.node_mut(1).kill9();
    cluster.node_mut(2).kill9();
    let node = cluster.node(0);
    wait_for(
        "a node that knows it has no leader",
        Deadline::seconds(GENEROUS),
        || {
            let reply = node.http().set("k", "v").map_err(|error| error.to_string())?;
            // The first one may have been proposed by a leader that did not know yet.
            if reply.status == 503 {
                Ok(())
            } else {
                Err(reply.body.to_string())
            }
        },
    );
    let start = Instant::now();
    let reply = node.http().get("k").expect("an answer");
    assert_eq!(
        (reply.status, reply.code()),
        (503, Some("no_leader")),
        "{}",
        reply.body
    );
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    assert_eq!(
        node.http().get_path("/healthz").expect("an answer").status,
        200,
        "alive needs no majority"
    );
}

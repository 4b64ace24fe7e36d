//! Real processes come, go and are restarted under a light load, and no client notices.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use raftkv_client::Client;
use raftkv_tests::harness::{Deadline, Exit, Kvctl, Node, NodeFlags, PortBlock, wait_for};
use raftkv_tests::ledger::{self, Ledger, LoadPlan, assert_all_keys};
use raftkv_tests::workload::{self, Keys, Mix, NativeDoor, Workload, assert_linearizable};

/// For what takes less than a second on an idle machine.
const GENEROUS: u64 = 60;

/// The longest that a request may take: an election, on a machine that does other things too.
const LONGEST: Duration = Duration::from_secs(2);

/// Node `number` (from 1), told these flags beside its own.
fn node(number: usize, ports: &PortBlock, more: &[String], directory: &Path) -> Node {
    node_at(number, number, ports, more, directory)
}

/// The same at another node's place among the ports.
fn node_at(number: usize, place: usize, ports: &PortBlock, more: &[String], directory: &Path) -> Node {
    let (native, http) = (ports.port(2 * place - 2), ports.port(2 * place - 1));
    let name = format!("n{number}");
    let own = [
        "--id",
        &name,
        "--listen",
        &format!("127.0.0.1:{native}"),
        "--http",
        &format!("127.0.0.1:{http}"),
    ];
    let arguments = own.into_iter().map(str::to_owned).chain(more.iter().cloned());
    let flags = NodeFlags {
        arguments: arguments.collect(),
        name,
        http_port: http,
        native_port: native,
    };
    Node::new(flags, directory)
}

fn kvctl(nodes: &[&Node], arguments: &[&str]) {
    let ports: Vec<u16> = nodes.iter().map(|node| node.native_port()).collect();
    let printed = Kvctl::new(&ports).run(arguments);
    assert_eq!(printed.code, Some(0), "{arguments:?}: {}", printed.stderr);
}

/// Waits until these are the voters, and nobody else is a member.
fn wait_for_voters(at: &Node, expected: &[&str]) {
    let ports = [at.native_port()];
    wait_for(
        &format!("the voters {expected:?}"),
        Deadline::seconds(GENEROUS),
        || {
            let printed = Kvctl::new(&ports).run(&["member", "list", "--output", "json"]);
            let document: serde_json::Value =
                serde_json::from_str(&printed.stdout).map_err(|error| error.to_string())?;
            let members = document["members"].as_array().cloned().unwrap_or_default();
            let are_voters = members.iter().all(|member| member["voter"] == true);
            let names: Vec<_> = members
                .iter()
                .filter_map(|member| member["id"].as_str())
                .collect();
            match are_voters && names == expected {
                true => Ok(()),
                false => Err(printed.stdout),
            }
        },
    );
}

/// What the load saw.
#[derive(Debug, Default)]
struct Seen {
    written: usize,
    longest: Duration,
    failures: Vec<String>,
}

/// Writes new keys, and reads each and an older one back, until it is told to end.
struct Load {
    is_over: Arc<AtomicBool>,
    written: Arc<AtomicUsize>,
    thread: JoinHandle<Seen>,
}

impl Load {
    fn start(nodes: &[&Node]) -> Load {
        let endpoints: Vec<String> = nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.native_port()))
            .collect();
        let (is_over, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let thread = std::thread::spawn({
            let (is_over, written) = (is_over.clone(), written.clone());
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.expect("a runtime");
                runtime.block_on(run(endpoints, is_over, written))
            }
        });
        Load {
            is_over,
            written,
            thread,
        }
    }

    /// Waits until it has got on by this much.
    #[track_caller]
    fn wait_for_writes(&self, more: usize) {
        let wanted = self.written.load(Ordering::Relaxed) + more;
        wait_for("the load to go on", Deadline::seconds(GENEROUS), || {
            match self.written.load(Ordering::Relaxed) {
                now if now >= wanted => Ok(()),
                now => Err(format!("{now} of {wanted}")),
            }
        });
    }

    fn end(self) -> Seen {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("the load does not panic")
    }
}

async fn run(endpoints: Vec<String>, is_over: Arc<AtomicBool>, written: Arc<AtomicUsize>) -> Seen {
    let endpoints = endpoints.iter().map(String::as_str);
    let client = Client::builder().endpoints(endpoints).build().expect("a client");
    let mut seen = Seen::default();
    while !is_over.load(Ordering::Relaxed) {
        let began = Instant::now();
        let key = format!("k{}", seen.written);
        if let Err(error) = client.set(key.clone(), key.clone()).await {
            seen.failures.push(format!("set {key}: {error}"));
        }
        let older = format!("k{}", seen.written / 2);
        for key in [key, older] {
            match client.get(key.clone()).await {
                Ok(Some(record)) if record.value == key => {}
                other => seen.failures.push(format!("get {key}: {other:?}")),
            }
        }
        seen.longest = seen.longest.max(began.elapsed());
        seen.written += 1;
        written.store(seen.written, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    seen
}

fn assert_unharmed(seen: &Seen, nodes: &[&Node]) {
    assert_eq!(seen.failures, Vec::<String>::new(), "of {} writes", seen.written);
    assert!(seen.written > 50, "{} writes", seen.written);
    assert!(seen.longest < LONGEST, "a request took {:?}", seen.longest);
    for (node, n) in nodes
        .iter()
        .flat_map(|node| (0..seen.written).map(move |n| (node, n)))
    {
        if n % 7 != 0 {
            continue;
        }
        let got = node.http().get(format!("k{n}")).expect("an answer");
        assert_eq!(got.status, 200, "k{n} at {}: {}", node.name(), got.body);
    }
}

/// A node that is a cluster by itself, ready.
fn one_node(ports: &PortBlock, directory: &Path) -> Node {
    let mut alone = node(1, ports, &[], directory);
    alone.start();
    alone.wait_until_ready(Deadline::seconds(GENEROUS));
    alone
}

/// Node `number`, that has joined the nodes before it by way of the first one, and votes.
fn newcomer(number: usize, ports: &PortBlock, first: &Node, directory: &Path) -> Node {
    let more = ["--join".to_owned(), format!("127.0.0.1:{}", ports.port(0))];
    let mut newcomer = node(number, ports, &more, directory);
    newcomer.start();
    kvctl(&[first], &["member", "add", &format!("n{number}")]);
    newcomer.wait_until_ready(Deadline::seconds(GENEROUS));
    let names: Vec<String> = (1..=number).map(|number| format!("n{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    wait_for_voters(first, &names);
    newcomer
}

#[test]
fn one_node_becomes_three_and_five_and_three_others_under_load() {
    let ports = PortBlock::take().expect("ports");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut nodes = vec![one_node(&ports, directory.path())];
    let load = Load::start(&[&nodes[0]]);
    for number in 2..=5 {
        nodes.push(newcomer(number, &ports, &nodes[0], directory.path()));
        load.wait_for_writes(20);
    }
    // The first of them leads: it hands over before it goes.
    let others = [&nodes[2], &nodes[3], &nodes[4]];
    kvctl(&others, &["member", "remove", "n1"]);
    wait_for_voters(&nodes[2], &["n2", "n3", "n4", "n5"]);
    kvctl(&others, &["member", "remove", "n2"]);
    wait_for_voters(&nodes[2], &["n3", "n4", "n5"]);
    load.wait_for_writes(20);
    let seen = load.end();
    assert_unharmed(&seen, &others);
    for gone in &nodes[..2] {
        wait_for(
            "the removed node says so",
            Deadline::seconds(GENEROUS),
            || match gone.ready() {
                Err(reason) if reason.contains("removed") => Ok(()),
                other => Err(format!("{other:?}")),
            },
        );
    }
    nodes[..2]
        .iter_mut()
        .for_each(|gone| assert_eq!(gone.stop(), Exit::Code(0)));
    assert_eq!(nodes[3].http().set("after", "v").expect("an answer").status, 200);
}

/// Three nodes that were told of each other, ready.
fn three_nodes(ports: &PortBlock, directory: &Path) -> Vec<Node> {
    let peers: Vec<String> = (1..=3)
        .map(|number| format!("n{number}=127.0.0.1:{}", ports.port(2 * number - 2)))
        .collect();
    let more = ["--peers".to_owned(), peers.join(",")];
    let mut nodes: Vec<Node> = (1..=3)
        .map(|number| node(number, ports, &more, directory))
        .collect();
    nodes.iter_mut().for_each(Node::start);
    for node in &nodes {
        node.wait_until_ready(Deadline::seconds(GENEROUS));
    }
    nodes
}

#[test]
fn rolling_restart_fails_no_request() {
    let ports = PortBlock::take().expect("ports");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut nodes = three_nodes(&ports, directory.path());
    let load = Load::start(&nodes.iter().collect::<Vec<_>>());
    load.wait_for_writes(20);
    for node in &mut nodes {
        assert_eq!(node.stop(), Exit::Code(0));
        node.start();
        node.wait_until_ready(Deadline::seconds(GENEROUS));
    }
    load.wait_for_writes(20);
    let seen = load.end();
    assert_unharmed(&seen, &nodes.iter().collect::<Vec<_>>());
}

/// Name and native address of each member.
fn members(at: &Node) -> Result<Vec<[String; 2]>, String> {
    let printed = Kvctl::new(&[at.native_port()]).run(&["member", "list", "--output", "json"]);
    let document: serde_json::Value =
        serde_json::from_str(&printed.stdout).map_err(|error| error.to_string())?;
    let members = document["members"].as_array().cloned().unwrap_or_default();
    let text = |member: &serde_json::Value, field: &str| member[field].as_str().unwrap_or("none").to_owned();
    let fields = |member| ["id", "address"].map(|field| text(member, field));
    Ok(members.iter().map(fields).collect())
}

/// Waits until every node says that these are the members.
fn wait_for_members(nodes: &[Node], expected: &[[String; 2]]) {
    for node in nodes {
        wait_for("the new addresses", Deadline::seconds(GENEROUS), || {
            let members = members(node)?;
            match members == expected {
                true => Ok(()),
                false => Err(format!("{} says {members:?}", node.name())),
            }
        });
    }
}

/// All three move, one after another, so that in the end nobody is where the clients, or the flags of the others, say.
/// Their identities stay: a node with another one would not be a member, and not be ready before it is let in.
#[test]
fn all_nodes_move_to_other_addresses_under_load_and_clients_find_them() {
    let ports = PortBlock::take().expect("ports");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut nodes = three_nodes(&ports, directory.path());
    let load = Load::start(&nodes.iter().collect::<Vec<_>>());
    load.wait_for_writes(20);
    let mut expected = members(&nodes[0]).expect("the members");
    for number in 1..=3 {
        assert_eq!(nodes[number - 1].stop(), Exit::Code(0));
        // Flags of the others are those of the founding: what the log says of addresses counts more.
        let others = (1..=3).filter(|other| *other != number);
        let peers: Vec<String> = others
            .map(|other| format!("n{other}=127.0.0.1:{}", ports.port(2 * other - 2)))
            .collect();
        let more = ["--peers".to_owned(), peers.join(",")];
        nodes[number - 1] = node_at(number, number + 3, &ports, &more, directory.path());
        nodes[number - 1].start();
        nodes[number - 1].wait_until_ready(Deadline::seconds(GENEROUS));
        expected[number - 1][1] = format!("127.0.0.1:{}", nodes[number - 1].native_port());
        wait_for_members(&nodes, &expected);
        load.wait_for_writes(20);
    }
    wait_for_voters(&nodes[0], &["n1", "n2", "n3"]);
    let seen = load.end();
    assert_unharmed(&seen, &nodes.iter().collect::<Vec<_>>());
}

#[test]
fn lost_disk_is_refused_with_the_command_that_mends_it() {
    let ports = PortBlock::take().expect("ports");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut nodes = three_nodes(&ports, directory.path());
    assert_eq!(nodes[0].http().set("k", "v").expect("an answer").status, 200);
    nodes[2].kill9();
    let data = directory.path().join("data").join("n3");
    std::fs::remove_dir_all(data).expect("the disk is lost");
    nodes[2].start();
    wait_for(
        "it says what mends it",
        Deadline::seconds(GENEROUS),
        || match nodes[2].ready() {
            Err(reason) if reason.contains("kvctl member replace n3") => Ok(()),
            other => Err(format!("{other:?}")),
        },
    );
    kvctl(&[&nodes[0], &nodes[1]], &["member", "replace", "n3"]);
    nodes[2].wait_until_ready(Deadline::seconds(GENEROUS));
    wait_for_voters(&nodes[0], &["n1", "n2", "n3"]);
    let got = nodes[2].http().get("k").expect("an answer");
    assert_eq!(got.body["value"], "v");
}

/// Clients of the native library that ask for everything on few keys and record what they are told. Each was given one
/// node: the first the first one, and so on.
fn recorded_load(nodes: &[Node]) -> Workload {
    let ports: Vec<u16> = nodes.iter().map(Node::native_port).collect();
    let plan = workload::Plan {
        clients: 3,
        keys: Keys::Shared(4),
        mix: Mix::EVERYTHING,
        seed: 5,
    };
    Workload::start(plan, |client| {
        let given = ports[client.0 as usize % ports.len()];
        vec![Box::new(NativeDoor::new(&[given], LONGEST))]
    })
}

/// Its disk is lost: it comes back with an empty one, by way of another node, and takes its old place.
fn lose_disk_and_replace(nodes: &mut [Node], number: usize, ports: &PortBlock, directory: &Path) {
    let name = format!("n{number}");
    // Stopped, not killed: a killed leader may rightly leave the outcome of a write unknown, and here none may be.
    assert_eq!(nodes[number - 1].stop(), Exit::Code(0));
    std::fs::remove_dir_all(directory.join("data").join(&name)).expect("the disk is lost");
    let other = number % 3 + 1;
    let join_at = format!("127.0.0.1:{}", ports.port(2 * other - 2));
    nodes[number - 1] = node(number, ports, &["--join".to_owned(), join_at], directory);
    nodes[number - 1].start();
    kvctl(&[&nodes[other - 1]], &["member", "replace", &name]);
    let anew = &nodes[number - 1];
    anew.wait_until_ready(Deadline::seconds(GENEROUS));
    wait_for("it votes", Deadline::seconds(GENEROUS), || {
        let status = anew.http().status()?;
        match status.role.as_str() {
            "follower" | "leader" => Ok(()),
            _ => Err(format!("{status:?}")),
        }
    });
    for node in nodes {
        wait_for_voters(node, &["n1", "n2", "n3"]);
    }
}

#[test]
fn each_original_node_loses_its_disk_once_and_nothing_acknowledged_is_lost() {
    let ports = PortBlock::take().expect("ports");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut nodes = vec![one_node(&ports, directory.path())];
    // All clients were given one node only, which is replaced while they go on; these when there was no other.
    let load = Load::start(&[&nodes[0]]);
    let plan = LoadPlan {
        writers: 4,
        keys_each: 16,
        value_bytes: 256,
        round: 1,
    };
    let written = ledger::Load::start(plan, &[nodes[0].native_port()], LONGEST);
    for number in 2..=3 {
        nodes.push(newcomer(number, &ports, &nodes[0], directory.path()));
    }
    let recorded = recorded_load(&nodes);
    for number in 1..=3 {
        load.wait_for_writes(20);
        recorded.wait_for_answers(100, Deadline::seconds(GENEROUS));
        written.wait_for_answers(100, Deadline::seconds(GENEROUS));
        lose_disk_and_replace(&mut nodes, number, &ports, directory.path());
    }
    load.wait_for_writes(20);
    recorded.wait_for_answers(100, Deadline::seconds(GENEROUS));
    written.wait_for_answers(100, Deadline::seconds(GENEROUS));
    let mut known = Ledger::default();
    written.finish_into(&mut known);
    known.assert_revisions_differ();
    assert_linearizable(&recorded.finish().history());
    let seen = load.end();
    wait_until_level(&nodes);
    assert_unharmed(&seen, &nodes.iter().collect::<Vec<_>>());
    for node in &nodes {
        assert_all_keys(node, &known);
    }
}

/// Waits until every node has applied all that any has committed.
fn wait_until_level(nodes: &[Node]) {
    wait_for("all nodes to catch up", Deadline::seconds(GENEROUS), || {
        let statuses: Result<Vec<_>, String> = nodes.iter().map(|node| node.http().status()).collect();
        let statuses = statuses?;
        let committed = statuses.iter().map(|status| status.commit_index).max();
        match statuses
            .iter()
            .all(|status| Some(status.applied_index) == committed)
        {
            true => Ok(()),
            false => Err(format!("{statuses:?}")),
        }
    });
}

//! `kvctl` and the server's command line, as scripts meet them: output, exit codes, messages.

use raftkv_tests::harness::{Cluster, Exit, Kvctl, Links, Node, NodeFlags, PortBlock, Printed};
use serde_json::Value;

const NOT_FOUND: Option<i32> = Some(1);
const USAGE: Option<i32> = Some(2);
const UNAVAILABLE: Option<i32> = Some(3);
const CONDITION_FAILED: Option<i32> = Some(4);

fn kvctl(cluster: &Cluster) -> Kvctl {
    // One endpoint is enough; the others are learnt from it.
    Kvctl::new(&[cluster.node(0).native_port()])
}

#[track_caller]
fn ok(printed: Printed) -> String {
    assert_eq!(printed.code, Some(0), "{printed:?}");
    printed.stdout
}

#[track_caller]
fn json(printed: Printed) -> Value {
    let text = ok(printed);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("not one JSON document ({error}): {text}"))
}

#[test]
fn get_prints_the_value_and_a_newline_only() {
    let cluster = Cluster::start(3);
    let kvctl = kvctl(&cluster);
    ok(kvctl.run(&["set", "city", "Z\u{fc}rich"]));
    assert_eq!(ok(kvctl.run(&["get", "city"])), "Z\u{fc}rich\n");
    ok(kvctl.run_with_input(&["set", "from stdin", "-"], b"two\nlines"));
    assert_eq!(ok(kvctl.run(&["get", "from stdin"])), "two\nlines\n");
    for node in cluster.nodes() {
        assert_eq!(
            node.http().get("city").expect("an answer").body["value"],
            "Z\u{fc}rich"
        );
    }
}

#[test]
fn exit_codes_tell_scripts_what_happened() {
    let cluster = Cluster::start(1);
    let kvctl = kvctl(&cluster);
    let missing = kvctl.run(&["get", "nothing"]);
    assert_eq!(
        (missing.code, missing.stdout.as_str()),
        (NOT_FOUND, ""),
        "{missing:?}"
    );
    for usage in [
        &["no-such-command"][..],
        &["get"],
        &["set"],
        &["get", "k", "--no-such-flag"],
        &["get", ""],
    ] {
        let printed = kvctl.run(usage);
        assert_eq!(printed.code, USAGE, "{usage:?}: {printed:?}");
        assert!(
            !printed.stderr.is_empty() && printed.stdout.is_empty(),
            "{usage:?}: {printed:?}"
        );
    }
    let free = PortBlock::take().expect("free ports");
    let nobody = Kvctl::new(&[free.port(0)]).run(&["get", "k"]);
    assert_eq!(nobody.code, UNAVAILABLE, "{nobody:?}");
    assert!(
        nobody.stderr.contains(&free.port(0).to_string()),
        "names whom it asked: {nobody:?}"
    );
    assert!(!ok(kvctl.run(&["--help"])).is_empty());
}

#[test]
fn failed_condition_has_an_exit_code_of_its_own() {
    let cluster = Cluster::start(1);
    let kvctl = kvctl(&cluster);
    ok(kvctl.run(&["set", "k", "v", "--if-revision", "0"]));
    let failed = kvctl.run(&["set", "k", "w", "--if-revision", "0"]);
    assert_eq!(failed.code, CONDITION_FAILED, "{failed:?}");
    assert_eq!(ok(kvctl.run(&["get", "k"])), "v\n");
}

#[test]
fn delete_tells_whether_there_was_something() {
    let cluster = Cluster::start(1);
    let kvctl = kvctl(&cluster);
    ok(kvctl.run(&["set", "k", "v"]));
    ok(kvctl.run(&["delete", "k"]));
    assert_eq!(kvctl.run(&["get", "k"]).code, NOT_FOUND);
    assert_eq!(
        kvctl.run(&["delete", "k"]).code,
        NOT_FOUND,
        "there was nothing to delete"
    );
}

#[test]
fn json_output_is_one_document() {
    let cluster = Cluster::start(3);
    let kvctl = kvctl(&cluster);
    json(kvctl.run(&["set", "k", "v", "--output", "json"]));
    let got = json(kvctl.run(&["get", "k", "--output", "json"]));
    assert_eq!(got["kvs"][0]["key"], "k", "{got}");
    assert_eq!(got["kvs"][0]["value"], "v", "{got}");
    let status = json(kvctl.run(&["status", "--output", "json"]));
    assert_eq!(status["members"].as_array().map(Vec::len), Some(3), "{status}");
}

#[test]
fn status_names_every_member() {
    let cluster = Cluster::start(3);
    let text = ok(kvctl(&cluster).run(&["status"]));
    for node in cluster.nodes() {
        assert!(text.contains(node.name()), "{text}");
    }
}

/// A server with these arguments that is expected to end by itself.
#[track_caller]
fn refused(arguments: &[&str], directory: &std::path::Path, name: &str) -> (Exit, String) {
    let flags = NodeFlags {
        name: name.to_owned(),
        arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
        http_port: 0,
        native_port: 0,
    };
    let mut node = Node::new(flags, directory);
    node.start();
    let exit = node.wait_for_exit();
    (exit, node.output())
}

#[test]
fn wrong_command_lines_are_usage_errors_with_a_sentence() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let cases: [(&[&str], &str); 7] = [
        (&[], "--id"),
        (&["--id", "alpha"], "--listen"),
        (&["--id", "node1", "--peers", "beta"], "beta=HOST:PORT"),
        (&["--id", "node1", "--http", "nonsense"], "--http"),
        (&["--id", "node1", "--request-timeout-ms", "soon"], "soon"),
        (&["--id", "no spaces"], "name"),
        (&["--id", "node1", "--no-such-flag"], "--no-such-flag"),
    ];
    for (number, (arguments, expected)) in cases.into_iter().enumerate() {
        let (exit, output) = refused(arguments, directory.path(), &format!("wrong{number}"));
        assert_eq!(exit, Exit::Code(2), "{arguments:?}: {output}");
        assert!(
            output.contains(expected),
            "{arguments:?} should name {expected}: {output}"
        );
        assert!(!output.contains("panicked"), "{output}");
    }
}

#[test]
fn taken_port_is_named() {
    let cluster = Cluster::start(1);
    let (native, http) = (cluster.node(0).native_port(), cluster.node(0).http_port());
    let free = PortBlock::take().expect("free ports");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let address = |port: u16| format!("127.0.0.1:{port}");
    for (name, listen, http) in [("native", native, free.port(0)), ("http", free.port(1), http)] {
        let arguments = [
            "--id",
            name,
            "--listen",
            &address(listen),
            "--http",
            &address(http),
        ];
        let (exit, output) = refused(&arguments, directory.path(), name);
        assert_eq!(exit, Exit::Code(1), "{output}");
        let taken = if name == "native" { listen } else { http };
        assert!(output.contains(&taken.to_string()), "{output}");
    }
    assert_eq!(
        cluster.node(0).http().set("k", "v").expect("an answer").status,
        200,
        "the first one serves on"
    );
}

#[test]
fn second_server_on_a_data_directory_is_told_so() {
    let cluster = Cluster::start(1);
    let free = PortBlock::take().expect("free ports");
    let data = cluster.directory().join("data").join("n1");
    let listen = format!("127.0.0.1:{}", free.port(0));
    let arguments = [
        "--id",
        "n1",
        "--listen",
        &listen,
        "--data-dir",
        &data.display().to_string(),
    ];
    let (exit, output) = refused(&arguments, cluster.directory(), "second");
    assert_eq!(exit, Exit::Code(1), "{output}");
    assert!(output.contains(&data.display().to_string()), "{output}");
    assert_eq!(
        cluster.node(0).http().set("k", "v").expect("an answer").status,
        200,
        "the first one serves on"
    );
}

#[test]
fn data_directory_of_another_node_is_refused() {
    let mut cluster = Cluster::start(1);
    assert_eq!(cluster.node_mut(0).stop(), Exit::Code(0));
    let data = cluster.directory().join("data").join("n1");
    let listen = format!("127.0.0.1:{}", cluster.node(0).native_port());
    let arguments = [
        "--id",
        "other",
        "--listen",
        &listen,
        "--data-dir",
        &data.display().to_string(),
    ];
    let (exit, output) = refused(&arguments, cluster.directory(), "other");
    assert_eq!(exit, Exit::Code(1), "{output}");
    assert!(output.contains("n1") && output.contains("other"), "{output}");
    cluster.start_all();
    cluster.wait_until_ready();
}

#[test]
fn termination_is_graceful_also_without_a_majority() {
    let mut cluster = Cluster::prepare(3, Links::Direct);
    cluster.node_mut(0).start();
    raftkv_tests::harness::wait_for(
        "a server that answers",
        raftkv_tests::harness::Deadline::seconds(60),
        || cluster.node(0).http().status(),
    );
    assert_eq!(
        cluster.node_mut(0).stop(),
        Exit::Code(0),
        "{}",
        cluster.node(0).output()
    );
}

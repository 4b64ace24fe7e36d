//! `kvctl` and the server's command line, as scripts meet them: output, exit codes, messages.

use raftkv_tests::harness::{
    Cluster, Deadline, Exit, Kvctl, Links, Node, NodeFlags, PortBlock, Printed, RunningKvctl, ok,
};
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
fn a_range_is_deleted_at_once() {
    let cluster = Cluster::start(1);
    let kvctl = kvctl(&cluster);
    for key in ["a/1", "a/2", "a/3", "b"] {
        ok(kvctl.run(&["set", key, "v"]));
    }
    let deleted = ok(kvctl.run(&["delete", "--from", "a/2", "--to", "a/3"]));
    assert_eq!(deleted, "deleted 1 key, revision 6\n");
    let deleted = json(kvctl.run(&["delete", "--prefix", "a/", "--output", "json"]));
    assert_eq!(deleted, serde_json::json!({"deleted": 2, "revision": 7}));
    assert_eq!(kvctl.run(&["delete", "--prefix", "a/"]).code, NOT_FOUND);
    assert_eq!(ok(kvctl.run(&["get", "--prefix", ""])), "b\tv\n");
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

/// Keys `k000` to `k299` with the values `v0` to `v299`, at the revisions 2 to 301; then `other`.
fn fill(cluster: &Cluster) {
    for number in 0..300 {
        let reply = cluster
            .node(0)
            .http()
            .set(&format!("k{number:03}"), &format!("v{number}"));
        assert_eq!(reply.expect("an answer").status, 200);
    }
    ok(kvctl(cluster).run(&["set", "other", "x"]));
}

#[test]
fn get_lists_prefixes_and_ranges_a_line_per_key() {
    let cluster = Cluster::start(3);
    fill(&cluster);
    let kvctl = kvctl(&cluster);
    let lines = |numbers: &mut dyn Iterator<Item = usize>| -> String {
        numbers
            .map(|number| format!("k{number:03}\tv{number}\n"))
            .collect()
    };
    let list = |arguments: &[&str]| ok(kvctl.run(&[&["get"][..], arguments].concat()));
    assert_eq!(list(&["--prefix", "k"]), lines(&mut (0..300)));
    assert_eq!(list(&["--prefix", "k29"]), lines(&mut (290..300)));
    assert_eq!(list(&["--prefix", "k", "--limit", "250"]), lines(&mut (0..250)));
    let reversed = list(&["--prefix", "k", "--reverse", "--limit", "2"]);
    assert_eq!(reversed, lines(&mut [299, 298].into_iter()));
    assert_eq!(list(&["--from", "k010", "--to", "k012"]), lines(&mut (10..12)));
    assert_eq!(list(&["--to", "k002"]), lines(&mut (0..2)));
    assert_eq!(list(&["--from", "k299", "--keys-only"]), "k299\nother\n");
    assert_eq!(list(&["--prefix", "", "--count-only"]), "301\n");
    assert_eq!(list(&["--prefix", "k", "--count-only", "--limit", "7"]), "7\n");
    assert_eq!(
        list(&["--prefix", "nothing"]),
        "",
        "an empty list is an answer, not a key that is missing"
    );
    assert_eq!(
        list(&["--prefix", "k00", "--consistency", "stale", "--limit", "1"]),
        "k000\tv0\n"
    );
}

#[test]
fn get_tells_how_it_was_at_a_revision_that_is_kept() {
    let cluster = Cluster::start(1);
    fill(&cluster);
    let kvctl = kvctl(&cluster);
    ok(kvctl.run(&["set", "k000", "later"]));
    ok(kvctl.run(&["delete", "k001"]));
    assert_eq!(ok(kvctl.run(&["get", "k000", "--at-revision", "2"])), "v0\n");
    let then = ok(kvctl.run(&["get", "--prefix", "k", "--at-revision", "3"]));
    assert_eq!(then, "k000\tv0\nk001\tv1\n");
    let now = ok(kvctl.run(&["get", "--prefix", "k00", "--limit", "2"]));
    assert_eq!(now, "k000\tlater\nk002\tv2\n");
    let before = kvctl.run(&["get", "k001", "--at-revision", "2"]);
    assert_eq!(before.code, NOT_FOUND, "{before:?}");
    let future = kvctl.run(&["get", "--prefix", "k", "--at-revision", "999999"]);
    assert_eq!(future.code, USAGE, "{future:?}");
    assert!(
        future.stderr.contains("304"),
        "names the newest revision: {future:?}"
    );
}

#[test]
fn listings_as_json_are_one_document() {
    let cluster = Cluster::start(1);
    fill(&cluster);
    let kvctl = kvctl(&cluster);
    let list = |arguments: &[&str]| json(kvctl.run(&[&["get", "--output", "json"][..], arguments].concat()));
    let all = list(&["--prefix", "k"]);
    assert_eq!(all["kvs"].as_array().map(Vec::len), Some(300), "{all}");
    assert_eq!(all["kvs"][299]["key"], "k299", "{all}");
    assert_eq!(all["kvs"][299]["value"], "v299", "{all}");
    assert_eq!(all["revision"], 302, "{all}");
    let keys = list(&["--prefix", "k", "--keys-only", "--limit", "1"]);
    assert_eq!(keys["kvs"][0]["mod_revision"], 2, "{keys}");
    assert_eq!(keys["kvs"][0].get("value"), None, "{keys}");
    assert_eq!(list(&["--prefix", "k", "--count-only"])["count"], 300);
    assert_eq!(list(&["--prefix", "nothing"])["kvs"], serde_json::json!([]));
}

#[test]
fn what_can_not_be_listed_or_watched_is_a_usage_error_with_a_sentence() {
    let cluster = Cluster::start(1);
    let kvctl = kvctl(&cluster);
    let cases: [(&[&str], &str); 12] = [
        (&["get", "k", "--prefix", "k"], "--prefix"),
        (&["get", "k", "--limit", "3"], "--limit"),
        (&["get", "--limit", "3"], "--prefix"),
        (&["get", "--prefix", "k", "--limit", "0"], "--limit"),
        (
            &["get", "--prefix", "k", "--count-only", "--keys-only"],
            "--keys-only",
        ),
        (&["get", "--from", "b", "--to", "a"], "--to must be behind --from"),
        (&["get", "--from", "a", "--to", "a"], "--to must be behind --from"),
        (&["get", "--prefix", "k", "--at-revision", "then"], "then"),
        (&["get"], "--prefix"),
        (&["watch"], "--prefix"),
        (&["watch", ""], "the key is empty"),
        (
            &["watch", "k", "--snapshot", "--from-revision", "2"],
            "--from-revision",
        ),
    ];
    for (arguments, expected) in cases {
        let printed = kvctl.run(arguments);
        assert_eq!(printed.code, USAGE, "{arguments:?}: {printed:?}");
        assert!(
            printed.stderr.contains(expected) && printed.stdout.is_empty(),
            "{arguments:?} should name {expected}: {printed:?}"
        );
    }
}

/// For what takes less than a second on an idle machine.
fn soon() -> Deadline {
    Deadline::seconds(60)
}

#[track_caller]
fn assert_lines(watch: &RunningKvctl, expected: &[&str]) {
    for line in expected {
        assert_eq!(watch.line(soon()), *line);
    }
}

#[test]
fn watch_prints_a_line_per_event_until_it_is_interrupted() {
    let mut cluster = Cluster::start(3);
    let kvctl = kvctl(&cluster);
    ok(kvctl.run(&["set", "a/1", "one"]));
    let snapshot = kvctl.start(&["watch", "--prefix", "a/", "--snapshot"]);
    assert_lines(
        &snapshot,
        &["snapshot_begin", "put\t2\ta/1\tone", "snapshot_end\t2"],
    );
    ok(kvctl.run(&["set", "b", "not watched"]));
    ok(kvctl.run(&["set", "a/2", "two"]));
    ok(kvctl.run(&["delete", "a/1"]));
    assert_lines(&snapshot, &["put\t4\ta/2\ttwo", "delete\t5\ta/1"]);
    // It goes on over the stop of the only node that it was given.
    assert_eq!(cluster.node_mut(0).stop(), Exit::Code(0));
    let others = Kvctl::new(&cluster.native_ports()[1..]);
    ok(others.run(&["set", "a/3", "three"]));
    assert_lines(&snapshot, &["put\t6\ta/3\tthree"]);
    let ended = snapshot.interrupt(soon());
    assert_eq!(
        (ended.code, ended.stdout.as_str(), ended.stderr.as_str()),
        (Some(0), "", "")
    );
    let one_key = others.start(&["watch", "a/1", "--from-revision", "1"]);
    assert_lines(&one_key, &["put\t2\ta/1\tone", "delete\t5\ta/1"]);
}

#[test]
fn watch_as_json_is_a_document_per_line() {
    let cluster = Cluster::start(1);
    let kvctl = kvctl(&cluster);
    let watch = kvctl.start(&["watch", "k", "--snapshot", "--output", "json"]);
    let next = || -> Value { serde_json::from_str(&watch.line(soon())).expect("a document") };
    assert_eq!(next()["event"], "snapshot_begin");
    assert_eq!(next()["event"], "snapshot_end");
    ok(kvctl.run(&["set", "k", "two\nlines"]));
    ok(kvctl.run(&["delete", "k"]));
    let put = next();
    assert_eq!(
        (&put["event"], &put["value"]),
        (&"put".into(), &"two\nlines".into())
    );
    assert_eq!(put["mod_revision"], 2, "{put}");
    let delete = next();
    let expected = serde_json::json!({"event": "delete", "key": "k", "mod_revision": 3});
    assert_eq!(delete, expected);
}

#[test]
fn watch_without_a_server_ends_as_unavailable() {
    let free = PortBlock::take().expect("free ports");
    let nobody = Kvctl::new(&[free.port(0)]).run(&["watch", "k", "--timeout", "300ms"]);
    assert_eq!(nobody.code, UNAVAILABLE, "{nobody:?}");
    assert!(nobody.stderr.contains(&free.port(0).to_string()), "{nobody:?}");
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

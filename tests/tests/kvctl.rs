//! `kvctl` for more than single keys: transactions, counters, export and import, and listings that can not be misread.

use raftkv_tests::harness::{Cluster, Kvctl, ok};
use serde_json::{Value, json};

const USAGE: Option<i32> = Some(2);
const UNAVAILABLE: Option<i32> = Some(3);
const CONDITION_FAILED: Option<i32> = Some(4);

fn kvctl(cluster: &Cluster) -> Kvctl {
    Kvctl::new(&[cluster.node(0).native_port()])
}

#[test]
fn a_transaction_is_read_from_a_file_or_standard_input() {
    let cluster = Cluster::start(3);
    let kvctl = kvctl(&cluster);
    let text = "if\n  absent seat/12\nthen\n  put seat/12 \"Alice B.\" previous\n  increment sold 2\nelse\n  get seat/12\n";
    assert_eq!(
        ok(kvctl.run_with_input(&["txn"], text.as_bytes())),
        "the conditions hold, revision 2\nput\nincrement\t2\n"
    );
    let file = cluster.directory().join("claim.txn");
    std::fs::write(&file, text).expect("written");
    let file = file.to_str().expect("a text");
    let again = kvctl.run(&["txn", file]);
    assert_eq!(again.code, CONDITION_FAILED, "{again:?}");
    assert_eq!(
        again.stdout,
        "the conditions do not hold, revision 2\nget\tseat/12\tAlice B.\n"
    );
    let again = kvctl.run(&["txn", file, "--output", "json"]);
    let document: Value = serde_json::from_str(&again.stdout).expect("a document");
    assert_eq!(document["succeeded"], false, "{document}");
    assert_eq!(
        document["results"][0]["get"]["kvs"][0]["value"], "Alice B.",
        "{document}"
    );
    let wrong = kvctl.run_with_input(&["txn", "-"], b"put a 1\nput b\n");
    assert_eq!(wrong.code, USAGE, "{wrong:?}");
    assert!(wrong.stderr.contains("line 2, column 6"), "{wrong:?}");
    assert_eq!(kvctl.run(&["get", "a"]).code, Some(1), "nothing was sent");
    let unguarded = kvctl.run_with_input(&["txn", "--guarded"], b"put a 1");
    assert_eq!(unguarded.code, USAGE, "{unguarded:?}");
}

#[test]
fn increment_prints_the_sum() {
    let cluster = Cluster::start(1);
    let kvctl = kvctl(&cluster);
    assert_eq!(ok(kvctl.run(&["increment", "n"])), "1\n");
    assert_eq!(ok(kvctl.run(&["increment", "n", "41"])), "42\n");
    assert_eq!(ok(kvctl.run(&["increment", "n", "-50"])), "-8\n");
    let document = ok(kvctl.run(&["increment", "n", "8", "--output", "json"]));
    let document: Value = serde_json::from_str(&document).expect("a document");
    assert_eq!(document, json!({"key": "n", "value": 0, "revision": 5}));
    ok(kvctl.run(&["set", "word", "x"]));
    let refused = kvctl.run(&["increment", "word"]);
    assert_eq!(refused.code, CONDITION_FAILED, "{refused:?}");
}

#[test]
fn what_listings_print_can_not_be_misread() {
    let cluster = Cluster::start(1);
    let kvctl = kvctl(&cluster);
    let watch = kvctl.start(&["watch", "--prefix", "", "--from-revision", "1"]);
    ok(kvctl.run_with_input(&["set", "a\tb"], b"line\nwith \\ and \xff"));
    assert_eq!(
        ok(kvctl.run(&["get", "--prefix", ""])),
        "a\\tb\tline\\nwith \\\\ and \\xff\n"
    );
    assert_eq!(
        watch.line(raftkv_tests::harness::Deadline::seconds(60)),
        "put\t2\ta\\tb\tline\\nwith \\\\ and \\xff"
    );
    let raw = ok(kvctl.run(&["get", "a\tb"]));
    assert!(
        raw.starts_with("line\nwith \\ and ") && raw.ends_with('\n'),
        "{raw}"
    );
    ok(kvctl.run(&["set", "a\tb", "v"]));
    let table =
        "KEY   CREATED  MODIFIED  VERSION  LEASE  VALUE\na\\tb  2        3         2        -      v\n";
    for line in [
        ["--output", "table", "get", "--prefix", ""],
        ["get", "--prefix", "", "--output", "table"],
    ] {
        assert_eq!(ok(kvctl.run(&line)), table);
    }
    let empty = ok(kvctl.run(&["get", "--prefix", "none/", "--output", "table"]));
    assert_eq!(empty, "KEY  CREATED  MODIFIED  VERSION  LEASE  VALUE\n");
}

#[test]
fn a_table_has_no_header_when_no_server_can_be_reached() {
    // Nobody listens on port 1.
    let kvctl = Kvctl::new(&[1]);
    let failed = kvctl.run(&["get", "--prefix", "", "--output", "table", "--timeout", "200ms"]);
    assert_eq!(
        (failed.code, failed.stdout.as_str()),
        (UNAVAILABLE, ""),
        "{failed:?}"
    );
}

#[test]
fn what_was_exported_is_imported_as_it_was() {
    let (from, to) = (Cluster::start(1), Cluster::start(3));
    let (source, target) = (kvctl(&from), kvctl(&to));
    ok(source.run(&["set", "a/text", "two\nlines"]));
    ok(source.run_with_input(&["set", "a/bytes"], b"\xff\0"));
    ok(source.run(&["set", "b", "not wanted"]));
    for number in 0..1_200 {
        let reply = from.node(0).http().set(&format!("a/{number:04}"), "v");
        assert_eq!(reply.expect("an answer").status, 200);
    }
    let lease = ok(source.run(&["lease", "grant", "600s"])).trim().to_owned();
    ok(source.run(&["set", "a/leased", "v", "--lease", &lease]));
    let file = from.directory().join("keys.jsonl");
    let file = file.to_str().expect("a text");
    let exported = source.run(&["export", file, "--prefix", "a/"]);
    assert_eq!(
        (exported.code, exported.stdout.as_str()),
        (Some(0), ""),
        "{exported:?}"
    );
    assert!(exported.stderr.contains("1202 keys"), "{exported:?}");
    let streamed = ok(source.run(&["export", "--prefix", "a/"]));
    let written = std::fs::read_to_string(file).expect("written");
    assert_eq!(streamed, written);

    assert_eq!(ok(target.run(&["import", file])), "imported 1202 keys\n");
    assert_eq!(ok(target.run(&["export"])), written);
    ok(target.run(&["set", "a/0000", "changed"]));
    ok(target.run(&["delete", "a/0001"]));
    assert_eq!(
        ok(target.run_with_input(&["import", "--if-absent"], written.as_bytes())),
        "imported 1 keys, 1201 existed\n"
    );
    assert_eq!(ok(target.run(&["get", "a/0000"])), "changed\n");
    // A key that stands twice has the value of the last line.
    let lines = b"{\"key\":\"k\",\"value\":\"1\"}\n\n{\"key\":\"k\",\"value\":\"2\"}\n";
    assert_eq!(ok(target.run_with_input(&["import"], lines)), "imported 2 keys\n");
    assert_eq!(ok(target.run(&["get", "k"])), "2\n");
    let wrong = target.run_with_input(&["import"], b"{\"key\":\"k\",\"value\":\"3\"}\n{\"key\":\"l\"}\n");
    assert_eq!(wrong.code, USAGE, "{wrong:?}");
    assert!(
        wrong.stderr.contains("line 2") && wrong.stderr.contains("1 keys"),
        "{wrong:?}"
    );
    assert_eq!(ok(target.run(&["get", "k"])), "3\n");
}

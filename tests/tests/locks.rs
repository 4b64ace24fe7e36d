//! `kvctl lock`, `elect` and `lease` as scripts meet them: real processes that are paused, ended and raced.

use raftkv_tests::harness::{Cluster, Deadline, Kvctl, Printed, RunningKvctl, ok, wait_for};
use serde_json::Value;

const NOT_FOUND: Option<i32> = Some(1);
const USAGE: Option<i32> = Some(2);
const CONDITION_FAILED: Option<i32> = Some(4);
const OUTCOME_UNKNOWN: Option<i32> = Some(5);

fn kvctl(cluster: &Cluster) -> Kvctl {
    Kvctl::new(&cluster.native_ports())
}

/// For what takes less than a second on an idle machine.
fn soon() -> Deadline {
    Deadline::seconds(60)
}

/// Waits until this many hold the lock or wait for it.
#[track_caller]
fn wait_for_queue(kvctl: &Kvctl, name: &str, expected: &str) {
    let prefix = format!("{name}/");
    wait_for("the queue of the lock", soon(), || {
        let count = ok(kvctl.run(&["get", "--prefix", &prefix, "--count-only"]));
        match count.trim() == expected {
            true => Ok(()),
            false => Err(count),
        }
    });
}

/// Starts one that holds the lock until its standard output says so, and then until it is ended.
fn start_holder(kvctl: &Kvctl, name: &str, ttl: &str) -> RunningKvctl {
    let script = r#"echo "held $RAFTKV_LOCK_TOKEN $RAFTKV_LOCK_KEY"; exec sleep 600"#;
    kvctl.start(&["lock", name, "--ttl", ttl, "--", "sh", "-c", script])
}

#[test]
fn lock_passes_on_what_its_command_prints_and_its_exit_code_and_nothing_else() {
    let cluster = Cluster::start(3);
    let kvctl = kvctl(&cluster);
    let run = |script: &str| kvctl.run(&["lock", "l", "--", "sh", "-c", script]);
    let printed = run("echo out; echo err >&2; exit 7");
    assert_eq!(
        (printed.code, printed.stdout.as_str(), printed.stderr.as_str()),
        (Some(7), "out\n", "err\n")
    );
    assert_eq!(run("kill -TERM $$").code, Some(128 + 15));
    let token = |printed: Printed| -> u64 { ok(printed).trim().parse().expect("a revision") };
    let first = token(run("echo $RAFTKV_LOCK_TOKEN"));
    let second = token(run("echo $RAFTKV_LOCK_TOKEN"));
    assert!(first < second, "{first} {second}");
    let missing = kvctl.run(&["lock", "l", "--", "/no/such/command"]);
    assert_eq!(missing.code, USAGE, "{missing:?}");
    assert!(missing.stderr.contains("/no/such/command"), "{missing:?}");
    wait_for_queue(&kvctl, "l", "0");
}

#[test]
fn one_command_at_a_time_runs_under_a_lock_in_the_order_of_asking() {
    let mut cluster = Cluster::start(3);
    let kvctl = kvctl(&cluster);
    let holder = start_holder(&kvctl, "l", "10s");
    assert!(holder.line(soon()).starts_with("held "));
    let refused = kvctl.run(&["lock", "l", "--no-wait", "--", "true"]);
    assert_eq!(refused.code, CONDITION_FAILED, "{refused:?}");
    let impatient = kvctl.run(&["lock", "l", "--wait", "200ms", "--", "true"]);
    assert_eq!(impatient.code, CONDITION_FAILED, "{impatient:?}");
    assert_eq!(impatient.stdout, "");
    wait_for_queue(&kvctl, "l", "1");

    // Each reads the number, waits, and writes one more: a lost update would show.
    let script = r#"
        n=$("$KVCTL" get n); sleep 0.05
        "$KVCTL" set --guarded n $((n + 1)) >/dev/null || exit 9
        echo "$0 saw $n""#;
    assert_eq!(kvctl.run(&["set", "n", "0"]).code, Some(0));
    let waiting: Vec<RunningKvctl> = (0..4)
        .map(|number| {
            let name = number.to_string();
            let waiter = kvctl.start(&["lock", "l", "--", "sh", "-c", script, &name]);
            wait_for_queue(&kvctl, "l", &(number + 2).to_string());
            waiter
        })
        .collect();
    let leader = cluster.wait_for_leader(soon());
    cluster.node_mut(leader).kill9();
    holder.terminate();
    assert_eq!(holder.wait(soon()).code, Some(128 + 15), "its command was ended");
    for (number, waiter) in waiting.into_iter().enumerate() {
        let printed = waiter.wait(soon());
        assert_eq!(printed.stdout, format!("{number} saw {number}\n"), "{printed:?}");
        assert_eq!(printed.code, Some(0), "{printed:?}");
    }
}

#[test]
fn a_paused_holder_loses_the_lock_its_writes_are_refused_and_its_command_is_ended() {
    let cluster = Cluster::start(3);
    let kvctl = kvctl(&cluster);
    // The command outlives the pause of the process that holds the lock for it: it writes when it is told to.
    let script = r#"
        echo "held $RAFTKV_LOCK_TOKEN"
        until "$KVCTL" get go >/dev/null 2>&1; do sleep 0.02; done
        "$KVCTL" set --guarded work "of the first" >/dev/null; echo "set: $?"
        echo 'put work "of the first"' | "$KVCTL" txn --guarded >/dev/null; echo "txn: $?"
        exec sleep 600"#;
    let paused = kvctl.start(&["lock", "l", "--ttl", "1s", "--", "sh", "-c", script]);
    assert!(paused.line(soon()).starts_with("held "));
    paused.pause();
    let second = start_holder(&kvctl, "l", "10s");
    assert!(second.line(soon()).starts_with("held "));
    assert_eq!(kvctl.run(&["set", "work", "of the second"]).code, Some(0));
    assert_eq!(kvctl.run(&["set", "go", ""]).code, Some(0));
    assert_eq!(paused.line(soon()), "set: 4");
    assert_eq!(paused.line(soon()), "txn: 4");
    paused.resume();
    let printed = paused.wait(soon());
    assert_eq!(printed.code, OUTCOME_UNKNOWN, "{printed:?}");
    assert!(printed.stderr.contains("lock was lost"), "{printed:?}");
    assert_eq!(ok(kvctl.run(&["get", "work"])), "of the second\n");
}

#[test]
fn a_command_whose_lease_is_revoked_is_ended_and_waiters_leave_when_they_are_told_to_stop() {
    let cluster = Cluster::start(1);
    let kvctl = kvctl(&cluster);
    let holder = start_holder(&kvctl, "l", "600s");
    let line = holder.line(soon());
    let lease = line.rsplit('/').next().expect("the key ends in its lease");
    let waiter = kvctl.start(&["lock", "l", "--ttl", "600s", "--", "echo", "not to be"]);
    wait_for_queue(&kvctl, "l", "2");
    let stopped = waiter.interrupt(soon());
    assert_eq!(
        (stopped.code, stopped.stdout.as_str()),
        (Some(130), ""),
        "{stopped:?}"
    );
    wait_for_queue(&kvctl, "l", "1");
    assert_eq!(
        ok(kvctl.run(&["lease", "revoke", lease])),
        "revoked, 1 keys deleted\n"
    );
    assert_eq!(holder.wait(soon()).code, OUTCOME_UNKNOWN);
}

#[test]
fn elect_leads_until_it_is_interrupted_and_observers_see_each_leader() {
    let cluster = Cluster::start(3);
    let kvctl = kvctl(&cluster);
    let observer = kvctl.start(&["elect", "e"]);
    assert_eq!(observer.line(soon()), "none");
    let first = kvctl.start(&["elect", "e", "one\ttwo"]);
    let line = first.line(soon());
    assert!(
        line.starts_with("leader\t") && line.ends_with("\tone\\ttwo"),
        "{line}"
    );
    assert_eq!(observer.line(soon()), line);
    let second = kvctl.start(&["elect", "e", "second", "--output", "json"]);
    wait_for_queue(&kvctl, "e", "2");
    assert_eq!(first.interrupt(soon()).code, Some(0));
    let document: Value = serde_json::from_str(&second.line(soon())).expect("a document");
    assert_eq!(document["leader"]["value"], "second", "{document}");
    let token = document["leader"]["token"].to_string();
    assert_eq!(observer.line(soon()), format!("leader\t{token}\tsecond"));
    second.terminate();
    assert_eq!(second.wait(soon()).code, Some(0));
    assert_eq!(observer.line(soon()), "none");
    assert_eq!(observer.interrupt(soon()).code, Some(0));
}

#[test]
fn leases_are_granted_kept_alive_listed_and_revoked() {
    let cluster = Cluster::start(3);
    let kvctl = kvctl(&cluster);
    let lease = ok(kvctl.run(&["lease", "grant", "600s"])).trim().to_owned();
    ok(kvctl.run(&["set", "a\nb", "v", "--lease", &lease]));
    let taken = kvctl.run(&["set", "a\nb", "w", "--lease", &lease, "--if-absent"]);
    assert_eq!(taken.code, CONDITION_FAILED, "{taken:?}");
    assert_eq!(ok(kvctl.run(&["lease", "renew", &lease])), "renewed, ttl 600s\n");
    let got = ok(kvctl.run(&["lease", "get", &lease]));
    let lines: Vec<&str> = got.lines().collect();
    assert_eq!(lines.len(), 2, "{got}");
    assert!(
        lines[0].starts_with(&format!("{lease}\t600s\t")) && lines[0].ends_with("\t1"),
        "{got}"
    );
    assert_eq!(lines[1], "a\\nb");
    let list = ok(kvctl.run(&["lease", "list", "--output", "json"]));
    let list: Value = serde_json::from_str(&list).expect("a document");
    assert_eq!(list["leases"][0]["id"], lease.as_str(), "{list}");
    assert_eq!(list["leases"][0]["key_count"], 1, "{list}");
    let table = ok(kvctl.run(&["--output", "table", "lease", "list"]));
    assert!(table.starts_with("LEASE ") && table.contains(&lease), "{table}");

    let short = ok(kvctl.run(&["lease", "grant", "1s"])).trim().to_owned();
    let keeper = kvctl.start(&["lease", "keep-alive", &short]);
    assert_eq!(keeper.line(soon()), "renewed, ttl 1s");
    assert_eq!(
        ok(kvctl.run(&["lease", "revoke", &short])),
        "revoked, 0 keys deleted\n"
    );
    let ended = keeper.wait(soon());
    assert_eq!(ended.code, NOT_FOUND, "{ended:?}");
    let keeper = kvctl.start(&["lease", "keep-alive", &lease]);
    assert_eq!(keeper.line(soon()), "renewed, ttl 600s");
    assert_eq!(keeper.interrupt(soon()).code, Some(0));

    assert_eq!(
        ok(kvctl.run(&["lease", "revoke", &lease])),
        "revoked, 1 keys deleted\n"
    );
    for line in [["lease", "get"], ["lease", "renew"], ["lease", "revoke"]] {
        let gone = kvctl.run(&[line[0], line[1], &lease]);
        assert_eq!((gone.code, gone.stdout.as_str()), (NOT_FOUND, ""), "{gone:?}");
        assert!(!gone.stderr.is_empty(), "{gone:?}");
    }
}

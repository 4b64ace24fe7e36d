//! `kvctl` as its users see it: output, errors and exit codes.
#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as expected"
)]

mod fake_server;

use std::process::{Output, Stdio};

use bytes::Bytes;
use fake_server::{Act, FakeServer, member, put_at};
use raftkv_protocol::{
    Answer, Command, Condition, ErrorCode, Failure, Force, MemberCommand, NodeName, Record, Request,
    Revision, decode_command,
};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

async fn kvctl(endpoints: &str, line: &[&str], input: &[u8]) -> Output {
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_kvctl"))
        .env("KVCTL_ENDPOINTS", endpoints)
        .args(line)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that does not read its input may be gone before it is written.
    let _not_wanted = child.stdin.take().unwrap().write_all(input).await;
    child.wait_with_output().await.unwrap()
}

/// A store that holds the bytes `ff 00` under `known`, at revision 3.
async fn store() -> FakeServer {
    FakeServer::start(|request| {
        let outcome = match request.request.as_ref().unwrap() {
            Request::Get { key, .. } if &key[..] == b"known" => Ok(Answer::Found(Record {
                value: Bytes::from_static(b"\xff\0"),
                create_revision: Revision(2),
                mod_revision: Revision(3),
                version: 2,
                lease: None,
            })),
            Request::Get { .. } => Ok(Answer::NotFound),
            Request::Write(command) => write(&decode_command(command.encoded()).unwrap()),
            Request::Member(command) => change(command),
            _ => unreachable!("the fake server answers this itself, or it is not asked"),
        };
        vec![Act::Answer(request.id, outcome)]
    })
    .await
}

/// Refuses everything about node9, and nothing else.
fn change(command: &MemberCommand) -> Result<Answer, Failure> {
    let node9 = NodeName::from("node9");
    match command {
        MemberCommand::Add { name, .. }
        | MemberCommand::Promote { name, .. }
        | MemberCommand::Remove { name, .. }
        | MemberCommand::Replace { name, .. }
            if *name == node9 =>
        {
            Err(Failure::new(ErrorCode::MembershipRefused, "no node9 here"))
        }
        MemberCommand::TransferLeader { to: Some(name) } if *name == node9 => {
            Err(Failure::new(ErrorCode::OutcomeUnknown, "lost"))
        }
        _ => {
            let mut learner = member("node4", &"127.0.0.1:7004".into());
            learner.voter = matches!(
                command,
                MemberCommand::Promote {
                    force: Force::Yes,
                    ..
                }
            );
            Ok(Answer::Members(vec![learner]))
        }
    }
}

fn write(command: &Command<'_>) -> Result<Answer, Failure> {
    match command {
        Command::Put {
            key: b"unavailable", ..
        } => Err(Failure::new(ErrorCode::NoSpace, "the disk is full")),
        Command::Put { key: b"lost", .. } => {
            Err(Failure::new(ErrorCode::OutcomeUnknown, "the leader stepped down"))
        }
        Command::Put {
            key: b"known",
            condition: Condition::Absent,
            ..
        } => Ok(Answer::ConditionFailed {
            current: Some(Revision(3)),
        }),
        Command::Put { value: b"\xfe\n", .. } => put_at(7),
        Command::Put { .. } => put_at(4),
        Command::Delete { key, .. } => Ok(Answer::Deleted {
            existed: *key == b"known",
            revision: Revision(5),
        }),
        _ => panic!("that is not asked here"),
    }
}

#[tokio::test]
async fn answers_exit_codes_and_errors_are_those_of_the_help() {
    let store = store().await;
    let cases: [(&[&str], &[u8], i32, &str); 12] = [
        (&["get", "known"], b"\xff\0\n", 0, ""),
        (&["get", "missing"], b"", 1, "does not exist"),
        (&["set", "k", "v"], b"revision 4\n", 0, ""),
        (&["set", "k", "-5"], b"revision 4\n", 0, ""),
        (&["set", "known", "v", "--if-absent"], b"", 4, "revision 3"),
        (&["set", "known", "v", "--if-revision", "0"], b"", 4, "revision 3"),
        (&["set", "unavailable", "v"], b"", 3, "the disk is full"),
        (&["set", "lost", "v"], b"", 5, "unknown"),
        (&["set", "", "v"], b"", 2, "the key is empty"),
        (&["delete", "known"], b"deleted, revision 5\n", 0, ""),
        (&["delete", "missing"], b"", 1, "nothing was deleted"),
        (&["get", "known", "--endpoints", "nonsense"], b"", 2, "host:port"),
    ];
    for (line, stdout, code, stderr) in cases {
        let output = kvctl(&store.address().to_string(), line, b"").await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            (&output.stdout[..], output.status.code()),
            (stdout, Some(code)),
            "{line:?}: {said}"
        );
        assert!(
            said.contains(stderr) && said.lines().count() <= 1,
            "{line:?}: {said}"
        );
    }
}

#[tokio::test]
async fn values_come_from_standard_input_byte_for_byte() {
    let store = store().await;
    for line in [&["set", "k", "-"][..], &["set", "k"]] {
        let output = kvctl(&store.address().to_string(), line, b"\xfe\n").await;
        assert_eq!(output.stdout, b"revision 7\n", "{line:?}");
    }
}

#[tokio::test]
async fn json_answers_are_one_document_each() {
    let store = store().await;
    let output = kvctl(
        &store.address().to_string(),
        &["--output", "json", "get", "known"],
        b"",
    )
    .await;
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = json!({"kvs": [
        {"key": "known", "value_base64": "/wA=", "create_revision": 2, "mod_revision": 3, "version": 2}
    ]});
    assert_eq!(document, expected);
    let output = kvctl(
        &store.address().to_string(),
        &["get", "missing", "--output", "json"],
        b"",
    )
    .await;
    assert_eq!(
        (&output.stdout[..], output.status.code()),
        (&b"{\"kvs\":[]}\n"[..], Some(1))
    );
    assert_eq!(output.stderr, b"");
}

#[tokio::test]
async fn status_tells_the_leader_and_who_can_not_be_reached() {
    let (leader, gone) = (store().await, store().await);
    let dead = gone.address().clone();
    drop(gone);
    leader.set_status(|status| {
        status.name = NodeName::from("node1");
        status.role = raftkv_protocol::RoleName::Leader;
        status.leader = Some(NodeName::from("node1"));
        status.members = vec![member("node1", leader.address()), member("node2", &dead)];
    });
    let output = kvctl(&leader.address().to_string(), &["status"], b"").await;
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(
        lines[0].starts_with("node1") && lines[0].contains("leader") && lines[0].ends_with("ready"),
        "{text}"
    );
    assert!(
        lines[1].starts_with("node2") && lines[1].contains("unreachable"),
        "{text}"
    );
    assert_eq!(output.status.code(), Some(0));

    let output = kvctl(
        &leader.address().to_string(),
        &["status", "--output", "json"],
        b"",
    )
    .await;
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["members"][0]["role"], "leader");
    assert_eq!(document["members"][0]["members"][1]["id"], "node2");
    assert_eq!(document["members"][1]["reachable"], false);
}

#[tokio::test]
async fn members_are_printed_after_each_change_and_refusals_have_their_exit_code() {
    let store = store().await;
    let learner = "node4  learner  127.0.0.1:7004  -\n";
    let voter = "node4  voter  127.0.0.1:7004  -\n";
    let cases: [(&[&str], &str, i32, &str); 12] = [
        (&["member", "add", "node4"], learner, 0, ""),
        (
            &[
                "member",
                "add",
                "node4",
                "--learner",
                "--address",
                "127.0.0.1:7004",
            ],
            learner,
            0,
            "",
        ),
        (&["member", "promote", "node4"], learner, 0, ""),
        (&["member", "promote", "node4", "--force"], voter, 0, ""),
        (&["member", "remove", "node3", "--force"], learner, 0, ""),
        (&["member", "replace", "node3"], learner, 0, ""),
        (&["member", "transfer-leader"], learner, 0, ""),
        (&["member", "transfer-leader", "node4"], learner, 0, ""),
        (&["member", "remove", "node9"], "", 4, "no node9 here"),
        (&["member", "transfer-leader", "node9"], "", 5, "unknown"),
        (&["member", "add"], "", 2, "NAME"),
        (&["member", "add", "node4", "--force"], "", 2, "--force"),
    ];
    for (line, stdout, code, stderr) in cases {
        let output = kvctl(&store.address().to_string(), line, b"").await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            (&*String::from_utf8_lossy(&output.stdout), output.status.code()),
            (stdout, Some(code)),
            "{line:?}: {said}"
        );
        assert!(said.contains(stderr), "{line:?}: {said}");
    }
}

#[tokio::test]
async fn members_are_listed_as_text_and_as_one_document() {
    let store = store().await;
    store.set_status(|status| status.members = vec![member("node1", &"127.0.0.1:7001".into())]);
    let endpoint = store.address().to_string();
    let output = kvctl(&endpoint, &["member", "list"], b"").await;
    assert_eq!(
        (&output.stdout[..], output.status.code()),
        (&b"node1  voter  127.0.0.1:7001  -\n"[..], Some(0))
    );
    let output = kvctl(&endpoint, &["member", "list", "--output", "json"], b"").await;
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = json!({"members": [
        {"id": "node1", "address": "127.0.0.1:7001", "http": null, "voter": true}
    ]});
    assert_eq!(document, expected);
}

#[tokio::test]
async fn nobody_there_is_said_at_once() {
    let gone = store().await;
    let dead = gone.address().to_string();
    drop(gone);
    for line in [&["get", "k"][..], &["set", "k", "v"], &["status"]] {
        let output = kvctl(&dead, line, b"").await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{line:?}: {said}");
        assert!(said.contains("check --endpoints"), "{line:?}: {said}");
    }
}

#[tokio::test]
async fn completions_are_printed_for_a_shell() {
    let output = kvctl("127.0.0.1:1", &["completions", "bash"], b"").await;
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8(output.stdout).unwrap().contains("_kvctl"));
}

#[tokio::test]
async fn certificates_are_made_kept_and_renewed() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("certificates");
    let directory = directory.to_str().unwrap();
    let certificate = async |line: &[&str]| {
        let line = [&["certificate"], line, &["--directory", directory]].concat();
        let output = kvctl("127.0.0.1:1", &line, b"").await;
        let said = String::from_utf8(output.stderr).unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            said,
        )
    };
    let read = |name: &str| std::fs::read_to_string(format!("{directory}/{name}")).unwrap();
    let node = ["node", "node1", "--host", "127.0.0.1,node1.example"];
    let (code, flags, said) = certificate(&node).await;
    assert_eq!(code, Some(0), "{said}");
    let expected = format!(
        "--tls-ca {directory}/ca.pem --tls-cert {directory}/node1.pem --tls-key {directory}/node1.key\n"
    );
    assert_eq!(flags, expected);
    let (authority, first) = (read("ca.pem"), read("node1.pem"));
    #[cfg(unix)]
    for (name, mode) in [("ca.key", 0o600), ("node1.key", 0o600), ("node1.pem", 0o644)] {
        use std::os::unix::fs::PermissionsExt;
        let metadata = std::fs::metadata(format!("{directory}/{name}")).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, mode, "{name}");
    }

    let (code, _, said) = certificate(&node).await;
    assert_eq!(code, Some(2));
    assert!(said.contains("--renew"), "{said}");
    assert_eq!(read("node1.pem"), first);
    let (code, _, said) = certificate(&[&node[..], &["--renew"]].concat()).await;
    assert_eq!(code, Some(0), "{said}");
    assert_ne!(read("node1.pem"), first);
    assert_eq!(read("ca.pem"), authority);

    let none = read("ca.crl");
    assert_eq!(certificate(&["client", "carol"]).await.0, Some(0));
    let (code, flags, said) = certificate(&["revoke", "carol"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(flags, format!("--tls-crl {directory}/ca.crl\n"));
    assert_ne!(read("ca.crl"), none);
    for (name, expected) in [
        ("nobody", "cannot read"),
        ("../carol", "not usable as the name"),
        ("ca", "not usable as the name"),
    ] {
        let (code, _, said) = certificate(&["revoke", name]).await;
        assert_eq!(code, Some(2), "{name}: {said}");
        assert!(said.contains(expected), "{name}: {said}");
    }

    for (line, expected) in [
        (&["client", "ca"][..], "not usable as the name"),
        (&["client", "../alice"], "not usable as the name"),
        (&["node", "node2"], "--host"),
        (&["node", "node2", "--host", "a b"], "no host name or IP address"),
        (&["client", "alice", "--days", "0"], "0 is not in"),
    ] {
        let (code, _, said) = certificate(line).await;
        assert_eq!(code, Some(2), "{line:?}: {said}");
        assert!(said.contains(expected), "{line:?}: {said}");
    }
    let (foreign, _) = (tempfile::tempdir().unwrap(), ());
    let line = [
        "certificate",
        "client",
        "bob",
        "--directory",
        foreign.path().to_str().unwrap(),
    ];
    assert_eq!(kvctl("127.0.0.1:1", &line, b"").await.status.code(), Some(0));
    std::fs::copy(foreign.path().join("ca.pem"), format!("{directory}/ca.pem")).unwrap();
    let (code, _, said) = certificate(&["client", "alice"]).await;
    assert_eq!(code, Some(2));
    assert!(said.contains("do not belong together"), "{said}");
    std::fs::remove_file(format!("{directory}/ca.key")).unwrap();
    let (code, _, said) = certificate(&["client", "alice"]).await;
    assert_eq!(code, Some(2));
    assert!(said.contains("ca.key is missing"), "{said}");
}

#[tokio::test]
async fn certificate_files_that_can_not_be_used_are_named_before_anything_is_sent() {
    for (line, code, expected) in [
        (
            &["get", "k", "--tls-ca", "/no/such/ca.pem"][..],
            2,
            "cannot read /no/such/ca.pem",
        ),
        (&["get", "k", "--tls-cert", "c.pem"], 2, "--tls-ca"),
        (
            &["get", "k", "--tls-ca", "ca.pem", "--tls-key", "k.key"],
            2,
            "--tls-cert",
        ),
    ] {
        let output = kvctl("127.0.0.1:1", line, b"").await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{line:?}: {said}");
        assert!(said.contains(expected), "{line:?}: {said}");
    }
}

//! `kvbench` against a store in memory: what it reports, and that it finds what was lost.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as expected"
)]

mod fake_server;

use std::collections::BTreeMap;
use std::process::Output;

use bytes::Bytes;
use fake_server::{Act, FakeServer, member};
use raftkv_protocol::{
    Answer, ClientRequest, Command, Condition, Failure, NodeName, Record, Request, Revision, decode_command,
};
use serde_json::Value;

/// A store that loses every `loses`-th write that it acknowledges.
struct Store {
    kvs: BTreeMap<Bytes, Record>,
    revision: u64,
    loses: Option<u64>,
}

impl Store {
    async fn serve(loses: Option<u64>) -> FakeServer {
        let mut store = Store {
            kvs: BTreeMap::new(),
            revision: 1,
            loses,
        };
        let server =
            FakeServer::start(move |request| vec![Act::Answer(request.id, store.execute(request))]).await;
        server.set_status(|status| {
            status.leader = Some(NodeName::from("node1"));
            status.members = vec![member("node1", server.address())];
        });
        server
    }

    fn execute(&mut self, request: &ClientRequest) -> Result<Answer, Failure> {
        match request.request.clone()? {
            Request::Get { key, .. } => Ok(self
                .kvs
                .get(&key)
                .cloned()
                .map_or(Answer::NotFound, Answer::Found)),
            Request::Write(command) => match decode_command(command.encoded()).unwrap() {
                Command::Put {
                    key,
                    value,
                    condition,
                    ..
                } => Ok(self.put_if(key, value, condition)),
                other => panic!("kvbench does not send {other:?}"),
            },
            _ => unreachable!("the fake server answers this itself, or it is not asked"),
        }
    }

    fn put_if(&mut self, key: &[u8], value: &[u8], condition: Condition) -> Answer {
        let current = self.kvs.get(key).map(|record| record.mod_revision);
        let holds = match condition {
            Condition::Always => true,
            Condition::Absent => current.is_none(),
            Condition::ModRevision(revision) => current == Some(revision),
        };
        match holds {
            true => self.put(key, value),
            false => Answer::ConditionFailed { current },
        }
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Answer {
        self.revision += 1;
        let revision = Revision(self.revision);
        if self
            .loses
            .is_none_or(|every| !self.revision.is_multiple_of(every))
        {
            let value = Bytes::copy_from_slice(value);
            let record = Record {
                value,
                create_revision: revision,
                mod_revision: revision,
                version: 1,
                lease: None,
            };
            self.kvs.insert(Bytes::copy_from_slice(key), record);
        }
        Answer::Put { revision }
    }
}

async fn kvbench(server: &FakeServer, line: &str) -> Output {
    tokio::process::Command::new(env!("CARGO_BIN_EXE_kvbench"))
        .args(line.split(' '))
        .args(["--endpoints", &server.address().to_string()])
        .output()
        .await
        .unwrap()
}

#[tokio::test]
async fn every_workload_runs_reports_and_reads_back_what_it_wrote() {
    let server = Store::serve(None).await;
    let pid = std::process::id();
    for workload in [
        "put",
        "get",
        "mixed --read-ratio 0.5",
        "cas --distribution zipfian",
        "put --distribution zipfian --rate 2000",
    ] {
        let line = format!(
            "{workload} --clients 32 --connections 4 --keys 200 --operations 500 --warmup 50ms --verify --output json \
             --server-pids {pid}"
        );
        let output = kvbench(&server, &line).await;
        assert!(
            output.status.success(),
            "{line}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["operations"], 500, "{report}");
        assert_eq!(report["latency_us"]["all"]["count"], 500, "{report}");
        assert_eq!(report["verified"]["wrong"], 0, "{report}");
        assert_eq!(report["errors"], serde_json::json!({}), "{report}");
        assert_eq!(report["misses"], 0, "{report}");
        assert!(report["server_cpu_us_per_operation"].is_f64(), "{report}");
    }
}

#[tokio::test]
async fn a_store_that_loses_acknowledged_writes_is_found_out() {
    let server = Store::serve(Some(5)).await;
    let output = kvbench(&server, "put --keys 100 --operations 400 --warmup 0s --verify").await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("acknowledged"), "{text}");
}

#[tokio::test]
async fn values_that_the_server_does_not_take_end_the_run_with_a_reason() {
    let server = Store::serve(None).await;
    let output = kvbench(&server, "put --value-bytes 9000000 --duration 1s").await;
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("too_large"));
}

#[tokio::test]
async fn the_json_document_states_settings_versions_machine_and_how_it_went_over_time() {
    let server = Store::serve(None).await;
    let line = "mixed --clients 8 --keys 50 --duration 500ms --warmup 0s --output json";
    let output = kvbench(&server, line).await;
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    for (field, expected) in [
        ("/settings/workload", "mixed"),
        ("/settings/target", "native"),
        ("/settings/consistency", "linearizable"),
        ("/settings/distribution", "uniform"),
        ("/versions/kvbench", env!("CARGO_PKG_VERSION")),
        ("/versions/server", "0.1.0"),
    ] {
        assert_eq!(
            report.pointer(field).and_then(Value::as_str),
            Some(expected),
            "{report}"
        );
    }
    assert!(
        report.pointer("/machine/cores").is_some_and(Value::is_u64),
        "{report}"
    );
    let series = report["series"].as_array().unwrap();
    assert_eq!(series.len(), 10, "{report}");
    assert!(
        series.iter().any(|point| point["p99_us"].as_f64() > Some(0.0)),
        "{report}"
    );
}

#[tokio::test]
async fn the_html_report_is_one_file_with_plots_and_settings() {
    let server = Store::serve(None).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report.html");
    let line = format!(
        "mixed --read-ratio 0.5 --clients 8 --keys 50 --duration 500ms --warmup 0s --report {}",
        path.display()
    );
    let output = kvbench(&server, &line).await;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let page = std::fs::read_to_string(path).unwrap();
    assert_eq!(page.matches("<svg").count(), 3);
    for text in [
        "Throughput over time",
        "Latency over time",
        "Latency by percentile",
        "mixed, 50 % reads, linearizable",
        "8 clients over 8 connections",
        "native 0.1.0",
        "cores",
        "prefers-color-scheme:dark",
    ] {
        assert!(page.contains(text), "{text}");
    }
    // The namespace is a name, and is not fetched.
    let page = page.replace("http://www.w3.org/2000/svg", "");
    for from_elsewhere in ["http://", "https://", "<script", "<link", "@import"] {
        assert!(!page.contains(from_elsewhere), "{from_elsewhere}");
    }
}

#[tokio::test]
async fn a_report_that_can_not_be_written_is_an_error() {
    let server = Store::serve(None).await;
    let line = "put --keys 10 --operations 10 --warmup 0s --report /no/such/directory/report.html";
    let output = kvbench(&server, line).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/no/such/directory"));
}

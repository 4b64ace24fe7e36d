//! The text as monitoring reads it, and the names that are promised.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use raftkv_protocol::{ClusterId, ErrorCode, Member, NodeId, NodeName, Revision, RoleName, Status};
use raftkv_raft::Index;

use super::*;
use crate::replica::{
    DiskFigures, FollowerFigures, FormedFigures, Hop, LogFigures, NodeFigures, OverlayFigures,
};

/// The page that lists all names.
const PAGE: &str = include_str!("../../METRICS.md");

fn index(index: u64) -> Index {
    Index::new(index).expect("not 0")
}

fn follower(name: &str, matched: Option<Index>, silence: Option<Duration>) -> FollowerFigures {
    FollowerFigures {
        name: NodeName::from(name),
        matched,
        silence,
        needs_snapshot: matched.is_none(),
    }
}

/// A leader that has something of everything to tell.
fn leader() -> Figures {
    let member = |number: u64, voter| Member {
        name: NodeName::from(format!("node{number}").as_str()),
        identity: NodeId(number),
        address: "127.0.0.1:7001".into(),
        http: None,
        voter,
    };
    let status = Status {
        name: NodeName::from("node1"),
        role: RoleName::Leader,
        leader: Some(NodeName::from("node1")),
        term: 7,
        commit_index: 40,
        applied_index: 39,
        revision: Revision(30),
        cluster: Some(ClusterId(0xc1)),
        version: "0.1.0".to_owned(),
        members: vec![member(1, true), member(2, true), member(3, false)],
        ready: true,
        not_ready_because: None,
    };
    let formed = FormedFigures {
        is_quarantined: false,
        log: LogFigures {
            first: index(11),
            last: index(42),
            durable: index(41),
        },
        leader_contact: Some(Duration::ZERO),
        followers: vec![
            follower("node2", Some(index(40)), Some(Duration::from_millis(20))),
            follower("a \"b\"", None, None),
        ],
        slowed_writes: 4,
        oldest_revision: Revision(3),
        overlay: OverlayFigures {
            bytes: 1000,
            limit_bytes: 2000,
            undrained: 1,
        },
        leases: 5,
        sessions: 6,
        disk: DiskFigures {
            free_bytes: Some(1 << 40),
            reserve_bytes: 1 << 20,
            is_low: false,
        },
    };
    let mut requests = Requests::default();
    let write = Asking {
        kind: RequestKind::Write,
        hop: Hop::First,
    };
    requests.record(write, None, Duration::from_micros(300));
    requests.record(write, Some(ErrorCode::NoLeader), Duration::from_millis(1500));
    let mut work = WorkFigures::default();
    work.log_writes.record(Duration::from_micros(80));
    Figures {
        node: NodeFigures {
            status,
            waiting_requests: 8,
            formed: Some(formed),
        },
        store: StoreFigures {
            base_bytes: 9,
            waiting_tables: 2,
            history_bytes: 10,
            history_events: 11,
        },
        requests,
        waiting_bytes: 12,
        work,
        events: EventCounts {
            leader_changes: 13,
            ..EventCounts::default()
        },
        native_clients: 14,
        watches: 15,
    }
}

fn http() -> HttpFigures {
    HttpFigures {
        certificate_expires: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)),
        connections: 16,
        answers: vec![(200, 17), (404, 18)],
    }
}

/// The names that stand in the text, each of which has its help and its type.
fn names(text: &str) -> BTreeSet<String> {
    let of = |what: &str| -> BTreeSet<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(what));
        lines
            .filter_map(|line| line.split(' ').next())
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(of("# HELP "), of("# TYPE "));
    of("# HELP ")
}

#[test]
fn a_leader_tells_what_it_is() {
    let text = text(leader(), http());
    let lines: BTreeSet<&str> = text.lines().collect();
    for line in [
        "raftkv_info{id=\"node1\",version=\"0.1.0\",cluster_id=\"00000000000000c1\"} 1",
        "# TYPE raftkv_term gauge",
        "raftkv_term 7",
        "raftkv_is_leader 1",
        "raftkv_is_voter 1",
        "raftkv_voters 2",
        "raftkv_learners 1",
        "raftkv_log_first_index 11",
        "raftkv_log_durable_index 41",
        "raftkv_leader_contact_seconds 0.0",
        "raftkv_follower_match_index{member=\"node2\"} 40",
        "raftkv_follower_match_index{member=\"a \\\"b\\\"\"} 0",
        "raftkv_follower_contact_seconds{member=\"node2\"} 0.02",
        "raftkv_follower_needs_snapshot{member=\"a \\\"b\\\"\"} 1",
        "# TYPE raftkv_leader_changes_total counter",
        "raftkv_leader_changes_total 13",
        "raftkv_requests_total{kind=\"write\",from=\"client\",code=\"ok\"} 1",
        "raftkv_requests_total{kind=\"write\",from=\"client\",code=\"no_leader\"} 1",
        "# TYPE raftkv_request_duration_seconds histogram",
        "raftkv_request_duration_seconds_bucket{kind=\"write\",from=\"client\",le=\"0.0002\"} 0",
        "raftkv_request_duration_seconds_bucket{kind=\"write\",from=\"client\",le=\"0.0005\"} 1",
        "raftkv_request_duration_seconds_bucket{kind=\"write\",from=\"client\",le=\"+Inf\"} 2",
        "raftkv_request_duration_seconds_sum{kind=\"write\",from=\"client\"} 1.5003",
        "raftkv_request_duration_seconds_count{kind=\"write\",from=\"client\"} 2",
        "raftkv_log_write_duration_seconds_bucket{le=\"0.0001\"} 1",
        "raftkv_log_write_duration_seconds_count 1",
        "raftkv_drain_duration_seconds_count 0",
        "raftkv_connections{protocol=\"native\"} 14",
        "raftkv_connections{protocol=\"http\"} 16",
        "raftkv_http_responses_total{status=\"404\"} 18",
        "raftkv_disk_free_bytes 1099511627776",
        "raftkv_writes_slowed 4",
        "raftkv_base_waiting_tables 2",
    ] {
        assert!(lines.contains(line), "{line}\nis not in\n{text}");
    }
}

#[test]
fn every_name_stands_on_the_page_and_no_other() {
    let text = text(leader(), http());
    let table = PAGE.split("## All of it").nth(1).expect("the table");
    let first_cells = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let on_page: BTreeSet<String> = first_cells
        .flat_map(|cell| cell.split(", "))
        .map(|name| name.trim_matches('`').to_owned())
        .collect();
    assert_eq!(on_page, names(&text));
}

#[test]
fn what_the_alerts_name_is_told() {
    let text = text(leader(), http());
    let names = names(&text);
    let alerts = PAGE
        .split("## What to be woken for")
        .nth(1)
        .and_then(|rest| rest.split("## All of it").next());
    let words = alerts
        .expect("the alerts")
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let named: BTreeSet<&str> = words
        .filter(|word| word.starts_with("raftkv_") || word.starts_with("process_"))
        .map(|word| word.strip_suffix("_bucket").unwrap_or(word))
        .collect();
    assert!(named.len() > 10, "{named:?}");
    let unknown: Vec<_> = named.iter().filter(|name| !names.contains(**name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn a_node_of_no_cluster_tells_what_it_knows() {
    let mut figures = leader();
    figures.node.formed = None;
    figures.node.status.cluster = None;
    figures.node.status.ready = false;
    let text = text(figures, http());
    assert!(text.contains("cluster_id=\"\""), "{text}");
    assert!(text.contains("\nraftkv_ready 0\n"));
    assert!(!text.contains("raftkv_log_last_index"));
}

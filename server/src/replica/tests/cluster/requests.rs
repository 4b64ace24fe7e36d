//! Settings of nodes, and what they are asked.

use std::time::Duration;

use bytes::Bytes;
use raftkv_protocol::{
    Address, Answer, CheckedCommand, Command, Condition, Consistency, ErrorCode, Introduction, Limits,
    NodeId, NodeName, Record, Request, Response,
};
use raftkv_raft as raft;

use crate::replica::{NodeConfig, RetentionConfig, ScrubConfig};
use crate::store::StoreConfig;

pub(in crate::replica::tests) fn name(number: usize) -> NodeName {
    NodeName::from(format!("node{number}").as_str())
}

pub(in crate::replica::tests) fn address(number: usize) -> Address {
    Address::from(format!("127.0.0.1:700{number}").as_str())
}

/// Settings of node `number` that is told to form a cluster with `listed`.
pub(in crate::replica::tests) fn config(number: usize, listed: &[usize]) -> NodeConfig {
    NodeConfig {
        introduction: Introduction {
            name: name(number),
            identity: NodeId(100 + number as u64),
            address: address(number),
            http: None,
            peers: listed
                .iter()
                .map(|number| (name(*number), address(*number)))
                .collect(),
            heard: Vec::new(),
            formed: None,
        },
        join: None,
        raft: raft::Config::default(),
        limits: Limits::default(),
        max_pending_requests: 100,
        leader_wait: Duration::from_secs(1),
        store: StoreConfig::default(),
        retention: RetentionConfig::default(),
        scrub: ScrubConfig {
            interval: None,
            ..ScrubConfig::default()
        },
        version: "test".to_owned(),
    }
}

pub(in crate::replica::tests) fn put(key: &str, value: &str) -> Request {
    put_with_ttl(key, value, None)
}

pub(in crate::replica::tests) fn put_with_ttl(key: &str, value: &str, ttl_ms: Option<u64>) -> Request {
    let command = Command::Put {
        key: key.as_bytes(),
        value: value.as_bytes(),
        condition: Condition::Always,
        ttl_ms,
    };
    Request::Write(CheckedCommand::new(&command, &Limits::default()).unwrap())
}

pub(in crate::replica::tests) fn put_if(key: &str, value: &str, condition: Condition) -> Request {
    let command = Command::Put {
        key: key.as_bytes(),
        value: value.as_bytes(),
        condition,
        ttl_ms: None,
    };
    Request::Write(CheckedCommand::new(&command, &Limits::default()).unwrap())
}

pub(in crate::replica::tests) fn delete(key: &str) -> Request {
    let command = Command::Delete {
        key: key.as_bytes(),
        condition: Condition::Always,
    };
    Request::Write(CheckedCommand::new(&command, &Limits::default()).unwrap())
}

pub(in crate::replica::tests) fn get(key: &str, consistency: Consistency) -> Request {
    let key = Bytes::copy_from_slice(key.as_bytes());
    Request::Get { key, consistency }
}

pub(in crate::replica::tests) fn code(response: &Response) -> Option<ErrorCode> {
    response.outcome.as_ref().err().map(|failure| failure.code)
}

pub(in crate::replica::tests) fn found(response: &Response) -> Option<&Record> {
    match &response.outcome {
        Ok(Answer::Found(record)) => Some(record),
        Ok(Answer::Read { record, .. }) => record.as_ref(),
        Ok(Answer::NotFound) => None,
        other => panic!("expected a read's answer, got {other:?}"),
    }
}

//! The ways into a node, and what their answers mean for a history.

use std::io;

use bytes::Bytes;
use raftkv_protocol::{Condition, Revision};

use crate::harness::{HttpClient, Reply};
use crate::linearizability::{Action, Outcome};

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With an answer.
    Answered(Outcome),
    /// With the promise that it had no effect and never will have.
    Failed,
    /// Nobody knows.
    Unknown,
}

/// A way into one node.
pub trait Door: Send + 'static {
    /// Asks, and waits for the end.
    fn execute(&mut self, key: &Bytes, action: &Action) -> Ended;
}

/// The HTTP API of one node.
#[derive(Clone, Debug)]
pub struct HttpDoor(pub HttpClient);

impl Door for HttpDoor {
    fn execute(&mut self, key: &Bytes, action: &Action) -> Ended {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let reply = match action {
            Action::Get => self.0.get(key),
            Action::Put { value, condition } => match condition {
                Condition::Always => self.0.set(&text(key), &text(value)),
                Condition::Absent => self.0.set_if(&text(key), &text(value), 0),
                Condition::ModRevision(revision) => self.0.set_if(&text(key), &text(value), revision.0),
            },
            Action::Delete { .. } => self.0.delete(key),
        };
        match reply {
            Ok(reply) => ended(action, &reply),
            Err(ureq::Error::Io(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Ended::Failed,
            Err(_) => Ended::Unknown,
        }
    }
}

/// What a reply promises, by its status.
///
/// # Panics
/// When the server breaks its contract: an answer without its fields, or a status that no call has.
fn ended(action: &Action, reply: &Reply) -> Ended {
    let revision = || {
        let number = reply
            .revision()
            .unwrap_or_else(|| panic!("an answer without a revision: {reply:?}"));
        Revision(number)
    };
    let outcome = match (action, reply.status) {
        (Action::Get, 200) => Outcome::Found {
            value: Bytes::from(
                reply.body["value"]
                    .as_str()
                    .expect("a value is a text")
                    .to_owned(),
            ),
            mod_revision: revision(),
        },
        (Action::Get, 404) => Outcome::NotFound,
        (Action::Put { .. }, 200) => Outcome::Put { revision: revision() },
        (Action::Delete { .. }, 200) => Outcome::Deleted {
            existed: reply.body["deleted"].as_bool().expect("deleted is true or false"),
            revision: revision(),
        },
        (Action::Put { .. } | Action::Delete { .. }, 409) => Outcome::ConditionFailed {
            current: Some(revision()).filter(|revision| revision.0 > 0),
        },
        (_, 429 | 503) => return Ended::Failed,
        (_, 504) => return Ended::Unknown,
        (_, status) => panic!("{action:?} was answered {status} {}", reply.body),
    };
    Ended::Answered(outcome)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn reply(status: u16, body: Value) -> Reply {
        Reply {
            status,
            body,
            node_identity: None,
            basis: None,
        }
    }

    fn put() -> Action {
        Action::Put {
            value: Bytes::from("v"),
            condition: Condition::Always,
        }
    }

    #[test]
    fn answers_become_outcomes() {
        let found = Outcome::Found {
            value: Bytes::from("v"),
            mod_revision: Revision(3),
        };
        let answered = |outcome| Ended::Answered(outcome);
        assert_eq!(
            ended(&Action::Get, &reply(200, json!({"value": "v", "revision": 3}))),
            answered(found)
        );
        assert_eq!(
            ended(&Action::Get, &reply(404, json!({}))),
            answered(Outcome::NotFound)
        );
        let set = Outcome::Put {
            revision: Revision(4),
        };
        assert_eq!(ended(&put(), &reply(200, json!({"revision": 4}))), answered(set));
        for (revision, current) in [(0, None), (7, Some(Revision(7)))] {
            let refused = ended(&put(), &reply(409, json!({"revision": revision})));
            assert_eq!(refused, answered(Outcome::ConditionFailed { current }));
        }
    }

    #[test]
    fn only_what_promises_no_effect_is_a_failure() {
        for status in [429, 503] {
            assert_eq!(ended(&put(), &reply(status, json!({}))), Ended::Failed);
        }
        assert_eq!(ended(&put(), &reply(504, json!({}))), Ended::Unknown);
    }

    #[test]
    #[should_panic(expected = "was answered 500")]
    fn broken_contract_is_no_outcome() {
        let _ = ended(&put(), &reply(500, json!({})));
    }
}

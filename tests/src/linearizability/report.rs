//! Violations as people read them.

use bytes::Bytes;
use raftkv_protocol::Condition;

use super::history::{Action, Moment, Operation, Outcome};
use super::revisions::Rule;

/// Longest part of a key or value that is printed, bytes.
const SHOWN_BYTES: usize = 40;

pub(super) fn not_linearizable(key: &Bytes, window: &[Operation]) -> String {
    let mut text = format!(
        "not linearizable: no order of these {} operations on key {} explains their answers",
        window.len(),
        shown(key)
    );
    for operation in window {
        text.push_str(&line(operation));
    }
    text
}

pub(super) fn revisions_contradict(rule: Rule, first: &Operation, second: &Operation) -> String {
    format!("{rule}{}{}", line(first), line(second))
}

fn line(operation: &Operation) -> String {
    let Moment(invoked) = operation.invoked;
    let time = match operation.returned() {
        Some(Moment(returned)) => format!("{invoked} .. {returned}"),
        None => format!("{invoked} .."),
    };
    let outcome = operation
        .outcome()
        .map_or_else(|| "outcome unknown".to_owned(), outcome_text);
    format!(
        "\n  {time:<32} client {:<3} {:<48} -> {outcome}",
        operation.client.0,
        action_text(&operation.key, &operation.action),
    )
}

fn action_text(key: &Bytes, action: &Action) -> String {
    match action {
        Action::Get => format!("get {}", shown(key)),
        Action::Put { value, condition } => {
            format!(
                "put {} = {}{}",
                shown(key),
                shown(value),
                condition_text(*condition)
            )
        }
        Action::Delete { condition } => format!("delete {}{}", shown(key), condition_text(*condition)),
    }
}

fn condition_text(condition: Condition) -> String {
    match condition {
        Condition::Always => String::new(),
        Condition::Absent => " if absent".to_owned(),
        Condition::ModRevision(revision) => format!(" if at revision {revision}"),
    }
}

fn outcome_text(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Found { value, mod_revision } => format!("{} of revision {mod_revision}", shown(value)),
        Outcome::NotFound => "not found".to_owned(),
        Outcome::Put { revision } => format!("done at revision {revision}"),
        Outcome::Deleted {
            existed: true,
            revision,
        } => format!("deleted at revision {revision}"),
        Outcome::Deleted {
            existed: false,
            revision,
        } => {
            format!("nothing to delete, store at revision {revision}")
        }
        Outcome::ConditionFailed {
            current: Some(revision),
        } => {
            format!("refused: the key is at revision {revision}")
        }
        Outcome::ConditionFailed { current: None } => "refused: the key does not exist".to_owned(),
    }
}

fn shown(bytes: &Bytes) -> String {
    let text = bytes[..bytes.len().min(SHOWN_BYTES)].escape_ascii().to_string();
    match bytes.len() {
        0..=SHOWN_BYTES => format!("\"{text}\""),
        longer => format!("\"{text}\"... ({longer} bytes)"),
    }
}

//! `kvctl status`

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use raftkv_client::{Error, Member, RoleName, Status as NodeStatus};
use serde_json::{Value, json};

use crate::arguments::{Format, Options};
use crate::each::ask_each;
use crate::outcome::{Outcome, Trouble};
use crate::output;
use crate::table::{Table, columns};

/// Asks every endpoint, and every member learnt from them, about itself
#[derive(Args, Debug)]
pub(crate) struct Status {}

/// What was found out about one address.
struct Found {
    address: String,
    outcome: Result<NodeStatus, Error>,
}

impl Status {
    pub(crate) async fn run(&self, options: &Options) -> Result<Outcome, Trouble> {
        let mut found = ask(options, &options.endpoints).await?;
        let members = members(&found);
        let unasked: Vec<String> = unasked(&found, &members);
        found.extend(ask(options, &unasked).await?);
        let nodes = once_per_node(found);
        let printed = match options.output {
            Format::Text => text(&nodes, &members).into_bytes(),
            Format::Table => table(&nodes, &members),
            Format::Json => output::document(&json(&nodes, &members)),
        };
        output::write(&printed)?;
        match nodes.iter().any(|node| node.outcome.is_ok()) {
            true => Ok(Outcome::Done),
            false => Err(Trouble::NobodyAnswers),
        }
    }
}

/// Asks all of these at once, each for itself.
async fn ask(options: &Options, addresses: &[String]) -> Result<Vec<Found>, Error> {
    let answers = ask_each(options, addresses.iter().cloned(), |client| async move {
        client.status().await
    });
    let found = |(address, outcome)| Found { address, outcome };
    Ok(answers.await?.into_iter().map(found).collect())
}

/// Every member that someone named, by name; of two opinions about one, that of the newer term.
fn members(found: &[Found]) -> BTreeMap<String, Member> {
    let mut statuses: Vec<&NodeStatus> = found
        .iter()
        .filter_map(|found| found.outcome.as_ref().ok())
        .collect();
    statuses.sort_by_key(|status| status.term);
    let named = statuses.iter().flat_map(|status| &status.members);
    named
        .map(|member| (member.name.to_string(), member.clone()))
        .collect()
}

/// The addresses of members that neither answered nor were asked.
fn unasked(found: &[Found], members: &BTreeMap<String, Member>) -> Vec<String> {
    let answered: BTreeSet<String> = found
        .iter()
        .filter_map(|found| found.outcome.as_ref().ok())
        .map(|status| status.name.to_string())
        .collect();
    let was_asked = |address: &str| found.iter().any(|found| found.address == address);
    let unanswered = members
        .values()
        .filter(|member| !answered.contains(&*member.name.0));
    unanswered
        .map(|member| member.address.to_string())
        .filter(|address| !was_asked(address))
        .collect()
}

/// Two addresses of one node are one line; those that answer come first, by name.
fn once_per_node(found: Vec<Found>) -> Vec<Found> {
    let (mut answered, mut silent): (Vec<Found>, Vec<Found>) =
        found.into_iter().partition(|found| found.outcome.is_ok());
    let node = |found: &Found| {
        let status = found.outcome.as_ref().ok();
        status.map(|status| (status.name.clone(), status.cluster))
    };
    answered.sort_by_key(node);
    answered.dedup_by_key(|found| node(found));
    silent.sort_by(|a, b| a.address.cmp(&b.address));
    silent.dedup_by(|a, b| a.address == b.address);
    answered.append(&mut silent);
    answered
}

fn name_at<'a>(members: &'a BTreeMap<String, Member>, address: &str) -> Option<&'a str> {
    members
        .values()
        .find(|member| &*member.address.0 == address)
        .map(|member| &*member.name.0)
}

fn text(nodes: &[Found], members: &BTreeMap<String, Member>) -> String {
    let rows: Vec<Vec<String>> = nodes
        .iter()
        .map(|node| match &node.outcome {
            Ok(status) => vec![
                status.name.to_string(),
                role(status.role).to_owned(),
                node.address.clone(),
                format!("term {}", status.term),
                format!("revision {}", status.revision),
                format!("applied {} of {}", status.applied_index, status.commit_index),
                readiness(status),
            ],
            Err(error) => {
                let name = name_at(members, &node.address).unwrap_or("-").to_owned();
                vec![
                    name,
                    "unreachable".to_owned(),
                    node.address.clone(),
                    error.to_string(),
                ]
            }
        })
        .collect();
    // The last cell of a row is of any length: it must not widen a column of other rows.
    let (cells, ends): (Vec<_>, Vec<_>) = rows
        .into_iter()
        .map(|mut row| {
            let end = row.pop().unwrap_or_default();
            (row, end)
        })
        .unzip();
    let lines = columns(&cells);
    lines
        .lines()
        .zip(ends)
        .map(|(line, end)| format!("{line}  {end}\n"))
        .collect()
}

fn table(nodes: &[Found], members: &BTreeMap<String, Member>) -> Vec<u8> {
    let header = [
        "NAME",
        "ROLE",
        "ADDRESS",
        "TERM",
        "REVISION",
        "APPLIED",
        "COMMITTED",
        "STATE",
    ];
    let mut table = Table::new(&header);
    for node in nodes {
        table.push(match &node.outcome {
            Ok(status) => vec![
                status.name.to_string(),
                role(status.role).to_owned(),
                node.address.clone(),
                status.term.to_string(),
                status.revision.to_string(),
                status.applied_index.to_string(),
                status.commit_index.to_string(),
                readiness(status),
            ],
            Err(error) => {
                let name = name_at(members, &node.address).unwrap_or("-");
                let mut row = vec![name, "unreachable", &node.address, "-", "-", "-", "-"];
                let error = error.to_string();
                row.push(&error);
                row.into_iter().map(str::to_owned).collect()
            }
        });
    }
    table.take()
}

fn readiness(status: &NodeStatus) -> String {
    match (&status.not_ready_because, status.ready) {
        (_, true) => "ready".to_owned(),
        (Some(reason), false) => format!("not ready: {reason}"),
        (None, false) => "not ready".to_owned(),
    }
}

fn json(nodes: &[Found], members: &BTreeMap<String, Member>) -> Value {
    let nodes: Vec<Value> = nodes
        .iter()
        .map(|node| match &node.outcome {
            Ok(status) => status_json(&node.address, status),
            Err(error) => json!({
                "id": name_at(members, &node.address),
                "endpoint": node.address,
                "reachable": false,
                "error": error.to_string(),
            }),
        })
        .collect();
    json!({ "members": nodes })
}

/// The fields of `GET /status`, and how the node was reached.
fn status_json(address: &str, status: &NodeStatus) -> Value {
    json!({
        "id": &*status.name.0,
        "endpoint": address,
        "reachable": true,
        "role": role(status.role),
        "leader": status.leader.as_ref().map(ToString::to_string),
        "term": status.term,
        "commit_index": status.commit_index,
        "applied_index": status.applied_index,
        "revision": status.revision.0,
        "cluster_id": status.cluster.map(|cluster| cluster.to_string()),
        "version": status.version,
        "ready": status.ready,
        "not_ready_because": status.not_ready_because,
        "members": status.members.iter().map(member_json).collect::<Vec<_>>(),
    })
}

pub(crate) fn member_json(member: &Member) -> Value {
    json!({
        "id": &*member.name.0,
        "address": &*member.address.0,
        "http": member.http.as_ref().map(ToString::to_string),
        "voter": member.voter,
    })
}

fn role(role: RoleName) -> &'static str {
    match role {
        RoleName::Leader => "leader",
        RoleName::Follower => "follower",
        RoleName::Candidate => "candidate",
        RoleName::Learner => "learner",
    }
}

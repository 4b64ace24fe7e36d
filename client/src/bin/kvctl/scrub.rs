//! `kvctl scrub`

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use raftkv_client::{CheckedFiles, Error, Member, ScrubPass, ScrubState};
use serde_json::{Value, json};

use crate::arguments::{Format, Options};
use crate::each::ask_each;
use crate::outcome::{Outcome, Trouble};
use crate::output;
use crate::table::{Table, columns};

/// Lets the members compare all that they have stored, and tells what came of it
#[derive(Args, Debug)]
pub(crate) struct ScrubArguments {
    #[command(subcommand)]
    pub(crate) action: Action,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Action {
    /// Begins a pass over all keys now; one that is under way goes on
    Start,
    /// Asks every member how it stands
    Status,
}

/// What a member said.
struct Found {
    name: String,
    address: String,
    outcome: Result<ScrubState, Error>,
}

impl ScrubArguments {
    pub(crate) async fn run(&self, options: &Options) -> Result<Outcome, Trouble> {
        match self.action {
            Action::Start => start(options).await,
            Action::Status => status(options).await,
        }
    }
}

async fn start(options: &Options) -> Result<Outcome, Trouble> {
    let state = options.client()?.start_scrub().await?;
    output::write_change(&match options.output {
        Format::Text | Format::Table => b"a pass over all keys begins, or goes on\n".to_vec(),
        Format::Json => output::document(&state_json(&state)),
    })?;
    Ok(Outcome::Done)
}

async fn status(options: &Options) -> Result<Outcome, Trouble> {
    let members = options.client()?.members().await?;
    let nodes = ask(options, &members).await?;
    let rows = nodes.iter().map(row);
    output::write(&match options.output {
        Format::Text => columns(&rows.collect::<Vec<_>>()).into_bytes(),
        Format::Table => {
            let mut table = Table::new(&["NAME", "PASS", "KEYS", "BYTES", "PIECES", "LEFT OUT", "RESULT"]);
            rows.for_each(|row| table.push(row));
            table.take()
        }
        Format::Json => {
            let nodes: Vec<Value> = nodes.iter().map(found_json).collect();
            output::document(&json!({ "members": nodes }))
        }
    })?;
    match nodes.iter().any(|node| node.outcome.is_ok()) {
        true => Ok(Outcome::Done),
        false => Err(Trouble::NobodyAnswers),
    }
}

/// Asks all members at once, each for itself; by name.
async fn ask(options: &Options, members: &[Member]) -> Result<Vec<Found>, Error> {
    let names: BTreeMap<String, String> = members
        .iter()
        .map(|member| (member.address.to_string(), member.name.to_string()))
        .collect();
    let answers = ask_each(options, names.keys().cloned(), |client| async move {
        client.scrub_state().await
    });
    let found = |(address, outcome)| Found {
        name: names.get(&address).cloned().unwrap_or_default(),
        address,
        outcome,
    };
    let mut found: Vec<Found> = answers.await?.into_iter().map(found).collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn row(node: &Found) -> Vec<String> {
    let state = match &node.outcome {
        Ok(state) => state,
        Err(error) => return cells(&node.name, ["unreachable", "-", "-", "-", "-"], error.to_string()),
    };
    let result = result(state);
    let Some(pass) = &state.pass else {
        return cells(&node.name, ["none seen", "-", "-", "-", "-"], result);
    };
    let [keys, bytes, pieces, left_out] =
        [pass.keys, pass.bytes, pass.pieces, pass.left_out].map(|number| number.to_string());
    cells(
        &node.name,
        [&when(pass), &keys, &bytes, &pieces, &left_out],
        result,
    )
}

fn cells(name: &str, middle: [&str; 5], result: String) -> Vec<String> {
    let mut row = vec![name.to_owned()];
    row.extend(middle.map(str::to_owned));
    row.push(result);
    row
}

fn when(pass: &ScrubPass) -> String {
    match pass.ended_ms_ago {
        None => format!("under way for {} s", pass.began_ms_ago / 1000),
        Some(ms_ago) => format!("ended {} s ago", ms_ago / 1000),
    }
}

/// What came of it, in a sentence.
fn result(state: &ScrubState) -> String {
    let compared = compared(state);
    match state.files.as_ref().filter(|files| !files.damage.is_empty()) {
        Some(files) => format!("{compared}; damaged files: {}", files.damage.join("; ")),
        None => compared,
    }
}

fn compared(state: &ScrubState) -> String {
    if let Some(quarantine) = &state.quarantine {
        return format!("in quarantine: {quarantine}");
    }
    if !state.differing.is_empty() {
        let differing: Vec<String> = state
            .differing
            .iter()
            .map(|member| {
                let keys = member
                    .keys
                    .as_ref()
                    .map_or(String::new(), |keys| format!(", keys {keys}"));
                format!("{} differs since entry {}{keys}", member.name, member.since_index)
            })
            .collect();
        return differing.join("; ");
    }
    let Some(pass) = &state.pass else {
        return "-".to_owned();
    };
    let agreed: Vec<String> = pass
        .agreed
        .iter()
        .map(|(name, pieces)| format!("{name} ({pieces} of {})", pass.pieces))
        .collect();
    match agreed.is_empty() {
        true => "not compared yet".to_owned(),
        false => format!("the same as {}", agreed.join(", ")),
    }
}

fn found_json(node: &Found) -> Value {
    match &node.outcome {
        Ok(state) => {
            let mut told = state_json(state);
            told["id"] = json!(node.name);
            told["endpoint"] = json!(node.address);
            told["reachable"] = json!(true);
            told
        }
        Err(error) => json!({
            "id": node.name,
            "endpoint": node.address,
            "reachable": false,
            "error": error.to_string(),
        }),
    }
}

/// The fields of `GET /v1/scrub`.
fn state_json(state: &ScrubState) -> Value {
    let differing = state.differing.iter().map(|member| {
        json!({
            "id": &*member.name.0,
            "since_index": member.since_index,
            "keys": member.keys,
        })
    });
    json!({
        "pass": state.pass.as_ref().map(pass_json),
        "differing": differing.collect::<Vec<_>>(),
        "quarantine": state.quarantine,
        "files": state.files.as_ref().map(files_json),
    })
}

fn files_json(files: &CheckedFiles) -> Value {
    json!({
        "checked_ms_ago": files.ms_ago,
        "bytes": files.bytes,
        "damage": files.damage,
    })
}

fn pass_json(pass: &ScrubPass) -> Value {
    let agreed = pass.agreed.iter();
    let agreed = agreed.map(|(name, pieces)| json!({ "id": &*name.0, "pieces": pieces }));
    let mut told = json!({
        "first_index": pass.first_index,
        "last_index": pass.last_index,
        "began_ms_ago": pass.began_ms_ago,
        "pieces": pass.pieces,
        "left_out": pass.left_out,
        "keys": pass.keys,
        "bytes": pass.bytes,
        "agreed": agreed.collect::<Vec<_>>(),
    });
    if let Some(ms_ago) = pass.ended_ms_ago {
        told["ended_ms_ago"] = json!(ms_ago);
    }
    told
}

#[cfg(test)]
mod tests {
    use raftkv_client::DifferingMember;

    use super::*;

    fn pass() -> ScrubPass {
        ScrubPass {
            first_index: 5,
            last_index: 7,
            began_ms_ago: 20_000,
            ended_ms_ago: Some(3_000),
            pieces: 2,
            left_out: 0,
            keys: 10,
            bytes: 99,
            agreed: vec![("n2".into(), 2)],
        }
    }

    #[test]
    fn a_row_tells_what_came_of_it() {
        let found = |state| Found {
            name: "n1".to_owned(),
            address: "h:1".to_owned(),
            outcome: Ok(state),
        };
        let agreed = ScrubState {
            pass: Some(pass()),
            ..ScrubState::default()
        };
        let expected = [
            "n1",
            "ended 3 s ago",
            "10",
            "99",
            "2",
            "0",
            "the same as n2 (2 of 2)",
        ];
        assert_eq!(row(&found(agreed.clone())), expected);
        let differing = DifferingMember {
            name: "n3".into(),
            since_index: 6,
            keys: Some("all".to_owned()),
        };
        let odd = ScrubState {
            differing: vec![differing],
            ..agreed
        };
        assert_eq!(result(&odd), "n3 differs since entry 6, keys all");
        let quarantined = ScrubState {
            quarantine: Some("why".to_owned()),
            ..odd
        };
        assert_eq!(result(&quarantined), "in quarantine: why");
        let rotten = ScrubState {
            files: Some(CheckedFiles {
                ms_ago: 1,
                bytes: 2,
                damage: vec!["rot".to_owned()],
            }),
            ..ScrubState::default()
        };
        assert_eq!(result(&rotten), "-; damaged files: rot");
        assert_eq!(row(&found(ScrubState::default()))[1], "none seen");
    }
}

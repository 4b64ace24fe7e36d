//! `/v1/scrub`: members compare what they have stored; asking for that, and how it stands.

use axum::extract::State;
use axum::response::Response;
use raftkv_protocol::{
    Answer, DifferingMember, Header, NodeName, Request, ScrubCommand, ScrubPass, ScrubState,
};

use super::answer;
use super::api::{Api, Outcome, Shared, unexpected};

#[derive(serde::Serialize)]
struct ScrubBody<'a> {
    pass: Option<PassBody<'a>>,
    differing: Vec<DifferingBody<'a>>,
    quarantine: Option<&'a str>,
    files: Option<FilesBody<'a>>,
}

#[derive(serde::Serialize)]
struct FilesBody<'a> {
    checked_ms_ago: u64,
    bytes: u64,
    damage: &'a [String],
}

#[derive(serde::Serialize)]
struct PassBody<'a> {
    first_index: u64,
    last_index: u64,
    began_ms_ago: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_ms_ago: Option<u64>,
    pieces: u64,
    left_out: u64,
    keys: u64,
    bytes: u64,
    agreed: Vec<AgreedBody<'a>>,
}

#[derive(serde::Serialize)]
struct AgreedBody<'a> {
    id: &'a str,
    pieces: u64,
}

#[derive(serde::Serialize)]
struct DifferingBody<'a> {
    id: &'a str,
    since_index: u64,
    keys: Option<&'a str>,
}

pub(super) async fn start(State(api): Shared) -> Outcome {
    api.scrub(ScrubCommand::Start).await
}

pub(super) async fn status(State(api): Shared) -> Outcome {
    api.scrub(ScrubCommand::Status).await
}

impl Api {
    async fn scrub(&self, command: ScrubCommand) -> Outcome {
        match self.ask(Request::Scrub(command)).await? {
            (header, Answer::Scrub(state)) => Ok(told(&header, &state)),
            (_, other) => Err(unexpected(&other)),
        }
    }
}

fn told(header: &Header, state: &ScrubState) -> Response {
    answer::json(header, &ScrubBody::from(state))
}

impl<'a> From<&'a ScrubState> for ScrubBody<'a> {
    fn from(state: &'a ScrubState) -> ScrubBody<'a> {
        ScrubBody {
            pass: state.pass.as_ref().map(PassBody::from),
            differing: state.differing.iter().map(DifferingBody::from).collect(),
            quarantine: state.quarantine.as_deref(),
            files: state.files.as_ref().map(|files| FilesBody {
                checked_ms_ago: files.ms_ago,
                bytes: files.bytes,
                damage: &files.damage,
            }),
        }
    }
}

impl<'a> From<&'a ScrubPass> for PassBody<'a> {
    fn from(pass: &'a ScrubPass) -> PassBody<'a> {
        let agreed = |(name, pieces): &'a (NodeName, u64)| AgreedBody {
            id: &name.0,
            pieces: *pieces,
        };
        PassBody {
            first_index: pass.first_index,
            last_index: pass.last_index,
            began_ms_ago: pass.began_ms_ago,
            ended_ms_ago: pass.ended_ms_ago,
            pieces: pass.pieces,
            left_out: pass.left_out,
            keys: pass.keys,
            bytes: pass.bytes,
            agreed: pass.agreed.iter().map(agreed).collect(),
        }
    }
}

impl<'a> From<&'a DifferingMember> for DifferingBody<'a> {
    fn from(member: &'a DifferingMember) -> DifferingBody<'a> {
        DifferingBody {
            id: &member.name.0,
            since_index: member.since_index,
            keys: member.keys.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(state: &ScrubState) -> String {
        serde_json::to_string(&ScrubBody::from(state)).expect("plain data")
    }

    #[test]
    fn a_node_that_has_seen_no_pass_says_so() {
        assert_eq!(
            body(&ScrubState::default()),
            r#"{"pass":null,"differing":[],"quarantine":null,"files":null}"#
        );
    }

    #[test]
    fn a_pass_tells_who_agreed_and_who_differs() {
        let pass = ScrubPass {
            first_index: 5,
            last_index: 7,
            began_ms_ago: 20,
            ended_ms_ago: None,
            pieces: 2,
            left_out: 1,
            keys: 10,
            bytes: 99,
            agreed: vec![("n2".into(), 2)],
        };
        let differing = DifferingMember {
            name: "n3".into(),
            since_index: 6,
            keys: Some("all".to_owned()),
        };
        let state = ScrubState {
            pass: Some(pass),
            differing: vec![differing],
            quarantine: None,
            files: Some(raftkv_protocol::CheckedFiles {
                ms_ago: 3,
                bytes: 4,
                damage: vec!["rot".to_owned()],
            }),
        };
        assert_eq!(
            body(&state),
            r#"{"pass":{"first_index":5,"last_index":7,"began_ms_ago":20,"pieces":2,"left_out":1,"keys":10,"bytes":99,"agreed":[{"id":"n2","pieces":2}]},"differing":[{"id":"n3","since_index":6,"keys":"all"}],"quarantine":null,"files":{"checked_ms_ago":3,"bytes":4,"damage":["rot"]}}"#
        );
    }
}

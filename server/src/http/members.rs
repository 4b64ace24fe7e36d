//! `/v1/members`: who is in the cluster, and changing that.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request as HttpRequest, State};
use axum::http::Uri;
use bytes::Bytes;
use raftkv_protocol::{Address, Answer, Force, Header, Member, MemberCommand, NodeName, Promotion, Request};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::answer;
use super::api::{Api, Outcome, Shared, unexpected};
use super::error::HttpError;
use super::parameter;
use super::query::{Query, refused};

type Named = Result<Path<String>, PathRejection>;

/// The body of `POST /v1/members`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AddBody {
    name: String,
    address: Option<String>,
    #[serde(default)]
    learner: bool,
}

/// The body of `POST /v1/members/transfer-leader`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TransferBody {
    to: Option<String>,
}

pub(super) async fn list(State(api): Shared) -> Outcome {
    let (header, status) = api.status().await?;
    Ok(answer::members(&header, &status.members))
}

pub(super) async fn add(State(api): Shared, request: HttpRequest) -> Outcome {
    let (parts, body) = request.into_parts();
    let body: AddBody = parse(&api.read_body(&parts.headers, body).await?)?;
    api.change(MemberCommand::Add {
        name: name(&body.name)?,
        address: body.address.as_deref().map(Address::from),
        promotion: match body.learner {
            true => Promotion::Asked,
            false => Promotion::CaughtUp,
        },
    })
    .await
}

pub(super) async fn promote(State(api): Shared, named: Named, uri: Uri) -> Outcome {
    let (name, force) = (path_name(named)?, force(&uri)?);
    api.change(MemberCommand::Promote { name, force }).await
}

pub(super) async fn remove(State(api): Shared, named: Named, uri: Uri) -> Outcome {
    let (name, force) = (path_name(named)?, force(&uri)?);
    api.change(MemberCommand::Remove { name, force }).await
}

pub(super) async fn replace(State(api): Shared, named: Named, uri: Uri) -> Outcome {
    let (name, force) = (path_name(named)?, force(&uri)?);
    api.change(MemberCommand::Replace { name, force }).await
}

pub(super) async fn transfer_leader(State(api): Shared, request: HttpRequest) -> Outcome {
    let (parts, body) = request.into_parts();
    let body = api.read_body(&parts.headers, body).await?;
    let body: TransferBody = if body.is_empty() {
        TransferBody::default()
    } else {
        parse(&body)?
    };
    let to = body.to.as_deref().map(name).transpose()?;
    api.change(MemberCommand::TransferLeader { to }).await
}

impl Api {
    async fn change(&self, command: MemberCommand) -> Outcome {
        let (header, members) = self.members_after(command).await?;
        Ok(answer::members(&header, &members))
    }

    async fn members_after(&self, command: MemberCommand) -> Result<(Header, Vec<Member>), HttpError> {
        match self.ask(Request::Member(command)).await? {
            (header, Answer::Members(members)) => Ok((header, members)),
            (_, other) => Err(unexpected(&other)),
        }
    }
}

fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, HttpError> {
    serde_json::from_slice(body)
        .map_err(|error| HttpError::bad_request(format!("the body is not usable: {error}")))
}

fn name(text: &str) -> Result<NodeName, HttpError> {
    match text.is_empty() {
        true => Err(HttpError::bad_request("the name of the node is empty")),
        false => Ok(NodeName::from(text)),
    }
}

fn path_name(named: Named) -> Result<NodeName, HttpError> {
    match named {
        Ok(Path(text)) => name(&text),
        Err(error) => Err(HttpError::bad_request(format!(
            "the name in the path is not usable: {error}"
        ))),
    }
}

/// `?force=true`; nothing else may stand in the query.
fn force(uri: &Uri) -> Result<Force, HttpError> {
    let query = Query::parse(uri.query(), &[&parameter::FORCE])?;
    match query.get(&parameter::FORCE) {
        None | Some(b"false") => Ok(Force::No),
        Some(b"true") => Ok(Force::Yes),
        Some(_) => Err(refused(&parameter::FORCE, "is true or false, in full")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_read_strictly() {
        let add = |body: &'static str| parse::<AddBody>(&Bytes::from_static(body.as_bytes()));
        assert!(add(r#"{"name":"n4"}"#).is_ok());
        assert!(add(r#"{"name":"n4","address":"h:1","learner":true}"#).is_ok());
        for (body, expected) in [
            ("{}", "name"),
            (r#"{"name":4}"#, "string"),
            (r#"{"name":"n4","voter":true}"#, "voter"),
            ("", "EOF"),
        ] {
            let error = add(body).expect_err(body);
            assert!(error.message().contains(expected), "{body}: {}", error.message());
        }
    }

    #[test]
    fn force_is_said_in_full() {
        let force = |uri: &str| force(&uri.parse().expect(uri)).ok();
        assert_eq!(force("/v1/members/n4"), Some(Force::No));
        assert_eq!(force("/v1/members/n4?force=true"), Some(Force::Yes));
        assert_eq!(force("/v1/members/n4?force"), None);
        assert_eq!(force("/v1/members/n4?forced=true"), None);
    }
}

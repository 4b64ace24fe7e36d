//! One function per call: read the request, ask the node, write the answer.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::http::{Method, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use raftkv_protocol::{Answer, CheckedCommand, Command, ErrorCode, Header, Limits, Request, Status};

use super::answer;
use super::error::HttpError;
use super::members;
use super::query::{self, Accepts};
use super::set_body;
use super::watch;
use crate::shell::Door;

/// What every handler needs.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) door: Door,
    pub(super) limits: Limits,
    pub(super) request_timeout: Duration,
    pub(super) body_timeout: Duration,
}

pub(super) type Shared = State<Arc<Api>>;
pub(super) type Outcome = Result<Response, HttpError>;

/// How much of a body that is too large is read and thrown away, in times of the limit, so that a client that is still
/// sending gets to read the refusal instead of a reset connection.
const DISCARDED_LIMITS: usize = 4;

/// How long such a client may keep on sending.
const DISCARD_TIME: Duration = Duration::from_secs(5);

pub(super) fn router(api: Api) -> Router {
    Router::new()
        .route("/get", get(get_key))
        .route("/set", post(set_key))
        .route("/delete", delete(delete_key))
        .route("/status", get(status))
        .route("/v1/members", get(members::list).post(members::add))
        .route("/v1/members/transfer-leader", post(members::transfer_leader))
        .route("/v1/members/{name}", delete(members::remove))
        .route("/v1/members/{name}/promote", post(members::promote))
        .route("/v1/members/{name}/replace", post(members::replace))
        .route("/v1/watch", get(watch::watch))
        .route("/readyz", get(ready))
        .route("/healthz", get(healthy))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(Arc::new(api))
}

async fn get_key(State(api): Shared, uri: Uri) -> Outcome {
    let query::KeyQuery { key, consistency, .. } = query::parse(uri.query(), Accepts::KeyAndConsistency)?;
    api.limits.check_key(&key)?;
    let request = Request::Get {
        key: key.clone(),
        consistency,
    };
    let (header, answer) = api.ask(request).await?;
    match answer {
        Answer::Found(record) => Ok(answer::found(&header, &key, &record)),
        Answer::NotFound => Err(HttpError::key_not_found(header)),
        Answer::Read { record, basis } => Ok(match record {
            Some(record) => answer::with_basis(answer::found(&header, &key, &record), basis),
            None => answer::with_basis(HttpError::key_not_found(header).into_response(), basis),
        }),
        other => Err(unexpected(&other)),
    }
}

async fn set_key(State(api): Shared, request: HttpRequest) -> Outcome {
    let body = api.read_body(request).await?;
    let set = set_body::parse(&body)?;
    let command = Command::Put {
        key: &set.key,
        value: &set.value,
        condition: set.condition,
        ttl_ms: set.ttl_ms,
    };
    let (header, answer) = api.write(&command).await?;
    match answer {
        Answer::Put { revision } => Ok(answer::put(&header, &set.key, revision)),
        Answer::ConditionFailed { current } => Err(HttpError::revision_mismatch(header, current)),
        other => Err(unexpected(&other)),
    }
}

async fn delete_key(State(api): Shared, uri: Uri) -> Outcome {
    let query = query::parse(uri.query(), Accepts::KeyAndCondition)?;
    let command = Command::Delete {
        key: &query.key,
        condition: query.condition,
    };
    let (header, answer) = api.write(&command).await?;
    match answer {
        Answer::Deleted { existed, revision } => Ok(answer::deleted(
            &header,
            &query.key,
            answer::Deletion { existed, revision },
        )),
        Answer::ConditionFailed { current } => Err(HttpError::revision_mismatch(header, current)),
        other => Err(unexpected(&other)),
    }
}

async fn status(State(api): Shared) -> Outcome {
    let (header, status) = api.status().await?;
    Ok(answer::status(&header, &status))
}

async fn ready(State(api): Shared) -> Outcome {
    let (header, status) = api.status().await?;
    if status.ready {
        return Ok(answer::ready(&header));
    }
    let reason = status
        .not_ready_because
        .unwrap_or_else(|| "the node is not ready yet".to_owned());
    Err(HttpError::not_ready(header, reason))
}

/// Liveness: the process and its threads are there. Never asks the node, so it depends on no quorum and no disk.
async fn healthy(State(api): Shared) -> Outcome {
    if api.door.is_open() {
        Ok(axum::Json(serde_json::json!({ "healthy": true })).into_response())
    } else {
        Err(HttpError::from_code(ErrorCode::NoLeader, "the node is stopping"))
    }
}

async fn unknown_path(uri: Uri) -> HttpError {
    HttpError::unknown_path(uri.path())
}

async fn wrong_method(method: Method, uri: Uri) -> HttpError {
    HttpError::wrong_method(method.as_str(), uri.path())
}

/// The node answered a question that was not asked: a defect of ours, told instead of hidden.
pub(super) fn unexpected(answer: &Answer) -> HttpError {
    tracing::error!(
        ?answer,
        "the node gave an answer of another kind than was asked for"
    );
    HttpError::from_code(
        ErrorCode::OutcomeUnknown,
        "the node's answer does not fit the request; this is a defect of the server, please report it",
    )
}

impl Api {
    pub(super) async fn ask(&self, request: Request) -> Result<(Header, Answer), HttpError> {
        let response = self.door.call(request, self.request_timeout).await?;
        match response.outcome {
            Ok(answer) => Ok((response.header, answer)),
            Err(failure) => Err(HttpError::from(failure).given_by(response.header)),
        }
    }

    async fn write(&self, command: &Command<'_>) -> Result<(Header, Answer), HttpError> {
        let checked = CheckedCommand::new(command, &self.limits)?;
        self.ask(Request::Write(checked)).await
    }

    pub(super) async fn status(&self) -> Result<(Header, Box<Status>), HttpError> {
        match self.ask(Request::Status).await? {
            (header, Answer::Status(status)) => Ok((header, status)),
            (_, other) => Err(unexpected(&other)),
        }
    }

    /// The whole body, never more of it in memory than a request may be long.
    pub(super) async fn read_body(&self, request: HttpRequest) -> Result<Bytes, HttpError> {
        let limit = self.limits.request_bytes;
        let waits_for_leave = request.headers().contains_key(header::EXPECT);
        let length = request.headers().get(header::CONTENT_LENGTH);
        let length: Option<usize> = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let mut body = request.into_body();
        if length.is_some_and(|length| length > limit) {
            if !waits_for_leave {
                discard(&mut body, limit * DISCARDED_LIMITS).await;
            }
            return Err(too_large(limit));
        }
        let collected = Limited::new(&mut body, limit).collect();
        match tokio::time::timeout(self.body_timeout, collected).await {
            Ok(Ok(collected)) => Ok(collected.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                discard(&mut body, limit * DISCARDED_LIMITS).await;
                Err(too_large(limit))
            }
            Ok(Err(error)) => Err(HttpError::bad_request(format!(
                "the body did not arrive whole: {error}"
            ))),
            Err(_) => Err(HttpError::bad_request(format!(
                "the body did not arrive whole within {:?}; nothing was done",
                self.body_timeout
            ))),
        }
    }
}

fn too_large(limit: usize) -> HttpError {
    HttpError::from_code(
        ErrorCode::TooLarge,
        format!("the request is larger than {limit} bytes, the most this server takes"),
    )
}

async fn discard(body: &mut Body, at_most: usize) {
    let read = async {
        let mut left = at_most;
        while let Some(Ok(frame)) = body.frame().await {
            let size = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(size) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    // Either way the refusal goes out next.
    let _ = tokio::time::timeout(DISCARD_TIME, read).await;
}

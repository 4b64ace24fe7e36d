//! What every handler needs: the way to the node, and the bounds of a request.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use raftkv_protocol::{Answer, CheckedCommand, Command, ErrorCode, Header, Limits, Request, Status};

use super::counts::Counts;
use super::error::HttpError;
use super::idempotency::IdempotencyKey;
use crate::shell::Door;
use crate::transport::Tls;

/// What every handler needs.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) door: Door,
    pub(super) limits: Limits,
    pub(super) request_timeout: Duration,
    pub(super) body_timeout: Duration,
    pub(super) counts: Counts,
    pub(super) tls: Option<Arc<Tls>>,
}

pub(super) type Shared = State<Arc<Api>>;
pub(super) type Outcome = Result<Response, HttpError>;

/// How much of a body that is too large is read and thrown away, in times of the limit, so that a client that is still
/// sending gets to read the refusal instead of a reset connection.
const DISCARDED_LIMITS: usize = 4;

/// How long such a client may keep on sending.
const DISCARD_TIME: Duration = Duration::from_secs(5);

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

    /// Has a command executed; under an idempotency key at most once, however often the request is sent.
    pub(super) async fn write(
        &self,
        command: &Command<'_>,
        key: Option<&IdempotencyKey>,
    ) -> Result<(Header, Answer), HttpError> {
        let mut checked = CheckedCommand::new(command, &self.limits)?;
        if let Some(key) = key {
            let once = Command::Once {
                idempotency_key: key.bytes(),
                command: checked.encoded(),
            };
            checked = CheckedCommand::new(&once, &self.limits)?;
        }
        self.ask(Request::Write(checked)).await
    }

    pub(super) async fn status(&self) -> Result<(Header, Box<Status>), HttpError> {
        match self.ask(Request::Status).await? {
            (header, Answer::Status(status)) => Ok((header, status)),
            (_, other) => Err(unexpected(&other)),
        }
    }

    /// The whole body, never more of it in memory than a request may be long.
    pub(super) async fn read_body(&self, headers: &HeaderMap, mut body: Body) -> Result<Bytes, HttpError> {
        let limit = self.limits.request_bytes;
        let length = headers.get(header::CONTENT_LENGTH);
        let length: Option<usize> = length.and_then(|length| length.to_str().ok()?.parse().ok());
        if length.is_some_and(|length| length > limit) {
            let waits_for_leave = headers.contains_key(header::EXPECT);
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

//! The short calls: `/get`, `/set`, `/delete`, and what the node tells about itself.

use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderValue, Method, Uri, header};
use axum::response::{IntoResponse, Response};
use raftkv_protocol::{Condition, ErrorCode, Previous};

use super::api::{Outcome, Shared};
use super::error::HttpError;
use super::idempotency::IdempotencyKey;
use super::parameter::{self, Parameter};
use super::query::Query;
use super::read::ReadOf;
use super::set_body;
use super::write::{Delete, Precondition, Put, condition};
use super::{answer, calls};
use crate::metrics;

/// What `/get` takes.
pub(super) static GET: [&Parameter; 5] = [
    &parameter::KEY,
    &parameter::CONSISTENCY,
    &parameter::MAX_STALENESS_MS,
    &parameter::REVISION,
    &parameter::AGO,
];

/// What `/delete` takes.
pub(super) static DELETE: [&Parameter; 2] = [&parameter::KEY, &parameter::IF_REVISION];

pub(super) async fn get_key(State(api): Shared, uri: Uri) -> Outcome {
    let query = Query::parse(uri.query(), &GET)?;
    let key = query.required(&parameter::KEY)?;
    let reading = api.read(&key, ReadOf::parse(&query)?).await?;
    let response = match &reading.record {
        Some(record) => answer::found(&reading.header, &key, record),
        None => HttpError::key_not_found(reading.header).into_response(),
    };
    Ok(answer::with_state(response, reading.basis, reading.at))
}

pub(super) async fn set_key(State(api): Shared, request: HttpRequest) -> Outcome {
    let (parts, body) = request.into_parts();
    Query::parse(parts.uri.query(), &[])?;
    let once = IdempotencyKey::of(&parts.headers)?;
    let body = api.read_body(&parts.headers, body).await?;
    let set = set_body::parse(&body)?;
    let put = Put {
        key: &set.key,
        value: &set.value,
        precondition: Precondition::Plain(set.condition),
        lifetime: set.lifetime,
        previous: Previous::Unwanted,
    };
    let (header, written) = api.put(put, once.as_ref()).await?;
    Ok(answer::put(&header, &set.key, &written, Previous::Unwanted))
}

pub(super) async fn delete_key(State(api): Shared, request: HttpRequest) -> Outcome {
    let (parts, _) = request.into_parts();
    let query = Query::parse(parts.uri.query(), &DELETE)?;
    let key = query.required(&parameter::KEY)?;
    let if_revision = query.whole(&parameter::IF_REVISION)?;
    let delete = Delete {
        key: &key,
        precondition: Precondition::Plain(if_revision.map_or(Condition::Always, condition)),
        previous: Previous::Unwanted,
    };
    let once = IdempotencyKey::of(&parts.headers)?;
    let (header, written) = api.delete(delete, once.as_ref()).await?;
    Ok(answer::deleted(&header, &key, &written, Previous::Unwanted))
}

pub(super) async fn status(State(api): Shared) -> Outcome {
    let (header, status) = api.status().await?;
    Ok(answer::status(&header, &status))
}

pub(super) async fn ready(State(api): Shared) -> Outcome {
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
pub(super) async fn healthy(State(api): Shared) -> Outcome {
    if api.door.is_open() {
        Ok(axum::Json(serde_json::json!({ "healthy": true })).into_response())
    } else {
        Err(HttpError::from_code(ErrorCode::NoLeader, "the node is stopping"))
    }
}

/// For monitoring. Asks the node's thread alone, so it depends on no quorum and no disk.
pub(super) async fn metrics(State(api): Shared) -> Outcome {
    let figures = api.door.figures(api.request_timeout).await?;
    let expires = api.tls.as_ref().map(|tls| tls.expires());
    let text = metrics::text(*figures, api.counts.figures(expires));
    let plain = HeaderValue::from_static(metrics::CONTENT_TYPE);
    Ok(([(header::CONTENT_TYPE, plain)], text).into_response())
}

/// The description of all calls.
pub(super) async fn openapi() -> Response {
    let json = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json)], calls::description()).into_response()
}

pub(super) async fn wrong_method(method: Method, uri: Uri) -> HttpError {
    HttpError::wrong_method(method.as_str(), uri.path())
}

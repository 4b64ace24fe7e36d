//! Errors as HTTP tells them: a status, `{"error","code"}`, and what a client needs to go on.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use raftkv_protocol::{ErrorCode, Failure, Header, Revision};
use serde::Serialize;

use super::answer::{LeaderBody, header_fields};
use super::calls::{self, Served};

/// A client that is told to retry waits this long, in seconds: the smallest whole number the header can say.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// An error on its way out.
#[derive(Debug)]
pub(super) struct HttpError {
    status: StatusCode,
    /// Boxed: an error is rare, and every result of this module would carry its size.
    body: Box<Body>,
    header: Option<Header>,
}

#[derive(Debug, Serialize)]
struct Body {
    error: String,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leader: Option<LeaderBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ready: Option<bool>,
}

impl HttpError {
    pub(super) fn bad_request(message: impl Into<String>) -> HttpError {
        HttpError::from_code(ErrorCode::BadRequest, message)
    }

    /// No such path: the request is wrong, and the status says in which way.
    pub(super) fn unknown_path(path: &str, served: Served) -> HttpError {
        let mut error = HttpError::bad_request(format!(
            "there is nothing at {path} of this port; known are {}",
            calls::paths(served)
        ));
        error.status = StatusCode::NOT_FOUND;
        error
    }

    /// The path exists, with another method. The router adds `Allow`.
    pub(super) fn wrong_method(method: &str, path: &str) -> HttpError {
        let mut error = HttpError::bad_request(format!(
            "{path} does not take {method}; the Allow header names what it takes"
        ));
        error.status = StatusCode::METHOD_NOT_ALLOWED;
        error
    }

    pub(super) fn from_code(code: ErrorCode, message: impl Into<String>) -> HttpError {
        let (status, code) = status_and_code(code);
        HttpError {
            status,
            body: Box::new(Body {
                error: message.into(),
                code,
                revision: None,
                leader: None,
                ready: None,
            }),
            header: None,
        }
    }

    /// A read found nothing.
    pub(super) fn key_not_found(header: Header) -> HttpError {
        HttpError::from_code(ErrorCode::KeyNotFound, "the key does not exist").given_by(header)
    }

    /// A condition failed; `current` is the key's revision now.
    pub(super) fn revision_mismatch(header: Header, current: Option<Revision>) -> HttpError {
        let message = match current {
            Some(revision) => {
                format!("the condition did not hold: the key was last changed by revision {revision}")
            }
            None => "the condition did not hold: the key does not exist".to_owned(),
        };
        let mut error = HttpError::from_code(ErrorCode::RevisionMismatch, message).given_by(header);
        error.body.revision = Some(current.map_or(0, |revision| revision.0));
        error
    }

    /// The node is up, and not ready to serve.
    pub(super) fn not_ready(header: Header, reason: String) -> HttpError {
        let mut error = HttpError::from_code(ErrorCode::NoLeader, reason).given_by(header);
        error.body.ready = Some(false);
        error
    }

    /// Notes where and when in history the node said so.
    pub(super) fn given_by(mut self, header: Header) -> HttpError {
        self.header = Some(header);
        self
    }

    /// Its body, where it is not an answer of its own.
    pub(super) fn json(&self) -> String {
        serde_json::to_string(&self.body).expect("plain data")
    }

    #[cfg(test)]
    pub(super) fn message(&self) -> &str {
        &self.body.error
    }

    #[cfg(test)]
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }
}

impl From<Failure> for HttpError {
    fn from(failure: Failure) -> HttpError {
        let mut error = HttpError::from_code(failure.code, failure.message);
        if error.status == StatusCode::SERVICE_UNAVAILABLE {
            error.body.leader = failure.leader.as_ref().map(LeaderBody::from);
        }
        error
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let fields = self.header.map(|header| header_fields(&header));
        let mut response = (self.status, fields.unwrap_or_default(), Json(self.body)).into_response();
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        response
    }
}

/// What the protocol says of each code. `NotLeader` and `ShuttingDown` are meant for nodes and for the client library; here
/// they mean what `NoLeader` means.
fn status_and_code(code: ErrorCode) -> (StatusCode, &'static str) {
    let code = match code {
        ErrorCode::NotLeader | ErrorCode::NotServing => ErrorCode::NoLeader,
        other => other,
    };
    let status = StatusCode::from_u16(code.http_status()).expect("the protocol's table holds HTTP statuses");
    (status, code.name())
}

#[cfg(test)]
mod tests {
    use raftkv_protocol::{HistoryEpoch, LeaderHint, NodeId};

    use super::*;

    const HEADER: Header = Header {
        cluster: None,
        node: NodeId(7),
        term: 3,
        revision: Revision(9),
        epoch: HistoryEpoch(1),
    };

    fn failure(code: ErrorCode) -> Failure {
        Failure {
            code,
            message: "why".into(),
            leader: Some(LeaderHint {
                name: "n2".into(),
                address: "h:1".into(),
                http: None,
            }),
        }
    }

    fn json(error: &HttpError) -> String {
        serde_json::to_string(&error.body).expect("plain data")
    }

    #[test]
    fn every_code_has_its_status_and_name() {
        for (code, status, name) in [
            (ErrorCode::BadRequest, 400, "bad_request"),
            (ErrorCode::KeyNotFound, 404, "key_not_found"),
            (ErrorCode::RevisionMismatch, 409, "revision_mismatch"),
            (ErrorCode::TooLarge, 413, "too_large"),
            (ErrorCode::Overloaded, 429, "overloaded"),
            (ErrorCode::NoLeader, 503, "no_leader"),
            (ErrorCode::NotLeader, 503, "no_leader"),
            (ErrorCode::NoSpace, 503, "no_space"),
            (ErrorCode::OutcomeUnknown, 504, "outcome_unknown"),
            (ErrorCode::Compacted, 400, "compacted"),
            (ErrorCode::SessionExpired, 409, "session_expired"),
            (ErrorCode::NotServing, 503, "no_leader"),
            (ErrorCode::MembershipRefused, 409, "membership_refused"),
        ] {
            let error = HttpError::from(failure(code));
            assert_eq!((error.status.as_u16(), error.body.code), (status, name));
            assert_eq!(json(&error).contains("leader"), status == 503, "{name}");
        }
    }

    #[test]
    fn overloaded_says_when_to_come_back() {
        let response = HttpError::from(failure(ErrorCode::Overloaded)).into_response();
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        let response = HttpError::from(failure(ErrorCode::NoLeader)).into_response();
        assert!(!response.headers().contains_key(header::RETRY_AFTER));
    }

    #[test]
    fn a_failed_condition_tells_the_revision_now() {
        let error = HttpError::revision_mismatch(HEADER, Some(Revision(5)));
        assert!(
            json(&error).ends_with(r#""code":"revision_mismatch","revision":5}"#),
            "{}",
            json(&error)
        );
        let absent = HttpError::revision_mismatch(HEADER, None);
        assert!(json(&absent).ends_with(r#""revision":0}"#), "{}", json(&absent));
    }

    #[test]
    fn a_plain_error_has_two_fields() {
        assert_eq!(
            json(&HttpError::bad_request("no")),
            r#"{"error":"no","code":"bad_request"}"#
        );
    }
}

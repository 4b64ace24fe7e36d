//! Every call of the API, once: the router and the description (`/openapi.json`) are both made of this table, so neither can
//! know a call that the other does not.
//!
//! * this file: what a call is, and the router;
//! * [`table`]: the calls;
//! * [`documents`]: the JSON objects that they take and answer;
//! * [`openapi`]: the description.

mod documents;
mod openapi;
mod table;

use std::sync::Arc;

use axum::Router;
use axum::http::Uri;
use axum::routing::MethodRouter;

use super::api::Api;
use super::error::HttpError;
use super::handlers;
use super::parameter::Parameter;

/// One call.
struct Call {
    method: Method,
    /// As the router reads it: `{*key}` takes the rest of the path.
    path: &'static str,
    /// What it does, in a sentence.
    about: &'static str,
    parameters: &'static [&'static Parameter],
    /// Request headers that mean something to it.
    headers: &'static [&'static RequestHeader],
    takes: Content,
    answers: Content,
    handler: fn() -> MethodRouter<Arc<Api>>,
}

/// The methods that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Get,
    Post,
    Put,
    Delete,
}

/// A header field of a request.
#[derive(Debug)]
struct RequestHeader {
    name: &'static str,
    about: &'static str,
}

/// What a body is.
#[derive(Clone, Copy, Debug)]
enum Content {
    Nothing,
    /// Any bytes.
    Octets,
    /// Plain text.
    Text,
    /// A stream of server-sent events.
    Events,
    Json(&'static Document),
    /// The same, or one object of its list a line, as `Accept` has it.
    JsonOrLines(&'static Document),
}

/// A JSON object.
#[derive(Debug)]
struct Document {
    name: &'static str,
    fields: &'static [Field],
}

/// A field of one.
#[derive(Debug)]
struct Field {
    name: &'static str,
    kind: Kind,
    presence: Presence,
    about: &'static str,
}

/// May a field be left out?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Always,
    Sometimes,
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Text,
    Whole,
    Number,
    Flag,
    /// One of these words.
    Word(&'static [&'static str]),
    Object(&'static Document),
    List(&'static Document),
    /// A list of texts.
    Texts,
    /// An object, or null.
    Perhaps(&'static Document),
    /// Text, or null.
    PerhapsText,
}

/// Which of the calls a port answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    All,
    /// What tells of the node and nothing of what it stores.
    Probes,
}

const PROBES: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

impl Served {
    fn calls(self) -> impl Iterator<Item = &'static Call> {
        let is_served = move |call: &&Call| self == Served::All || PROBES.contains(&call.path);
        table::CALLS.iter().filter(is_served)
    }
}

/// Which call is handled where.
pub(super) fn router(api: Arc<Api>, served: Served) -> Router {
    let routed = |router: Router<Arc<Api>>, call: &Call| router.route(call.path, (call.handler)());
    served
        .calls()
        .fold(Router::new(), routed)
        .fallback(async move |uri: Uri| HttpError::unknown_path(uri.path(), served))
        .method_not_allowed_fallback(handlers::wrong_method)
        .with_state(api)
}

/// The paths, for who asks for one that there is not; each once.
pub(super) fn paths(served: Served) -> String {
    let mut paths: Vec<&str> = served.calls().map(|call| call.path).collect();
    paths.dedup();
    paths.join(", ").replace("{*key}", "{key}")
}

pub(super) use openapi::description;

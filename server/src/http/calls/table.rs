//! The calls. Those of one path stand together.

use axum::routing::{delete, get, post, put};

use super::super::{handlers, idempotency, kv, leases, list, members, parameter, scrub, txn, watch};
use super::{Call, Content, Method, RequestHeader, documents as doc};

static IDEMPOTENCY_KEY: RequestHeader = RequestHeader {
    name: idempotency::IDEMPOTENCY_KEY,
    about: "A name for this write, 1 to 255 bytes: sent again under the same name it is not applied again, and answered as it was.",
};
static IF_MATCH: RequestHeader = RequestHeader {
    name: "if-match",
    about: "Only if the key's ETag is this one; *: only if it exists.",
};
static IF_NONE_MATCH: RequestHeader = RequestHeader {
    name: "if-none-match",
    about: "Of a read: 304 if the key's ETag is among these. Of a write: *, only if the key does not exist.",
};
static ACCEPT: RequestHeader = RequestHeader {
    name: "accept",
    about: "application/x-ndjson: one record a line.",
};
static LAST_EVENT_ID: RequestHeader = RequestHeader {
    name: "last-event-id",
    about: "Go on behind this event.",
};

/// A call that takes and answers what [`Call`]'s other fields say, once they are set.
const fn call(method: Method, path: &'static str, about: &'static str) -> Call {
    Call {
        method,
        path,
        about,
        parameters: &[],
        headers: &[],
        takes: Content::Nothing,
        answers: Content::Nothing,
        handler: || get(handlers::healthy),
    }
}

pub(super) static CALLS: &[Call] = &[
    Call {
        parameters: &handlers::GET,
        answers: Content::Json(&doc::FOUND),
        handler: || get(handlers::get_key),
        ..call(Method::Get, "/get", "Reads a key.")
    },
    Call {
        headers: &[&IDEMPOTENCY_KEY],
        takes: Content::Json(&doc::SET),
        answers: Content::Json(&doc::WRITTEN),
        handler: || post(handlers::set_key),
        ..call(Method::Post, "/set", "Sets a key.")
    },
    Call {
        parameters: &handlers::DELETE,
        headers: &[&IDEMPOTENCY_KEY],
        answers: Content::Json(&doc::DELETED),
        handler: || delete(handlers::delete_key),
        ..call(Method::Delete, "/delete", "Deletes a key.")
    },
    Call {
        answers: Content::Json(&doc::STATUS),
        handler: || get(handlers::status),
        ..call(Method::Get, "/status", "What this node is and how far it is.")
    },
    Call {
        parameters: &list::LIST,
        headers: &[&ACCEPT],
        answers: Content::JsonOrLines(&doc::LISTING),
        handler: || get(list::list),
        ..call(
            Method::Get,
            "/v1/kv",
            "Lists keys at one state: a page if a limit or cursor is given, else all of them as a stream.",
        )
    },
    Call {
        parameters: &list::DELETE,
        headers: &[&IDEMPOTENCY_KEY],
        answers: Content::Json(&doc::DELETED_RANGE),
        handler: || delete(list::delete),
        ..call(
            Method::Delete,
            "/v1/kv",
            "Deletes all keys of a range in one transaction.",
        )
    },
    Call {
        parameters: &kv::READ,
        headers: &[&IF_NONE_MATCH],
        answers: Content::Octets,
        handler: || get(kv::read),
        ..call(
            Method::Get,
            "/v1/kv/{*key}",
            "Reads a key: the value is the body, its record stands in header fields.",
        )
    },
    Call {
        parameters: &kv::PUT,
        headers: &[&IF_MATCH, &IF_NONE_MATCH, &IDEMPOTENCY_KEY],
        takes: Content::Octets,
        answers: Content::Json(&doc::WRITTEN),
        handler: || put(kv::put),
        ..call(Method::Put, "/v1/kv/{*key}", "Sets a key to the body.")
    },
    Call {
        parameters: &kv::DELETE,
        headers: &[&IF_MATCH, &IDEMPOTENCY_KEY],
        answers: Content::Json(&doc::DELETED),
        handler: || delete(kv::delete),
        ..call(
            Method::Delete,
            "/v1/kv/{*key}",
            "Deletes a key, or with ?prefix all that begin with it.",
        )
    },
    Call {
        headers: &[&IDEMPOTENCY_KEY],
        takes: Content::Json(&doc::TXN),
        answers: Content::Json(&doc::TXN_RESULT),
        handler: || post(txn::txn),
        ..call(
            Method::Post,
            "/v1/txn",
            "Compares, then runs one of two lists of operations; all at one revision, or nothing.",
        )
    },
    Call {
        headers: &[&IDEMPOTENCY_KEY],
        takes: Content::Json(&doc::INCREMENT),
        answers: Content::Json(&doc::INCREMENTED),
        handler: || post(txn::increment),
        ..call(
            Method::Post,
            "/v1/increment",
            "Adds to a number; a key that is not there counts as 0.",
        )
    },
    Call {
        parameters: &leases::LIST,
        answers: Content::Json(&doc::LEASES),
        handler: || get(leases::list),
        ..call(Method::Get, "/v1/leases", "Lists leases, a page at a time.")
    },
    Call {
        headers: &[&IDEMPOTENCY_KEY],
        takes: Content::Json(&doc::GRANT),
        answers: Content::Json(&doc::LEASE_TTL),
        handler: || post(leases::grant),
        ..call(Method::Post, "/v1/leases", "Grants a lease.")
    },
    Call {
        answers: Content::Json(&doc::LEASE),
        handler: || get(leases::one),
        ..call(
            Method::Get,
            "/v1/leases/{id}",
            "One lease, and the keys that hang on it.",
        )
    },
    Call {
        answers: Content::Json(&doc::REVOKED),
        handler: || delete(leases::revoke),
        ..call(
            Method::Delete,
            "/v1/leases/{id}",
            "Ends a lease, and deletes its keys.",
        )
    },
    Call {
        answers: Content::Json(&doc::LEASE_TTL),
        handler: || post(leases::renew),
        ..call(
            Method::Post,
            "/v1/leases/{id}/renew",
            "Lets a lease live its whole time again, from now on.",
        )
    },
    Call {
        answers: Content::Json(&doc::MEMBERS),
        handler: || get(members::list),
        ..call(Method::Get, "/v1/members", "Who is in the cluster.")
    },
    Call {
        takes: Content::Json(&doc::ADD_MEMBER),
        answers: Content::Json(&doc::MEMBERS),
        handler: || post(members::add),
        ..call(Method::Post, "/v1/members", "Lets a node in that asks to join.")
    },
    Call {
        takes: Content::Json(&doc::TRANSFER),
        answers: Content::Json(&doc::MEMBERS),
        handler: || post(members::transfer_leader),
        ..call(
            Method::Post,
            "/v1/members/transfer-leader",
            "Hands leadership over.",
        )
    },
    Call {
        parameters: &[&parameter::FORCE],
        answers: Content::Json(&doc::MEMBERS),
        handler: || delete(members::remove),
        ..call(Method::Delete, "/v1/members/{name}", "Removes a member.")
    },
    Call {
        parameters: &[&parameter::FORCE],
        answers: Content::Json(&doc::MEMBERS),
        handler: || post(members::promote),
        ..call(Method::Post, "/v1/members/{name}/promote", "Lets a learner vote.")
    },
    Call {
        parameters: &[&parameter::FORCE],
        answers: Content::Json(&doc::MEMBERS),
        handler: || post(members::replace),
        ..call(
            Method::Post,
            "/v1/members/{name}/replace",
            "Puts the node of that name that asks to join in the place of the one that was lost.",
        )
    },
    Call {
        answers: Content::Json(&doc::SCRUB),
        handler: || get(scrub::status),
        ..call(
            Method::Get,
            "/v1/scrub",
            "How the comparison of what the members have stored stands at this node.",
        )
    },
    Call {
        answers: Content::Json(&doc::SCRUB),
        handler: || post(scrub::start),
        ..call(
            Method::Post,
            "/v1/scrub",
            "Lets the members compare all that they have stored, now; tells how that stands at the leader.",
        )
    },
    Call {
        parameters: &watch::WATCH,
        headers: &[&LAST_EVENT_ID],
        answers: Content::Events,
        handler: || get(watch::watch),
        ..call(
            Method::Get,
            "/v1/watch",
            "Tells the changes of some keys as they happen, as server-sent events.",
        )
    },
    Call {
        answers: Content::Json(&doc::READY),
        handler: || get(handlers::ready),
        ..call(
            Method::Get,
            "/readyz",
            "200: this node can serve; 503: not now, and why.",
        )
    },
    Call {
        answers: Content::Json(&doc::HEALTHY),
        handler: || get(handlers::healthy),
        ..call(
            Method::Get,
            "/healthz",
            "200 as long as the process works at all, with or without a quorum.",
        )
    },
    Call {
        answers: Content::Text,
        handler: || get(handlers::metrics),
        ..call(
            Method::Get,
            "/metrics",
            "What monitoring wants to know of this node, in Prometheus' text format.",
        )
    },
    Call {
        answers: Content::Json(&doc::DESCRIPTION),
        handler: || get(handlers::openapi),
        ..call(Method::Get, "/openapi.json", "This description, in OpenAPI 3.1.")
    },
];

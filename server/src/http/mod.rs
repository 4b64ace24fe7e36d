//! The HTTP API: translates JSON into requests and responses into JSON, and nothing else.
//!
//! | call | answer |
//! |---|---|
//! | `GET /get?key=K`, optional `consistency`, `max_staleness_ms`, `revision`, `ago` | `{"key","value","revision"}` |
//! | `POST /set` `{"key","value"}`, optional `ttl_seconds`, `if_revision` | `{"key","revision"}` |
//! | `DELETE /delete?key=K`, optional `if_revision` | `{"key","deleted","revision"}` |
//! | `GET /status`, `/readyz`, `/healthz`, `/metrics` | about the node |
//! | `GET /v1/members` | `{"members":[..]}` as in `/status`, and so from all that follow |
//! | `POST /v1/members` `{"name"}`, optional `address`, `learner` | lets a node in that knocks |
//! | `DELETE /v1/members/N`, `POST /v1/members/N/promote`, `/v1/members/N/replace`, optional `?force=true` | |
//! | `POST /v1/members/transfer-leader`, optional `{"to"}` | hands leadership over |
//! | `GET`, `PUT`, `DELETE /v1/kv/K` | a key, its value as the body ([`kv`]) |
//! | `GET`, `DELETE /v1/kv?prefix=P` and more | ranges of keys ([`list`]) |
//! | `POST /v1/txn`, `POST /v1/increment` | transactions ([`txn_body`]) |
//! | `/v1/leases` and below | leases ([`leases`]) |
//! | `GET /v1/watch?prefix=P` and more, see [`watch`] | server-sent events |
//! | `GET /openapi.json` | all of this for programs ([`calls`]) |
//!
//! - Errors are JSON with `error` (a sentence), a stable `code`, and the status that goes with it ([`error`]).
//! - A value or key that is not UTF-8 stands as `value_base64` or `key_base64` (standard alphabet, padded).
//! - Keys in a query are percent-decoded to bytes, never lossily. `+` in a query is a space, as in the form encoding that
//!   every library writes: such a library writes a real plus as `%2B`, and so must who types the address by hand.
//! - Answers that the node gave carry `Raftkv-Cluster-Id`, `Raftkv-Node-Id`, `Raftkv-Term`, `Raftkv-Revision` and
//!   `Raftkv-History-Epoch`; those of reads that are not simply linearizable `Raftkv-Read-Basis`, and of stale ones
//!   `Raftkv-Applied-Index` and `Raftkv-Leader-Contact-Ms`.
//!
//! It has a thread and a runtime of its own, so that parsing JSON never delays consensus.

mod answer;
mod api;
mod calls;
mod counts;
mod error;
mod handlers;
mod idempotency;
mod json;
mod kv;
mod leases;
mod list;
mod listing;
mod members;
mod parameter;
mod query;
mod raw;
mod read;
mod records;
mod scrub;
mod server;
mod set_body;
mod tls;
mod txn;
mod txn_body;
mod watch;
mod write;

pub(crate) use calls::Served;
pub(crate) use raw::bad_request;
pub(crate) use server::{HttpPort, HttpServer, HttpSettings};

#[cfg(test)]
mod tests;

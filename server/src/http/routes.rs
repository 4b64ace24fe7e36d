//! Which call is handled where.

use std::sync::Arc;

use axum::Router;
use axum::routing::{delete, get, post};

use super::api::Api;
use super::{handlers, kv, leases, list, members, txn, watch};

pub(super) fn router(api: Api) -> Router {
    Router::new()
        .route("/get", get(handlers::get_key))
        .route("/set", post(handlers::set_key))
        .route("/delete", delete(handlers::delete_key))
        .route("/status", get(handlers::status))
        .route("/v1/kv", get(list::list).delete(list::delete))
        .route("/v1/kv/{*key}", get(kv::read).put(kv::put).delete(kv::delete))
        .route("/v1/txn", post(txn::txn))
        .route("/v1/increment", post(txn::increment))
        .route("/v1/leases", get(leases::list).post(leases::grant))
        .route("/v1/leases/{id}", get(leases::one).delete(leases::revoke))
        .route("/v1/leases/{id}/renew", post(leases::renew))
        .route("/v1/members", get(members::list).post(members::add))
        .route("/v1/members/transfer-leader", post(members::transfer_leader))
        .route("/v1/members/{name}", delete(members::remove))
        .route("/v1/members/{name}/promote", post(members::promote))
        .route("/v1/members/{name}/replace", post(members::replace))
        .route("/v1/watch", get(watch::watch))
        .route("/readyz", get(handlers::ready))
        .route("/healthz", get(handlers::healthy))
        .fallback(handlers::unknown_path)
        .method_not_allowed_fallback(handlers::wrong_method)
        .with_state(Arc::new(api))
}

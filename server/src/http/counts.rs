//! What the HTTP thread counts for monitoring: its connections, and the answers by their status.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use axum::http::StatusCode;

use crate::metrics::HttpFigures;

/// Counts that all clones share.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    connections: AtomicUsize,
    /// Taken by the HTTP thread alone, so nobody ever waits for it.
    answers: Mutex<BTreeMap<StatusCode, u64>>,
}

/// One of the connections, for as long as this lives.
#[derive(Debug)]
pub(super) struct Connection(Counts);

impl Counts {
    /// A connection was opened.
    pub(super) fn connection(&self) -> Connection {
        self.0.connections.fetch_add(1, Ordering::Relaxed);
        Connection(self.clone())
    }

    /// A request was answered.
    pub(super) fn answered(&self, status: StatusCode) {
        let mut answers = self.0.answers.lock().unwrap_or_else(PoisonError::into_inner);
        *answers.entry(status).or_default() += 1;
    }

    /// As they are now.
    pub(super) fn figures(&self, certificate_expires: Option<SystemTime>) -> HttpFigures {
        let answers = self.0.answers.lock().unwrap_or_else(PoisonError::into_inner);
        HttpFigures {
            certificate_expires,
            connections: self.0.connections.load(Ordering::Relaxed),
            answers: answers
                .iter()
                .map(|(status, count)| (status.as_u16(), *count))
                .collect(),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

//! Requests that were answered: of what kind, how, and after how long.

use std::collections::BTreeMap;
use std::time::Duration;

use raftkv_protocol::{ErrorCode, Request};

use super::Durations;
use crate::replica::Hop;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RequestKind {
    /// Anything that goes into the log: puts, deletes, transactions, leases and sessions.
    Write,
    /// A key.
    Get,
    /// A range of keys, or a key as it was.
    Range,
    /// A watch, up to its begin.
    Watch,
    /// About leases.
    Lease,
    /// A change of members.
    Member,
    /// What the node is, and how the comparison of records stands.
    Status,
    /// It could not be read.
    Unread,
}

impl RequestKind {
    /// Every kind.
    pub(crate) const ALL: [RequestKind; 8] = [
        RequestKind::Write,
        RequestKind::Get,
        RequestKind::Range,
        RequestKind::Watch,
        RequestKind::Lease,
        RequestKind::Member,
        RequestKind::Status,
        RequestKind::Unread,
    ];

    /// Of this request.
    #[must_use]
    pub(crate) fn of(request: &Request) -> RequestKind {
        match request {
            Request::Write(_) => RequestKind::Write,
            Request::Get { .. } => RequestKind::Get,
            Request::Range(_) => RequestKind::Range,
            Request::Watch(_) | Request::WatchControl(_) => RequestKind::Watch,
            Request::Lease(_) => RequestKind::Lease,
            Request::Member(_) => RequestKind::Member,
            Request::Status | Request::Scrub(_) => RequestKind::Status,
        }
    }

    /// As a label has it.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            RequestKind::Write => "write",
            RequestKind::Get => "get",
            RequestKind::Range => "range",
            RequestKind::Watch => "watch",
            RequestKind::Lease => "lease",
            RequestKind::Member => "member",
            RequestKind::Status => "status",
            RequestKind::Unread => "unread",
        }
    }
}

/// What is counted of a request before it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asking {
    /// What for.
    pub(crate) kind: RequestKind,
    /// A client, or another node on behalf of one.
    pub(crate) hop: Hop,
}

/// How it was answered: `None` is well.
pub(super) type Ending = Option<ErrorCode>;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requests {
    /// By kind, from clients and from other nodes: how long they took that ended well or with a failure.
    took: [[Durations; 2]; RequestKind::ALL.len()],
    /// Those that failed.
    failed: BTreeMap<(RequestKind, &'static str, ErrorCode), u64>,
}

impl Requests {
    /// One was answered.
    pub(crate) fn record(&mut self, asking: Asking, failure: Option<ErrorCode>, took: Duration) {
        let Asking { kind, hop } = asking;
        self.took[kind as usize][hop as usize].record(took);
        if let Some(code) = failure {
            *self.failed.entry((kind, sender(hop), code)).or_default() += 1;
        }
    }

    /// How long those took of which there was one.
    pub(super) fn durations(&self) -> impl Iterator<Item = (RequestKind, &'static str, &Durations)> {
        let of_kind = |kind: RequestKind| {
            [Hop::First, Hop::Last].map(|hop| (kind, sender(hop), &self.took[kind as usize][hop as usize]))
        };
        RequestKind::ALL
            .into_iter()
            .flat_map(of_kind)
            .filter(|(_, _, durations)| durations.count() > 0)
    }

    /// How many ended in which way.
    pub(super) fn endings(&self) -> impl Iterator<Item = (RequestKind, &'static str, Ending, u64)> {
        let failed = |kind, from| {
            let of = self
                .failed
                .range((kind, from, ErrorCode::ALL[0])..)
                .take_while(move |((other, sender, _), _)| (*other, *sender) == (kind, from));
            of.map(|((_, _, code), count)| (*code, *count))
        };
        self.durations().flat_map(move |(kind, from, durations)| {
            let all_failed: u64 = failed(kind, from).map(|(_, count)| count).sum();
            let well = (kind, from, None, durations.count() - all_failed);
            let failed = failed(kind, from).map(move |(code, count)| (kind, from, Some(code), count));
            std::iter::once(well).chain(failed)
        })
    }
}

/// As a label has it.
fn sender(hop: Hop) -> &'static str {
    match hop {
        Hop::First => "client",
        Hop::Last => "node",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart_by_kind_sender_and_ending() {
        let mut requests = Requests::default();
        let mut record = |kind, hop, failure| {
            requests.record(Asking { kind, hop }, failure, Duration::from_micros(70));
        };
        record(RequestKind::Get, Hop::First, None);
        record(RequestKind::Get, Hop::First, Some(ErrorCode::NoLeader));
        record(RequestKind::Get, Hop::First, Some(ErrorCode::NoLeader));
        record(RequestKind::Get, Hop::First, Some(ErrorCode::Overloaded));
        record(RequestKind::Write, Hop::Last, Some(ErrorCode::NotLeader));
        record(RequestKind::Write, Hop::First, None);
        let endings: Vec<_> = requests.endings().collect();
        assert_eq!(
            endings,
            [
                (RequestKind::Write, "client", None, 1),
                (RequestKind::Write, "node", None, 0),
                (RequestKind::Write, "node", Some(ErrorCode::NotLeader), 1),
                (RequestKind::Get, "client", None, 1),
                (RequestKind::Get, "client", Some(ErrorCode::Overloaded), 1),
                (RequestKind::Get, "client", Some(ErrorCode::NoLeader), 2),
            ]
        );
        let counts = requests.durations().map(|(_, _, durations)| durations.count());
        assert_eq!(counts.sum::<u64>(), 6);
    }
}

//! Clients that list ranges page by page, at whichever node, and read the past.

use bytes::Bytes;
use raftkv_protocol::{
    At, Consistency, ErrorCode, Failure, KeySpan, Order, RangePage, RangeRequest, Revision, Shape,
};

use super::{Happening, World};
use crate::simulation::observer::Listing;
use crate::simulation::random::exponential;
use crate::simulation::schedule::Asked;

/// The mean time between two pages: drains and trims come in between.
const PAGE_PAUSE_US: u64 = 100_000;

impl World {
    /// The listing that an operation begins with; `None`: it is none.
    pub(super) fn draw_listing(&mut self, asked: Asked, key: &Bytes, floor: u64) -> Option<Listing> {
        let rng = &mut self.clients.rng;
        // Somewhat beyond what was shown there is perhaps a state, and perhaps none yet.
        let past = |permille: u16| At::Revision(Revision((floor * u64::from(permille) / 1000).max(1)));
        let (consistency, at) = match asked {
            Asked::List | Asked::ListCount => (Consistency::Linearizable, At::Latest),
            Asked::LeaseList => (Consistency::LeaderLease, At::Latest),
            Asked::StaleList => (Consistency::Stale, At::Latest),
            Asked::ListPast { permille } | Asked::GetPast { permille } => {
                (Consistency::Linearizable, past(permille))
            }
            Asked::ListAgo { ago_ms } => (Consistency::Linearizable, At::Ago { ago_ms }),
            _ => return None,
        };
        let span = match (asked, rng.u32(..4)) {
            (Asked::GetPast { .. }, _) => KeySpan::one(key),
            (_, 0) => KeySpan::prefix(b"key"),
            (_, 1) => KeySpan {
                from: key.clone(),
                to: None,
            },
            _ => KeySpan::all(),
        };
        let shape = match (asked, rng.u32(..4)) {
            (Asked::ListCount, _) => Shape::CountOnly,
            (_, 0) => Shape::KeysOnly,
            _ => Shape::Records,
        };
        let order = match rng.bool() {
            true => Order::Ascending,
            false => Order::Descending,
        };
        let request = RangeRequest {
            order,
            shape,
            at,
            consistency,
            limit: rng.bool().then(|| rng.u32(1..8)),
            max_bytes: [0, 300, 1000, u32::MAX][rng.usize(..4)],
            ..RangeRequest::new(span)
        };
        Some(Listing { request, of: None })
    }

    /// A page has come: the next one is asked for, of anybody, or the listing is over.
    pub(super) fn page_arrived(&mut self, client: usize, page: &RangePage) {
        let next = self.clients.next_attempt();
        let nodes = self.machines.len();
        let Some(cursor) = &page.cursor else {
            return self.listing_over(client);
        };
        let via = self.clients.rng.usize(..nodes);
        let Some(ongoing) = self.clients.ongoing(client) else {
            return;
        };
        if let Some(listing) = &mut ongoing.invocation.listing {
            listing.of = Some(page.at.0);
            listing.request.cursor = Some(cursor.clone());
        }
        (ongoing.attempt, ongoing.attempts, ongoing.via) = (next, 0, via);
        let pause = exponential(&mut self.clients.rng, PAGE_PAUSE_US);
        let again = Happening::ClientRetry {
            client,
            attempt: next,
        };
        self.queue.push(self.now + pause, again);
    }

    /// A refusal that will be the same the next time; `false`: it is none of a page.
    pub(super) fn page_refused(&mut self, by: usize, client: usize, failure: &Failure) -> bool {
        let is_final = matches!(
            failure.code,
            ErrorCode::Compacted | ErrorCode::FutureRevision | ErrorCode::BadRequest
        );
        let Some(ongoing) = self.clients.ongoing(client) else {
            return false;
        };
        if !is_final || ongoing.invocation.listing.is_none() {
            return false;
        }
        let invocation = ongoing.invocation.clone();
        self.observer.page_refused(by, &invocation, failure);
        self.listing_over(client);
        true
    }
}

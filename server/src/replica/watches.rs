//! How a watch begins. Once it has, the node knows nothing of it any more: it follows the events that are recorded.

use std::collections::BTreeMap;

use raftkv_protocol::{ErrorCode, Header, WatchRequest, WatchStart};
use raftkv_raft::Time;
use raftkv_raft::simulation::mark;

use super::formed::Formed;
use super::outbox::Outbox;
use super::promises::Promise;
use super::reads::{PendingRead, Wanted};
use super::{Effect, Token};
use crate::store::Pinned;
use crate::watch::compacted;

/// A watch begins: every event behind the header's revision comes with an [`Effect::Record`] that follows this.
#[derive(Debug)]
pub struct WatchBegin {
    /// Whose request it was; it is answered by the watch's parts.
    pub token: Token,
    /// What it wants.
    pub request: WatchRequest,
    /// The last revision that is applied, and in whose term.
    pub header: Header,
    /// What a watch from a snapshot begins with: memory's part of the state at that revision. It needs the base as it is
    /// when this effect is carried out.
    pub snapshot: Option<Pinned>,
}

/// Watches that wait for the proof that this node's state is new enough.
#[derive(Debug, Default)]
pub(super) struct Watches {
    asked: BTreeMap<Token, WatchRequest>,
}

impl Watches {
    /// They were refused.
    pub(super) fn forget(&mut self, token: Token) {
        self.asked.remove(&token);
    }
}

impl Formed {
    /// Takes a watch. One from a revision follows this node's state, however old; the others begin with a state that holds
    /// all that was acknowledged before.
    pub(super) fn take_watch(
        &mut self,
        (token, deadline, leader_deadline): (Token, Time, Time),
        request: WatchRequest,
        out: &mut Outbox,
    ) {
        let epoch = self.header().epoch;
        if request.epoch.is_some_and(|other| other != epoch) {
            let message = format!(
                "the revision is of another history than this cluster's, whose epoch is {epoch}; the oldest kept is {}: begin \
                 anew with a snapshot",
                self.store.oldest_kept()
            );
            out.refuse(token, self.refusal(ErrorCode::Compacted, &message));
            return;
        }
        out.take_request();
        let needs_proof = !matches!(request.start, WatchStart::Revision(_));
        self.watches.asked.insert(token, request);
        if !needs_proof {
            self.begin_watch(token, out);
            return;
        }
        self.reads.push(PendingRead {
            token,
            wanted: Wanted::Watch,
            deadline,
            leader_deadline,
            promise: Promise::Linearizable,
        });
    }

    /// The state here is new enough for the watch.
    pub(super) fn begin_watch(&mut self, token: Token, out: &mut Outbox) {
        let request = self.watches.asked.remove(&token).expect("it waits");
        if let WatchStart::Revision(from) = request.start
            && from < self.store.oldest_kept()
        {
            mark("watch refused, its begin is not kept");
            let failure = compacted(from, self.store.oldest_kept());
            out.finish(token, self.refusal(failure.code, &failure.message));
            return;
        }
        mark("watch begun");
        let snapshot = (request.start == WatchStart::Snapshot).then(|| self.store.pin());
        out.finish_by(Effect::BeginWatch(Box::new(WatchBegin {
            token,
            header: self.header(),
            request,
            snapshot,
        })));
    }
}

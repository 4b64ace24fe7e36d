//! What may be said: I11 (durable before visible), I2, I9, I19.

use raftkv_protocol::{RaftBody, RaftMessage};

use super::Observer;

impl Observer {
    /// A node sends a consensus message: all of it must be implied by what a power failure would leave.
    pub(crate) fn sends(&mut self, slot: usize, message: &RaftMessage) {
        let belongs = self.cluster == Some(message.cluster.0);
        if !self.is_watched(slot) {
            if belongs && self.by_identity.contains_key(&message.from.0) {
                let what = format!("left behind by a recovery, it speaks in the new cluster: {message:?}");
                self.violate("I27", Some(slot), what);
            }
            return;
        }
        if !belongs {
            let what = format!("speaks in a cluster that is not this one: {message:?}");
            self.violate("I27", Some(slot), what);
        }
        let view = self.current[slot];
        let durable_term = self.views[view]
            .durable_hard_state
            .map_or(0, |state| state.term.0);
        if message.term > durable_term {
            let what = format!(
                "shows term {} while {durable_term} is durable: {:?}",
                message.term, message.body
            );
            self.violate_at("I11", view, what);
        }
        match &message.body {
            RaftBody::VoteReply { granted: true } => self.check_vote(view, message),
            RaftBody::AppendAccepted { matched, .. } => self.check_ack(view, message, *matched),
            RaftBody::Append { entries, .. } => {
                let bytes: usize = entries
                    .iter()
                    .rev()
                    .skip(1)
                    .map(|entry| entry.payload.len())
                    .sum();
                if entries.len() > self.limits.entries || bytes > self.limits.bytes {
                    let what = format!(
                        "an append of {} entries, {bytes} bytes before its last",
                        entries.len()
                    );
                    self.violate_at("I19", view, what);
                }
            }
            RaftBody::VoteReply { granted: false }
            | RaftBody::PreVoteRequest { .. }
            | RaftBody::PreVoteReply { .. }
            | RaftBody::VoteRequest { .. }
            | RaftBody::AppendRefused { .. }
            | RaftBody::Heartbeat { .. }
            | RaftBody::HeartbeatReply { .. }
            | RaftBody::ReadIndexRequest { .. }
            | RaftBody::ReadIndexReply { .. }
            | RaftBody::TimeoutNow
            | RaftBody::SnapshotPart { .. }
            | RaftBody::SnapshotReply { .. }
            | RaftBody::StateHash { .. }
            | RaftBody::RecordsHash { .. } => {}
        }
    }

    fn check_vote(&mut self, view: usize, message: &RaftMessage) {
        let durable = self.views[view].durable_hard_state;
        let is_implied = durable.is_some_and(|state| {
            state.term.0 > message.term
                || state.term.0 == message.term && state.vote.map(|id| id.0) == Some(message.to.0)
        });
        if !is_implied {
            let what = format!(
                "votes for {} in term {}, durable is {durable:?}",
                message.to, message.term
            );
            self.violate_at("I11", view, what);
        }
        self.voted(view, message.term, message.to.0);
    }

    fn check_ack(&mut self, view: usize, message: &RaftMessage, matched: u64) {
        let highest = self.acknowledged.entry((view, message.to.0)).or_default();
        *highest = (*highest).max((message.term, matched));
        let node = &self.views[view];
        let durable = node.durable_chain_at(matched);
        if matched > node.durable.len() as u64 {
            let what = format!("acknowledges {matched} while {} is durable", node.durable.len());
            self.violate_at("I11", view, what);
            return;
        }
        let leader = self.leaders.get(&message.term).map(|&view| &self.views[view]);
        let led = leader.filter(|leader| leader.leads == Some(message.term));
        let is_leaders = led.is_none_or(|leader| leader.chain_at(matched) == durable);
        // Its own log may have been cut by a newer leader since: what is durable counts, as if the message was slow.
        if !is_leaders {
            let what = format!(
                "acknowledges {matched} in term {}, but holds another log",
                message.term
            );
            self.violate_at("I9", view, what);
        }
    }
}

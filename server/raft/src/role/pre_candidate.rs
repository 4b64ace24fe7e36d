//! Asks whether it could win, before it disturbs anyone with a higher term (thesis 9.6).

use super::{Next, Votes};
use crate::shared::Shared;
use crate::{Campaign, Message, NodeId, Term, Time, Transition, Verdict};

#[derive(Debug)]
pub(crate) struct PreCandidate {
    campaign_term: Term,
    votes: Votes,
}

impl PreCandidate {
    /// Asks every voter. The leader it had is forgotten (R15).
    pub(crate) fn ask(shared: &mut Shared, now: Time) -> (PreCandidate, Next) {
        shared.restart_election_timer(now);
        shared.follows_nobody();
        let campaign_term = shared.term().next();
        shared.report(Transition::PreCampaign { campaign_term });
        let configuration = shared.configurations.latest().clone();
        let mut candidate = PreCandidate {
            campaign_term,
            votes: Votes::default(),
        };
        // It would vote for itself if it is a voter; nothing has to be durable for that, for nothing is promised.
        candidate.votes.note(&configuration, shared.id, Verdict::Granted);
        let request = Message::PreVoteRequest {
            campaign_term,
            last: shared.log.last(),
        };
        let own = shared.id;
        for peer in configuration
            .members()
            .into_iter()
            .filter(|peer| *peer != own && configuration.is_voter(*peer))
        {
            shared.send(peer, request.clone());
        }
        let next = candidate.next(shared);
        (candidate, next)
    }

    /// An answer; one to another campaign is nothing to us (R8).
    pub(crate) fn answered(
        &mut self,
        shared: &Shared,
        from: NodeId,
        campaign_term: Term,
        verdict: Verdict,
    ) -> Next {
        if campaign_term != self.campaign_term {
            return Next::Stay;
        }
        self.votes.note(shared.configuration(), from, verdict);
        self.next(shared)
    }

    fn next(&self, shared: &Shared) -> Next {
        if self.votes.are_won(shared.configuration()) {
            Next::Campaign(Campaign::Election)
        } else {
            Next::Stay
        }
    }
}

//! Asks for votes in a new term (paper §5.2). The only way to become a leader.

use super::leader::Leader;
use super::{Next, Votes};
use crate::shared::Shared;
use crate::simulation::mutant;
use crate::{Campaign, Configuration, Message, NodeId, Time, Transition, Verdict};

#[derive(Debug)]
pub(crate) struct Candidate {
    votes: Votes,
}

impl Candidate {
    /// A new term, and a vote for itself. The requests leave once that vote is durable, and only then does it count (R1).
    pub(crate) fn campaign(shared: &mut Shared, now: Time, campaign: Campaign) -> Candidate {
        let term = shared.term().next();
        shared.enter_term(term);
        shared.cast_vote(shared.id);
        shared.restart_election_timer(now);
        shared.follows_nobody();
        shared.report(Transition::Campaign { term });
        let configuration = shared.configurations.latest().clone();
        let request = Message::VoteRequest {
            last: shared.log.last(),
            campaign,
        };
        let own = shared.id;
        for peer in configuration
            .members()
            .into_iter()
            .filter(|peer| *peer != own && configuration.is_voter(*peer))
        {
            shared.send(peer, request.clone());
        }
        Candidate {
            votes: Votes::default(),
        }
    }

    pub(crate) fn answered(&mut self, shared: &Shared, from: NodeId, verdict: Verdict) -> Next {
        self.votes.note(shared.configuration(), from, verdict);
        self.next(shared)
    }

    /// Some write finished: perhaps the one with the own vote.
    pub(crate) fn persisted(&mut self, shared: &Shared) -> Next {
        if shared.is_hard_state_persisted() {
            self.votes
                .note(shared.configuration(), shared.id, Verdict::Granted);
        }
        self.next(shared)
    }

    fn next(&self, shared: &Shared) -> Next {
        if self.votes.are_won(counted_by(shared)) {
            Next::Lead
        } else {
            Next::Stay
        }
    }

    /// Elected: a candidate becomes the leader of its term, and stops being a candidate.
    pub(crate) fn into_leader(self, shared: &mut Shared, now: Time) -> Leader {
        assert!(
            self.votes.are_won(counted_by(shared)),
            "a leader of term {} without a quorum of votes: {:?}",
            shared.term(),
            self.votes
        );
        Leader::elected(shared, now)
    }
}

/// The configuration whose quorum elects: the latest in the log, committed or not (R13).
fn counted_by(shared: &Shared) -> &Configuration {
    if mutant("X14_votes_counted_by_an_older_configuration") {
        return shared.configurations.committed(shared.commit());
    }
    shared.configuration()
}

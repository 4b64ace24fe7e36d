//! The four roles. Each owns only its own fields; what a role decides goes back to [`Raft`](crate::Raft) as a [`Next`],
//! and the change consumes the old role. Only a candidate becomes a leader.

mod candidate;
mod follower;
mod leader;
mod pre_candidate;

pub(crate) use candidate::Candidate;
pub(crate) use follower::{Append, Follower, Heartbeat};
pub(crate) use leader::{Leader, entries_of};
pub(crate) use pre_candidate::PreCandidate;

use std::collections::BTreeMap;

use crate::{Campaign, Configuration, NodeId, StepDown, Verdict, quorum};

#[derive(Debug)]
pub(crate) enum Role {
    Follower(Follower),
    PreCandidate(PreCandidate),
    Candidate(Candidate),
    Leader(Leader),
}

/// What a role asks for after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Next {
    /// It goes on.
    Stay,
    /// Ask for pre-votes.
    PreCampaign,
    /// The pre-vote is won, or leadership handed over: ask for votes.
    Campaign(Campaign),
    /// The vote is won.
    Lead,
    /// Lead no more, in the same term.
    StepDown(StepDown),
}

/// The answers to one campaign, the last one of each voter.
#[derive(Debug, Default)]
struct Votes {
    answers: BTreeMap<NodeId, Verdict>,
}

impl Votes {
    /// Only voters of the configuration are noted (R13), so that strangers can not fill memory.
    fn note(&mut self, configuration: &Configuration, voter: NodeId, verdict: Verdict) {
        if configuration.is_voter(voter) {
            self.answers.insert(voter, verdict);
        }
    }

    fn are_won(&self, configuration: &Configuration) -> bool {
        quorum::has_quorum(configuration, |voter| {
            self.answers.get(&voter) == Some(&Verdict::Granted)
        })
    }
}

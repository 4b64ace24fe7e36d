//! What a leader knows of its peers: for status, for judging who may vote, and for the simulator's observer.

use crate::progress::{Progress, State};
use crate::role::Role;
use crate::{Index, NodeId, Raft, Time};

/// What a leader knows of one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerProgress {
    /// Who.
    pub peer: NodeId,
    /// Proven to match, and durable there.
    pub matched: Option<Index>,
    /// Sent next.
    pub next: Index,
    /// How the log is sent to it.
    pub state: ProgressState,
    /// When it last answered in this term; `None`: not yet.
    pub last_heard: Option<Time>,
}

/// How the log is sent to a peer (R77).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressState {
    /// One append at a time, to find the match.
    Probe,
    /// Appends in a window.
    Replicate,
    /// Nothing, until it has a snapshot.
    Snapshot,
}

impl PeerProgress {
    pub(crate) fn of(peer: NodeId, progress: &Progress) -> PeerProgress {
        PeerProgress {
            peer,
            matched: progress.matched(),
            next: progress.next(),
            state: match progress.state() {
                State::Probe(_) => ProgressState::Probe,
                State::Replicate(_) => ProgressState::Replicate,
                State::Snapshot(_) => ProgressState::Snapshot,
            },
            last_heard: progress.has_answered().then(|| progress.heard()),
        }
    }
}

impl Raft {
    /// What this leader knows of its peers, learners included; nothing on any other role.
    pub fn peer_progress(&self) -> impl Iterator<Item = PeerProgress> {
        let peers = match &self.role {
            Role::Leader(leader) => Some(leader.peer_progress()),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => None,
        };
        peers.into_iter().flatten()
    }

    /// What this leader knows of `peer`; `None` when it is no peer, or this node does not lead.
    #[must_use]
    pub fn progress(&self, peer: NodeId) -> Option<PeerProgress> {
        match &self.role {
            Role::Leader(leader) => leader.progress(peer),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => None,
        }
    }

    /// Would `peer`, as a voter, hold nobody up: is it alive, and did it need less than an election time-out for all that the
    /// log held when that last round began (R60, thesis 4.2.1)? False on a node that does not lead.
    #[must_use]
    pub fn is_caught_up(&self, now: Time, peer: NodeId) -> bool {
        match &self.role {
            Role::Leader(leader) => leader.is_caught_up(&self.shared, now, peer),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => false,
        }
    }

    /// When this node campaigns, if it does not lead and nothing restarts its timer (R6).
    #[cfg(feature = "simulation")]
    #[must_use]
    pub fn election_deadline(&self) -> Time {
        self.shared.election_deadline
    }
}

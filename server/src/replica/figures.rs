//! What a node is at one moment, as numbers for its operator's monitoring. Nothing decides by them.

use std::time::Duration;

use raftkv_protocol::{NodeName, Revision, Status};
use raftkv_raft::{Index, PeerProgress, ProgressState, Time};

use super::Node;
use super::formed::Formed;

/// What any node can tell.
#[derive(Clone, Debug)]
pub struct NodeFigures {
    /// As every door tells it.
    pub status: Status,
    /// Requests taken and not answered yet.
    pub waiting_requests: usize,
    /// `None` before the node is part of a cluster.
    pub formed: Option<FormedFigures>,
}

/// What a node of a cluster can tell.
#[derive(Clone, Debug)]
pub struct FormedFigures {
    /// It was found to differ from the others, and serves no more.
    pub is_quarantined: bool,
    /// The first entry that its log still holds, the last one, and the last one that is durable.
    pub log: LogFigures,
    /// How long ago it heard from a leader; `None`: never in this life. Zero on the leader.
    pub leader_contact: Option<Duration>,
    /// What the leader knows of the others; nobody on other nodes.
    pub followers: Vec<FollowerFigures>,
    /// Writes that wait because the drain under way leaves no room for them.
    pub slowed_writes: usize,
    /// The oldest revision that can be read, as the members have agreed.
    pub oldest_revision: Revision,
    /// What memory holds of the state, and what it may.
    pub overlay: OverlayFigures,
    /// Leases that have not ended.
    pub leases: usize,
    /// Sessions that have not ended.
    pub sessions: usize,
    /// The disk's room.
    pub disk: DiskFigures,
}

/// Where a log begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogFigures {
    /// The first entry it holds, or would hold.
    pub first: Index,
    /// Its last entry, durable or not.
    pub last: Index,
    /// The last entry that is durable here.
    pub durable: Index,
}

/// How far a follower is, as its leader knows.
#[derive(Clone, Debug)]
pub struct FollowerFigures {
    /// Its name; its identity where the configuration names it no more.
    pub name: NodeName,
    /// It holds the log durably up to here; `None`: not known yet.
    pub matched: Option<Index>,
    /// How long ago it last answered; `None`: never in this term.
    pub silence: Option<Duration>,
    /// Is it behind what the log still holds, so that it needs a snapshot?
    pub needs_snapshot: bool,
}

/// Memory of what was written lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverlayFigures {
    /// What it takes, about.
    pub bytes: u64,
    /// What it may take.
    pub limit_bytes: u64,
    /// Generations that wait for their drain, the one under way included.
    pub undrained: usize,
}

/// Room on the disk of the data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskFigures {
    /// As of the last measurement; `None` before the first.
    pub free_bytes: Option<u64>,
    /// Puts are refused below this.
    pub reserve_bytes: u64,
    /// They are refused now.
    pub is_low: bool,
}

impl Node {
    /// What it is now. Costs a few allocations: for who asks now and then, not for each request.
    #[must_use]
    pub fn figures(&self, now: Time) -> NodeFigures {
        NodeFigures {
            status: self.status(now),
            waiting_requests: self.waiting_requests(),
            formed: self.formed().map(|formed| formed.figures(now)),
        }
    }
}

impl Formed {
    fn figures(&self, now: Time) -> FormedFigures {
        let (overlay_bytes, _) = self.store.overlay_bytes();
        let followers = self.raft.peer_progress();
        FormedFigures {
            is_quarantined: self.divergence.quarantine().is_some(),
            log: LogFigures {
                first: self.raft.base().index.next(),
                last: self.raft.last().index,
                durable: self.raft.persisted_index(),
            },
            leader_contact: self.raft.leader_contact(now),
            followers: followers
                .map(|progress| self.follower_figures(now, &progress))
                .collect(),
            slowed_writes: self.writes.slowed(),
            oldest_revision: self.store.oldest_kept(),
            overlay: OverlayFigures {
                bytes: overlay_bytes,
                limit_bytes: self.store.config().overlay_bytes,
                undrained: self.store.undrained(),
            },
            leases: self.store.lease_count(),
            sessions: self.store.session_count(),
            disk: self.space.figures(),
        }
    }

    fn follower_figures(&self, now: Time, progress: &PeerProgress) -> FollowerFigures {
        let member = self.members.current().member(progress.peer);
        let name = member.map_or_else(
            || NodeName::from(raftkv_protocol::NodeId(progress.peer.0).to_string().as_str()),
            |member| member.name.clone(),
        );
        FollowerFigures {
            name,
            matched: progress.matched,
            silence: progress.last_heard.map(|heard| now.since(heard)),
            needs_snapshot: progress.state == ProgressState::Snapshot,
        }
    }
}

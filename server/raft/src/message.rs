//! What nodes say to each other. One variant a kind of message; sender, receiver and term stand in the envelope.

use crate::{Entry, EntryId, Index, NodeId, Term};

/// A message with sender, receiver and the sender's term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Who sends.
    pub from: NodeId,
    /// Who is meant; a message for another node is dropped by the receiver.
    pub to: NodeId,
    /// The sender's current term (for [`Message::PreVoteRequest`] too: the term asked about is in the request).
    pub term: Term,
    /// What is said.
    pub message: Message,
}

/// A leader's numbered confirmation round: never reused within a term (R68).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Round(pub u64);

/// Names one batch of reads at the node that asked; never reused while that node's process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);

/// A peer's stay in the configuration: the index of the configuration that admitted it. Acks that carry another
/// session are from a former stay (or a leader's former view) and are dropped (R22).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReplicationSession(pub Index);

/// The answer to a request for a (pre-)vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The vote is given.
    Granted,
    /// It is not.
    Refused,
}

/// Why a real vote is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Campaign {
    /// An election time-out and a won pre-vote: voters that hear a leader ignore it (R10).
    Election,
    /// A transfer of leadership: overrides stickiness (R66).
    Transfer,
}

/// All that nodes of a group say to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// "Would you vote for me in `campaign_term`?" Changes nothing at the receiver (thesis 9.6, R8).
    PreVoteRequest {
        /// The term a real campaign would have.
        campaign_term: Term,
        /// The asker's last entry.
        last: EntryId,
    },
    /// Answer to a pre-vote; bound to the term that was asked about.
    PreVoteReply {
        /// Copied from the request.
        campaign_term: Term,
        /// Granted or not.
        verdict: Verdict,
    },
    /// Request for a vote in the envelope's term (paper §5.2).
    VoteRequest {
        /// The candidate's last entry.
        last: EntryId,
        /// Why it campaigns.
        campaign: Campaign,
    },
    /// Answer to a [`Message::VoteRequest`] of the envelope's term.
    VoteReply {
        /// Granted or not.
        verdict: Verdict,
    },
    /// Entries to append after `prev` (paper §5.3). Without entries it probes the match.
    Append {
        /// The peer's stay this append belongs to.
        session: ReplicationSession,
        /// The entry just before the first one sent.
        prev: EntryId,
        /// What the leader knows committed.
        commit: Index,
        /// The entries, contiguous from `prev.index + 1`.
        entries: Vec<Entry>,
    },
    /// The log up to `matched` is durable at the sender and equals the leader's (R23, R34).
    AppendAccepted {
        /// Copied from the append.
        session: ReplicationSession,
        /// Verified and durable up to here.
        matched: Index,
    },
    /// The log does not hold `prev`.
    AppendRefused {
        /// Copied from the append.
        session: ReplicationSession,
        /// The `prev.index` that was refused, so that the leader knows which probe this answers.
        refused: Index,
        /// Where to try next: the sender's entry with the greatest id at an index below `refused` that could match
        /// (R24: skips by term).
        hint: EntryId,
    },
    /// "I still lead", and the question that confirms reads (R68).
    Heartbeat {
        /// The peer's stay.
        session: ReplicationSession,
        /// Commit index, capped at what the leader knows to match at this peer (R21).
        commit: Option<Index>,
        /// The confirmation round.
        round: Round,
    },
    /// Answer to a heartbeat.
    HeartbeatReply {
        /// Copied from the heartbeat.
        session: ReplicationSession,
        /// Copied from the heartbeat.
        round: Round,
    },
    /// A follower asks the leader for a read index (thesis 6.4).
    ReadIndexRequest {
        /// The follower's name for it.
        id: ReadId,
    },
    /// The leader's confirmed read index, or its refusal.
    ReadIndexReply {
        /// Copied from the request.
        id: ReadId,
        /// Serve once applied up to here; `None`: not the leader, or no longer.
        index: Option<Index>,
    },
    /// From a leader that hands over: campaign at once (thesis 3.10, R66).
    TimeoutNow,
}

//! One core, whose peers are what the test says they are.

use std::time::Duration;

use raftkv_raft::{
    Campaign, ChangeChecks, ChangeError, Config, Entry, EntryId, Envelope, Index, Message, NodeId, Raft,
    ReplicationSession, RoleName, Round, Term, Time, Verdict,
};

use super::{Durable, Node, change, index, nodes, voters};

pub(crate) struct Lone {
    pub(crate) node: Node,
    pub(crate) now: Time,
}

/// The session of everybody who is in the founding configuration.
pub(crate) fn session() -> ReplicationSession {
    ReplicationSession(index(super::FOUNDING))
}

pub(crate) fn vote_request(last: EntryId) -> Message {
    Message::VoteRequest {
        last,
        campaign: Campaign::Election,
    }
}

pub(crate) fn pre_vote_request(campaign_term: u64, last: EntryId) -> Message {
    Message::PreVoteRequest {
        campaign_term: Term(campaign_term),
        last,
    }
}

pub(crate) fn append(prev: EntryId, commit: u64, entries: Vec<Entry>) -> Message {
    Message::Append {
        session: session(),
        prev,
        commit: index(commit),
        entries,
    }
}

pub(crate) fn heartbeat(commit: Option<u64>, round: u64) -> Message {
    Message::Heartbeat {
        session: session(),
        commit: commit.map(index),
        round: Round(round),
    }
}

pub(crate) fn accepted(matched: u64) -> Message {
    Message::AppendAccepted {
        session: session(),
        matched: index(matched),
    }
}

pub(crate) fn round_answered(round: u64) -> Message {
    Message::HeartbeatReply {
        session: session(),
        round: Round(round),
    }
}

pub(crate) fn vote(verdict: Verdict) -> Message {
    Message::VoteReply { verdict }
}

impl Lone {
    /// Node 1 of three new ones.
    pub(crate) fn new() -> Lone {
        Lone::with(Durable::founded(voters(3)))
    }

    pub(crate) fn with(disk: Durable) -> Lone {
        Lone::configured(&Config::default(), disk)
    }

    pub(crate) fn configured(config: &Config, disk: Durable) -> Lone {
        let now = Time(1_000_000);
        Lone {
            node: Node::start(1, config, disk, 7, now),
            now,
        }
    }

    /// Node 1 of three, which leads `term` with what its log holds and a no-op; all durable, nothing answered.
    pub(crate) fn leading(disk: Durable) -> Lone {
        let mut lone = Lone::with(disk);
        lone.elect();
        lone
    }

    /// Elected by node 2, its no-op durable here.
    pub(crate) fn elect(&mut self) {
        self.campaign();
        let term = self.raft().term().0;
        self.hear(2, term, vote(Verdict::Granted));
        assert_eq!(self.raft().role(), RoleName::Leader);
        self.persist();
    }

    /// A candidate with its own vote durable.
    pub(crate) fn campaign(&mut self) {
        self.campaign_with(&[2]);
    }

    /// The same, with pre-votes of these.
    pub(crate) fn campaign_with(&mut self, voters: &[u64]) {
        self.time_out();
        let campaign_term = self.raft().term().next();
        for voter in voters {
            let granted = Message::PreVoteReply {
                campaign_term,
                verdict: Verdict::Granted,
            };
            self.hear(*voter, campaign_term.0 - 1, granted);
        }
        assert_eq!(self.raft().role(), RoleName::Candidate);
        self.persist();
    }

    pub(crate) fn raft(&mut self) -> &mut Raft {
        &mut self.node.raft
    }

    /// A message arrives; what the node sends at that.
    pub(crate) fn hear(&mut self, from: u64, term: u64, message: Message) -> Vec<Envelope> {
        let envelope = Envelope {
            from: NodeId(from),
            to: NodeId(1),
            term: Term(term),
            message,
        };
        self.node.raft.step(self.now, envelope);
        self.sends()
    }

    pub(crate) fn sends(&mut self) -> Vec<Envelope> {
        self.node.drain(self.now)
    }

    /// All queued writes finish; what the node sends at that.
    pub(crate) fn persist(&mut self) -> Vec<Envelope> {
        let mut sent = self.sends();
        while self.node.persist_one(self.now) {
            sent.extend(self.sends());
        }
        sent
    }

    pub(crate) fn wait(&mut self, millis: u64) -> Vec<Envelope> {
        self.now = self.now.after(Duration::from_millis(millis));
        let now = self.now;
        self.raft().tick(now);
        self.sends()
    }

    /// Time passes to the node's deadline.
    pub(crate) fn time_out(&mut self) -> Vec<Envelope> {
        let deadline = self.raft().next_deadline();
        assert!(deadline < Time::NEVER, "it waits for something");
        self.now = self.now.max(deadline);
        self.wait(0)
    }

    pub(crate) fn restart(&mut self) {
        let disk = self.node.disk.clone();
        self.node = Node::start(1, &Config::default(), disk, 8, self.now);
    }

    /// Asks this leader to change the group to these.
    pub(crate) fn change(&mut self, voters: &[u64], learners: &[u64]) -> Result<EntryId, ChangeError> {
        let now = self.now;
        let configuration = self
            .raft()
            .configuration()
            .towards(nodes(voters), nodes(learners));
        self.raft()
            .propose_change(now, change(configuration, ChangeChecks::SafetyAlone))
    }

    pub(crate) fn commit(&mut self) -> Index {
        self.raft().commit()
    }
}

/// Just what is said.
pub(crate) fn messages(sent: Vec<Envelope>) -> Vec<Message> {
    sent.into_iter().map(|envelope| envelope.message).collect()
}

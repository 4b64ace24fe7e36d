//! Consensus alone: three nodes in memory, whose writes are durable at once.

use std::collections::VecDeque;

use bytes::Bytes;
use raftkv_raft::{
    Config, Configuration, EntryId, EntryKind, Envelope, HardState, Index, NodeId, Proposal, Raft, Restored,
    Stamp, Term, Time,
};

use crate::commands::put;
use crate::{BATCH, Operation};

const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

/// From the proposal of a batch until all three nodes have handed it out as committed, with the heartbeat that tells the
/// followers.
#[must_use]
pub fn commit_batch() -> Operation {
    let mut group = Group::elected();
    let payload = put(1).encoded().clone();
    Box::new(move || group.commit(&payload))
}

struct Group {
    nodes: Vec<Raft>,
    now: Time,
    under_way: VecDeque<Envelope>,
}

impl Group {
    /// Node 1 leads.
    fn elected() -> Group {
        let nodes = NODES.iter().map(|id| {
            Raft::new(*id, Config::default(), restored(), id.0, Time(0))
                .expect("the state and the settings are valid")
        });
        let mut group = Group {
            nodes: nodes.collect(),
            now: Time(0),
            under_way: VecDeque::new(),
        };
        group.now = group.nodes[0].next_deadline();
        group.nodes[0].tick(group.now);
        group.settle();
        assert_eq!(group.nodes[0].leader(), Some(NODES[0]), "nobody else campaigned");
        group
    }

    fn commit(&mut self, payload: &Bytes) {
        let proposal = || Proposal {
            kind: EntryKind::Command,
            stamp: Stamp::default(),
            payload: payload.clone(),
        };
        let proposals = (0..BATCH).map(|_| proposal()).collect();
        let first = self.nodes[0]
            .propose(self.now, proposals)
            .expect("it leads, and nothing waits");
        self.settle();
        let last = first.index.plus(BATCH as u64 - 1);
        // Followers learn of the commit with the next heartbeat.
        self.now = self.nodes[0].next_deadline();
        self.nodes[0].tick(self.now);
        self.settle();
        assert!(
            self.nodes.iter().all(|node| node.commit() >= last),
            "all committed {last}"
        );
    }

    /// Works until nobody has anything left to do.
    fn settle(&mut self) {
        loop {
            for node in &mut self.nodes {
                work(node, self.now, &mut self.under_way);
            }
            if self.under_way.is_empty() {
                return;
            }
            while let Some(envelope) = self.under_way.pop_front() {
                let receiver = self.nodes.iter_mut().find(|node| node.id() == envelope.to);
                if let Some(receiver) = receiver {
                    receiver.step(self.now, envelope);
                }
            }
        }
    }
}

fn work(node: &mut Raft, now: Time, under_way: &mut VecDeque<Envelope>) {
    loop {
        let ready = node.take_ready(now);
        if ready.is_empty() {
            return;
        }
        under_way.extend(ready.messages);
        if let Some(write) = ready.write {
            node.persisted(now, write.number);
        }
        if let Some(last) = ready.committed.last() {
            node.applied(last.id.index);
        }
    }
}

fn restored() -> Restored {
    let founding = EntryId {
        term: Term(1),
        index: Index::FIRST,
    };
    Restored {
        hard_state: HardState {
            term: Term(1),
            vote: None,
            commit: founding.index,
        },
        base: founding,
        configuration: Configuration::of_voters(NODES),
        later_configurations: Vec::new(),
        term_runs: Vec::new(),
        last: founding,
        applied: founding.index,
    }
}

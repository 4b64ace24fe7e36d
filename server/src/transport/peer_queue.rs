//! Messages that wait for one peer's connection, bounded in bytes.

use std::collections::VecDeque;

use raftkv_protocol::{MembershipMessage, PeerMessage, RaftBody};

/// Charged for a message beside its entries' payloads.
const MESSAGE_OVERHEAD_BYTES: usize = 128;

/// Charged for an entry beside its payload.
const ENTRY_OVERHEAD_BYTES: usize = 48;

/// The queue. Heartbeats and their replies leave before everything else: behind megabytes of entries they would come too
/// late for a read, or for the check of the quorum. (Among themselves messages keep their order.) Any message may be lost
/// (consensus sends again what matters), so a full queue drops: heartbeats first, for the next one says the same, then
/// the oldest.
#[derive(Debug)]
pub(super) struct PeerQueue {
    heartbeats: VecDeque<PeerMessage>,
    others: VecDeque<PeerMessage>,
    size_bytes: usize,
    max_bytes: usize,
}

impl PeerQueue {
    pub(super) fn new(max_bytes: usize) -> PeerQueue {
        PeerQueue {
            heartbeats: VecDeque::new(),
            others: VecDeque::new(),
            size_bytes: 0,
            max_bytes,
        }
    }

    pub(super) fn push(&mut self, message: PeerMessage) {
        self.size_bytes += size_bytes(&message);
        if is_heartbeat(&message) {
            self.heartbeats.push_back(message);
        } else {
            self.others.push_back(message);
        }
        while self.size_bytes > self.max_bytes && self.heartbeats.len() + self.others.len() > 1 {
            // In the order in which they would leave: the oldest heartbeat first.
            drop(self.pop());
        }
    }

    pub(super) fn pop(&mut self) -> Option<PeerMessage> {
        let first = self.heartbeats.pop_front();
        let message = first.or_else(|| self.others.pop_front())?;
        self.size_bytes -= size_bytes(&message);
        Some(message)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.heartbeats.is_empty() && self.others.is_empty()
    }

    /// What waited for a connection that could not be made is old by the time of the next attempt.
    pub(super) fn clear(&mut self) {
        self.heartbeats.clear();
        self.others.clear();
        self.size_bytes = 0;
    }
}

fn is_heartbeat(message: &PeerMessage) -> bool {
    match message {
        PeerMessage::Raft(message) => {
            matches!(
                message.body,
                RaftBody::Heartbeat { .. } | RaftBody::HeartbeatReply { .. }
            )
        }
        PeerMessage::Introduce(_) | PeerMessage::Found(_) | PeerMessage::Membership(_) => false,
    }
}

fn size_bytes(message: &PeerMessage) -> usize {
    let payload = match message {
        PeerMessage::Raft(message) => match &message.body {
            RaftBody::Append { entries, .. } => entries
                .iter()
                .map(|entry| entry.payload.len() + ENTRY_OVERHEAD_BYTES)
                .sum(),
            RaftBody::SnapshotPart { part, .. } => part.len(),
            _ => 0,
        },
        PeerMessage::Introduce(introduction) => introduction.peers.len() * ENTRY_OVERHEAD_BYTES,
        PeerMessage::Found(founding) => founding.configuration.len(),
        PeerMessage::Membership(MembershipMessage::Admit(admission)) => {
            admission.founding.len() + admission.configuration.len()
        }
        PeerMessage::Membership(_) => ENTRY_OVERHEAD_BYTES,
    };
    payload + MESSAGE_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use raftkv_protocol::{ClusterId, GroupId, NodeId, RaftMessage, WireEntry, WireEntryId};

    use super::*;

    fn message(body: RaftBody) -> PeerMessage {
        PeerMessage::Raft(RaftMessage {
            cluster: ClusterId(1),
            group: GroupId(0),
            from: NodeId(1),
            to: NodeId(2),
            term: 1,
            body,
        })
    }

    fn heartbeat(round: u64) -> PeerMessage {
        message(RaftBody::Heartbeat {
            session: 1,
            commit: None,
            round,
        })
    }

    fn append(commit: u64, payload_bytes: usize) -> PeerMessage {
        let entry = WireEntry {
            term: 1,
            kind: 1,
            log_time_us: 0,
            session: 0,
            sequence: 0,
            first_unacknowledged: 0,
            payload: Bytes::from(vec![0; payload_bytes]),
        };
        let prev = WireEntryId { term: 1, index: 1 };
        message(RaftBody::Append {
            session: 1,
            prev,
            commit,
            entries: vec![entry],
        })
    }

    #[test]
    fn a_full_queue_drops_the_oldest_heartbeat_first() {
        let mut queue = PeerQueue::new(4 * MESSAGE_OVERHEAD_BYTES + ENTRY_OVERHEAD_BYTES);
        for sent in [
            append(1, 0),
            heartbeat(1),
            heartbeat(2),
            heartbeat(3),
            heartbeat(4),
        ] {
            queue.push(sent);
        }
        let left: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(left, [heartbeat(2), heartbeat(3), heartbeat(4), append(1, 0)]);
        assert_eq!(queue.size_bytes, 0);
    }

    #[test]
    fn heartbeats_do_not_wait_behind_entries_and_all_else_keeps_its_order() {
        let mut queue = PeerQueue::new(1 << 20);
        for sent in [append(1, 9000), heartbeat(1), append(2, 9000), heartbeat(2)] {
            queue.push(sent);
        }
        let left: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(
            left,
            [heartbeat(1), heartbeat(2), append(1, 9000), append(2, 9000)]
        );
    }

    #[test]
    fn without_heartbeats_the_oldest_goes() {
        let mut queue = PeerQueue::new(2500);
        for commit in 1..=3 {
            queue.push(append(commit, 1000));
        }
        let left: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(left, [append(2, 1000), append(3, 1000)]);
    }

    #[test]
    fn one_message_is_always_kept() {
        let mut queue = PeerQueue::new(10);
        queue.push(append(1, 1000));
        assert!(!queue.is_empty());
        queue.clear();
        assert!(queue.is_empty());
        assert_eq!(queue.size_bytes, 0);
    }
}

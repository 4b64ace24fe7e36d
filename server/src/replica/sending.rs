//! Sending snapshots to followers that are behind the log (R53, R54, R77).
//!
//! One part is under way to each of them at a time: that is the flow control, and the bound on memory. The receiver's reply
//! says which part comes next, so a lost part or reply costs a repetition, and a connection that broke nothing else.

use std::collections::BTreeMap;

use bytes::Bytes;
use raftkv_protocol::{GroupId, NodeId, PeerMessage, RaftBody, RaftMessage, SnapshotProgress};
use raftkv_raft::simulation::mark;
use raftkv_raft::{self as raft, EntryId, SendSnapshot, Time};

use super::formed::Formed;
use super::outbox::Outbox;
use super::translate::wire_entry_id;
use super::{Effect, Notice, SnapshotNumber};
use crate::store::snapshot::Position;

/// A part that got no reply is sent again after this.
const REPEAT_AFTER: std::time::Duration = std::time::Duration::from_millis(500);
/// A transfer that got no reply for this long is given up; the core asks again when the peer is heard.
const GIVE_UP_AFTER: std::time::Duration = std::time::Duration::from_secs(30);

#[derive(Debug)]
enum Phase {
    /// The snapshot is being opened, or the next part is being read.
    Reading,
    /// This part is under way.
    Awaiting {
        position: Bytes,
        part: Bytes,
        repeat_at: Time,
    },
}

#[derive(Debug)]
struct Sending {
    wanted: SendSnapshot,
    snapshot: SnapshotNumber,
    last: Option<EntryId>,
    /// Of the parts read so far.
    bytes: u64,
    /// What is read or under way.
    position: Bytes,
    phase: Phase,
    give_up_at: Time,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Sendings {
    by_peer: BTreeMap<raft::NodeId, Sending>,
    /// How large the snapshot was that a peer has, in bytes.
    delivered: BTreeMap<raft::NodeId, u64>,
    next: SnapshotNumber,
}

impl Sendings {
    /// Numbers begin anywhere: a receiver that outlived this node's former process must not take a snapshot of this life
    /// for the rest of one of that.
    pub(super) fn new(first: u64) -> Sendings {
        Sendings {
            by_peer: BTreeMap::new(),
            delivered: BTreeMap::new(),
            next: SnapshotNumber(first),
        }
    }

    fn of(&mut self, snapshot: SnapshotNumber) -> Option<&mut Sending> {
        self.by_peer
            .values_mut()
            .find(|sending| sending.snapshot == snapshot)
    }

    /// The last entry of the snapshot that this peer is sent, once it is known.
    pub(super) fn last(&self, peer: raft::NodeId) -> Option<EntryId> {
        self.by_peer.get(&peer)?.last
    }

    /// Bytes of the snapshot that this peer is sent, as far as they went, or was sent last by this leader.
    pub(super) fn bytes(&self, peer: raft::NodeId) -> u64 {
        let sending = self.by_peer.get(&peer).map(|sending| sending.bytes);
        sending
            .or_else(|| self.delivered.get(&peer).copied())
            .unwrap_or(0)
    }

    /// Those that have caught up may be as far behind as any other from now on.
    pub(super) fn forget_delivered(&mut self, is_caught_up: impl Fn(raft::NodeId) -> bool) {
        self.delivered.retain(|peer, _| !is_caught_up(*peer));
    }

    pub(super) fn next_deadline(&self) -> Time {
        let deadline = |sending: &Sending| match &sending.phase {
            Phase::Reading => sending.give_up_at,
            Phase::Awaiting { repeat_at, .. } => (*repeat_at).min(sending.give_up_at),
        };
        self.by_peer.values().map(deadline).min().unwrap_or(Time::NEVER)
    }
}

impl Formed {
    /// The core wants a peer to get a snapshot.
    pub(super) fn send_snapshot(&mut self, now: Time, wanted: SendSnapshot, out: &mut Outbox) {
        self.stop_sending_to(wanted.to, out);
        if self.divergence.quarantine().is_some() {
            // What is wrong here must not become another node's state: the successor sends its own.
            mark("snapshot refused in quarantine");
            self.raft.snapshot_failed(now, wanted);
            return;
        }
        let snapshot = self.sendings.next;
        self.sendings.next = SnapshotNumber(snapshot.0.wrapping_add(1));
        let sending = Sending {
            wanted,
            snapshot,
            last: None,
            bytes: 0,
            position: Position::START.encode(),
            phase: Phase::Reading,
            give_up_at: now.after(GIVE_UP_AFTER),
        };
        self.sendings.by_peer.insert(wanted.to, sending);
        mark("snapshot wanted by a peer");
        out.push(Effect::OpenSnapshot(snapshot));
    }

    pub(super) fn snapshot_opened(
        &mut self,
        now: Time,
        snapshot: SnapshotNumber,
        last: Option<EntryId>,
        out: &mut Outbox,
    ) {
        let Some(sending) = self.sendings.of(snapshot) else {
            out.push(Effect::CloseSnapshot(snapshot));
            return;
        };
        let peer = sending.wanted.to;
        let Some(last) = last else {
            return self.sending_failed(now, peer, out);
        };
        sending.last = Some(last);
        let position = sending.position.clone();
        out.notice(Notice::SnapshotStarted { peer, last });
        out.push(Effect::ReadPart { snapshot, position });
    }

    pub(super) fn part_read(
        &mut self,
        now: Time,
        snapshot: SnapshotNumber,
        part: Option<Bytes>,
        out: &mut Outbox,
    ) {
        let Some(sending) = self.sendings.of(snapshot) else {
            return;
        };
        let peer = sending.wanted.to;
        let Some(part) = part else {
            return self.sending_failed(now, peer, out);
        };
        sending.bytes += part.len() as u64;
        sending.phase = Phase::Awaiting {
            position: sending.position.clone(),
            part,
            repeat_at: now.after(REPEAT_AFTER),
        };
        self.send_part(peer, out);
    }

    fn send_part(&self, peer: raft::NodeId, out: &mut Outbox) {
        let Some(sending) = self.sendings.by_peer.get(&peer) else {
            return;
        };
        let (Phase::Awaiting { part, .. }, Some(last)) = (&sending.phase, sending.last) else {
            return;
        };
        let body = RaftBody::SnapshotPart {
            session: sending.wanted.session.0.get(),
            last: wire_entry_id(last),
            snapshot: sending.snapshot.0,
            part: part.clone(),
        };
        let term = sending.wanted.term;
        self.send_beside_the_core(peer, term, body, out);
    }

    /// A message that is not the core's, in its envelope; large ones on a way of their own.
    pub(super) fn send_beside_the_core(
        &self,
        to: raft::NodeId,
        term: raft::Term,
        body: RaftBody,
        out: &mut Outbox,
    ) {
        if !self.raft.is_term_durable() {
            // It would show a term that a crash may take back (R5). Whatever is lost here is asked for again.
            mark("message beside the core dropped, its term is not durable");
            return;
        }
        // A node that joins answers members that no configuration in its own log names yet.
        let Some(address) = self.address_of(to) else {
            return;
        };
        let is_bulk = matches!(body, RaftBody::SnapshotPart { .. });
        let message = PeerMessage::Raft(RaftMessage {
            cluster: self.members.current().cluster,
            group: GroupId(0),
            from: self.config.introduction.identity,
            to: NodeId(to.0),
            term: term.0,
            body,
        });
        let to = address.clone();
        out.push(match is_bulk {
            true => Effect::SendBulk { to, message },
            false => Effect::Send { to, message },
        });
    }

    /// The receiver says how it stands.
    pub(super) fn snapshot_replied(
        &mut self,
        now: Time,
        peer: raft::NodeId,
        snapshot: SnapshotNumber,
        (progress, wanted): (SnapshotProgress, Bytes),
        out: &mut Outbox,
    ) {
        let Some(sending) = self
            .sendings
            .by_peer
            .get_mut(&peer)
            .filter(|sending| sending.snapshot == snapshot)
        else {
            mark("reply to a snapshot that is not sent dropped");
            return;
        };
        sending.give_up_at = now.after(GIVE_UP_AFTER);
        match progress {
            SnapshotProgress::Wanted => {
                // The same again: the timer repeats it. Were each reply answered, one that is doubled would double the rest.
                let is_news =
                    matches!(&sending.phase, Phase::Awaiting { position, .. } if *position != wanted);
                if is_news {
                    sending.position = wanted.clone();
                    sending.phase = Phase::Reading;
                    out.push(Effect::ReadPart {
                        snapshot,
                        position: wanted,
                    });
                }
            }
            SnapshotProgress::Installed => {
                mark("snapshot arrived at a peer");
                let (wanted, last) = (sending.wanted, sending.last);
                let bytes = sending.bytes;
                self.stop_sending_to(peer, out);
                self.sendings.delivered.insert(peer, bytes);
                if let Some(last) = last {
                    out.notice(Notice::SnapshotDelivered { peer, last });
                    self.raft.snapshot_sent(now, wanted, last);
                }
            }
            SnapshotProgress::Refused => self.sending_failed(now, peer, out),
        }
    }

    fn sending_failed(&mut self, now: Time, peer: raft::NodeId, out: &mut Outbox) {
        if let Some(sending) = self.sendings.by_peer.get(&peer) {
            mark("snapshot did not arrive");
            self.raft.snapshot_failed(now, sending.wanted);
        }
        self.stop_sending_to(peer, out);
    }

    /// The log begins behind `base`. Who gets a snapshot that ends before that would only need another one.
    pub(super) fn give_up_sendings_before(&mut self, now: Time, base: raft::Index, out: &mut Outbox) {
        let is_outlived = |sending: &Sending| sending.last.is_some_and(|last| last.index < base);
        let outlived: Vec<_> = self
            .sendings
            .by_peer
            .iter()
            .filter(|(_, sending)| is_outlived(sending))
            .map(|(peer, _)| *peer)
            .collect();
        for peer in outlived {
            mark("snapshot given up, the log behind it is gone");
            self.sending_failed(now, peer, out);
        }
    }

    fn stop_sending_to(&mut self, peer: raft::NodeId, out: &mut Outbox) {
        if let Some(sending) = self.sendings.by_peer.remove(&peer) {
            out.push(Effect::CloseSnapshot(sending.snapshot));
        }
    }

    /// This node leads no more: whoever does sends what is needed.
    pub(super) fn stop_sending(&mut self, out: &mut Outbox) {
        self.sendings.delivered.clear();
        for sending in std::mem::take(&mut self.sendings.by_peer).into_values() {
            out.push(Effect::CloseSnapshot(sending.snapshot));
        }
    }

    /// Repeats parts that got no reply, and gives up on peers that are gone.
    pub(super) fn watch_sendings(&mut self, now: Time, out: &mut Outbox) {
        if self.divergence.quarantine().is_some() {
            let peers: Vec<_> = self.sendings.by_peer.keys().copied().collect();
            peers
                .into_iter()
                .for_each(|peer| self.sending_failed(now, peer, out));
        }
        if now < self.sendings.next_deadline() {
            return;
        }
        let mut repeated = Vec::new();
        let mut given_up = Vec::new();
        for (peer, sending) in &mut self.sendings.by_peer {
            if now >= sending.give_up_at {
                given_up.push(*peer);
            } else if let Phase::Awaiting { repeat_at, .. } = &mut sending.phase
                && now >= *repeat_at
            {
                *repeat_at = now.after(REPEAT_AFTER);
                repeated.push(*peer);
            }
        }
        for peer in repeated {
            mark("part of a snapshot repeated");
            self.send_part(peer, out);
        }
        for peer in given_up {
            self.sending_failed(now, peer, out);
        }
    }
}

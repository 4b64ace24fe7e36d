//! Receiving a snapshot: every part is judged by the core before it is kept; a whole one takes the place of state and log.

use raftkv_protocol::{RaftBody, SnapshotProgress};
use raftkv_raft::simulation::mark;
use raftkv_raft::{
    self as raft, Install, ReplicationSession, SnapshotOffer, SnapshotVerdict, Time, WriteNumber,
};

use super::divergence::{Compared, StateHash};
use super::drains::Drains;
use super::event::{PartTaken, ReceivedState};
use super::formed::Formed;
use super::members::Members;
use super::outbox::Outbox;
use super::{Effect, Notice, SnapshotNumber};
use crate::store::snapshot::Position;
use crate::store::{Store, StoreNumber};

/// What comes in; one at a time.
#[derive(Debug, Default)]
pub(super) struct Receiving {
    current: Option<Incoming>,
    /// The received state that the core has accepted and that is to be installed.
    accepted: Option<StoreNumber>,
    /// Durable with this write; then its sender is told.
    installing: Option<(WriteNumber, SnapshotOffer, SnapshotNumber)>,
}

#[derive(Debug)]
struct Incoming {
    offer: SnapshotOffer,
    snapshot: SnapshotNumber,
    is_taking: bool,
}

impl Incoming {
    fn is(&self, from: raft::NodeId, snapshot: SnapshotNumber) -> bool {
        self.offer.from == from && self.snapshot == snapshot
    }
}

impl Formed {
    /// A part came in.
    pub(super) fn snapshot_part(
        &mut self,
        now: Time,
        offer: SnapshotOffer,
        snapshot: SnapshotNumber,
        part: &[u8],
        out: &mut Outbox,
    ) {
        let is_installing = self.receiving.installing.is_some() || self.receiving.accepted.is_some();
        match self.raft.snapshot_part(now, offer) {
            SnapshotVerdict::Refused => self.reply(offer, snapshot, SnapshotProgress::Refused, out),
            SnapshotVerdict::Held if is_installing => {
                mark("part of a snapshot that is being installed dropped")
            }
            SnapshotVerdict::Held => self.reply(offer, snapshot, SnapshotProgress::Installed, out),
            SnapshotVerdict::Accepted => {
                let known = self
                    .receiving
                    .current
                    .as_mut()
                    .filter(|it| it.is(offer.from, snapshot));
                match known {
                    // Doubled, or repeated too soon: the reply to the first one is on its way.
                    Some(incoming) if incoming.is_taking => {
                        mark("part of a snapshot doubled");
                        return;
                    }
                    Some(incoming) => incoming.is_taking = true,
                    None => {
                        self.receiving.current = Some(Incoming {
                            offer,
                            snapshot,
                            is_taking: true,
                        });
                    }
                }
                out.push(Effect::TakePart {
                    from: offer.from,
                    snapshot,
                    last: offer.last,
                    // A copy: the frame's buffer is not pinned while rows gather.
                    part: bytes::Bytes::copy_from_slice(part),
                });
            }
        }
    }

    /// The part was taken in.
    pub(super) fn part_taken(
        &mut self,
        now: Time,
        from: raft::NodeId,
        snapshot: SnapshotNumber,
        taken: PartTaken,
        out: &mut Outbox,
    ) {
        let Some(incoming) = self.receiving.current.as_mut().filter(|it| it.is(from, snapshot)) else {
            mark("part of a former snapshot dropped");
            return;
        };
        incoming.is_taking = false;
        let offer = incoming.offer;
        match taken {
            PartTaken::Wanted(position) => {
                self.reply_with(offer, snapshot, SnapshotProgress::Wanted, position, out);
            }
            PartTaken::Broken(what) => {
                self.receiving.current = None;
                out.notice(Notice::SnapshotBroken { what });
                self.reply(offer, snapshot, SnapshotProgress::Refused, out);
            }
            PartTaken::Whole(received) => self.received_whole(now, offer, snapshot, *received, out),
        }
    }

    fn received_whole(
        &mut self,
        now: Time,
        offer: SnapshotOffer,
        snapshot: SnapshotNumber,
        received: ReceivedState,
        out: &mut Outbox,
    ) {
        self.receiving.current = None;
        let Ok(members) = Members::received(&received.companions) else {
            out.push(Effect::AbandonSnapshot);
            return self.reply(offer, snapshot, SnapshotProgress::Refused, out);
        };
        let configuration = members.current().configuration();
        match self.raft.install(now, offer, configuration) {
            SnapshotVerdict::Refused => {
                out.push(Effect::AbandonSnapshot);
                self.reply(offer, snapshot, SnapshotProgress::Refused, out);
            }
            SnapshotVerdict::Held => {
                out.push(Effect::AbandonSnapshot);
                self.reply(offer, snapshot, SnapshotProgress::Installed, out);
            }
            SnapshotVerdict::Accepted => {
                self.receiving.accepted = Some(received.store);
                self.receiving.installing = Some((WriteNumber(u64::MAX), offer, snapshot));
                self.replace_state(now, offer, members, received, out);
            }
        }
    }

    /// The snapshot is this node's state from now on, though not durably yet: nothing is acknowledged before it is.
    fn replace_state(
        &mut self,
        now: Time,
        offer: SnapshotOffer,
        members: Members,
        received: ReceivedState,
        out: &mut Outbox,
    ) {
        let last = offer.last.index;
        self.store = Store::over_base(&received.companions, received.tables, self.config.store);
        self.members = members;
        self.unapplied.clear();
        self.lookups.ask_again();
        self.read_pages_again(out);
        self.divergence.begin_anew();
        self.scrub.forget_reading();
        self.cold_files.forget_reading();
        self.drains = Drains::new(received.store, last, last, now);
        self.end_writes_under_snapshot(last, out);
        self.clock.applied(last, self.store.log_time_us(), now);
        out.notice(Notice::SnapshotInstalled {
            from: offer.from,
            last: offer.last,
        });
    }

    /// The step of the durable stream that puts the snapshot in place.
    pub(super) fn carry_out_install(&mut self, install: Install, out: &mut Outbox) {
        let store = self.receiving.accepted.take();
        let store = store.expect("the core installs what was received and accepted just now");
        if let Some((number, _, _)) = &mut self.receiving.installing {
            *number = install.number;
        }
        self.clock.log_is_dropped();
        out.push(Effect::Install { install, store });
    }

    /// Writes up to `number` are durable: a snapshot that was among them is this node's.
    pub(super) fn note_installed(&mut self, number: WriteNumber, out: &mut Outbox) {
        let installed = self
            .receiving
            .installing
            .take_if(|(write, _, _)| *write <= number);
        if let Some((_, offer, snapshot)) = installed {
            self.reply(offer, snapshot, SnapshotProgress::Installed, out);
        }
    }

    fn reply(
        &self,
        offer: SnapshotOffer,
        snapshot: SnapshotNumber,
        progress: SnapshotProgress,
        out: &mut Outbox,
    ) {
        self.reply_with(offer, snapshot, progress, bytes::Bytes::new(), out);
    }

    fn reply_with(
        &self,
        offer: SnapshotOffer,
        snapshot: SnapshotNumber,
        progress: SnapshotProgress,
        position: bytes::Bytes,
        out: &mut Outbox,
    ) {
        let body = RaftBody::SnapshotReply {
            session: offer.session.0.get(),
            snapshot: snapshot.0,
            progress,
            position,
        };
        self.send_beside_the_core(offer.from, offer.term, body, out);
    }

    fn hash_told(&mut self, from: raft::NodeId, of: Compared, told: (u64, u64), out: &mut Outbox) {
        let (index, hash) = told;
        if let Some(at) = raft::Index::new(index) {
            self.state_told(from, StateHash { of, at, hash }, out);
        }
    }

    /// A message about snapshots or states; `false`: it is one for the core.
    pub(super) fn step_beside_the_core(
        &mut self,
        now: Time,
        message: &raftkv_protocol::RaftMessage,
        out: &mut Outbox,
    ) -> bool {
        let from = raft::NodeId(message.from.0);
        match &message.body {
            RaftBody::SnapshotPart {
                session,
                last,
                snapshot,
                part,
            } => {
                let (Some(session), Some(index)) = (raft::Index::new(*session), raft::Index::new(last.index))
                else {
                    return true;
                };
                let offer = SnapshotOffer {
                    from,
                    term: raft::Term(message.term),
                    session: ReplicationSession(session),
                    last: raft::EntryId {
                        term: raft::Term(last.term),
                        index,
                    },
                };
                self.snapshot_part(now, offer, SnapshotNumber(*snapshot), part, out);
            }
            RaftBody::SnapshotReply {
                snapshot,
                progress,
                position,
                ..
            } => {
                let is_readable =
                    *progress != SnapshotProgress::Wanted || Position::decode(position).is_some();
                if is_readable {
                    let reply = (*progress, bytes::Bytes::copy_from_slice(position));
                    self.snapshot_replied(now, from, SnapshotNumber(*snapshot), reply, out);
                }
            }
            RaftBody::StateHash { index, hash } => {
                self.hash_told(from, Compared::Effects, (*index, *hash), out);
            }
            RaftBody::RecordsHash { index, hash } => {
                self.hash_told(from, Compared::Records, (*index, *hash), out);
            }
            _ => return false,
        }
        true
    }
}

//! A node that is told that it is the odd one, and that it stays so.

use raftkv_protocol::{ClusterId, GroupId, NodeId, PeerMessage, RaftBody, RaftMessage};
use raftkv_server::disk::quarantine;
use raftkv_server::replica::{Effect, Event, Quarantine};

use super::store::StoreStep;
use super::{Happening, Micros, ProcessId, World};

/// A node that is not there yet, or has done nothing, is told later.
const AGAIN_US: Micros = 100_000;
/// ... at most so often.
const TRIES: u32 = 50;

impl World {
    /// Every other member tells the node another hash than its own.
    pub(super) fn accuse(&mut self, slot: usize, tries: u32) {
        let Some(id) = self.machines[slot]
            .process_id()
            .filter(|_| self.settling.is_none())
        else {
            return self.accuse_later(slot, tries);
        };
        let accusation = self.machines[slot].process.as_ref().and_then(|process| {
            let (raft, store) = (process.node.raft()?, process.node.store()?);
            let applied = store.applied()?;
            let cluster = process.node.status(raftkv_raft::Time(0)).cluster?;
            let voters = raft.configuration().voters.clone();
            (voters.len() > 2 && voters.contains(&raft.id())).then(|| {
                let body = RaftBody::StateHash {
                    index: applied.get(),
                    hash: !store.state_hash(),
                };
                let others = voters.into_iter().filter(|voter| *voter != raft.id());
                let messages =
                    others.map(|from| message(cluster, (from.0, raft.id().0), raft.term().0, &body));
                messages.collect::<Vec<_>>()
            })
        });
        let Some(messages) = accusation else {
            return self.accuse_later(slot, tries);
        };
        self.observer.accused(slot);
        for message in messages {
            self.handle(id, Event::Peer(message));
        }
    }

    fn accuse_later(&mut self, slot: usize, tries: u32) {
        if self.settling.is_none() && tries < TRIES {
            let tries = tries + 1;
            self.queue
                .push(self.now + AGAIN_US, Happening::Accuse { slot, tries });
        }
    }

    pub(super) fn arrange_quarantine(&mut self, id: ProcessId, quarantine: Box<Quarantine>) {
        let mean_us = self.scenario.plan.store.seal_us;
        self.arrange_store_step(id, mean_us, StoreStep::Quarantine(quarantine));
    }

    /// It is written: from here on no life of this data directory serves.
    pub(super) fn keep_quarantine(&mut self, id: ProcessId, quarantine: &Quarantine) {
        let stored = quarantine::store(&self.machines[id.slot].disk, quarantine);
        if self.survives(id, stored).is_some() {
            self.machines[id.slot].quarantined_in = Some(id.life);
        }
    }

    /// Who was put in quarantine durably is in quarantine, and answers nothing but what it is and how it stands.
    pub(super) fn check_quarantine(&mut self, id: ProcessId, effects: &[Effect]) {
        let machine = &self.machines[id.slot];
        let (Some(process), Some(since)) = (&machine.process, machine.quarantined_in) else {
            return;
        };
        let is_forgotten = process.node.raft().is_some() && process.node.quarantine().is_none();
        // What had been taken before it was found still ends in that life.
        let is_served = process.life > since
            && effects.iter().any(|effect| {
                matches!(effect, Effect::BeginWatch(_))
                    || matches!(effect, Effect::Answer { response, .. } if response.outcome.is_ok())
            });
        if is_forgotten || is_served {
            let what = "it was put in quarantine, and serves again".to_owned();
            self.observer.violate("I7", Some(id.slot), what);
        }
    }
}

fn message(cluster: ClusterId, (from, to): (u64, u64), term: u64, body: &RaftBody) -> PeerMessage {
    PeerMessage::Raft(RaftMessage {
        cluster,
        group: GroupId(0),
        from: NodeId(from),
        to: NodeId(to),
        term,
        body: body.clone(),
    })
}

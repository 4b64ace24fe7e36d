//! What a `Ready` asks for, carried out.

use raftkv_protocol::PeerMessage;
use raftkv_raft::simulation::mark;
use raftkv_raft::{Envelope, Ready, Time, Transition};

use super::formed::Formed;
use super::outbox::Outbox;
use super::{Effect, Notice, translate};
use crate::store::{Applied, TOUCHED_AT_ONCE};

impl Formed {
    /// Turns one `Ready` into effects, and applies what it says is committed.
    pub(super) fn carry_out(&mut self, now: Time, ready: Ready, out: &mut Outbox) {
        for transition in ready.transitions {
            self.follow_transition(now, transition, out);
        }
        for wanted in ready.snapshots {
            self.send_snapshot(now, wanted, out);
        }
        if let Some(install) = ready.install {
            self.carry_out_install(install, out);
        }
        if let Some(write) = ready.write {
            self.members.follow(&write);
            self.clock.follow(&write, now);
            // Before the messages: the disk starts while they are encoded.
            out.push(Effect::Write(write));
        }
        for envelope in ready.messages {
            self.send_envelope(envelope, out);
        }
        for fetch in ready.fetches {
            out.push(Effect::Fetch(fetch));
        }
        self.unapplied.extend(ready.committed);
        self.apply_waiting(now, out);
        for outcome in ready.reads {
            self.read_outcome(now, outcome);
        }
        self.serve_reads(now, out);
        if let Some(configuration) = ready.leave_joint {
            self.leave_joint(now, &configuration);
        }
    }

    /// A receiver that no configuration names any more has no address; what is meant for it is lost on the way.
    fn send_envelope(&self, envelope: Envelope, out: &mut Outbox) {
        if !self.presences.takes_part() {
            return;
        }
        if let Some(address) = self.address_of(envelope.to) {
            let message = translate::to_wire(self.members.current().cluster, envelope);
            out.push(Effect::Send {
                to: address.clone(),
                message: PeerMessage::Raft(message),
            });
        }
    }

    fn follow_transition(&mut self, now: Time, transition: Transition, out: &mut Outbox) {
        match transition {
            Transition::Elected { term, noop } => {
                self.end_writes_cut_by(term, noop, out);
                self.clock.start(now);
                self.leader_changed();
            }
            // What was proposed waits on: it may still commit, under another leader (R31).
            Transition::SteppedDown { .. } => {
                self.clock.stop();
                self.stop_sending(out);
            }
            Transition::Follows { .. } => self.leader_changed(),
            // Writes that came meanwhile waited here.
            Transition::TransferAborted { .. } => self.writes.retry_now(),
            Transition::PreCampaign { .. }
            | Transition::Campaign { .. }
            | Transition::TransferStarted { .. }
            | Transition::LeaseDropped => {}
        }
        out.notice(Notice::Transition(transition));
    }

    fn leader_changed(&mut self) {
        self.writes.retry_now();
        self.reads.leader_changed();
    }

    /// Applies what is committed and durable here, as far as memory knows what it depends on, and answers who waits for it.
    pub(super) fn apply_waiting(&mut self, now: Time, out: &mut Outbox) {
        let mut last = None;
        let mut touched: usize = 0;
        while let Some(entry) = self.unapplied.front() {
            if touched == 0 {
                self.store.touch(self.unapplied.iter());
                touched = TOUCHED_AT_ONCE;
            }
            touched -= 1;
            if self.must_wait_for_drain(entry) {
                mark("apply waits for room in the overlay");
                break;
            }
            let Applied::Done(outcome) = self.store.apply(entry) else {
                self.look_up_for_entries(out);
                break;
            };
            let (id, size_bytes) = (entry.id, entry.size_bytes());
            self.unapplied.pop_front();
            self.drains
                .note_applied(id.index, size_bytes, &self.config.retention);
            self.divergence.applied(id.index, self.store.state_hash());
            if let Some(wanted) = self.store.take_scrub() {
                self.scrub_applied(now, id, wanted);
            }
            self.settle_write(id, outcome, out);
            last = Some(id.index);
        }
        let Some(last) = last else { return };
        self.clock.applied(last, self.store.log_time_us(), now);
        if let Some(events) = self.store.take_events() {
            out.push(Effect::Record(events));
        }
        self.trim_history(out);
        self.raft.applied(last);
    }
}

//! What a `Ready` asks for, carried out.

use raftkv_protocol::PeerMessage;
use raftkv_raft::{Entry, Envelope, Ready, Time, Transition};

use super::formed::Formed;
use super::outbox::Outbox;
use super::{Effect, Notice, translate};

impl Formed {
    /// Turns one `Ready` into effects, and applies what it says is committed.
    pub(super) fn carry_out(&mut self, now: Time, ready: Ready, out: &mut Outbox) {
        for transition in ready.transitions {
            self.follow_transition(now, transition, out);
        }
        // Nobody keeps snapshots yet, so none comes in and none can be sent; nobody asks for a change of members.
        assert!(ready.install.is_none(), "no snapshot was received");
        assert!(ready.leave_joint.is_none(), "no configuration was proposed");
        for wanted in ready.snapshots {
            self.raft.snapshot_failed(now, wanted);
        }
        if let Some(write) = ready.write {
            self.members.follow(&write);
            if let Some(log_time_us) = write.entries.iter().map(|entry| entry.stamp.log_time_us).max() {
                self.clock.observe(log_time_us, now);
            }
            // Before the messages: the disk starts while they are encoded.
            out.push(Effect::Write(write));
        }
        for envelope in ready.messages {
            self.send_envelope(envelope, out);
        }
        for fetch in ready.fetches {
            out.push(Effect::Fetch(fetch));
        }
        self.apply(now, &ready.committed, out);
        for outcome in ready.reads {
            self.read_outcome(now, outcome);
        }
        self.serve_reads(out);
    }

    /// A receiver that no configuration names any more has no address; what is meant for it is lost on the way.
    fn send_envelope(&self, envelope: Envelope, out: &mut Outbox) {
        if let Some(address) = self.members.address(envelope.to) {
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
            Transition::SteppedDown { .. } => self.clock.stop(),
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

    /// Applies what is committed and durable here, and answers who waits for it.
    fn apply(&mut self, now: Time, committed: &[Entry], out: &mut Outbox) {
        let Some(last) = committed.last() else { return };
        for entry in committed {
            let answer = self.store.apply(entry);
            self.settle_write(entry.id, answer, out);
        }
        self.clock.observe(self.store.log_time_us(), now);
        self.raft.applied(last.id.index);
    }
}

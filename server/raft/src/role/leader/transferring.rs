//! Handing leadership over (thesis 3.10, R66, R67).

use std::cmp::Reverse;

use super::Leader;
use crate::progress::State;
use crate::shared::Shared;
use crate::simulation::{mark, mutant};
use crate::{Message, NodeId, Time, TransferError, Transition};

/// A transfer under way.
#[derive(Debug)]
pub(super) struct Transfer {
    target: NodeId,
    /// Given up then.
    deadline: Time,
}

impl Leader {
    pub(crate) fn transfer(
        &mut self,
        shared: &mut Shared,
        now: Time,
        target: NodeId,
    ) -> Result<(), TransferError> {
        if target == shared.id {
            return Err(TransferError::LeadsAlready { target });
        }
        if !shared.configuration().voters.contains(&target) {
            mark("transfer refused, the target does not vote");
            return Err(TransferError::NotAVoter { target });
        }
        match self.transfer_target() {
            Some(known) if known == target => return Ok(()),
            Some(known) => return Err(TransferError::UnderWay { target: known }),
            None => {}
        }
        self.transfer = Some(Transfer {
            target,
            deadline: now.after(shared.config.election_timeout),
        });
        shared.report(Transition::TransferStarted { target });
        self.hand_over_if_level(shared);
        Ok(())
    }

    pub(crate) fn transfer_target(&self) -> Option<NodeId> {
        self.transfer.as_ref().map(|transfer| transfer.target)
    }

    pub(super) fn transfer_deadline(&self) -> Time {
        self.transfer
            .as_ref()
            .map_or(Time::NEVER, |transfer| transfer.deadline)
    }

    /// The target did not take over in time: go on leading (R67).
    pub(super) fn abort_late_transfer(&mut self, shared: &mut Shared, now: Time) {
        if now >= self.transfer_deadline()
            && let Some(Transfer { target, .. }) = self.transfer.take()
        {
            mark("transfer aborted");
            shared.report(Transition::TransferAborted { target });
        }
    }

    /// The target holds all of our log: let it campaign. Said again with each heartbeat, for it may get lost; a target that
    /// campaigns already is in a newer term, and deaf to it.
    pub(super) fn hand_over_if_level(&mut self, shared: &mut Shared) {
        let Some(target) = self.transfer_target() else {
            return;
        };
        let matched = self.peers.get(&target).and_then(|progress| progress.matched());
        if matched == Some(shared.log.last().index) {
            self.send_timeout_now(shared, target);
        } else {
            mark("transfer waits for its target");
        }
    }

    pub(super) fn send_timeout_now(&mut self, shared: &mut Shared, target: NodeId) {
        if !mutant("X24_lease_kept_over_a_transfer") {
            self.lease.give_up();
        }
        shared.send(target, Message::TimeoutNow);
    }

    pub(crate) fn best_successor(&self, shared: &Shared, now: Time) -> Option<NodeId> {
        let voters = shared.configuration().voters.iter().copied();
        let able = voters.filter_map(|voter| {
            let progress = self.peers.get(&voter)?;
            let is_steady = matches!(progress.state(), State::Replicate(_));
            (is_steady && self.is_alive(shared, now, voter)).then(|| (progress.matched(), Reverse(voter)))
        });
        able.max().map(|(_, Reverse(voter))| voter)
    }
}

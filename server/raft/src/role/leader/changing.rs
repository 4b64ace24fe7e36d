//! Configuration changes on the leader: what it accepts, what it completes by itself, and when it has to go (thesis 4).

use super::{Leader, Next};
use crate::shared::Shared;
use crate::simulation::{mark, mutant};
use crate::{
    ChangeChecks, ChangeError, Configuration, ConfigurationChange, Entry, EntryId, EntryKind, NodeId,
    StepDown, Time, quorum,
};

impl Leader {
    /// Appends a configuration, if it may follow the latest one now.
    pub(crate) fn change(
        &mut self,
        shared: &mut Shared,
        now: Time,
        change: ConfigurationChange,
    ) -> Result<EntryId, ChangeError> {
        self.check_moment(shared, &change.configuration)?;
        // The way out of a joint configuration was decided with the way in.
        let is_leave = shared.configuration().outgoing.is_some();
        match change.checks {
            ChangeChecks::SameMembers if change.configuration == *shared.configuration() => {}
            ChangeChecks::SameMembers => return Err(ChangeError::NotASuccessor),
            ChangeChecks::SafetyAlone => check_step(shared.configuration(), &change.configuration)?,
            ChangeChecks::All => {
                check_step(shared.configuration(), &change.configuration)?;
                if !is_leave {
                    self.check_prospects(shared, now, &change.configuration)?;
                }
            }
        }
        let id = EntryId {
            term: shared.term(),
            index: shared.log.last().index.next(),
        };
        let entry = Entry {
            id,
            kind: EntryKind::Configuration,
            stamp: change.stamp,
            payload: change.payload,
            configuration: Some(change.configuration.into()),
        };
        self.append(shared, now, vec![entry]);
        Ok(id)
    }

    /// One change at a time, and none before this term has a commit (R57).
    fn check_moment(&self, shared: &Shared, wanted: &Configuration) -> Result<(), ChangeError> {
        if let Some(target) = self.transfer_target() {
            return Err(ChangeError::TransferUnderWay { target });
        }
        if !self.has_committed_in_term(shared) && !mutant("X15_change_before_own_term_commit") {
            mark("change refused before the term's first commit");
            return Err(ChangeError::NotCommittedInTerm);
        }
        let since = shared.configurations.latest_index();
        let is_left = shared.configuration().without_outgoing() == *wanted;
        let is_joint = shared.configuration().outgoing.is_some();
        let may_leave_early = mutant("X17_joint_left_before_it_is_committed");
        let is_committed = since <= shared.commit() || (is_joint && may_leave_early);
        if !is_committed || (is_joint && !is_left) {
            mark("change refused while another is under way");
            return Err(ChangeError::UnderWay { since });
        }
        Ok(())
    }

    /// Will the voters asked for be able to go on (R60, R64)?
    fn check_prospects(&self, shared: &Shared, now: Time, wanted: &Configuration) -> Result<(), ChangeError> {
        let latest = shared.configuration();
        let mut new_voters = wanted.voters.iter().filter(|voter| !latest.is_voter(**voter));
        if let Some(node) = new_voters.find(|voter| !self.is_caught_up(shared, now, **voter)) {
            mark("change refused, a new voter has not caught up");
            return Err(ChangeError::NotCaughtUp { node: *node });
        }
        let is_alive = |node: NodeId| node == shared.id || self.is_alive(shared, now, node);
        if !quorum::has_quorum(&wanted.without_outgoing(), is_alive) {
            mark("change refused, no majority would be alive");
            return Err(ChangeError::QuorumNotAlive {
                voters: wanted.voters.len(),
                alive: wanted.voters.iter().filter(|voter| is_alive(**voter)).count(),
            });
        }
        Ok(())
    }

    /// Has `peer` answered within an election time-out?
    pub(super) fn is_alive(&self, shared: &Shared, now: Time, peer: NodeId) -> bool {
        let timeout = shared.config.election_timeout;
        self.peers
            .get(&peer)
            .is_some_and(|progress| progress.has_answered() && now.since(progress.heard()) < timeout)
    }

    /// Has `peer` caught up, by the measure of thesis 4.2.1: does it take in what is new faster than an election time-out?
    pub(crate) fn is_caught_up(&self, shared: &Shared, now: Time, peer: NodeId) -> bool {
        let timeout = shared.config.election_timeout;
        self.is_alive(shared, now, peer)
            && self
                .peers
                .get(&peer)
                .is_some_and(|progress| progress.is_caught_up(now, shared.log.last().index, timeout))
    }

    /// The configuration that the caller is to propose now, because a joint one is committed (R59). Asked for once a
    /// heartbeat, until it is in the log.
    pub(crate) fn joint_to_leave(&mut self, shared: &Shared) -> Option<Configuration> {
        let latest = shared.configuration();
        let index = shared.configurations.latest_index();
        if self.is_leave_asked
            || latest.outgoing.is_none()
            || self.transfer_target().is_some()
            || !self.has_committed_in_term(shared)
            || (index > shared.commit() && !mutant("X17_joint_left_before_it_is_committed"))
        {
            return None;
        }
        if index < self.noop {
            if mutant("X17_joint_left_by_its_own_leader_alone") {
                return None;
            }
            mark("joint configuration of another leader left");
        }
        self.is_leave_asked = true;
        Some(latest.without_outgoing())
    }

    /// A leader that the committed configuration does not name as a voter has done its part (R62, thesis 4.2.2): it tells
    /// what is committed, hands over to the voter that is furthest, and leads no more.
    pub(crate) fn retire_if_dropped(&mut self, shared: &mut Shared, now: Time) -> Next {
        let is_voter = shared.configuration().is_voter(shared.id);
        if is_voter || shared.configurations.latest_index() > shared.commit() {
            return Next::Stay;
        }
        mark("leader outside its configuration stepped down");
        self.beat(shared, now);
        if let Some(successor) = self.best_successor(shared, now) {
            self.send_timeout_now(shared, successor);
        }
        Next::StepDown(StepDown::NotAVoter)
    }
}

/// Is `wanted` one step from `latest`: into a joint configuration, out of it, or a change of learners alone?
fn check_step(latest: &Configuration, wanted: &Configuration) -> Result<(), ChangeError> {
    if let Some(what) = wanted.contradiction() {
        return Err(ChangeError::Contradiction { what });
    }
    if wanted == latest {
        return Err(ChangeError::NoChange);
    }
    let is_step = match latest.outgoing {
        Some(_) => *wanted == latest.without_outgoing(),
        None => *wanted == latest.towards(wanted.voters.clone(), wanted.learners.clone()),
    };
    if is_step {
        Ok(())
    } else {
        Err(ChangeError::NotASuccessor)
    }
}

//! Leadership handed over: because an operator asks for it, because this node is removed, or because it stops.

use raftkv_protocol::NodeName;
use raftkv_raft::simulation::mark;
use raftkv_raft::{self as raft, RoleName, Time};

use super::changes::{Look, PendingChange, Stage};
use super::formed::Formed;

impl Formed {
    /// Hands leadership over as asked.
    pub(super) fn start_transfer(
        &mut self,
        now: Time,
        change: &mut PendingChange,
        to: Option<&NodeName>,
    ) -> Look {
        let target = match to {
            None => match self.raft.best_successor(now) {
                Some(successor) => successor,
                None => {
                    return Look::Refused("no other voter is alive and level with this leader".to_owned());
                }
            },
            Some(name) => match self.members.current().named(name) {
                Some(member) => raft::NodeId(member.identity.0),
                None => return Look::Refused(format!("no member is called {name}")),
            },
        };
        match self.raft.transfer(now, target) {
            Ok(()) => {
                change.stage = Stage::HandingOver;
                Look::Waits
            }
            Err(raft::TransferError::LeadsAlready { .. }) => Look::Done,
            Err(raft::TransferError::NotAVoter { .. }) => {
                let name = to.map_or_else(String::new, ToString::to_string);
                Look::Refused(format!(
                    "{name} does not vote, so it can not lead; promote it first"
                ))
            }
            Err(raft::TransferError::UnderWay { .. } | raft::TransferError::NotLeader { .. }) => Look::Waits,
        }
    }

    /// A leader that is to be removed hands over first; the next leader then removes it.
    pub(super) fn leave_by_handing_over(&mut self, now: Time) -> Look {
        let voters = self.raft.configuration().voters.len();
        if voters == 1 {
            return Look::Refused("it is the only voter: without it there is no cluster".to_owned());
        }
        // Not yet: a successor may be on its way.
        if let Some(successor) = self.raft.best_successor(now)
            && self.raft.transfer(now, successor).is_ok()
        {
            mark("leader hands over before it is removed");
        }
        Look::Waits
    }

    /// A leader that stops hands over, so that nobody has to miss it first. Asked again until it leads no more.
    pub(super) fn hand_over(&mut self, now: Time) {
        if let Some(successor) = self.raft.best_successor(now) {
            // Under way already, to whomever: just as good.
            let _ = self.raft.transfer(now, successor);
        }
    }

    /// Does this node lead, though others could?
    pub(super) fn could_hand_over(&self) -> bool {
        self.raft.role() == RoleName::Leader && self.raft.configuration().voters.len() > 1
    }
}

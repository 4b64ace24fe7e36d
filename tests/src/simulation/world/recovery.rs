//! Operators recover: a majority is lost for ever, and a new cluster is made of what one machine holds.
//!
//! All machines fail at once. One directory is recovered, by the code that `server recover` runs. The others get empty disks
//! and are told to join; but some come back first with what they stored, and run on as members of the old cluster until their
//! disks are taken out, too. Nobody asks them anything, what they sent before is still on its way, and they must not mix with
//! the new cluster. Clients begin anew: what they were told, and what they held, may be lost.

use raftkv_protocol::ClusterId;
use raftkv_raft::simulation::mark;
use raftkv_raft::{EntryId, Index, Term};
use raftkv_server::recovery::{self, BegunAnew, RecoveryError, StateFiles, Successor, configuration_at};

use super::machine::identity;
use super::storage::{Opened, Refusal, open_files};
use super::{Happening, Micros, World};
use crate::simulation::observer::Recovery;
use crate::simulation::random::{Stream, seed_of};
use crate::simulation::schedule::{NodeSet, Remains};
use crate::simulation::trace::Traced;

/// Until the recovered node, and those that join it, are started.
const REFIT_US: Micros = 20_000;

impl From<RecoveryError> for Refusal {
    fn from(error: RecoveryError) -> Refusal {
        Refusal::damage(error.to_string())
    }
}

impl World {
    /// Recovers this machine's directory, if it is a good one. Some are left behind for a while.
    pub(super) fn recover(&mut self, node: usize, left_behind: NodeSet, for_us: Micros) {
        let is_good = self.machines.get(node).is_some_and(|machine| {
            !machine.is_rotten
                && !machine.is_given_up
                && !machine.is_moving
                && !machine.is_left_behind
                && machine.quarantined_in.is_none()
        });
        if !is_good || self.was_recovered {
            return;
        }
        // Where nothing but the founding is stored there is nothing to recover: that is refused, as its own test shows.
        if self.observer.durable_entries(self.machines[node].identity.0) < 2 {
            return;
        }
        for slot in 0..self.machines.len() {
            self.kill(slot, Remains::Synced, 0);
        }
        if !self.holds_a_member(node) {
            return;
        }
        self.was_recovered = true;
        self.queue.retain(outlives_recovery);
        self.clients.begin_anew();
        self.tenants.begin_anew();
        self.watchers.begin_anew(&self.scenario.plan);
        self.begin_watchers();
        self.begin_operators_anew();
        if let Err(refusal) = self.recover_directory(node) {
            let what = format!("a good directory is not recovered: {}", refusal.why);
            return self.observer.violate("I27", Some(node), what);
        }
        self.start_later(node);
        for slot in (0..self.machines.len()).filter(|&slot| slot != node) {
            let machine = &mut self.machines[slot];
            machine.is_left_behind =
                left_behind.contains(slot) && !machine.is_rotten && machine.quarantined_in.is_none();
            if machine.is_left_behind {
                self.start_later(slot);
                self.queue
                    .push(self.now + for_us, Happening::LeftBehindEnds { slot });
            } else {
                self.join_on_empty_disk(slot);
            }
        }
    }

    /// Is it a member in what its directory holds? One that was removed is refused, and all go on as they were.
    fn holds_a_member(&mut self, node: usize) -> bool {
        let config = self.log_config();
        let machine = &mut self.machines[node];
        machine.crash_in_disk = None;
        machine.crash_in_drain = None;
        machine.disk.heal();
        machine.base.heal();
        let restored = open_files(machine, config)
            .ok()
            .and_then(|opened| opened.restored);
        restored.is_none_or(|restored| recovery::is_of_a_member(&restored, &machine.name) != Ok(false))
    }

    /// Did that happen?
    pub(crate) fn was_recovered(&self) -> bool {
        self.was_recovered
    }

    fn recover_directory(&mut self, node: usize) -> Result<(), Refusal> {
        let config = self.log_config();
        let plan = &self.scenario.plan;
        let machine = &mut self.machines[node];
        machine.wipes += 1;
        let successor = Successor {
            cluster: ClusterId(seed_of(plan.seed, Stream::Identity, u64::MAX) | 1),
            identity: identity(plan, node, machine.wipes),
        };
        let Opened { restored, log, store } = open_files(machine, config)?;
        self.observer.started(node, restored.as_ref());
        let (Some(restored), Some(log)) = (restored, log) else {
            return Err(RecoveryError::Nothing.into());
        };
        let files = StateFiles {
            base: &machine.base,
            history: &store.1,
            store: plan.store.config(),
        };
        recovery::fold_log_into_base(&log.reader(), restored, &files)?;
        drop(log);
        let state = (&machine.base, &store.1);
        let begun = recovery::begin_anew((&machine.disk, config), state, &machine.name, successor)?;
        machine.identity = begun.membership.members[0].identity;
        machine.joins = None;
        machine.is_recovered = true;
        machine.known_members = None;
        self.tell_recovered(node, &begun);
        Ok(())
    }

    fn tell_recovered(&mut self, node: usize, begun: &BegunAnew) {
        let founding = EntryId {
            term: Term(1),
            index: Index::FIRST,
        };
        let first = EntryId {
            term: begun.base.term.next(),
            index: begun.base.index.next(),
        };
        let words = [begun.base.index.get(), begun.revision.0];
        self.trace.note(self.now, Some(node), Traced::Recover, words, || {
            format!("{begun:?}")
        });
        let recovery = Recovery {
            identity: self.machines[node].identity.0,
            base: begun.base,
            revision: begun.revision.0,
            names_from: begun.names_from,
            founding: &configuration_at(founding, &begun.membership),
            configuration: &configuration_at(first, &begun.membership),
        };
        self.observer.recovered(node, &recovery);
        // From a little before the leap.
        let before = begun.revision.0.saturating_sub(recovery::LEAP + 3);
        self.watchers.go_on_from(before.max(2));
    }

    fn start_later(&mut self, slot: usize) {
        let machine = &mut self.machines[slot];
        machine.is_given_up = false;
        let after = machine.life;
        self.queue
            .push(self.now + REFIT_US, Happening::Start { slot, after });
    }

    fn join_on_empty_disk(&mut self, slot: usize) {
        self.machines[slot].replace_disk(&self.scenario.plan);
        self.machines[slot].joins = self.new_home(slot);
        self.start_later(slot);
    }

    /// Where one that has lost the old cluster finds the new one.
    pub(super) fn new_home(&self, slot: usize) -> Option<usize> {
        let recovered = self.machines.iter().position(|machine| machine.is_recovered);
        // The recovered one may have got another disk since.
        let is_of_the_new_cluster = |other: &usize| *other != slot && !self.machines[*other].is_left_behind;
        recovered.or_else(|| (0..self.machines.len()).find(is_of_the_new_cluster))
    }

    /// It is taken out, as the others were before.
    pub(super) fn left_behind_ends(&mut self, slot: usize) {
        let machine = &self.machines[slot];
        if !machine.is_left_behind || self.settling.is_some() {
            return;
        }
        if machine.process.is_some() {
            mark("operators: one that was left behind by a recovery ran beside the new cluster");
        }
        self.kill(slot, Remains::Synced, REFIT_US);
        self.join_on_empty_disk(slot);
    }
}

/// Faults and the network go on; what was meant for a process, or comes from one, is over.
fn outlives_recovery(happening: &Happening) -> bool {
    match happening {
        Happening::Step(_)
        | Happening::StepEnds(_)
        | Happening::Message { .. }
        | Happening::LagGoesMute { .. }
        | Happening::LagEnds { .. }
        | Happening::ClockIsTrue { .. }
        | Happening::Accuse { .. }
        | Happening::SweepBegins
        | Happening::SweepEnds
        | Happening::Settle
        | Happening::CheckRest => true,
        Happening::Poll(_)
        | Happening::Timer(_)
        | Happening::Reset { .. }
        | Happening::Synced(_)
        | Happening::MarkDue(_)
        | Happening::Read(..)
        | Happening::Store(..)
        | Happening::Snapshot(..)
        | Happening::MakeLog(..)
        | Happening::Start { .. }
        | Happening::Forwarded(_)
        | Happening::ForwardEnds { .. }
        | Happening::Request { .. }
        | Happening::Reply { .. }
        | Happening::ClientTimeout { .. }
        | Happening::ClientRetry { .. }
        | Happening::LeftBehindEnds { .. }
        | Happening::Rot { .. }
        | Happening::Watch(_)
        | Happening::Tenant(_) => false,
    }
}

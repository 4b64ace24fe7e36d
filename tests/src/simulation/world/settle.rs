//! Liveness (I20) and stability (I21): a quorum is healed and all other faults become permanent; then the healed core must
//! find a leader, answer its clients and agree on one state within a bounded time.

use raftkv_raft::{Configuration, NodeId, RoleName};

use super::{Happening, Micros, World};
use crate::simulation::operators::SparesCome;
use crate::simulation::plan::{Ending, Plan};
use crate::simulation::random::{Stream, stream};
use crate::simulation::schedule::{Asked, NodeSet};
use crate::simulation::trace::Traced;

/// In a calm run the first election must be over by then.
pub(super) const CALM_AFTER_US: Micros = 5_000_000;
/// Keys of their own time live no longer.
const LONGEST_KEY_TTL_MS: u64 = 5_000;
/// Until a node takes part that came back under another address, and a little more.
const MOVED_US: Micros = 7_000_000;
/// How often it is looked whether the cluster has come to rest.
const LOOK_EVERY_US: Micros = 100_000;

/// A cluster that must come to rest.
pub(super) struct Settling {
    core: Vec<usize>,
    /// The core must have come to rest by then.
    until: Micros,
    /// Highest term when it began.
    term: u64,
    has_asked: bool,
    /// It has, and from then on leases and sessions run out.
    rests_since: Option<Micros>,
}

impl World {
    pub(super) fn settle(&mut self) {
        let ending = self.scenario.plan.ending;
        if ending == Ending::Abrupt {
            self.is_over = true;
            return;
        }
        let core = match ending {
            Ending::Calm => (0..self.machines.len()).collect(),
            Ending::Whole => self.good_members(),
            Ending::Abrupt | Ending::Settled => self.choose_core(),
        };
        self.trace
            .note(self.now, None, Traced::Settle, [core.len() as u64, 0], || {
                format!("core {core:?}")
            });
        if !self.can_go_on(&core) {
            self.quorum_is_lost();
            return;
        }
        // What hangs in a stalled disk comes back when the stall was to end.
        let stalls = core.iter().map(|&slot| self.machines[slot].stalled_until);
        let until = stalls.max().unwrap_or(0).max(self.now) + self.rest_bound();
        let heals = matches!(ending, Ending::Settled | Ending::Whole);
        if heals {
            self.heal(&core);
            if ending == Ending::Settled {
                self.isolate_perhaps(&core);
            }
            self.clients.heal(core.clone());
            self.tenants.heal();
        }
        let term = self.highest_term();
        self.settling = heals.then(|| Settling {
            core: core.clone(),
            until,
            term,
            has_asked: false,
            rests_since: None,
        });
        if ending == Ending::Calm {
            self.calm = Some(Settling {
                core,
                until,
                term,
                has_asked: false,
                rests_since: None,
            });
        }
        self.queue.push(self.now + LOOK_EVERY_US, Happening::CheckRest);
    }

    fn highest_term(&self) -> u64 {
        let terms = self
            .machines
            .iter()
            .filter_map(|machine| machine.process.as_ref()?.node.raft());
        terms.map(|raft| raft.term().0).max().unwrap_or(0)
    }

    /// Members changed while machines were lost, in an order that no operator could foresee: a majority is gone for good,
    /// and nothing can be asked of the others but that they break no other promise.
    fn quorum_is_lost(&mut self) {
        let may_be_lost = self.was_recovered || self.observer.has_accused();
        if self.scenario.plan.operators.changes_per_minute == 0 && !may_be_lost {
            let what = "no majority holds what it stored: more was lost than the plan allows".to_owned();
            self.observer.violate("I20", None, what);
        }
        self.trace.note(self.now, None, Traced::Settle, [0, 1], || {
            "no quorum is left".to_owned()
        });
        self.is_quorum_lost = true;
        self.is_over = true;
    }

    /// Did it end so?
    pub(crate) fn is_quorum_lost(&self) -> bool {
        self.is_quorum_lost
    }

    /// A quorum of members that hold what they stored. As long as no cluster was formed all founders are needed; while
    /// members change, all members are: which of them the next quorum takes is not known. And all are, if one is in quarantine:
    /// it gives nobody its state.
    fn choose_core(&self) -> Vec<usize> {
        let mut all: Vec<usize> = (0..self.machines.len()).collect();
        let Some(configuration) = self.observer.decided_configuration() else {
            if self.scenario.plan.operators.spares_come == SparesCome::Asking {
                all.truncate(self.scenario.plan.founders());
            }
            return all;
        };
        let rng = &mut stream(self.scenario.plan.seed, Stream::Settle, 0);
        rng.shuffle(&mut all);
        all.retain(|&slot| self.is_good_member(slot));
        if self.may_members_change() || self.observer.has_accused() {
            all.sort_unstable();
            return all;
        }
        // Formed ones first: one that is not formed can only become so through one that is.
        all.sort_by_key(|&slot| !self.observer.is_formed(slot));
        let quorum = configuration.voters.len() / 2 + 1;
        let most = all.len().max(quorum);
        all.truncate(if rng.bool() {
            quorum
        } else {
            rng.usize(quorum..=most)
        });
        all.sort_unstable();
        all
    }

    /// All members that hold what they stored; all machines, where there is no cluster yet.
    fn good_members(&self) -> Vec<usize> {
        let all = 0..self.machines.len();
        match self.observer.decided_configuration() {
            None => all.collect(),
            Some(_) => all.filter(|&slot| self.is_good_member(slot)).collect(),
        }
    }

    /// Does any configuration in force name it, and has it all it stored?
    fn is_good_member(&self, slot: usize) -> bool {
        let in_force = self.observer.configurations_in_force();
        let identity = self.machines[slot].good_identity();
        identity.is_some_and(|identity| in_force.iter().any(|known| known.is_member(identity)))
    }

    fn heal(&mut self, core: &[usize]) {
        let set = NodeSet::of(core);
        self.network.heal(set);
        for slot in 0..self.machines.len() {
            let is_core = set.contains(slot);
            let machine = &mut self.machines[slot];
            machine.crash_at_effect = None;
            machine.crash_in_disk = None;
            machine.crash_in_drain = None;
            machine.disk.heal();
            machine.base.heal();
            // Who leads may be outside the core, and must take writes.
            machine.free_bytes = u64::MAX;
            if !is_core {
                // Who is down stays down.
                machine.is_given_up |= machine.process.is_none();
                continue;
            }
            machine.stalled_until = 0;
            machine.slower_us = 0;
            machine.paused_until = self.now;
            machine.clock.set_rate(self.now, machine.rate_ppm);
            let after = machine.life;
            if machine.process.is_none() {
                self.queue.push(self.now, Happening::Start { slot, after });
            } else {
                self.restart_stuck(slot);
            }
        }
    }

    /// The others hear and are heard as far as present faults let them; or, each way for itself, not at all.
    fn isolate_perhaps(&mut self, core: &[usize]) {
        let core = NodeSet::of(core);
        let others = NodeSet(!core.0);
        let choice = stream(self.scenario.plan.seed, Stream::Settle, 1).u32(..4);
        if choice & 1 != 0 {
            self.network.cut(core, others);
        }
        if choice & 2 != 0 {
            self.network.cut(others, core);
        }
    }

    /// A process whose call to the disk hangs since before the healing goes on by itself; its clock may have changed.
    fn restart_stuck(&mut self, slot: usize) {
        if let Some(id) = self.machines[slot].process_id() {
            self.arrange_timer(id);
        }
    }

    /// Ten of the longest election time-outs, and time to bring a follower up to date entry by entry, drain by drain.
    fn rest_bound(&self) -> Micros {
        let plan = &self.scenario.plan;
        let elections = 20 * plan.raft.election_timeout_us;
        let entries = self.observer.decided_entries() + 200;
        // A client may turn to nodes that hear no leader, and each lets it wait.
        let clients = 4 * self.machines.len() as Micros * plan.leader_wait_us;
        // One that moved takes part when nobody has heard of its former process for five seconds.
        let is_moving = self.machines.iter().any(|machine| machine.is_moving);
        let moves = if is_moving { MOVED_US } else { 0 };
        elections + clients + moves + 2_000_000 + entries * (round_trip_us(plan) + applying_us(plan))
    }

    pub(super) fn check_rest(&mut self) {
        if let Some(calm) = &self.calm {
            let term = calm.term;
            let now_term = self.highest_term();
            if now_term != term {
                let what = format!("without any fault the term went from {term} to {now_term}");
                self.observer.violate("I21", None, what);
                return;
            }
            if self.now < self.scenario.plan.length_us {
                self.queue.push(self.now + LOOK_EVERY_US, Happening::CheckRest);
                return;
            }
            let core = calm.core.clone();
            let has_asked = calm.has_asked;
            let until = self.now + self.rest_bound();
            self.settling = Some(Settling {
                core,
                until,
                term,
                has_asked,
                rests_since: None,
            });
            self.calm = None;
        }
        self.look_at_core();
    }

    fn look_at_core(&mut self) {
        let Some(settling) = &mut self.settling else {
            return;
        };
        let (core, until) = (settling.core.clone(), settling.until);
        if !std::mem::replace(&mut settling.has_asked, true) {
            let checker = self.clients.checker();
            for _ in 0..2 {
                self.ask(checker, Asked::Put, 0, 0);
                self.ask(checker, Asked::Get, 0, 1);
            }
        }
        if !self.can_go_on(&core) {
            self.quorum_is_lost();
            return;
        }
        let unrest = self.unrest(&core);
        let rests_since = self.settling.as_ref().and_then(|settling| settling.rests_since);
        match (unrest, rests_since) {
            (Some(what), None) if self.now >= until => {
                self.observer.violate("I20", None, what);
                return;
            }
            (None, since) if self.has_all_ended(&core, since.unwrap_or(self.now)) => {
                self.is_over = true;
                return;
            }
            (None, None) => {
                if let Some(settling) = &mut self.settling {
                    settling.rests_since = Some(self.now);
                }
            }
            (Some(_) | None, _) => {}
        }
        self.queue.push(self.now + LOOK_EVERY_US, Happening::CheckRest);
    }

    /// Has everything that has a time come to its end, where that is asked for? Nobody renews anything any more, so it has
    /// when the longest time is over, and a tick more.
    fn has_all_ended(&mut self, core: &[usize], since: Micros) -> bool {
        let plan = &self.scenario.plan;
        let is_led = self.leader().is_some_and(|leader| core.contains(&leader));
        if !plan.tenants.must_end || !is_led || !self.observer.awaits_an_end() {
            return true;
        }
        let longest_ms = plan.tenants.session_ttl_ms.max(LONGEST_KEY_TTL_MS);
        let longest_us = 2 * 1000 * longest_ms.max(plan.tenants.lease_ttl_ms) + self.rest_bound();
        if self.now > since + longest_us {
            let what = "keys, leases or sessions did not end though their time is over".to_owned();
            self.observer.violate("I20", None, what);
        }
        false
    }

    /// What is still missing for the core to be at rest.
    ///
    /// A leader outside the core may go on leading, if a quorum hears it and it hears a quorum. It need not reach every
    /// node of the core then: what is asked is that clients are answered.
    fn unrest(&self, core: &[usize]) -> Option<String> {
        if !self.clients.is_idle(self.clients.checker()) {
            return Some(format!(
                "a client of the healed core {core:?} waits for an answer"
            ));
        }
        if let Some(wrong) = self.wrong_voters() {
            return Some(wrong);
        }
        if self.leader().is_some_and(|leader| !core.contains(&leader)) {
            return None;
        }
        let decided = self.observer.decided_configuration();
        if decided.is_some_and(|configuration| configuration.outgoing.is_some()) {
            return Some(format!(
                "the healed core {core:?} does not leave a joint configuration"
            ));
        }
        let mut states = Vec::new();
        for &slot in core.iter().filter(|&&slot| self.is_member(slot)) {
            let Some(process) = &self.machines[slot].process else {
                return Some(format!(
                    "node{} of the healed core {core:?} does not run",
                    slot + 1
                ));
            };
            let (Some(raft), Some(store)) = (process.node.raft(), process.node.store()) else {
                return Some(format!(
                    "node{} of the healed core {core:?} is not formed",
                    slot + 1
                ));
            };
            if raft.leader().is_none() {
                return Some(format!(
                    "node{} of the healed core {core:?} knows no leader ({:?})",
                    slot + 1,
                    raft.role()
                ));
            }
            states.push((store.applied(), store.state_hash()));
        }
        let is_one = states.windows(2).all(|pair| pair[0] == pair[1]);
        (!is_one).then(|| format!("the healed core {core:?} does not agree on one state: {states:?}"))
    }

    /// Where a sweep says who is to vote in the end: why it is not so.
    fn wrong_voters(&self) -> Option<String> {
        let wanted = self.scenario.plan.swept.as_ref()?.voters;
        let machines = self
            .machines
            .iter()
            .filter(|machine| wanted.contains(machine.slot));
        let wanted = Configuration::of_voters(machines.map(|machine| NodeId(machine.identity.0)));
        let decided = self.observer.decided_configuration();
        let is_so = decided.is_some_and(|decided| **decided == wanted);
        (!is_so).then(|| format!("{decided:?} was decided last, {wanted:?} was to come"))
    }

    /// Is it a member, for all that was decided? As long as there is no cluster, all are to be.
    fn is_member(&self, slot: usize) -> bool {
        let identity = NodeId(self.machines[slot].identity.0);
        let decided = self.observer.decided_configuration();
        decided.is_none_or(|configuration| configuration.is_member(identity))
    }

    /// Who leads the highest term.
    pub(super) fn leader(&self) -> Option<usize> {
        let rafts = self
            .machines
            .iter()
            .filter(|machine| !machine.is_left_behind)
            .filter_map(|machine| Some((machine.slot, machine.process.as_ref()?.node.raft()?)));
        let leaders = rafts.filter(|(_, raft)| raft.role() == RoleName::Leader);
        leaders.max_by_key(|(_, raft)| raft.term()).map(|(slot, _)| slot)
    }
}

/// What one entry may take to be applied where memory is full and every record is looked up.
fn applying_us(plan: &Plan) -> Micros {
    let store = &plan.store;
    let entry_bytes = 200 + plan.workload.value_bytes as u64;
    let entries_per_drain = (store.overlay_bytes / 2 / entry_bytes).max(1);
    let drain = 4 * (store.seal_us + store.drain_us) + 2 * plan.gather_us + 1_000;
    drain / entries_per_drain + 4 * store.lookup_us
}

/// What one entry may take to reach a follower that gets them one by one.
fn round_trip_us(plan: &Plan) -> Micros {
    let network = plan.network.delay_us + 4 * plan.network.jitter_us;
    let disk = plan.disk.sync_us + 4 * plan.disk.jitter_us;
    2 * network + 2 * disk + 4 * plan.gather_us + 500
}

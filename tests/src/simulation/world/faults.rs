//! Carries out the steps of the schedule.

use super::clients::Reply;
use super::machine::{ArmedCrash, Process, Waiting};
use super::{Happening, Machine, Micros, World};
use crate::simulation::random::exponential;
use crate::simulation::schedule::{Action, DiskCall, LeaderFault, NodeSet, Remains};
use crate::simulation::trace::Traced;

/// How often, and how many times, a disk is looked at for a moment at which it may rot.
const ROT_AGAIN_US: Micros = 7_000;
const ROT_TRIES: u32 = 500;
/// How fast a slow clock runs.
const SLOW_CLOCK_PPM: u64 = 400_000;

impl World {
    pub(super) fn step(&mut self, number: usize) {
        // What the schedule holds beyond the end of faults is not done.
        let is_asked = self.scenario.steps[number].action.is_asked();
        if self.settling.is_some() && !is_asked {
            return;
        }
        let step = self.scenario.steps[number].clone();
        if !is_asked {
            self.trace
                .note(self.now, None, Traced::Step, [number as u64, 0], || {
                    format!("{:?}", step.action)
                });
        }
        let action = self.aimed(step.action);
        if let Some(for_us) = self.begin(&action) {
            self.lasting.insert(number, action);
            self.queue.push(self.now + for_us, Happening::StepEnds(number));
        }
    }

    /// What is meant for the leader, aimed at the node that leads now (the first one, if none does).
    fn aimed(&mut self, action: Action) -> Action {
        let Action::Leader { fault, for_us } = action else {
            return action;
        };
        let node = self.leader().unwrap_or(0);
        let (one, others) = self.halves(NodeSet::one(node), NodeSet(0));
        match fault {
            LeaderFault::Crash(remains) => Action::Crash {
                node,
                remains,
                down_us: for_us,
            },
            LeaderFault::Isolated => Action::Split {
                half: one,
                bridge: NodeSet(0),
                for_us,
            },
            LeaderFault::Mute => Action::Cut {
                from: one,
                to: others,
                for_us,
            },
            LeaderFault::Deaf => Action::Cut {
                from: others,
                to: one,
                for_us,
            },
            LeaderFault::Lagging => {
                // What is on its way to it when its own voice is lost goes on arriving for a while.
                let lag_us = self.lag_us();
                self.network.slow(others, one, lag_us);
                let happening = Happening::LagGoesMute {
                    leader: one,
                    others,
                    for_us,
                };
                self.queue.push(self.now + lag_us, happening);
                Action::SlowLink {
                    from: NodeSet(0),
                    to: NodeSet(0),
                    by_us: 0,
                    for_us,
                }
            }
            LeaderFault::Paused => Action::Pause { node, for_us },
            LeaderFault::SlowClock => {
                // Alone with a slow clock it believes in its office for longer than the others do.
                self.machines[node].clock.set_rate(self.now, SLOW_CLOCK_PPM);
                self.clock_changed(node);
                self.queue
                    .push(self.now + for_us, Happening::ClockIsTrue { node });
                Action::Split {
                    half: one,
                    bridge: NodeSet(0),
                    for_us,
                }
            }
        }
    }

    /// How late a leader that lags hears: not so late that it gives up.
    fn lag_us(&self) -> Micros {
        self.scenario.plan.raft.election_timeout_us / 2
    }

    pub(super) fn clock_is_true(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        machine.clock.set_rate(self.now, machine.rate_ppm);
        self.clock_changed(node);
    }

    /// A leader that hears late is not heard any more, until both end.
    pub(super) fn lag_goes_mute(&mut self, leader: NodeSet, others: NodeSet, for_us: Micros) {
        if self.settling.is_some() {
            return;
        }
        // To the others it looks dead at once, while their last answers still reach it.
        for slot in 0..self.machines.len() {
            if leader.contains(slot) {
                self.reset_connections(slot);
            }
        }
        self.network.cut(leader, others);
        self.queue
            .push(self.now + for_us, Happening::LagEnds { leader, others });
    }

    pub(super) fn lag_ends(&mut self, leader: NodeSet, others: NodeSet) {
        if self.settling.is_some() {
            return;
        }
        self.network.mend(leader, others);
        let lag_us = self.lag_us();
        self.network.speed_up(others, leader, lag_us);
    }

    /// Does it; says how long it lasts if its end needs doing too.
    fn begin(&mut self, action: &Action) -> Option<Micros> {
        if action.node().is_some_and(|node| node >= self.machines.len()) {
            return None;
        }
        match *action {
            Action::Ask {
                client,
                asked,
                key,
                via,
            } => self.ask(client, asked, key, via),
            Action::Call { tenant, call, via } => self.call(tenant, call, via),
            Action::Operate {
                operation,
                via,
                patience_us,
            } => self.operate(operation, via, patience_us),
            Action::Crash {
                node,
                remains,
                down_us,
            } => self.kill(node, remains, down_us),
            Action::CrashAtEffect {
                node,
                effects,
                remains,
                down_us,
            } => {
                self.machines[node].crash_at_effect = Some(ArmedCrash {
                    effects: effects.max(1),
                    remains,
                    down_us,
                });
            }
            Action::CrashInDisk {
                node,
                calls,
                remains,
                down_us,
            } => {
                let machine = &mut self.machines[node];
                machine.crash_in_disk = Some(ArmedCrash {
                    effects: 0,
                    remains,
                    down_us,
                });
                machine.disk.crash_after(u64::from(calls));
            }
            Action::PowerFailure { down_us } => {
                for node in 0..self.machines.len() {
                    let later = exponential(&mut self.machines[node].rng, 50_000);
                    self.kill(node, Remains::Synced, down_us + later);
                }
            }
            Action::Pause { node, for_us } => {
                let machine = &mut self.machines[node];
                machine.paused_until = machine.paused_until.max(self.now + for_us);
            }
            Action::ClockJump { node, by_us } => {
                self.machines[node].clock.jump(self.now, by_us);
                self.clock_changed(node);
            }
            Action::ClockRate {
                node,
                rate_ppm,
                for_us,
            } => {
                self.machines[node].clock.set_rate(self.now, rate_ppm);
                self.clock_changed(node);
                return Some(for_us);
            }
            Action::ResetConnections { node } => self.reset_connections(node),
            Action::Cut { from, to, for_us } => {
                self.network.cut(from, to);
                return Some(for_us);
            }
            Action::Split { half, bridge, for_us } => {
                let (one, other) = self.halves(half, bridge);
                self.network.cut(one, other);
                self.network.cut(other, one);
                return Some(for_us);
            }
            Action::SlowLink {
                from,
                to,
                by_us,
                for_us,
            } => {
                self.network.slow(from, to, by_us);
                return Some(for_us);
            }
            Action::Clog { from, to, for_us } => self.network.clog(from, to, self.now + for_us),
            // Aimed before.
            Action::Leader { .. } => {}
            Action::CrashInDrain { .. }
            | Action::LowSpace { .. }
            | Action::DiskStall { .. }
            | Action::DiskSlow { .. }
            | Action::DiskFull { .. }
            | Action::DiskError { .. }
            | Action::BitRot { .. }
            | Action::Wipe { .. } => return self.begin_disk_fault(action),
        }
        None
    }

    fn begin_disk_fault(&mut self, action: &Action) -> Option<Micros> {
        match *action {
            Action::DiskStall { node, for_us } => {
                let machine = &mut self.machines[node];
                machine.stalled_until = machine.stalled_until.max(self.now + for_us);
            }
            Action::DiskSlow { node, by_us, for_us } => {
                self.machines[node].slower_us += by_us;
                return Some(for_us);
            }
            Action::DiskFull {
                node,
                free_bytes,
                for_us,
            } => {
                let machine = &mut self.machines[node];
                machine.may_fail = true;
                machine.disk.limit_free_bytes(Some(free_bytes));
                return Some(for_us);
            }
            Action::DiskError {
                node, call, after, ..
            } => {
                let machine = &mut self.machines[node];
                machine.may_fail = true;
                let after = u64::from(after);
                match call {
                    DiskCall::Read => machine.disk.fail_read_after(after),
                    DiskCall::Write => machine.disk.fail_write_after(after),
                    DiskCall::Sync => machine.disk.fail_sync_after(after),
                }
            }
            Action::CrashInDrain {
                node,
                rows,
                remains,
                down_us,
            } => {
                let machine = &mut self.machines[node];
                machine.crash_in_drain = Some(ArmedCrash {
                    effects: 0,
                    remains,
                    down_us,
                });
                machine.base.crash_after(u64::from(rows));
            }
            Action::LowSpace {
                node,
                permille,
                for_us,
            } => {
                self.was_space_low = true;
                let reserve_bytes = self.scenario.plan.store.reserve_bytes;
                self.machines[node].free_bytes = reserve_bytes / 1000 * permille;
                return Some(for_us);
            }
            Action::BitRot { node } => self.rot_when_proven(node, 0),
            Action::Wipe { node, down_us } => self.wipe(node, down_us),
            _ => {}
        }
        None
    }

    /// A fault of the schedule ends, unless faults have become permanent.
    pub(super) fn step_ends(&mut self, number: usize) {
        if self.settling.is_some() {
            return;
        }
        let Some(action) = self.lasting.remove(&number) else {
            return;
        };
        match action {
            Action::ClockRate { node, .. } => {
                let machine = &mut self.machines[node];
                machine.clock.set_rate(self.now, machine.rate_ppm);
                self.clock_changed(node);
            }
            Action::Cut { from, to, .. } => self.network.mend(from, to),
            Action::Split { half, bridge, .. } => {
                let (one, other) = self.halves(half, bridge);
                self.network.mend(one, other);
                self.network.mend(other, one);
            }
            Action::SlowLink { from, to, by_us, .. } => self.network.speed_up(from, to, by_us),
            Action::DiskSlow { node, by_us, .. } => {
                let machine = &mut self.machines[node];
                machine.slower_us = machine.slower_us.saturating_sub(by_us);
            }
            Action::DiskFull { node, .. } => self.machines[node].disk.limit_free_bytes(None),
            Action::LowSpace { node, .. } => self.machines[node].free_bytes = u64::MAX,
            _ => {}
        }
    }

    fn halves(&self, half: NodeSet, bridge: NodeSet) -> (NodeSet, NodeSet) {
        let all = ((1_u16 << self.machines.len()) - 1) as u8;
        (NodeSet(half.0 & !bridge.0), NodeSet(all & !half.0 & !bridge.0))
    }

    fn clock_changed(&mut self, node: usize) {
        if let Some(id) = self.machines[node].process_id() {
            self.arrange_timer(id);
        }
    }

    /// The process dies; what it had promised is all that can be relied on. It is started again later.
    pub(super) fn kill(&mut self, slot: usize, remains: Remains, down_us: u64) {
        let machine = &mut self.machines[slot];
        machine.crash_at_effect = None;
        machine.disk_after_crash(remains);
        machine.paused_until = machine.paused_until.min(self.now);
        let Some(process) = machine.process.take() else {
            return;
        };
        let words = [u64::from(process.life), remains as u64];
        self.trace.note(self.now, Some(slot), Traced::Crash, words, || {
            format!("{remains:?} remains")
        });
        self.observer.crashed(slot);
        let is_told = remains == Remains::PageCache && self.scenario.plan.network.resets_told;
        for waiting in process.waiting.into_values() {
            match waiting {
                Waiting::Client { client, attempt } if is_told => {
                    self.reply(slot, client, attempt, Reply::Lost)
                }
                Waiting::Tenant(name) if is_told => self.tell_tenant(name, Reply::Lost),
                // Who hears nothing more asks elsewhere.
                Waiting::Client { .. } | Waiting::Tenant(_) | Waiting::Watcher(_) | Waiting::Operator(_) => {}
                Waiting::Node { origin, token } => self.forward_lost(slot, origin, token),
            }
        }
        if is_told {
            self.reset_connections(slot);
        }
        let after = self.machines[slot].life;
        self.queue
            .push(self.now + down_us, Happening::Start { slot, after });
    }

    /// Every other machine learns that its connections to this one broke, as far as the network lets it.
    fn reset_connections(&mut self, of: usize) {
        for at in 0..self.machines.len() {
            if at != of && !self.network.is_cut(of, at) {
                let arrival = self.network.delay(self.now, of, at);
                self.queue.push(arrival, Happening::Reset { at, of });
            }
        }
    }

    /// May one more node lose what it stored? A majority of good copies must stay.
    fn may_expend(&self, slot: usize) -> bool {
        if self.observer.decided_configuration().is_some() {
            return !self.is_change_asked() && self.keep_quorum_without(slot);
        }
        let expended = self
            .machines
            .iter()
            .filter(|machine| machine.is_expended())
            .count();
        self.machines[slot].is_expended() || expended < self.scenario.plan.expendable_nodes()
    }

    /// A bit flips, once all that is durable is proven so by a mark. Rot in the last batch before its mark can not be
    /// told from a torn write (R41): it would take the last good copy of what was just acknowledged, which the budget of
    /// faults excludes.
    pub(super) fn rot_when_proven(&mut self, slot: usize, tries: u32) {
        if self.settling.is_some() || !self.may_expend(slot) {
            return;
        }
        let machine = &mut self.machines[slot];
        let is_proven = machine.process.as_ref().is_some_and(Process::is_at_rest);
        if !is_proven {
            if tries < ROT_TRIES {
                self.queue.push(
                    self.now + ROT_AGAIN_US,
                    Happening::Rot {
                        slot,
                        tries: tries + 1,
                    },
                );
            }
            return;
        }
        let Some(place) = flip_written_bit(machine) else {
            return;
        };
        machine.is_rotten = true;
        let is_restarted = machine.disk_rng.bool();
        self.trace
            .note(self.now, Some(slot), Traced::Rot, [0, 0], || place);
        if is_restarted {
            self.kill(slot, Remains::PageCache, ROT_AGAIN_US);
        }
    }

    fn wipe(&mut self, slot: usize, down_us: u64) {
        if !self.may_expend(slot) {
            return;
        }
        self.kill(slot, Remains::Synced, down_us);
        // When nobody who founded the cluster is in it any more, they would found a second one by the flags that they had.
        let mut others = (0..self.machines.len()).filter(|&other| other != slot);
        let formed = others.find(|&other| self.observer.is_formed(other));
        let is_founder_left = formed.is_some_and(|first| first < self.scenario.plan.founders());
        // And of those that a recovery left behind, all that founded the old cluster could.
        let new_home = self.machines[slot]
            .is_left_behind
            .then(|| self.new_home(slot))
            .flatten();
        let machine = &mut self.machines[slot];
        machine.replace_disk(&self.scenario.plan);
        if new_home.is_some() {
            machine.joins = new_home;
        } else if !is_founder_left {
            machine.joins = formed.or(machine.joins);
        }
        let after = machine.life;
        self.queue
            .push(self.now + down_us, Happening::Start { slot, after });
    }
}

impl Machine {
    /// What the disk holds when the process is gone.
    pub(super) fn disk_after_crash(&mut self, remains: Remains) {
        self.base.process_crashed();
        match remains {
            // What an ingest left that returned is durable: there is nothing that power loss could take.
            Remains::PageCache => self.disk.process_crashed(),
            Remains::Synced => self.disk.power_lost(),
        }
    }
}

/// Flips a bit of a byte that is not zero: most of a log's files are zeros that nobody reads.
fn flip_written_bit(machine: &mut Machine) -> Option<String> {
    let image = machine.disk.durable_image();
    let written = image.files.iter().flat_map(|(name, bytes)| {
        let places = bytes.iter().enumerate().filter(|(_, byte)| **byte != 0);
        places.map(move |(offset, _)| (name, offset))
    });
    let places: Vec<_> = written.collect();
    let (name, offset) = machine.disk_rng.choice(&places)?;
    let bit = machine.disk_rng.u8(..8);
    machine.disk.flip_bit(name, *offset as u64, bit).ok()?;
    Some(format!("bit {bit} of byte {offset} of {name}"))
}

//! The disk executor of a process: gathers what waits, one append and one sync for all of it, as the real log thread.

use std::fmt::Display;

use raftkv_protocol::ClusterId;
use raftkv_raft::Fetch;
use raftkv_server::disk::quarantine::QuarantineError;
use raftkv_server::disk::{SimulatedDisk, quarantine};
use raftkv_server::log::{Log, LogConfig, LogError, LogOwner, Marked, Recovered};
use raftkv_server::replica::{Event, Node, Restored, RestoredLog};
use raftkv_server::store::history::History;

use raftkv_server::store::{StoreError, StoreNumber};

use super::machine::{Machine, Process, node_config};
use super::store::restored_store;
use super::{Happening, Life, LogRequest, Micros, ProcessId, World};
use crate::simulation::random::{Stream, exponential, seed_of};
use crate::simulation::schedule::Remains;
use crate::simulation::trace::Traced;

/// A batch is proven by a mark if nothing follows it for this long.
const MARK_AFTER_US: Micros = 50_000;
/// A process that could not start is started again after this long.
const START_AGAIN_US: Micros = 500_000;

/// What stands in a machine's files.
pub(super) struct Opened {
    pub(super) restored: Option<Restored>,
    pub(super) log: Option<Log<SimulatedDisk>>,
    pub(super) store: (StoreNumber, History<SimulatedDisk>),
}

/// Why they can not be used.
pub(super) struct Refusal {
    is_damage: bool,
    pub(super) why: String,
}

impl Refusal {
    pub(super) fn damage(why: String) -> Refusal {
        Refusal { is_damage: true, why }
    }
}

impl From<LogError> for Refusal {
    fn from(error: LogError) -> Refusal {
        Refusal {
            is_damage: !matches!(error, LogError::Io { .. }),
            why: error.to_string(),
        }
    }
}

impl From<QuarantineError> for Refusal {
    fn from(error: QuarantineError) -> Refusal {
        Refusal {
            is_damage: !matches!(error, QuarantineError::Io { .. }),
            why: error.to_string(),
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Refusal {
        Refusal {
            is_damage: !matches!(error, StoreError::Io { .. }),
            why: error.to_string(),
        }
    }
}

/// Opens a machine's files as a process does when it starts.
pub(super) fn open_files(machine: &mut Machine, config: LogConfig) -> Result<Opened, Refusal> {
    let recovered = Log::open(machine.disk.clone(), config, machine.identity)?;
    let found = restored_store(machine)?;
    let (number, state) = (found.number, found.state);
    let behind = |recovered: Recovered<SimulatedDisk>| match &state {
        Some(state) => recovered.behind(state.companions.applied),
        None => Ok(recovered),
    };
    let recovered = recovered.map(behind).transpose()?;
    let quarantine = quarantine::load(&machine.disk)?;
    let (restored, log) = match recovered {
        None => (None, None),
        Some(recovered) => {
            let (restored_log, log) = RestoredLog::of(recovered);
            let restored = Restored {
                log: restored_log,
                store: number,
                state,
                quarantine,
            };
            (Some(restored), Some(log))
        }
    };
    Ok(Opened {
        restored,
        log,
        store: (number, found.history),
    })
}

impl World {
    pub(super) fn log_config(&self) -> LogConfig {
        LogConfig {
            segment_size_bytes: self.scenario.plan.disk.segment_size_bytes,
            spare_segments: self.scenario.plan.disk.spare_segments,
        }
    }

    /// When a sync that begins now is done.
    fn sync_done_at(&mut self, slot: usize) -> Micros {
        let plan = &self.scenario.plan.disk;
        let machine = &mut self.machines[slot];
        let takes = plan.sync_us + exponential(&mut machine.disk_rng, plan.jitter_us) + machine.slower_us;
        self.now.max(machine.stalled_until) + takes
    }

    /// Writes what waits, unless the disk is busy.
    pub(super) fn write_next(&mut self, id: ProcessId) {
        let Some(process) = self.machines[id.slot].process_of(id.life) else {
            return;
        };
        if process.syncing.is_some() || process.install.is_some() || process.writes.is_empty() {
            return;
        }
        let Some(log) = &mut process.log else { return };
        let batch = process.writes.make_contiguous();
        let number = batch.last().map(|write| write.number);
        let appended = log.append(batch);
        process.writes.clear();
        process.syncing = number;
        process.last_append = self.now;
        if self.survives(id, appended).is_some() {
            let at = self.sync_done_at(id.slot);
            self.queue.push(at, Happening::Synced(id));
        }
    }

    pub(super) fn synced(&mut self, id: ProcessId) {
        let Some(process) = self.machines[id.slot].process_of(id.life) else {
            return;
        };
        let (Some(number), Some(log)) = (process.syncing.take(), &mut process.log) else {
            return;
        };
        let synced = log.sync();
        if self.survives(id, synced).is_none() {
            return;
        }
        self.observer.persisted(id.slot, number);
        self.trace
            .note(self.now, Some(id.slot), Traced::Persisted, [number.0, 0], || {
                format!("{number:?}")
            });
        self.handle(id, Event::Persisted(number));
        self.arrange_mark(id);
        self.cut_log(id);
        self.install_next(id);
        self.write_next(id);
    }

    /// What is durable now, or was found at the start, is proven by a mark unless something follows it.
    pub(super) fn arrange_mark(&mut self, id: ProcessId) {
        let Some(process) = self.machines[id.slot].process_of(id.life) else {
            return;
        };
        if !std::mem::replace(&mut process.is_mark_arranged, true) {
            self.queue.push(self.now + MARK_AFTER_US, Happening::MarkDue(id));
        }
    }

    pub(super) fn mark_due(&mut self, id: ProcessId) {
        let Some(process) = self.machines[id.slot].process_of(id.life) else {
            return;
        };
        let due = process.last_append + MARK_AFTER_US;
        if due > self.now || process.syncing.is_some() {
            self.queue.push(due.max(self.now + 1_000), Happening::MarkDue(id));
            return;
        }
        process.is_mark_arranged = false;
        let Some(log) = &mut process.log else { return };
        let marked: Result<Marked, LogError> = log.mark();
        self.survives(id, marked);
    }

    pub(super) fn arrange_read(&mut self, id: ProcessId, fetch: Fetch) {
        let takes = 50 + exponential(&mut self.machines[id.slot].disk_rng, 50);
        self.queue.push(self.now + takes, Happening::Read(id, fetch));
    }

    pub(super) fn read(&mut self, id: ProcessId, fetch: Fetch) {
        let Some(process) = self.machines[id.slot].process_of(id.life) else {
            return;
        };
        let Some(reader) = &process.reader else { return };
        let read = reader.read(fetch.from, fetch.to, fetch.max_bytes);
        if matches!(read, Err(LogError::NotInLog { .. })) {
            self.handle(id, Event::FetchGone(fetch));
            return;
        }
        let Some(entries) = self.survives(id, read) else {
            return;
        };
        let words = [fetch.from.get(), entries.len() as u64];
        self.trace
            .note(self.now, Some(id.slot), Traced::Fetched, words, || {
                format!("{} entries", words[1])
            });
        self.handle(id, Event::Fetched { fetch, entries });
    }

    pub(super) fn arrange_making(&mut self, id: ProcessId, request: LogRequest) {
        let at = self.sync_done_at(id.slot);
        self.queue.push(at, Happening::MakeLog(id, Box::new(request)));
    }

    pub(super) fn make_log(&mut self, id: ProcessId, request: &LogRequest) {
        let config = self.log_config();
        let machine = &mut self.machines[id.slot];
        let owner = LogOwner {
            cluster: ClusterId(request.membership.cluster.0),
            node: machine.identity,
        };
        if machine.process_of(id.life).is_none() {
            return;
        }
        let made = Log::create(
            machine.disk.clone(),
            config,
            owner,
            &request.founding,
            request.hard_state,
        );
        let Some(log) = self.survives(id, made) else {
            return;
        };
        let machine = &mut self.machines[id.slot];
        if let Some(process) = machine.process_of(id.life) {
            process.reader = Some(log.reader());
            process.log = Some(log);
        }
        self.observer
            .log_created(id.slot, &request.founding, request.hard_state);
        self.arrange_mark(id);
        self.handle(id, Event::LogCreated);
    }

    /// The value, if the disk did what it was asked; else the process has ended: killed in the midst, or stopped by an
    /// error, as it must (R37).
    pub(super) fn survives<T, E: Display>(&mut self, id: ProcessId, done: Result<T, E>) -> Option<T> {
        let machine = &mut self.machines[id.slot];
        if machine.disk.has_crashed() {
            let armed = machine.crash_in_disk.take();
            let (remains, down_us) = armed.map_or((Remains::Synced, START_AGAIN_US), |armed| {
                (armed.remains, armed.down_us)
            });
            self.kill(id.slot, remains, down_us);
            return None;
        }
        if machine.base.has_crashed() {
            let armed = machine.crash_in_drain.take();
            let (remains, down_us) = armed.map_or((Remains::Synced, START_AGAIN_US), |armed| {
                (armed.remains, armed.down_us)
            });
            self.kill(id.slot, remains, down_us);
            return None;
        }
        match done {
            Ok(value) => Some(value),
            Err(error) => {
                self.stopped_by(id, &error);
                None
            }
        }
    }

    fn stopped_by(&mut self, id: ProcessId, error: &impl Display) {
        self.trace
            .note(self.now, Some(id.slot), Traced::Stop, [0, 0], || {
                error.to_string()
            });
        let machine = &self.machines[id.slot];
        if !machine.may_fail && !machine.is_rotten {
            let what = format!("its files failed on a good disk: {error}");
            self.observer.violate("I20", Some(id.slot), what);
        }
        self.kill(id.slot, Remains::PageCache, START_AGAIN_US);
    }

    /// The operator starts the process, unless it was started in the meantime.
    pub(super) fn start(&mut self, slot: usize, after: Life) {
        let machine = &mut self.machines[slot];
        if machine.process.is_some() || machine.life != after || machine.is_given_up {
            return;
        }
        machine.life += 1;
        let life = machine.life;
        let config = self.log_config();
        let machine = &mut self.machines[slot];
        if !machine.is_left_behind {
            self.observer.identity_drawn(slot, machine.identity.0);
        }
        let opened = match open_files(machine, config) {
            Ok(opened) => opened,
            Err(refusal) => return self.refused(slot, &refusal),
        };
        let Opened { restored, log, store } = opened;
        self.run_process(slot, life, restored, (log, store));
    }

    fn refused(&mut self, slot: usize, refusal: &Refusal) {
        let Refusal { is_damage, why } = refusal;
        let is_damage = *is_damage;
        self.trace
            .note(self.now, Some(slot), Traced::Refuse, [0, 0], || why.clone());
        let machine = &mut self.machines[slot];
        if machine.disk.has_crashed() {
            let remains = machine
                .crash_in_disk
                .take()
                .map_or(Remains::Synced, |armed| armed.remains);
            machine.disk_after_crash(remains);
        } else if machine.is_rotten && is_damage {
            machine.is_given_up = true;
            return;
        } else if is_damage || !machine.may_fail {
            let what = format!("refuses to start on a good disk: {why}");
            self.observer.violate("I20", Some(slot), what);
        }
        let after = self.machines[slot].life;
        self.queue
            .push(self.now + START_AGAIN_US, Happening::Start { slot, after });
    }

    fn run_process(
        &mut self,
        slot: usize,
        life: Life,
        restored: Option<Restored>,
        (log, store): (Option<Log<SimulatedDisk>>, (StoreNumber, History<SimulatedDisk>)),
    ) {
        let words = [
            u64::from(life),
            restored
                .as_ref()
                .map_or(0, |restored| restored.log.last.index.get()),
        ];
        self.trace.note(self.now, Some(slot), Traced::Start, words, || {
            restored.as_ref().map_or_else(
                || "unformed".to_owned(),
                |Restored { log, state, .. }| {
                    let applied = state.as_ref().map(|state| state.companions.applied);
                    let (base, last) = (log.base, log.last);
                    format!("{:?}, log {base} to {last}, applied {applied:?}", log.hard_state)
                },
            )
        });
        self.observer.started(slot, restored.as_ref());
        let plan = &self.scenario.plan;
        let config = node_config(plan, &self.machines, slot);
        let seed = seed_of(plan.seed, Stream::Node, (slot as u64) << 32 | u64::from(life));
        let machine = &mut self.machines[slot];
        match Node::new(config, restored, seed, machine.clock.local(self.now)) {
            Ok(node) => {
                let has_log = log.is_some();
                machine.process = Some(Process::new(life, node, log, store, plan.watches.settings()));
                let id = ProcessId { slot, life };
                self.wants_poll(id);
                self.begin_store(id);
                if has_log {
                    self.arrange_mark(id);
                }
            }
            Err(error) => {
                machine.is_given_up = true;
                self.observer.violate(
                    "I20",
                    Some(slot),
                    format!("refuses to start on its own files: {error}"),
                );
            }
        }
    }
}

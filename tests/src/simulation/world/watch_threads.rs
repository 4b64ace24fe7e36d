//! The watch thread of a process: what it is told waits in a queue, and history is read with a delay.

use std::collections::{BTreeMap, VecDeque};

use raftkv_protocol::{Answer, Failure, Header, Response, Revision, WatchControl, WatchStart};
use raftkv_server::replica::WatchBegin;
use raftkv_server::store::base::{Base, TwinView};
use raftkv_server::store::history::EventBlock;
use raftkv_server::store::{Pinned, State};
use raftkv_server::watch::{
    Begin, ConnectionId, Effect, Hub, HubSettings, Output, PageWanted, Reader, Start, WatchId, Window,
};

use super::machine::Waiting;
use super::watchers::{Told, WatchName, WatchStep};
use super::{Happening, Micros, ProcessId, World};
use crate::simulation::random::exponential;
use crate::simulation::trace::Traced;

/// What the thread is told.
pub(super) enum Order {
    Begin {
        begin: Box<Begin>,
        header: Header,
        snapshot: Option<(Pinned, TwinView)>,
        name: WatchName,
    },
    Applied(EventBlock),
    Control(WatchName, WatchControl),
    /// What was sent to the watcher has left, charged with so many bytes.
    Drained(WatchName, u64),
    /// Its connection broke.
    Closed(WatchName),
    EndAll(Failure),
    /// A snapshot of this revision took the store's place.
    Replaced(Revision),
}

/// What it reads.
enum Reading {
    Window(Window),
    Page(PageWanted),
}

/// See the module.
pub(super) struct WatchThread {
    hub: Hub,
    orders: VecDeque<Order>,
    is_taking: bool,
    /// What it reads now.
    reading: Option<Reading>,
    states: BTreeMap<WatchId, State<TwinView>>,
    names: BTreeMap<WatchId, WatchName>,
    by_name: BTreeMap<WatchName, WatchId>,
    /// Watches that begun and have not ended: while there are none, it is not told what is recorded.
    watching: usize,
    /// The last revision that was recorded, whether it was told or not.
    head: Revision,
    header: Option<Header>,
    tick_at: Option<Micros>,
}

impl WatchThread {
    pub(super) fn new(settings: HubSettings) -> WatchThread {
        WatchThread {
            hub: Hub::new(settings),
            orders: VecDeque::new(),
            is_taking: false,
            reading: None,
            states: BTreeMap::new(),
            names: BTreeMap::new(),
            by_name: BTreeMap::new(),
            watching: 0,
            head: Revision(0),
            header: None,
            tick_at: None,
        }
    }
}

fn connection(name: WatchName) -> ConnectionId {
    ConnectionId((name.watcher as u64) << 32 | name.attempt)
}

impl World {
    /// A batch was recorded, in history already.
    pub(super) fn watches_recorded(&mut self, id: ProcessId, events: &EventBlock) {
        let most = self.scenario.plan.watches.queue;
        let Some(process) = self.machines[id.slot].process_of(id.life) else {
            return;
        };
        let thread = &mut process.watches;
        if thread.watching == 0 {
            return;
        }
        thread.head = events.revisions().1;
        if thread.orders.len() < most {
            self.order(id, Order::Applied(events.clone()));
        }
    }

    pub(super) fn order(&mut self, id: ProcessId, order: Order) {
        let mean_us = self.scenario.plan.watches.order_us;
        let Some(process) = self.machines[id.slot].process_of(id.life) else {
            return;
        };
        process.watches.orders.push_back(order);
        if !std::mem::replace(&mut process.watches.is_taking, true) {
            let at = self.now + 1 + exponential(&mut self.watchers.rng, mean_us);
            self.queue.push(at, Happening::Watch(WatchStep::Order(id)));
        }
    }

    pub(super) fn begin_watch(&mut self, id: ProcessId, begin: WatchBegin) {
        let WatchBegin {
            token,
            request,
            header,
            snapshot,
        } = begin;
        let base = self.machines[id.slot].base.clone();
        let Some(process) = self.machines[id.slot].process_of(id.life) else {
            return;
        };
        let Some(Waiting::Watcher(name)) = process.waiting.remove(&token) else {
            self.observer.violate(
                "I19",
                Some(id.slot),
                format!("a watch begins for {token:?}, which waits for none"),
            );
            return;
        };
        process.watches.watching += 1;
        let start = match request.start {
            WatchStart::Now => Start::From(Revision(header.revision.0 + 1)),
            WatchStart::Revision(from) => Start::From(from),
            WatchStart::Snapshot => Start::Snapshot(header.revision),
        };
        let view = base.view().ok();
        let begin = Box::new(Begin {
            request,
            start,
            head: header.revision,
            connection: connection(name),
        });
        let order = Order::Begin {
            begin,
            header,
            snapshot: snapshot.zip(view),
            name,
        };
        self.order(id, order);
    }

    /// The thread takes what waits, some of it.
    pub(super) fn take_orders(&mut self, id: ProcessId) {
        let at_once = self.watchers.rng.usize(1..8);
        let machine = &mut self.machines[id.slot];
        let (now, base) = (machine.clock.local(self.now), machine.base.clone());
        let Some(process) = machine.process_of(id.life) else {
            return;
        };
        let reader = Reader::new(process.history.clone(), base);
        let thread = &mut process.watches;
        thread.is_taking = false;
        let head = thread.head;
        let (mut out, mut failed) = (Output::new(), None);
        for _ in 0..at_once {
            let Some(order) = thread.orders.pop_front() else {
                break;
            };
            if let Err(error) = thread.take(now, order, &reader, &mut out) {
                failed = Some(error);
                break;
            }
        }
        let is_left = !thread.orders.is_empty();
        if !is_left {
            thread.hub.jump(head);
        }
        if let Some(error) = failed {
            self.survives::<(), _>(id, Err(error));
            return;
        }
        self.watch_effects(id, out);
        if is_left {
            let Some(process) = self.machines[id.slot].process_of(id.life) else {
                return;
            };
            process.watches.is_taking = true;
            let at = self.now + 1 + exponential(&mut self.watchers.rng, self.scenario.plan.watches.order_us);
            self.queue.push(at, Happening::Watch(WatchStep::Order(id)));
        }
    }

    /// Sends, ends, and arranges what comes next.
    fn watch_effects(&mut self, id: ProcessId, out: Output) {
        for effect in out {
            let Some(process) = self.machines[id.slot].process_of(id.life) else {
                return;
            };
            let thread = &mut process.watches;
            let header = thread.header;
            match effect {
                Effect::Send { to, part, charged } => {
                    let names: Vec<WatchName> =
                        to.iter().filter_map(|id| thread.names.get(id).copied()).collect();
                    let Some(header) = header else { continue };
                    for name in names {
                        let outcome = Ok(Answer::Watch(part.clone()));
                        self.tell_watcher(id, name, Response { header, outcome }, charged);
                    }
                }
                Effect::Release(watch) => drop(thread.states.remove(&watch)),
                Effect::End { watch, failure } => {
                    thread.watching -= 1;
                    let Some(name) = thread.names.remove(&watch) else {
                        continue;
                    };
                    thread.by_name.remove(&name);
                    if let (Some(header), Some(failure)) = (header, failure) {
                        let outcome = Err(failure);
                        self.tell_watcher(id, name, Response { header, outcome }, 0);
                    }
                }
            }
        }
        self.arrange_watch_work(id);
    }

    fn arrange_watch_work(&mut self, id: ProcessId) {
        let read_us = self.scenario.plan.watches.read_us;
        let machine = &mut self.machines[id.slot];
        let clock = machine.clock;
        let stalled_until = machine.stalled_until;
        let Some(process) = machine.process_of(id.life) else {
            return;
        };
        let thread = &mut process.watches;
        if thread.reading.is_none() {
            let window = thread.hub.next_window().map(Reading::Window);
            thread.reading = window.or_else(|| thread.hub.next_page().map(Reading::Page));
            if thread.reading.is_some() {
                let takes = 20 + exponential(&mut self.watchers.rng, read_us);
                let at = self.now.max(stalled_until) + takes;
                self.queue.push(at, Happening::Watch(WatchStep::Read(id)));
            }
        }
        let next = thread.hub.next_tick();
        if next < raftkv_raft::Time::NEVER {
            let at = clock.world(next, self.now + 1);
            if thread.tick_at.is_none_or(|arranged| arranged > at) {
                thread.tick_at = Some(at);
                self.queue.push(at, Happening::Watch(WatchStep::Tick(id)));
            }
        }
    }

    /// What was to be read is there. Other things were told meanwhile.
    pub(super) fn watch_reads(&mut self, id: ProcessId) {
        let machine = &mut self.machines[id.slot];
        let (now, base) = (machine.clock.local(self.now), machine.base.clone());
        let Some(process) = machine.process_of(id.life) else {
            return;
        };
        let reader = Reader::new(process.history.clone(), base);
        let thread = &mut process.watches;
        let mut out = Output::new();
        let done = match thread.reading.take() {
            Some(Reading::Window(window)) => reader.read(window).and_then(|read| {
                let records = reader.now();
                thread.hub.window_read(now, read, &records, &mut out)
            }),
            Some(Reading::Page(wanted)) => match thread.states.get(&wanted.watch) {
                Some(state) => state.watch_page(&wanted).map(|page| {
                    thread.hub.page_read(now, wanted.watch, page, &mut out);
                }),
                // It ended while its page was read.
                None => Ok(()),
            },
            None => Ok(()),
        };
        if self.survives(id, done).is_some() {
            self.watch_effects(id, out);
        }
    }

    pub(super) fn watch_ticks(&mut self, id: ProcessId) {
        let machine = &mut self.machines[id.slot];
        let now = machine.clock.local(self.now);
        let Some(process) = machine.process_of(id.life) else {
            return;
        };
        if process.watches.tick_at.is_none_or(|at| at > self.now) {
            return;
        }
        process.watches.tick_at = None;
        let mut out = Output::new();
        process.watches.hub.tick(now, &mut out);
        self.watch_effects(id, out);
    }

    /// Follows what the hub does, in two words.
    pub(super) fn trace_watch(&mut self, slot: usize, words: [u64; 2], line: impl FnOnce() -> String) {
        self.trace.note(self.now, Some(slot), Traced::Watch, words, line);
    }

    fn tell_watcher(&mut self, id: ProcessId, name: WatchName, response: Response, charged: u64) {
        let words = [connection(name).0, response.header.revision.0];
        self.trace_watch(id.slot, words, || format!("{name:?} {:?}", response.outcome));
        self.watcher_hears(
            id,
            name,
            Told {
                by: id,
                response,
                charged,
            },
        );
    }
}

impl WatchThread {
    fn take<D: raftkv_server::disk::Disk, B: Base>(
        &mut self,
        now: raftkv_raft::Time,
        order: Order,
        reader: &Reader<D, B>,
        out: &mut Output,
    ) -> Result<(), raftkv_server::store::StoreError> {
        match order {
            Order::Begin {
                begin,
                header,
                snapshot,
                name,
            } => {
                self.header = Some(header);
                let watch = self.hub.begin(now, &begin, out);
                self.names.insert(watch, name);
                self.by_name.insert(name, watch);
                if let Some((pinned, view)) = snapshot {
                    let state = pinned.over(view)?;
                    self.states.insert(watch, state.expect("both are of one moment"));
                }
            }
            Order::Applied(block) => {
                let revisions = block.revisions();
                if let Some(header) = &mut self.header {
                    header.revision = revisions.1;
                }
                if revisions.0 <= self.hub.head() {
                    self.hub.jump(revisions.1);
                } else {
                    let records = reader.now();
                    self.hub.applied(now, revisions, &block.events(), &records, out)?;
                }
            }
            Order::Control(name, control) => {
                if let Some(watch) = self.by_name.get(&name).copied() {
                    match control {
                        WatchControl::Credit { bytes } => self.hub.credit(watch, bytes),
                        WatchControl::Cancel => self.hub.cancel(watch, out),
                    }
                }
            }
            Order::Drained(name, bytes) => self.hub.drained(connection(name), bytes),
            Order::Closed(name) => self.hub.closed(connection(name), out),
            Order::EndAll(failure) => self.hub.end_all(&failure, out),
            Order::Replaced(revision) => self.hub.jump(revision),
        }
        Ok(())
    }
}

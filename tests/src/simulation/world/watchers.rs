//! Watchers: each follows some keys, from one node to the next.

use fastrand::Rng;
use raftkv_protocol::{
    Answer, ErrorCode, EventFilter, KeySpan, PartKind, Previous, Request, Response, Revision, WatchControl,
    WatchPart, WatchRequest, WatchStart, WhenSlow,
};

use super::machine::Waiting;
use super::watch_threads::Order;
use super::{Happening, Micros, ProcessId, World};
use crate::simulation::observer::WatchView;
use crate::simulation::plan::Plan;
use crate::simulation::random::{Stream, chance_ppm, exponential, log_uniform, stream};

/// A watcher that has heard nothing for so long asks another node.
const PATIENCE_US: Micros = 3_000_000;
/// The pause before it does.
const PAUSE_US: Micros = 50_000;

/// One attempt of one watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WatchName {
    pub(super) watcher: usize,
    pub(super) attempt: u64,
}

/// What a watcher hears, and of whom.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) by: ProcessId,
    pub(super) response: Response,
    /// What it counts in the outbox, bytes.
    pub(super) charged: u64,
}

/// What can happen about watches.
#[derive(Debug)]
pub(super) enum WatchStep {
    /// A watcher asks a node.
    Ask(usize),
    /// Its request arrives there.
    Arrives {
        name: WatchName,
        to: usize,
    },
    /// A watch thread takes what waits.
    Order(ProcessId),
    /// It has read.
    Read(ProcessId),
    Tick(ProcessId),
    /// A watcher hears.
    Told(WatchName, Box<Told>),
    /// It has taken out what it was told, so many bytes.
    Takes(WatchName, u32),
    /// What a watcher says arrives.
    Control(WatchName, ProcessId, WatchControl),
    /// Has it heard anything?
    Look(WatchName),
    /// It goes elsewhere.
    Leaves(WatchName),
}

impl WatchStep {
    /// The machine whose process must run for it.
    pub(super) fn needs_running(&self) -> Option<usize> {
        match self {
            WatchStep::Arrives { to, .. } => Some(*to),
            WatchStep::Order(id)
            | WatchStep::Read(id)
            | WatchStep::Tick(id)
            | WatchStep::Control(_, id, _) => Some(id.slot),
            WatchStep::Ask(_)
            | WatchStep::Told(..)
            | WatchStep::Takes(..)
            | WatchStep::Look(_)
            | WatchStep::Leaves(_) => None,
        }
    }
}

struct Watcher {
    view: WatchView,
    attempt: u64,
    /// The process that it hears from.
    at: Option<ProcessId>,
    last_heard: Micros,
    /// Its connection delivers in order.
    last_arrival: Micros,
    /// It takes what it is told one after the other.
    last_taken: Micros,
    rng: Rng,
}

/// All watchers.
pub(super) struct Watchers {
    watchers: Vec<Watcher>,
    pub(super) rng: Rng,
}

impl Watchers {
    pub(super) fn new(plan: &Plan) -> Watchers {
        let watcher = |number| {
            let mut rng = stream(plan.seed, Stream::Watch, 1 + number as u64);
            Watcher {
                view: WatchView::new(draw_wish(plan, &mut rng)),
                attempt: 0,
                at: None,
                last_heard: 0,
                last_arrival: 0,
                last_taken: 0,
                rng,
            }
        };
        Watchers {
            watchers: (0..plan.watches.watchers).map(watcher).collect(),
            rng: stream(plan.seed, Stream::Watch, 0),
        }
    }

    /// They watch from the beginning again, and know nothing.
    pub(super) fn begin_anew(&mut self, plan: &Plan) {
        *self = Watchers::new(plan);
    }

    /// Half of them begin with this revision.
    pub(super) fn go_on_from(&mut self, revision: u64) {
        for watcher in self.watchers.iter_mut().step_by(2) {
            watcher.view.next = Some(revision);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.watchers.len()
    }

    /// The watcher, if it still is in this attempt.
    fn of(&mut self, name: WatchName) -> Option<&mut Watcher> {
        let watcher = &mut self.watchers[name.watcher];
        (watcher.attempt == name.attempt).then_some(watcher)
    }
}

fn draw_wish(plan: &Plan, rng: &mut Rng) -> WatchRequest {
    let key = format!("key{}", rng.u8(..plan.workload.keys));
    let span = match rng.u8(..6) {
        0 | 1 => KeySpan::all(),
        2 => KeySpan::one(key.as_bytes()),
        3 => KeySpan::prefix(b"ttl"),
        4 => KeySpan::prefix(key.as_bytes()),
        _ => KeySpan {
            from: key.into(),
            to: None,
        },
    };
    WatchRequest {
        previous: [Previous::Unwanted, Previous::Wanted][rng.usize(..2)],
        filter: [
            EventFilter::All,
            EventFilter::All,
            EventFilter::Puts,
            EventFilter::Deletes,
        ][rng.usize(..4)],
        when_slow: [
            WhenSlow::EveryEvent,
            WhenSlow::EveryEvent,
            WhenSlow::LatestPerKey,
            WhenSlow::Drop,
        ][rng.usize(..4)],
        progress_ms: Some(rng.u32(100..1500)),
        credit_bytes: log_uniform(rng, 1, plan.watches.credit_bytes.into()) as u32,
        ..WatchRequest::new(span)
    }
}

impl World {
    pub(super) fn begin_watchers(&mut self) {
        for watcher in 0..self.watchers.len() {
            let at = self.now + exponential(&mut self.watchers.rng, 1_000_000);
            self.queue.push(at, Happening::Watch(WatchStep::Ask(watcher)));
        }
    }

    pub(super) fn watch_step(&mut self, step: WatchStep) {
        match step {
            WatchStep::Ask(watcher) => self.watcher_asks(watcher),
            WatchStep::Arrives { name, to } => self.watch_arrives(name, to),
            WatchStep::Order(id) => self.take_orders(id),
            WatchStep::Read(id) => self.watch_reads(id),
            WatchStep::Tick(id) => self.watch_ticks(id),
            WatchStep::Told(name, told) => self.watcher_told(name, *told),
            WatchStep::Takes(name, bytes) => self.watcher_takes(name, bytes),
            WatchStep::Control(name, to, control) => self.order(to, Order::Control(name, control)),
            WatchStep::Look(name) => self.watcher_looks(name),
            WatchStep::Leaves(name) => self.watcher_leaves(name),
        }
    }

    fn watch_delay(&mut self) -> Micros {
        let network = &self.scenario.plan.network;
        let mean_us = network.delay_us + network.jitter_us;
        50 + exponential(&mut self.watchers.rng, mean_us)
    }

    /// Goes on where it was, at any node; or begins, as it likes.
    fn watcher_asks(&mut self, number: usize) {
        let floor = self.observer.shown_revision();
        let stay_us = self.scenario.plan.watches.stay_us;
        let turn_to = self.clients.turn_to.clone();
        let delay = self.watch_delay();
        let watcher = &mut self.watchers.watchers[number];
        let to = turn_to[watcher.rng.usize(..turn_to.len())];
        watcher.attempt += 1;
        watcher.at = None;
        watcher.last_heard = self.now;
        watcher.view.asks(floor);
        watcher.view.wish.start = match watcher.view.next {
            Some(next) => WatchStart::Revision(Revision(next)),
            None if watcher.rng.bool() => WatchStart::Snapshot,
            None => WatchStart::Now,
        };
        let name = WatchName {
            watcher: number,
            attempt: watcher.attempt,
        };
        let leaves_at = self.now + exponential(&mut watcher.rng, stay_us);
        let arrives = WatchStep::Arrives { name, to };
        self.queue.push(self.now + delay, Happening::Watch(arrives));
        self.queue
            .push(self.now + PATIENCE_US, Happening::Watch(WatchStep::Look(name)));
        self.queue
            .push(leaves_at, Happening::Watch(WatchStep::Leaves(name)));
    }

    fn watch_arrives(&mut self, name: WatchName, to: usize) {
        let Some(watcher) = self.watchers.of(name) else {
            return;
        };
        let request = Request::Watch(watcher.view.wish.clone());
        self.hand(to, Waiting::Watcher(name), request, PATIENCE_US);
    }

    /// Sends to a watcher; now and then its connection breaks.
    pub(super) fn watcher_hears(&mut self, id: ProcessId, name: WatchName, told: Told) {
        let delay = self.watch_delay();
        let lost_ppm = self.scenario.plan.network.client_lost_ppm;
        let Some(watcher) = self.watchers.of(name) else {
            return;
        };
        if chance_ppm(&mut watcher.rng, lost_ppm) {
            self.watcher_pauses(name);
            self.order(id, Order::Closed(name));
            return;
        }
        let at = watcher.last_arrival.max(self.now) + delay;
        watcher.last_arrival = at;
        self.queue
            .push(at, Happening::Watch(WatchStep::Told(name, Box::new(told))));
    }

    fn watcher_told(&mut self, name: WatchName, told: Told) {
        let Told {
            by,
            response,
            charged,
        } = told;
        let Some(watcher) = self.watchers.of(name) else {
            return;
        };
        watcher.at = Some(by);
        watcher.last_heard = self.now;
        match response.outcome {
            Ok(Answer::Watch(part)) => {
                self.observer.watch_told(by.slot, &mut watcher.view, &part);
                self.order(by, Order::Drained(name, charged));
                self.watcher_will_take(name, &part);
            }
            Ok(other) => {
                let what = format!("a watcher was told {other:?}");
                self.observer.violate("I23", Some(by.slot), what);
            }
            Err(failure) => {
                self.observer.watch_ended(by.slot, &watcher.view, &failure);
                if matches!(failure.code, ErrorCode::Compacted | ErrorCode::WatchTooSlow) {
                    watcher.view.begins_anew();
                }
                self.watcher_pauses(name);
            }
        }
    }

    fn watcher_will_take(&mut self, name: WatchName, part: &WatchPart) {
        let think_us = self.scenario.plan.watches.think_us;
        let bytes = part.credit_bytes();
        if part.kind == PartKind::Progress || bytes == 0 {
            return;
        }
        let Some(watcher) = self.watchers.of(name) else {
            return;
        };
        let at = watcher.last_taken.max(self.now) + exponential(&mut watcher.rng, think_us);
        watcher.last_taken = at;
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.queue
            .push(at, Happening::Watch(WatchStep::Takes(name, bytes)));
    }

    fn watcher_takes(&mut self, name: WatchName, bytes: u32) {
        let delay = self.watch_delay();
        let Some(to) = self.watchers.of(name).and_then(|watcher| watcher.at) else {
            return;
        };
        let control = WatchControl::Credit { bytes };
        let arrives = WatchStep::Control(name, to, control);
        self.queue.push(self.now + delay, Happening::Watch(arrives));
    }

    fn watcher_looks(&mut self, name: WatchName) {
        let Some(watcher) = self.watchers.of(name) else {
            return;
        };
        let patient_until = watcher.last_heard + PATIENCE_US;
        if patient_until > self.now {
            self.queue
                .push(patient_until, Happening::Watch(WatchStep::Look(name)));
        } else {
            self.watcher_leaves(name);
        }
    }

    /// It goes on at another node: says so, or just breaks its connection.
    fn watcher_leaves(&mut self, name: WatchName) {
        let delay = self.watch_delay();
        let Some(watcher) = self.watchers.of(name) else {
            return;
        };
        if let Some(at) = watcher.at {
            if watcher.rng.bool() {
                let cancel = WatchStep::Control(name, at, WatchControl::Cancel);
                self.queue.push(self.now + delay, Happening::Watch(cancel));
            } else {
                self.order(at, Order::Closed(name));
            }
        }
        self.watcher_pauses(name);
    }

    /// What is still on its way of this attempt does not reach it any more.
    fn watcher_pauses(&mut self, name: WatchName) {
        let Some(watcher) = self.watchers.of(name) else {
            return;
        };
        watcher.attempt += 1;
        let at = self.now + exponential(&mut watcher.rng, PAUSE_US);
        self.queue
            .push(at, Happening::Watch(WatchStep::Ask(name.watcher)));
    }
}

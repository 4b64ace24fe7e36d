//! A whole cluster in one thread: machines, network, clients, and a queue of what happens next.

mod carry_out;
mod clients;
mod crash_points;
mod faults;
mod forwarding;
mod machine;
mod operators;
mod pages;
mod quarantine;
mod ranges;
mod recovery;
mod requests;
mod scans;
mod scrubs;
mod settle;
mod snapshots;
mod storage;
mod store;
mod tenants;
mod watch_threads;
mod watchers;
mod wire;

use std::collections::BTreeMap;
use std::io::Write as Out;

use raftkv_protocol::PeerMessage;
use raftkv_raft::{Entry, Fetch, HardState};
use raftkv_server::membership::Membership;
use raftkv_server::replica::{Effect, Event, ForwardOutcome, Token};

use self::clients::{Clients, Reply};
use self::crash_points::Crossed;
use self::forwarding::ForwardedRequest;
use self::machine::Machine;
use self::operators::Operators;
use self::settle::Settling;
use self::snapshots::SnapshotStep;
use self::store::StoreStep;
use self::tenants::{TenantStep, Tenants};
use self::watchers::{WatchStep, Watchers};
use self::wire::fingerprint;
use super::network::{Arrival, Network};
use super::observer::{AppendLimits, Attempt, Observer};
use super::plan::{Accusation, Ending};
use super::queue::{Micros, Queue};
use super::schedule::{Action, NodeSet, Scenario};
use super::trace::{Trace, Traced};

/// A run of the swarm has a tenth of this at most.
const MOST_EVENTS: u64 = 20_000_000;

/// Which process of a machine: grows with each start, so that what was meant for a dead process does not reach the next.
pub(crate) type Life = u32;

/// One process, while it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ProcessId {
    pub(crate) slot: usize,
    pub(crate) life: Life,
}

/// What Effect::CreateLog asked for.
#[derive(Debug)]
pub(crate) struct LogRequest {
    membership: Membership,
    founding: Entry,
    hard_state: HardState,
}

/// What can happen.
#[derive(Debug)]
enum Happening {
    /// A step of the schedule begins.
    Step(usize),
    /// A fault of the schedule that lasts ends.
    StepEnds(usize),
    /// A process wants to be polled.
    Poll(ProcessId),
    /// The deadline a process gave.
    Timer(ProcessId),
    /// A message arrives at a machine.
    Message {
        to: usize,
        message: Box<PeerMessage>,
    },
    /// A machine learns that its connections to another one broke.
    Reset {
        at: usize,
        of: usize,
    },
    /// A disk finished what was written before.
    Synced(ProcessId),
    /// Is a mark due?
    MarkDue(ProcessId),
    /// A disk has read what was asked for.
    Read(ProcessId, Fetch),
    /// A disk has come to a step of what the state machine asked for.
    Store(ProcessId, StoreStep),
    /// A step of the disk for a snapshot that is sent or comes in.
    Snapshot(ProcessId, Box<SnapshotStep>),
    /// A disk is about to make a log.
    MakeLog(ProcessId, Box<LogRequest>),
    /// The operator starts the machine's process again.
    Start {
        slot: usize,
        after: Life,
    },
    /// A forwarded request arrives.
    Forwarded(Box<ForwardedRequest>),
    /// The end of a forwarded request is known at its origin.
    ForwardEnds {
        at: ProcessId,
        token: Token,
        outcome: Box<ForwardOutcome>,
    },
    /// A client's request arrives at a machine.
    Request {
        to: usize,
        client: usize,
        attempt: Attempt,
    },
    /// A client hears of its request.
    Reply {
        client: usize,
        attempt: Attempt,
        reply: Box<Reply>,
    },
    /// A client's patience ends.
    ClientTimeout {
        client: usize,
        attempt: Attempt,
    },
    /// A client tries again.
    ClientRetry {
        client: usize,
        attempt: Attempt,
    },
    /// A leader that hears late is not heard any more.
    LagGoesMute {
        leader: NodeSet,
        others: NodeSet,
        for_us: Micros,
    },
    /// A slow clock runs as before.
    ClockIsTrue {
        node: usize,
    },
    /// It is whole again.
    LagEnds {
        leader: NodeSet,
        others: NodeSet,
    },
    /// A machine of the old cluster, left behind by a recovery, gets an empty disk and is told to join the new one.
    LeftBehindEnds {
        slot: usize,
    },
    /// A disk rots, if it may now.
    Rot {
        slot: usize,
        tries: u32,
    },
    /// A node is told that it is the odd one, if it can be now.
    Accuse {
        slot: usize,
        tries: u32,
    },
    /// Something about watches.
    Watch(WatchStep),
    /// Something about tenants.
    Tenant(TenantStep),
    /// The time that is swept begins, or ends.
    SweepBegins,
    SweepEnds,
    /// Faults stop; or, in a calm run, elections must have.
    Settle,
    /// Has the cluster come to rest?
    CheckRest,
}

impl Happening {
    /// The machine whose process must run for this to happen: a paused one gets it when it goes on.
    fn needs_running(&self) -> Option<usize> {
        match self {
            Happening::Poll(process)
            | Happening::Timer(process)
            | Happening::Synced(process)
            | Happening::MarkDue(process)
            | Happening::Read(process, _)
            | Happening::Store(process, _)
            | Happening::Snapshot(process, _)
            | Happening::MakeLog(process, _)
            | Happening::ForwardEnds { at: process, .. } => Some(process.slot),
            Happening::Message { to, .. }
            | Happening::Request { to, .. }
            | Happening::Reset { at: to, .. } => Some(*to),
            Happening::Forwarded(request) => Some(request.to),
            Happening::Watch(step) => step.needs_running(),
            Happening::Tenant(step) => step.needs_running(),
            Happening::Step(_)
            | Happening::StepEnds(_)
            | Happening::LagGoesMute { .. }
            | Happening::LagEnds { .. }
            | Happening::ClockIsTrue { .. }
            | Happening::Rot { .. }
            | Happening::Accuse { .. }
            | Happening::LeftBehindEnds { .. }
            | Happening::Start { .. }
            | Happening::Reply { .. }
            | Happening::ClientTimeout { .. }
            | Happening::ClientRetry { .. }
            | Happening::SweepBegins
            | Happening::SweepEnds
            | Happening::Settle
            | Happening::CheckRest => None,
        }
    }
}

/// See the module.
pub(crate) struct World {
    scenario: Scenario,
    now: Micros,
    queue: Queue<Happening>,
    machines: Vec<Machine>,
    network: Network,
    clients: Clients,
    tenants: Tenants,
    watchers: Watchers,
    operators: Operators,
    pub(crate) observer: Observer,
    pub(crate) trace: Trace,
    /// Effects carried out so far, all nodes together.
    effects: u64,
    crossed: Crossed,
    /// Faults of the schedule that last, by the number of their step.
    lasting: BTreeMap<usize, Action>,
    settling: Option<Settling>,
    /// A run without faults, after its first election.
    calm: Option<Settling>,
    is_over: bool,
    is_quorum_lost: bool,
    /// A cluster was recovered from one data directory.
    was_recovered: bool,
    /// Some disk has had little room.
    was_space_low: bool,
    arrivals: Vec<Arrival>,
    effects_buffer: Vec<Effect>,
    happened: u64,
}

impl World {
    pub(crate) fn new(scenario: Scenario, out: Option<Box<dyn Out>>) -> World {
        let plan = &scenario.plan;
        let mut world = World {
            now: 0,
            queue: Queue::new(),
            machines: (0..plan.nodes).map(|slot| Machine::new(plan, slot)).collect(),
            network: Network::new(plan),
            clients: Clients::new(plan),
            tenants: Tenants::new(plan),
            watchers: Watchers::new(plan),
            operators: Operators::default(),
            observer: Observer::new(
                plan.nodes,
                AppendLimits {
                    entries: plan.raft.max_append_entries,
                    bytes: plan.raft.max_append_bytes,
                },
                plan.timekeeping(),
            ),
            trace: Trace::new(out),
            effects: 0,
            crossed: Crossed::default(),
            lasting: BTreeMap::new(),
            settling: None,
            calm: None,
            is_over: false,
            is_quorum_lost: false,
            was_recovered: false,
            was_space_low: false,
            arrivals: Vec::new(),
            effects_buffer: Vec::new(),
            happened: 0,
            scenario,
        };
        world.arrange();
        world
    }

    fn arrange(&mut self) {
        for (number, step) in self.scenario.steps.iter().enumerate() {
            self.queue.push(step.at_us, Happening::Step(number));
        }
        let settle_at = match self.scenario.plan.ending {
            Ending::Abrupt | Ending::Settled | Ending::Whole => self.scenario.plan.length_us,
            Ending::Calm => self.scenario.plan.length_us.min(settle::CALM_AFTER_US),
        };
        self.queue.push(settle_at, Happening::Settle);
        for slot in 0..self.machines.len() {
            self.queue.push(0, Happening::Start { slot, after: 0 });
        }
        if let Some(Accusation { node, at_us }) = self.scenario.plan.scrub.accused {
            let (slot, tries) = (node.min(self.machines.len() - 1), 0);
            self.queue.push(at_us, Happening::Accuse { slot, tries });
        }
        self.begin_watchers();
        self.arrange_sweep();
    }

    /// Lets everything happen, until the end or the first violation.
    pub(crate) fn run(&mut self) {
        while !self.is_over && self.observer.violations().is_empty() {
            let Some((at, happening)) = self.queue.pop() else {
                return;
            };
            self.now = at;
            if let Some(slot) = happening.needs_running()
                && self.machines[slot].paused_until > at
            {
                self.queue.push(self.machines[slot].paused_until, happening);
                continue;
            }
            self.observer.set_now(at);
            self.happened += 1;
            if self.happened > MOST_EVENTS {
                self.observer.violate(
                    "I19",
                    None,
                    format!("more than {MOST_EVENTS} events in one run: a storm"),
                );
            }
            self.happen(happening);
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Step(number) => self.step(number),
            Happening::StepEnds(number) => self.step_ends(number),
            Happening::Poll(process) => self.poll(process),
            Happening::Timer(process) => self.timer(process),
            Happening::Message { to, message } => self.receive(to, *message),
            Happening::Reset { at, of } => self.connection_reset(at, of),
            Happening::Synced(process) => self.synced(process),
            Happening::MarkDue(process) => self.mark_due(process),
            Happening::Read(process, fetch) => self.read(process, fetch),
            Happening::Store(process, step) => self.store_step(process, step),
            Happening::Snapshot(process, step) => self.snapshot_step(process, *step),
            Happening::MakeLog(process, request) => self.make_log(process, &request),
            Happening::Start { slot, after } => self.start(slot, after),
            Happening::Forwarded(request) => self.forward_arrives(*request),
            Happening::ForwardEnds { at, token, outcome } => self.forward_ends(at, token, *outcome),
            Happening::Request { to, client, attempt } => self.request_arrives(to, client, attempt),
            Happening::Reply {
                client,
                attempt,
                reply,
            } => self.reply_arrives(client, attempt, *reply),
            Happening::ClientTimeout { client, attempt } => self.client_times_out(client, attempt),
            Happening::ClientRetry { client, attempt } => self.client_retries(client, attempt),
            Happening::LagGoesMute {
                leader,
                others,
                for_us,
            } => self.lag_goes_mute(leader, others, for_us),
            Happening::LagEnds { leader, others } => self.lag_ends(leader, others),
            Happening::ClockIsTrue { node } => self.clock_is_true(node),
            Happening::Rot { slot, tries } => self.rot_when_proven(slot, tries),
            Happening::Accuse { slot, tries } => self.accuse(slot, tries),
            Happening::LeftBehindEnds { slot } => self.left_behind_ends(slot),
            Happening::Watch(step) => self.watch_step(step),
            Happening::Tenant(step) => self.tenant_step(step),
            Happening::SweepBegins => self.sweep_begins(),
            Happening::SweepEnds => self.sweep_ends(),
            Happening::Settle => self.settle(),
            Happening::CheckRest => self.check_rest(),
        }
    }

    /// Hands an event to a process, if that one still lives.
    fn handle(&mut self, id: ProcessId, event: Event) {
        let machine = &mut self.machines[id.slot];
        let local = machine.clock.local(self.now);
        let Some(process) = machine.process_of(id.life) else {
            return;
        };
        process.handled += 1;
        process.node.handle(local, event);
        self.wants_poll(id);
    }

    fn wants_poll(&mut self, id: ProcessId) {
        let at = self.now + self.scenario.plan.gather_us;
        let Some(process) = self.machines[id.slot].process_of(id.life) else {
            return;
        };
        if !process.is_poll_arranged {
            process.is_poll_arranged = true;
            self.queue.push(at, Happening::Poll(id));
        }
    }

    fn timer(&mut self, id: ProcessId) {
        let machine = &mut self.machines[id.slot];
        let clock = machine.clock;
        let Some(process) = machine.process_of(id.life) else {
            return;
        };
        // Another one was arranged instead.
        if process.timer_at.is_none_or(|at| at > self.now) {
            return;
        }
        process.timer_at = None;
        // Deadlines move on while messages come in; only one that was really reached is worth a poll.
        if process.node.next_deadline() <= clock.local(self.now) {
            self.poll(id);
        } else {
            self.arrange_timer(id);
        }
    }

    fn arrange_timer(&mut self, id: ProcessId) {
        let machine = &mut self.machines[id.slot];
        let clock = machine.clock;
        let Some(process) = machine.process_of(id.life) else {
            return;
        };
        let deadline = process.node.next_deadline();
        if deadline == raftkv_raft::Time::NEVER {
            return;
        }
        let at = clock.world(deadline, self.now + 1);
        if process.timer_at.is_none_or(|arranged| arranged > at) {
            process.timer_at = Some(at);
            self.queue.push(at, Happening::Timer(id));
        }
    }

    fn receive(&mut self, to: usize, message: PeerMessage) {
        let Some(id) = self.machines[to].process_id() else {
            return;
        };
        self.trace
            .note(self.now, Some(to), Traced::Receive, fingerprint(&message), || {
                format!("{message:?}")
            });
        if let Some(process) = self.machines[to].process_of(id.life) {
            process.note_vote_request(&message);
        }
        self.handle(id, Event::Peer(message));
    }

    fn connection_reset(&mut self, at: usize, of: usize) {
        let Some(id) = self.machines[at].process_id() else {
            return;
        };
        let address = self.machines[of].address.clone();
        self.trace
            .note(self.now, Some(at), Traced::Reset, [of as u64, 0], || {
                format!("by node{}", of + 1)
            });
        self.handle(id, Event::PeerReset(address));
    }

    /// How much happened, for speed.
    pub(crate) fn happened(&self) -> u64 {
        self.happened
    }

    /// Effects carried out, for sweeps.
    pub(crate) fn effects_carried_out(&self) -> u64 {
        self.effects
    }

    /// Boundaries crossed within the time that is swept.
    pub(crate) fn crossed(&self) -> &Crossed {
        &self.crossed
    }

    /// Virtual time.
    pub(crate) fn now(&self) -> Micros {
        self.now
    }

    /// Completed and failed operations so far, and those whose outcome stayed unknown.
    pub(crate) fn operations(&self) -> clients::Counts {
        self.clients.counts
    }

    pub(crate) fn history(&self) -> crate::linearizability::History {
        self.clients.recorder.history()
    }

    /// The machine at an address.
    fn slot_of(&self, address: &raftkv_protocol::Address) -> Option<usize> {
        self.machines
            .iter()
            .position(|machine| machine.address == *address)
    }
}

//! N nodes in one thread: a network with loss and cuts, a disk that is durable at once (or holds its tongue).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use raftkv_protocol::{Address, Command, PeerMessage, Request, Response, decode_command};
use raftkv_raft::{self as raft, Entry, EntryId, EntryKind, RoleName, Time, Write};

use crate::cold_files::FilesChecked;
use crate::membership::Membership;
use crate::replica::{Effect, Event, ForwardOutcome, Hop, Node, NodeConfig, Notice, Token};
use crate::store::base::{Base, BaseView, Row};
use crate::store::history::HistoryStatistics;
use crate::store::snapshot::{Position, Source};

mod disk;
mod requests;

use self::disk::Disk;
pub(super) use self::requests::{address, code, config, delete, found, get, name, put, put_if, put_with_ttl};

struct Machine {
    config: NodeConfig,
    node: Option<Node>,
    disk: Disk,
    /// Writes are kept back and not reported, as on a stalled disk.
    stalled: bool,
    /// `CreateLog` is not carried out.
    holds_creation: bool,
    unwritten: Vec<Write>,
    seed: u64,
}

/// What a disk does to a record.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rot {
    Lost,
    Changed,
}

enum Delivery {
    Event(Event),
    /// A request on the forwarding connection from that node's request of that token.
    Forwarded(usize, Token, Request, Time),
}

/// The cluster, its network, and what was answered.
pub(super) struct Cluster {
    pub(super) now: Time,
    machines: Vec<Machine>,
    in_flight: BTreeMap<(Time, u64), (usize, Delivery)>,
    sequence: u64,
    rng: fastrand::Rng,
    /// Share of peer messages that are lost.
    pub(super) loss: f64,
    /// Cut off: neither sends nor receives.
    isolated: BTreeSet<usize>,
    /// Forwarding connections break right after they have delivered a request.
    pub(super) breaks_forwards: bool,
    /// Forwarding connections can not be made.
    pub(super) refuses_forwards: bool,
    answers: BTreeMap<Token, Response>,
    /// Requests that stand for a forwarded one: origin and its token.
    forwarded: BTreeMap<Token, (usize, Token)>,
    /// How often each request was passed on.
    pub(super) forwards: BTreeMap<Token, usize>,
    pub(super) notices: Vec<(usize, Notice)>,
    /// How often a base was asked.
    pub(super) lookups: usize,
    /// Who was asked to hash records, from which key on.
    pub(super) scrubs: Vec<(usize, Bytes)>,
    /// How many parts of snapshots were read.
    pub(super) parts: usize,
    next_token: u64,
}

const DELAY: Duration = Duration::from_micros(200);

impl Cluster {
    /// Machines that are off, with these settings.
    pub(super) fn new(configs: Vec<NodeConfig>, seed: u64) -> Cluster {
        let machine = |(number, config)| Machine {
            config,
            node: None,
            disk: Disk::default(),
            stalled: false,
            holds_creation: false,
            unwritten: Vec::new(),
            seed: seed * 1000 + number as u64,
        };
        Cluster {
            now: Time(1_000_000),
            machines: configs.into_iter().enumerate().map(machine).collect(),
            in_flight: BTreeMap::new(),
            sequence: 0,
            rng: fastrand::Rng::with_seed(seed),
            loss: 0.0,
            isolated: BTreeSet::new(),
            breaks_forwards: false,
            refuses_forwards: false,
            answers: BTreeMap::new(),
            forwarded: BTreeMap::new(),
            forwards: BTreeMap::new(),
            notices: Vec::new(),
            lookups: 0,
            scrubs: Vec::new(),
            parts: 0,
            next_token: 1,
        }
    }

    /// Three nodes that have formed and elected a leader.
    pub(super) fn ready(seed: u64) -> Cluster {
        let mut cluster = Cluster::new((1..=3).map(|number| config(number, &[1, 2, 3])).collect(), seed);
        for machine in 0..3 {
            cluster.start(machine);
        }
        cluster.run_until("all nodes are ready", |cluster| cluster.all_ready());
        cluster
    }

    pub(super) fn start(&mut self, machine: usize) {
        let now = self.now;
        let m = &mut self.machines[machine];
        m.seed += 1_000_000;
        let node = Node::new(m.config.clone(), m.disk.restored(), m.seed, now).unwrap();
        m.node = Some(node);
        self.settle(machine);
    }

    /// The process dies: what it had not answered is lost, and forwarded requests break off.
    pub(super) fn kill(&mut self, machine: usize) {
        self.machines[machine].node = None;
        self.machines[machine].unwritten.clear();
        self.in_flight.retain(|_, (to, delivery)| {
            *to != machine || matches!(delivery, Delivery::Event(Event::Peer(_)))
        });
        let lost: Vec<_> = self
            .forwarded
            .keys()
            .copied()
            .filter(|token| !self.answers.contains_key(token))
            .collect();
        for token in lost {
            if self.at(token) == machine
                && let Some((origin, origin_token)) = self.forwarded.remove(&token)
            {
                let outcome = ForwardOutcome::Lost;
                self.deliver_soon(
                    origin,
                    Delivery::Event(Event::Forwarded {
                        token: origin_token,
                        outcome,
                    }),
                );
            }
        }
        for other in 0..self.machines.len() {
            if other != machine {
                let reset = Event::PeerReset(self.machines[machine].config.introduction.address.clone());
                self.deliver_soon(other, Delivery::Event(reset));
            }
        }
    }

    /// Its data directory is replaced by an empty one, with a new identity.
    pub(super) fn wipe(&mut self, machine: usize) {
        self.kill(machine);
        self.machines[machine].disk = Disk::default();
        self.machines[machine].config.introduction.identity.0 += 1000;
    }

    /// The log is lost, the identity stays.
    pub(super) fn lose_log(&mut self, machine: usize) {
        self.kill(machine);
        self.machines[machine].disk = Disk::default();
    }

    /// The machine gets a copy of another one's log, and its name and identity with it.
    pub(super) fn copy_directory(&mut self, from: usize, to: usize) {
        self.machines[to].disk.log = self.machines[from].disk.log.clone();
        let original = self.machines[from].config.introduction.clone();
        let copy = &mut self.machines[to].config.introduction;
        (copy.name, copy.identity) = (original.name, original.identity);
    }

    pub(super) fn settings(&self, machine: usize) -> &NodeConfig {
        &self.machines[machine].config
    }

    pub(super) fn reconfigure(&mut self, machine: usize, config: NodeConfig) {
        self.machines[machine].config = config;
    }

    pub(super) fn isolate(&mut self, machine: usize) {
        self.isolated.insert(machine);
    }

    pub(super) fn rejoin(&mut self, machine: usize) {
        self.isolated.remove(&machine);
    }

    pub(super) fn stall_disk(&mut self, machine: usize) {
        self.machines[machine].stalled = true;
    }

    /// The disk catches up with everything it was asked for.
    pub(super) fn resume_disk(&mut self, machine: usize) {
        let m = &mut self.machines[machine];
        m.stalled = false;
        for write in std::mem::take(&mut m.unwritten) {
            self.machines[machine].disk.write(&write);
            self.deliver_soon(machine, Delivery::Event(Event::Persisted(write.number)));
        }
    }

    /// The log that the node asks for is not made: it will die before.
    pub(super) fn hold_creation(&mut self, machine: usize, holds: bool) {
        self.machines[machine].holds_creation = holds;
    }

    pub(super) fn drain(&mut self, machine: usize) {
        self.handle(machine, Event::Drain);
    }

    pub(super) fn node(&self, machine: usize) -> &Node {
        self.machines[machine].node.as_ref().expect("the node is up")
    }

    pub(super) fn is_up(&self, machine: usize) -> bool {
        self.machines[machine].node.is_some()
    }

    pub(super) fn is_formed(&self, machine: usize) -> bool {
        self.is_up(machine) && self.node(machine).raft().is_some()
    }

    pub(super) fn membership(&self, machine: usize) -> Option<Membership> {
        let (_, entries) = self.machines[machine].disk.log.as_ref()?;
        Some(Membership::decode(&entries[0].payload).unwrap())
    }

    pub(super) fn all_ready(&self) -> bool {
        (0..self.machines.len())
            .all(|machine| self.is_up(machine) && self.node(machine).status(self.now).ready)
    }

    /// The leader that a majority follows.
    pub(super) fn leader(&self) -> Option<usize> {
        let leads = |machine: &usize| {
            let raft = self.machines[*machine].node.as_ref().and_then(Node::raft);
            raft.is_some_and(|raft| raft.role() == RoleName::Leader && raft.has_committed_in_term())
        };
        let leaders = (0..self.machines.len()).filter(|machine| !self.isolated.contains(machine));
        leaders
            .filter(leads)
            .max_by_key(|machine| self.node(*machine).raft().map(raft::Raft::term))
    }

    pub(super) fn follower(&self) -> usize {
        let leader = self.leader();
        (0..self.machines.len())
            .find(|machine| {
                self.is_up(*machine) && Some(*machine) != leader && !self.isolated.contains(machine)
            })
            .expect("a follower is up")
    }

    /// Asks a node; the answer comes later.
    pub(super) fn ask(&mut self, machine: usize, request: Request) -> Token {
        self.ask_within(machine, request, Duration::from_secs(5))
    }

    pub(super) fn ask_within(&mut self, machine: usize, request: Request, patience: Duration) -> Token {
        let token = self.enqueue(machine, request, Hop::First, patience);
        self.settle(machine);
        token
    }

    /// Asks a node as another node would that passes a request on.
    pub(super) fn ask_last_hop(&mut self, machine: usize, request: Request) -> Token {
        let token = self.enqueue(machine, request, Hop::Last, Duration::from_secs(5));
        self.settle(machine);
        token
    }

    /// Hands a request to a node without letting it act yet: several of these are one batch.
    pub(super) fn enqueue(
        &mut self,
        machine: usize,
        request: Request,
        hop: Hop,
        patience: Duration,
    ) -> Token {
        let token = Token(self.next_token * 16 + machine as u64);
        self.next_token += 1;
        let deadline = self.now.after(patience);
        let event = Event::Request {
            token,
            request,
            hop,
            deadline,
        };
        let now = self.now;
        if let Some(node) = &mut self.machines[machine].node {
            node.handle(now, event);
        }
        token
    }

    /// The machine a token was asked at.
    fn at(&self, token: Token) -> usize {
        (token.0 % 16) as usize
    }

    pub(super) fn answer(&self, token: Token) -> Option<&Response> {
        self.answers.get(&token)
    }

    /// Asks and waits.
    pub(super) fn call(&mut self, machine: usize, request: Request) -> Response {
        let token = self.ask(machine, request);
        self.wait(token)
    }

    pub(super) fn wait(&mut self, token: Token) -> Response {
        self.run_until("the request is answered", |cluster| {
            cluster.answers.contains_key(&token)
        });
        self.answers[&token].clone()
    }

    /// Runs until `holds`, at most 30 seconds of virtual time.
    pub(super) fn run_until(&mut self, what: &str, holds: impl Fn(&Cluster) -> bool) {
        let end = self.now.after(Duration::from_secs(30));
        while !holds(self) {
            assert!(self.now < end, "30 s passed and not yet: {what}");
            self.step(end);
        }
    }

    pub(super) fn run_for(&mut self, duration: Duration) {
        let end = self.now.after(duration);
        while self.now < end {
            self.step(end);
        }
    }

    /// One event: the next delivery or the next deadline of a node, whichever is first.
    fn step(&mut self, end: Time) {
        let delivery = self.in_flight.keys().next().map_or(Time::NEVER, |(at, _)| *at);
        let deadlines = (0..self.machines.len()).filter_map(|machine| {
            let node = self.machines[machine].node.as_ref()?;
            Some((node.next_deadline(), machine))
        });
        let (deadline, machine) = deadlines.min().unwrap_or((Time::NEVER, 0));
        if end < delivery.min(deadline) {
            self.now = end;
        } else if delivery <= deadline {
            self.now = self.now.max(delivery);
            if let Some((_, (to, delivery))) = self.in_flight.pop_first() {
                self.deliver(to, delivery);
            }
        } else {
            self.now = self.now.max(deadline);
            self.settle(machine);
            let next = self.machines[machine].node.as_ref().map(Node::next_deadline);
            assert!(
                next.is_none_or(|next| next > self.now),
                "a node that has acted must not ask to be called at once"
            );
        }
    }

    fn deliver(&mut self, to: usize, delivery: Delivery) {
        match delivery {
            Delivery::Event(event) => self.handle(to, event),
            Delivery::Forwarded(origin, origin_token, request, deadline) => {
                let patience = deadline.since(self.now);
                let token = self.enqueue(to, request, Hop::Last, patience);
                self.forwarded.insert(token, (origin, origin_token));
                if self.breaks_forwards {
                    self.forwarded.remove(&token);
                    let outcome = ForwardOutcome::Lost;
                    let event = Event::Forwarded {
                        token: origin_token,
                        outcome,
                    };
                    self.deliver_soon(origin, Delivery::Event(event));
                }
                self.settle(to);
            }
        }
    }

    fn handle(&mut self, machine: usize, event: Event) {
        let now = self.now;
        if let Some(node) = &mut self.machines[machine].node {
            node.handle(now, event);
            self.settle(machine);
        }
    }

    /// Polls a node and carries its effects out.
    pub(super) fn settle(&mut self, machine: usize) {
        let now = self.now;
        let mut effects = Vec::new();
        if let Some(node) = &mut self.machines[machine].node {
            node.poll(now, &mut effects);
        }
        for effect in effects {
            self.carry_out(machine, effect);
        }
    }

    fn carry_out(&mut self, machine: usize, effect: Effect) {
        match effect {
            Effect::Send { to, message } => self.send(machine, &to, message),
            Effect::Write(write) => {
                if self.machines[machine].stalled {
                    self.machines[machine].unwritten.push(write);
                    return;
                }
                self.machines[machine].disk.write(&write);
                self.deliver_soon(machine, Delivery::Event(Event::Persisted(write.number)));
            }
            Effect::Fetch(fetch) => {
                let entries = self.machines[machine].disk.read(fetch);
                self.deliver_soon(machine, Delivery::Event(Event::Fetched { fetch, entries }));
            }
            Effect::CreateLog {
                founding, hard_state, ..
            } => {
                if !self.machines[machine].holds_creation {
                    assert!(self.machines[machine].disk.log.is_none(), "a log is made once");
                    self.machines[machine].disk.log = Some((hard_state, vec![founding]));
                    self.deliver_soon(machine, Delivery::Event(Event::LogCreated));
                }
            }
            Effect::Answer { token, response } => self.take_answer(token, response),
            Effect::Forward {
                token,
                to,
                request,
                deadline,
            } => {
                *self.forwards.entry(token).or_default() += 1;
                match self
                    .machine_at(&to)
                    .filter(|to| self.is_up(*to) && !self.refuses_forwards)
                {
                    Some(to) => self.deliver_soon(to, Delivery::Forwarded(machine, token, request, deadline)),
                    None => {
                        let outcome = ForwardOutcome::NotSent;
                        self.deliver_soon(machine, Delivery::Event(Event::Forwarded { token, outcome }));
                    }
                }
            }
            Effect::Notice(notice) => self.notices.push((machine, notice)),
            Effect::Quarantine(quarantine) => self.machines[machine].disk.quarantine(&quarantine),
            Effect::Lookup { .. }
            | Effect::ReadPage { .. }
            | Effect::Scrub { .. }
            | Effect::CheckFiles
            | Effect::ReleaseState(_)
            | Effect::Record(_)
            | Effect::Seal { .. }
            | Effect::Drain { .. }
            | Effect::TrimHistory { .. }
            | Effect::CutLog { .. }
            | Effect::Discard(_) => self.carry_out_for_store(machine, effect),
            Effect::SendBulk { to, message } => self.send(machine, &to, message),
            Effect::OpenSnapshot(_)
            | Effect::ReadPart { .. }
            | Effect::CloseSnapshot(_)
            | Effect::TakePart { .. }
            | Effect::AbandonSnapshot
            | Effect::Install { .. } => self.carry_out_for_snapshot(machine, effect),
            Effect::BeginWatch(_) | Effect::EndWatches(_) => {}
        }
    }

    /// States that a machine keeps between pages.
    pub(super) fn kept_states(&self, machine: usize) -> usize {
        self.machines[machine].disk.pages.kept()
    }

    fn carry_out_for_snapshot(&mut self, machine: usize, effect: Effect) {
        let disk = &mut self.machines[machine].disk;
        let event = match effect {
            Effect::OpenSnapshot(snapshot) => {
                let source = Source::open(&disk.base, &disk.history).unwrap();
                let source = source.map(|source| source.with_parts_of(200));
                let last = source.as_ref().map(Source::last);
                disk.sources.extend(source.map(|source| (snapshot, source)));
                Event::SnapshotOpened { snapshot, last }
            }
            Effect::ReadPart { snapshot, position } => {
                let source = disk.sources.get(&snapshot).expect("it is held");
                let position = Position::decode(&position).expect("a position");
                let part = source.part(&position).unwrap();
                self.parts += 1;
                Event::PartRead { snapshot, part }
            }
            Effect::CloseSnapshot(snapshot) => return drop(disk.sources.remove(&snapshot)),
            Effect::TakePart {
                from,
                snapshot,
                last,
                part,
            } => {
                let taken = disk.take_part(from, snapshot, last, part);
                Event::PartTaken {
                    from,
                    snapshot,
                    taken,
                }
            }
            Effect::AbandonSnapshot => {
                (disk.incoming, disk.received) = (None, None);
                return;
            }
            Effect::Install { install, store } => {
                disk.install(&install, store);
                Event::Persisted(install.number)
            }
            other => unreachable!("not about snapshots: {other:?}"),
        };
        self.deliver_soon(machine, Delivery::Event(event));
    }

    fn carry_out_for_store(&mut self, machine: usize, effect: Effect) {
        let disk = &mut self.machines[machine].disk;
        let event = match effect {
            Effect::Lookup { lookup, keys, ranges } => {
                let found = disk.look_up(&keys, ranges);
                self.lookups += 1;
                Event::LookedUp { lookup, found }
            }
            Effect::ReadPage { store, job } => {
                assert_eq!(store, disk.store, "pages are read from the current store");
                disk.read_page(*job)
            }
            Effect::Scrub { store, job } => {
                assert_eq!(store, disk.store, "records are read from the current store");
                self.scrubs.push((machine, job.wanted.from.clone()));
                let scrub = job.scrub;
                let state = job.open(&disk.base).unwrap();
                let outcome = state.map(|(state, wanted)| wanted.read(&state).unwrap());
                Event::Scrubbed { scrub, outcome }
            }
            Effect::CheckFiles => Event::FilesChecked(disk.checked.clone()),
            Effect::ReleaseState(number) => return disk.pages.release(number),
            Effect::Record(events) => return disk.history.push(events),
            Effect::Seal { store, generation } => {
                disk.history.seal(generation).unwrap();
                Event::Sealed { store, generation }
            }
            Effect::Drain {
                store,
                frozen,
                most_image_bytes,
            } => {
                disk.drain(&frozen, most_image_bytes);
                Event::Drained {
                    store,
                    generation: frozen.number(),
                    history: disk.history.statistics(),
                }
            }
            Effect::TrimHistory { oldest_kept } => return disk.history.trim(oldest_kept).unwrap(),
            Effect::CutLog { keep_from } => match disk.cut(keep_from) {
                Some(base) => Event::LogCut { base },
                None => return,
            },
            Effect::Discard(_) => return,
            other => unreachable!("not for the store: {other:?}"),
        };
        self.deliver_soon(machine, Delivery::Event(event));
    }

    /// What the node's log begins behind, and what its history keeps.
    pub(super) fn kept(&self, machine: usize) -> (EntryId, HistoryStatistics) {
        let disk = &self.machines[machine].disk;
        let (_, entries) = disk.log.as_ref().expect("a formed node has a log");
        (entries[0].id, disk.history.statistics())
    }

    /// The node's state differs from what its log says.
    pub(super) fn corrupt(&mut self, machine: usize) {
        let node = self.machines[machine].node.as_mut().expect("the node is up");
        node.corrupt_state();
    }

    /// What the machine's cold files come to from now on.
    pub(super) fn cold_files_hold(&mut self, machine: usize, checked: FilesChecked) {
        self.machines[machine].disk.checked = checked;
    }

    /// What the base of a machine has stored of a key is lost, or (`Rot::Changed`) is another value.
    pub(super) fn rot(&mut self, machine: usize, key: &str, rot: Rot) {
        let base = &self.machines[machine].disk.base;
        let key: Bytes = [b"\x01", key.as_bytes()].concat().into();
        let value = base.view().unwrap().get(&key).unwrap().expect("it is stored");
        let value = match rot {
            Rot::Lost => None,
            Rot::Changed => Some([&value[..value.len() - 1], b"?"].concat().into()),
        };
        base.ingest(&mut std::iter::once(Ok(Row { key, value }))).unwrap();
    }

    /// Commands of this kind in a machine's log.
    pub(super) fn logged(&self, machine: usize, is_it: impl Fn(&Command<'_>) -> bool) -> usize {
        let (_, entries) = self.machines[machine].disk.log.as_ref().expect("a log");
        let commands = entries.iter().filter(|entry| entry.kind == EntryKind::Command);
        let is_it = |entry: &&Entry| is_it(&decode_command(&entry.payload).unwrap());
        commands.filter(is_it).count()
    }

    /// Tells the node how much room its disk has.
    pub(super) fn measure(&mut self, machine: usize, bytes: u64) {
        self.handle(machine, Event::FreeSpace { bytes });
    }

    fn take_answer(&mut self, token: Token, response: Response) {
        if let Some((origin, origin_token)) = self.forwarded.remove(&token) {
            let outcome = ForwardOutcome::Answered(response.clone());
            let event = Event::Forwarded {
                token: origin_token,
                outcome,
            };
            self.deliver_soon(origin, Delivery::Event(event));
        }
        let former = self.answers.insert(token, response);
        assert!(
            former.is_none(),
            "a request is answered once, {token:?} was answered twice"
        );
    }

    fn send(&mut self, from: usize, to: &Address, message: PeerMessage) {
        let Some(to) = self.machine_at(to) else { return };
        let is_cut = self.isolated.contains(&from) || self.isolated.contains(&to);
        if is_cut || self.rng.f64() < self.loss {
            return;
        }
        self.deliver_soon(to, Delivery::Event(Event::Peer(message)));
    }

    /// Puts a peer message on the network as if someone had sent it.
    pub(super) fn inject(&mut self, to: usize, message: PeerMessage) {
        self.handle(to, Event::Peer(message));
    }

    fn deliver_soon(&mut self, to: usize, delivery: Delivery) {
        self.sequence += 1;
        self.in_flight
            .insert((self.now.after(DELAY), self.sequence), (to, delivery));
    }

    fn machine_at(&self, address: &Address) -> Option<usize> {
        let is_there = |machine: &Machine| machine.config.introduction.address == *address;
        self.machines.iter().position(is_there)
    }
}

//! The loop that owns the node: gathers what happened, lets the node act once, carries out what it wants.
//!
//! Connection tasks run before the loop does (the runtime is first come, first served, and the loop is woken by the
//! first of them), so one batch holds what all readable sockets brought.

mod watches;

use std::pin::Pin;
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::Duration;

use raftkv_protocol::{Header, Response};
use raftkv_raft::Time;
use tokio::time::{Instant, Sleep};

use super::ServerError;
use super::answer_post::AnswerPost;
use super::clock::Clock;
use super::door;
use super::inbox::{Inbox, Letter, Mailbox, Work};
use super::log_workers::LogWorkers;
use super::node_context::NodeContext;
use super::notice::Notices;
use super::pending::{Origin, Waiting};
use super::snapshot_workers::SnapshotWorkers;
use super::store_workers::StoreWorkers;
use super::watch_desk::WatchDesk;
use super::watch_feed::WatchKey;
use crate::metrics::{EventCounts, Figures, Requests, WorkFigures};
use crate::native::{ClientOutbox, Listing};
use crate::replica::{Effect, Event, Node, Notice, Token};
use crate::transport::{Forward, ForwardLinks, PeerLinks};
use crate::watch::Reader;

/// A node that stops goes on refusing for so long after the last request.
const FAREWELL: Duration = Duration::from_millis(150);

/// All that a batch touches.
pub(super) struct NodeLoop {
    node: Node,
    clock: Clock,
    mailbox: Mailbox,
    inbox: Rc<Inbox>,
    context: Rc<NodeContext>,
    peers: Rc<PeerLinks>,
    forwards: ForwardLinks,
    /// To callers on other threads.
    answers: AnswerPost,
    log: LogWorkers,
    store: StoreWorkers,
    snapshots: SnapshotWorkers,
    bulk: Rc<PeerLinks>,
    notices: Notices,
    alarm: Alarm,
    watches: Rc<WatchDesk>,
    watch_thread: JoinHandle<()>,
    requests: Requests,
    work: WorkFigures,
    told: EventCounts,
    drain: Option<Time>,
    /// When the last request came.
    last_request: Time,
    /// When this batch's answers were ready.
    answered_at: Time,
    // Kept between batches for their memory.
    letters: Vec<Letter>,
    events: Vec<Event>,
    effects: Vec<Effect>,
    to_flush: Vec<Rc<ClientOutbox>>,
}

/// What a [`NodeLoop`] is made of.
pub(super) struct Parts {
    pub(super) node: Node,
    pub(super) clock: Clock,
    pub(super) mailbox: Mailbox,
    pub(super) inbox: Rc<Inbox>,
    pub(super) context: Rc<NodeContext>,
    pub(super) peers: Rc<PeerLinks>,
    pub(super) forwards: ForwardLinks,
    pub(super) answers: AnswerPost,
    pub(super) log: LogWorkers,
    pub(super) store: StoreWorkers,
    pub(super) snapshots: SnapshotWorkers,
    pub(super) bulk: Rc<PeerLinks>,
    pub(super) notices: Notices,
    pub(super) watches: Rc<WatchDesk>,
    pub(super) watch_thread: JoinHandle<()>,
}

impl NodeLoop {
    pub(super) fn new(parts: Parts) -> NodeLoop {
        NodeLoop {
            node: parts.node,
            clock: parts.clock,
            mailbox: parts.mailbox,
            inbox: parts.inbox,
            context: parts.context,
            peers: parts.peers,
            forwards: parts.forwards,
            answers: parts.answers,
            log: parts.log,
            store: parts.store,
            snapshots: parts.snapshots,
            bulk: parts.bulk,
            notices: parts.notices,
            watches: parts.watches,
            watch_thread: parts.watch_thread,
            alarm: Alarm::new(),
            requests: Requests::default(),
            work: WorkFigures::default(),
            told: EventCounts::default(),
            drain: None,
            last_request: Time(0),
            answered_at: Time(0),
            letters: Vec::new(),
            events: Vec::new(),
            effects: Vec::new(),
            to_flush: Vec::new(),
        }
    }

    /// Runs until a graceful stop has drained the node.
    ///
    /// # Errors
    /// When the log can not go on. Nothing is answered after that.
    pub(super) async fn run(mut self, drain_timeout: Duration) -> Result<(), ServerError> {
        self.batch(drain_timeout)?;
        while !self.is_drained() {
            let until = self.drain.map_or(Time::NEVER, |until| until.min(self.soon()));
            self.alarm
                .arm(self.clock.instant(self.node.next_deadline().min(until)));
            tokio::select! {
                biased;
                () = self.mailbox.wait() => {}
                () = &mut self.alarm.sleep => {}
            }
            self.batch(drain_timeout)?;
        }
        self.refuse_unhandled();
        self.snapshots.stop();
        self.store.stop();
        self.watches.feed().stop();
        // A panic was told by the thread's guard.
        let _ = self.watch_thread.join();
        self.log.stop()
    }

    fn batch(&mut self, drain_timeout: Duration) -> Result<(), ServerError> {
        self.inbox.swap(&mut self.events);
        self.read_letters(drain_timeout)?;
        let now = self.clock.now();
        for event in self.events.drain(..) {
            if matches!(event, Event::Request { .. } | Event::Drain) {
                self.last_request = now;
            }
            self.node.handle(now, event);
        }
        let mut effects = std::mem::take(&mut self.effects);
        self.node.poll(now, &mut effects);
        self.answered_at = self.clock.now();
        for effect in effects.drain(..) {
            self.carry_out(effect)?;
        }
        self.effects = effects;
        if let Some(store) = self.node.store() {
            let (_, active) = store.overlay_bytes();
            self.store.set_pressure(active, store.config().generation_bytes());
        }
        self.answer_refusals(now);
        self.peers.flush();
        self.bulk.flush();
        self.forwards.flush();
        self.flush_answers();
        Ok(())
    }

    fn flush_answers(&mut self) {
        self.answers.flush();
        for outbox in self.to_flush.drain(..) {
            outbox.flush();
        }
    }

    fn read_letters(&mut self, drain_timeout: Duration) -> Result<(), ServerError> {
        let mut letters = std::mem::take(&mut self.letters);
        self.mailbox.take_into(&mut letters);
        for letter in letters.drain(..) {
            match letter {
                Letter::Event(event) => self.events.push(event),
                Letter::Persisted { last, took } => {
                    if let Some(took) = took {
                        self.work.log_writes.record(took);
                    }
                    self.events.push(Event::Persisted(last));
                }
                Letter::Took(Work::Drain, took) => self.work.drains.record(took),
                Letter::Took(Work::Compaction, took) => self.work.compactions.record(took),
                // Who has gone away needs none.
                Letter::Figures(answer) => drop(answer.send(Box::new(self.figures()))),
                Letter::LogMade(log) => {
                    self.log.start(log)?;
                    self.events.push(Event::LogCreated);
                }
                Letter::LogFailed(error) => return Err(error.into()),
                Letter::StoreFailed(error) => return Err(error.into()),
                Letter::QuarantineFailed(error) => return Err(error.into()),
                Letter::Watch { connection, bundle } => {
                    let outbox = self.watches.deliver(connection, bundle);
                    if let Some(outbox) = outbox.filter(|outbox| outbox.list() == Listing::New) {
                        self.to_flush.push(outbox);
                    }
                }
                Letter::Panicked { part } => return Err(ServerError::Panicked { part }),
                Letter::Stop if self.drain.is_none() => {
                    tracing::info!("stopping: no more requests are taken, those under way are answered");
                    self.context.begin_stop();
                    self.drain = Some(self.clock.now().after(drain_timeout));
                    self.events.push(Event::Drain);
                }
                Letter::Stop => {}
            }
        }
        self.letters = letters;
        Ok(())
    }

    fn carry_out(&mut self, effect: Effect) -> Result<(), ServerError> {
        match effect {
            Effect::Send { to, message } => self.peers.send(&to, message),
            Effect::Write(write) => self.log.write(write),
            Effect::Fetch(fetch) => self.log.fetch(fetch),
            Effect::CreateLog {
                membership,
                founding,
                hard_state,
            } => {
                self.log.create(membership.cluster, founding, hard_state);
            }
            Effect::Answer { token, response } => self.answer(token, response),
            Effect::BeginWatch(begin) => self.begin_watch(*begin)?,
            Effect::EndWatches(failure) => self.watches.feed().end_all(failure),
            Effect::Forward {
                token,
                to,
                request,
                deadline,
            } => {
                self.forwards.forward(
                    &to,
                    Forward {
                        token,
                        request,
                        deadline,
                    },
                );
            }
            Effect::Notice(notice) => self.notice(&notice),
            Effect::Quarantine(quarantine) => self.log.quarantine(*quarantine)?,
            Effect::Lookup { .. }
            | Effect::ReadPage { .. }
            | Effect::Scrub { .. }
            | Effect::CheckFiles
            | Effect::ReleaseState(_)
            | Effect::Record(_)
            | Effect::Seal { .. }
            | Effect::Drain { .. }
            | Effect::Discard(_)
            | Effect::TrimHistory { .. }
            | Effect::CutLog { .. } => self.carry_out_for_store(effect),
            Effect::SendBulk { .. }
            | Effect::OpenSnapshot(_)
            | Effect::ReadPart { .. }
            | Effect::CloseSnapshot(_)
            | Effect::TakePart { .. }
            | Effect::AbandonSnapshot
            | Effect::Install { .. } => return self.carry_out_for_snapshot(effect),
        }
        Ok(())
    }

    fn carry_out_for_store(&mut self, effect: Effect) {
        match effect {
            Effect::Lookup { lookup, keys, ranges } => self.store.look_up(lookup, keys, ranges),
            Effect::Record(events) => self.record(events),
            Effect::ReadPage { job, .. } => self.store.ranges().read(job),
            Effect::Scrub { job, .. } => self.store.ranges().scrub(job),
            Effect::CheckFiles => {
                // A formed node has a log.
                if let Some(log) = self.log.reader() {
                    self.store.check_files(log);
                }
            }
            Effect::ReleaseState(number) => self.store.ranges().release(number),
            Effect::Seal { generation, .. } => self.store.seal(generation),
            Effect::Drain {
                frozen,
                most_image_bytes,
                ..
            } => self.store.drain(frozen, most_image_bytes),
            Effect::Discard(released) => self.store.discard(released),
            Effect::TrimHistory { oldest_kept } => self.store.trim(oldest_kept),
            Effect::CutLog { keep_from } => self.log.cut(keep_from),
            other => unreachable!("not for the store: {other:?}"),
        }
    }

    fn carry_out_for_snapshot(&mut self, effect: Effect) -> Result<(), ServerError> {
        match effect {
            Effect::SendBulk { to, message } => self.bulk.send(&to, message),
            Effect::OpenSnapshot(snapshot) => self.snapshots.open(snapshot, self.store.files().clone()),
            Effect::ReadPart { snapshot, position } => self.snapshots.read(snapshot, position),
            Effect::CloseSnapshot(snapshot) => self.snapshots.close(snapshot),
            Effect::TakePart {
                from,
                snapshot,
                last,
                part,
            } => self.snapshots.take(from, snapshot, last, part),
            Effect::AbandonSnapshot => self.snapshots.abandon(),
            Effect::Install { install, store } => {
                let files = self.snapshots.take_received(store);
                let files = files.ok_or(ServerError::SnapshotLost)?;
                let former = self.store.retire();
                self.log.install(install, self.snapshots.switch_to(store, former));
                // What the old ones still report is about a store that is no more.
                let revision = Reader::new(files.history.clone(), files.base.clone()).base_revision()?;
                self.watches.feed().replaced(files.clone(), revision);
                self.store = StoreWorkers::start(files, &self.mailbox)?;
            }
            other => unreachable!("not about snapshots: {other:?}"),
        }
        Ok(())
    }

    fn answer(&mut self, token: Token, response: Response) {
        let waiting = self.inbox.pending().remove(token);
        match waiting {
            Some(Waiting {
                origin,
                asking,
                since,
            }) => {
                let failure = response.outcome.as_ref().err().map(|failure| failure.code);
                self.requests
                    .record(asking, failure, self.answered_at.since(since));
                self.deliver(origin, response);
            }
            None => tracing::error!(
                ?token,
                "a request was answered twice; this is a defect of the server"
            ),
        }
    }

    fn deliver(&mut self, origin: Origin, response: Response) {
        match origin {
            Origin::Native { outbox, request } => {
                if outbox.answer(request, response) == Listing::New {
                    self.to_flush.push(outbox);
                }
            }
            Origin::NativeWatch { outbox, request } => {
                self.watches.ended(WatchKey {
                    connection: outbox.connection(),
                    request,
                });
                self.deliver(Origin::Native { outbox, request }, response);
            }
            Origin::Call(caller) => self.answers.put(caller, response),
            // A caller that has gone away needs no answer.
            Origin::Watch(watcher) => drop(watcher.answers.send(response)),
        }
    }

    fn answer_refusals(&mut self, now: Time) {
        let refusals = self.inbox.take_refusals();
        if refusals.is_empty() {
            return;
        }
        let header = self.header(now);
        for refusal in refusals {
            let code = refusal.failure.code;
            self.requests.record(refusal.asking, Some(code), Duration::ZERO);
            let outcome = Err(refusal.failure);
            self.deliver(refusal.origin, Response { header, outcome });
        }
    }

    /// Requests that came after the last batch: the node never saw them, and their senders may know.
    fn refuse_unhandled(&mut self) {
        let header = self.header(self.clock.now());
        self.inbox.close();
        self.inbox.swap(&mut self.events);
        for event in std::mem::take(&mut self.events) {
            if let Event::Request { token, .. } = event {
                let outcome = Err(door::stopping());
                self.answer(token, Response { header, outcome });
            }
        }
        self.answer_refusals(self.clock.now());
        self.flush_answers();
    }

    fn header(&self, now: Time) -> Header {
        let status = self.node.status(now);
        Header {
            cluster: status.cluster,
            node: self.context.identity,
            term: status.term,
            revision: status.revision,
            epoch: self.context.epoch(),
        }
    }

    /// All that monitoring is told.
    fn figures(&self) -> Figures {
        Figures {
            node: self.node.figures(self.clock.now()),
            store: self.store.figures(),
            requests: self.requests.clone(),
            waiting_bytes: self.inbox.pending().size_bytes(),
            work: self.work.clone(),
            events: self.told,
            native_clients: self.context.count_clients(),
            watches: self.watches.feed().watching(),
        }
    }

    fn notice(&mut self, notice: &Notice) {
        let itself = raftkv_raft::NodeId(self.context.identity.0);
        self.told.count(notice, itself);
        match notice {
            Notice::Formed(membership) => self.context.join_cluster(membership),
            Notice::MembersChanged(membership) => self.context.know_members(membership),
            _ => {}
        }
        self.notices.write(notice);
    }

    fn is_drained(&self) -> bool {
        let Some(until) = self.drain else { return false };
        let is_idle =
            self.inbox.pending().is_empty() && self.watches.is_empty() && self.context.are_answers_sent();
        let is_done = is_idle && !self.node.is_handing_over() && !self.is_farewell();
        is_done || self.clock.now() >= until
    }

    /// Clients that are connected hear with their next request that they had better ask another node. To close before that
    /// would leave what they have just sent without an answer, and a write among it without a known end.
    fn is_farewell(&self) -> bool {
        let quiet_at = self.last_request.after(FAREWELL);
        self.has_others() && self.context.has_clients() && self.clock.now() < quiet_at
    }

    /// Is there another node to go to?
    fn has_others(&self) -> bool {
        let raft = self.node.raft();
        raft.is_some_and(|raft| raft.configuration().members().len() > 1)
    }

    /// How soon to look again whether the last answers have left.
    fn soon(&self) -> Time {
        self.clock.now().after(Duration::from_millis(5))
    }
}

/// One timer, set anew only when it must ring earlier or has rung: deadlines mostly move back, and ringing early costs
/// one empty batch.
struct Alarm {
    sleep: Pin<Box<Sleep>>,
}

impl Alarm {
    fn new() -> Alarm {
        Alarm {
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
        }
    }

    fn arm(&mut self, at: Instant) {
        if self.sleep.is_elapsed() || at < self.sleep.deadline() {
            self.sleep.as_mut().reset(at);
        }
    }
}

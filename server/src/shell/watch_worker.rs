//! The watch thread: the hub, and what it wants done. It matches, looks up and encodes, so that the node thread only has to
//! write bytes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use raftkv_protocol::{
    Answer, EncodedWatchPart, Header, RequestId, Response, WatchControl, WatchEvent, WatchPart,
    encode_response, encode_watch_response,
};
use raftkv_raft::Time;
use tokio::sync::mpsc::UnboundedSender;

use super::ServerError;
use super::clock::Clock;
use super::inbox::{Letter, Mailbox};
use super::store_workers::{StoreFiles, worker};
use super::watch_feed::{Beginning, Counts, Order, Sink, WatchFeed, WatchKey};
use crate::disk::RealDisk;
use crate::store::base::{LsmBase, LsmView};
use crate::store::{State, StoreError};
use crate::watch::{ConnectionId, Effect, Hub, HubSettings, Output, Reader, WatchId};

/// Orders that are taken before history is read again for those that are behind.
const ORDERS_AT_ONCE: usize = 64;

/// What goes to one connection at once.
#[derive(Debug, Default)]
pub(crate) struct Bundle {
    /// Whole frames.
    pub(crate) bytes: BytesMut,
    /// What they count in the outbox, for the hub.
    pub(crate) charged: u64,
    /// Watches that ended with them.
    pub(crate) ended: Vec<RequestId>,
}

/// Starts the thread on an open store. It ends once all feeds are dropped.
pub(super) fn start(
    files: StoreFiles,
    header: Header,
    clock: Clock,
    mailbox: &Mailbox,
) -> Result<(WatchFeed, JoinHandle<()>), ServerError> {
    let (orders, taken) = mpsc::channel();
    let counts = Arc::new(Counts::default());
    let feed = WatchFeed::new(orders, counts.clone());
    let thread = worker("watch", mailbox, move |mailbox| {
        let worker = Worker {
            hub: Hub::new(HubSettings::default()),
            reader: reader(files),
            clock,
            header,
            clients: Vec::new(),
            by_key: BTreeMap::new(),
            states: BTreeMap::new(),
            bundles: BTreeMap::new(),
            output: Output::new(),
            counts,
            mailbox: mailbox.clone(),
        };
        worker.run(&taken)
    })?;
    Ok((feed, thread))
}

fn reader(files: StoreFiles) -> Reader<RealDisk, LsmBase> {
    Reader::new(files.history, files.base)
}

/// Who gets a watch's parts.
struct Client {
    key: WatchKey,
    sink: Sink,
}

struct Worker {
    hub: Hub,
    reader: Reader<RealDisk, LsmBase>,
    clock: Clock,
    /// Of what is sent now.
    header: Header,
    /// By the low half of their names, which are their places in the hub.
    clients: Vec<Option<Client>>,
    by_key: BTreeMap<WatchKey, WatchId>,
    /// Of those that are read as snapshots.
    states: BTreeMap<WatchId, State<LsmView>>,
    bundles: BTreeMap<ConnectionId, Bundle>,
    output: Output,
    counts: Arc<Counts>,
    mailbox: Mailbox,
}

/// Has the thread anything left to do without being told?
#[derive(PartialEq, Eq)]
enum Work {
    Left,
    None,
}

impl Worker {
    fn run(mut self, orders: &Receiver<Order>) -> Result<(), StoreError> {
        let mut work = Work::None;
        loop {
            let mut next = match work {
                Work::Left => orders.try_recv().ok(),
                Work::None => match orders.recv_timeout(self.time_to_next_tick()) {
                    Ok(order) => Some(order),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return Ok(()),
                },
            };
            let mut taken = 0;
            // Looked at before the queue: what was recorded by then is in it, or was not told.
            let head = self.counts.head();
            while let Some(order) = next {
                if let Order::Stop = order {
                    return Ok(());
                }
                self.take(order)?;
                taken += 1;
                next = (taken < ORDERS_AT_ONCE).then(|| orders.try_recv().ok()).flatten();
            }
            if taken < ORDERS_AT_ONCE {
                self.hub.jump(head);
            }
            let now = self.clock.now();
            if self.hub.next_tick() <= now {
                self.hub.tick(now, &mut self.output);
                self.carry_out();
            }
            work = self.read()?;
            self.hand_over();
        }
    }

    fn time_to_next_tick(&self) -> Duration {
        // Nobody is told anything as long as nobody watches.
        const LONGEST: Duration = Duration::from_secs(60);
        match self.hub.next_tick() {
            Time::NEVER => LONGEST,
            at => at.since(self.clock.now()).min(LONGEST),
        }
    }

    fn take(&mut self, order: Order) -> Result<(), StoreError> {
        match order {
            Order::Begin(beginning) => self.begin(*beginning)?,
            Order::Applied { block, term } => {
                self.counts
                    .queued_bytes
                    .fetch_sub(block.size_bytes(), Ordering::Relaxed);
                let revisions = block.revisions();
                self.header.revision = revisions.1;
                self.header.term = self.header.term.max(term);
                if self.hub.is_empty() || revisions.0 <= self.hub.head() {
                    self.hub.jump(revisions.1);
                } else {
                    let (now, records) = (self.clock.now(), self.reader.now());
                    let events = block.events();
                    self.hub
                        .applied(now, revisions, &events, &records, &mut self.output)?;
                }
            }
            Order::Control { key, control } => {
                if let Some(id) = self.by_key.get(&key).copied() {
                    match control {
                        WatchControl::Credit { bytes } => self.hub.credit(id, bytes),
                        WatchControl::Cancel => self.hub.cancel(id, &mut self.output),
                    }
                }
            }
            Order::Stop => unreachable!("it ends the thread"),
            Order::Closed(connection) => self.hub.closed(connection, &mut self.output),
            Order::Drained { connection, bytes } => self.hub.drained(connection, bytes),
            Order::EndAll(failure) => self.hub.end_all(&failure, &mut self.output),
            Order::Replaced(files, revision) => {
                self.reader = reader(files);
                // Events up to there come with the snapshot's history, and were not told.
                self.hub.jump(revision);
            }
        }
        self.carry_out();
        Ok(())
    }

    fn begin(&mut self, beginning: Beginning) -> Result<(), StoreError> {
        let Beginning {
            key,
            begin,
            header,
            snapshot,
            sink,
        } = beginning;
        self.header = header;
        let state = snapshot.map(|(pinned, base)| pinned.over(base)).transpose()?;
        let id = self.hub.begin(self.clock.now(), &begin, &mut self.output);
        if let Some(state) = state {
            let state = state.expect("the base was held at the moment when memory was");
            self.states.insert(id, state);
        }
        let place = place(id);
        if self.clients.len() <= place {
            self.clients.resize_with(place + 1, || None);
        }
        self.clients[place] = Some(Client { key, sink });
        self.by_key.insert(key, id);
        Ok(())
    }

    /// Reads one window of history and one page of a state, if any is wanted.
    fn read(&mut self) -> Result<Work, StoreError> {
        let mut work = Work::None;
        if let Some(window) = self.hub.next_window() {
            work = Work::Left;
            let read = self.reader.read(window)?;
            let (now, records) = (self.clock.now(), self.reader.now());
            self.hub.window_read(now, read, &records, &mut self.output)?;
            self.carry_out();
        }
        if let Some(wanted) = self.hub.next_page() {
            work = Work::Left;
            let state = self.states.get(&wanted.watch);
            let page = state
                .expect("a state is held as long as it is read")
                .watch_page(&wanted)?;
            self.hub
                .page_read(self.clock.now(), wanted.watch, page, &mut self.output);
            self.carry_out();
        }
        Ok(work)
    }

    fn carry_out(&mut self) {
        let mut output = std::mem::take(&mut self.output);
        for effect in output.drain(..) {
            match effect {
                Effect::Send { to, part, charged } => self.send(&to, &part, charged),
                Effect::Release(watch) => drop(self.states.remove(&watch)),
                Effect::End { watch, failure } => {
                    self.counts.watching.fetch_sub(1, Ordering::AcqRel);
                    let Some(client) = self.clients[place(watch)].take() else {
                        continue;
                    };
                    self.by_key.remove(&client.key);
                    let header = self.header;
                    let response = failure.map(|failure| Response {
                        header,
                        outcome: Err(failure),
                    });
                    self.end(&client, response);
                }
            }
        }
        if self.output.is_empty() {
            self.output = output;
        } else {
            // Somebody went away while something was sent.
            self.carry_out();
        }
    }

    fn send(&mut self, to: &[WatchId], part: &WatchPart, charged: u64) {
        let mut encoded = None;
        let mut gone = Vec::new();
        for id in to {
            let Some(client) = &self.clients[place(*id)] else {
                continue;
            };
            match &client.sink {
                Sink::Outbox => {
                    let encoded = encoded.get_or_insert_with(|| EncodedWatchPart::new(part));
                    let bundle = self.bundles.entry(client.key.connection).or_default();
                    encode_watch_response(&mut bundle.bytes, client.key.request, &self.header, encoded);
                    bundle.charged += charged;
                }
                Sink::Channel(channel) => {
                    if !pass_on(channel, self.header, part) {
                        gone.push(*id);
                    }
                    // A channel is no outbox: what it may hold is what was asked for.
                    self.hub.drained(client.key.connection, charged);
                }
            }
        }
        for id in gone {
            self.hub.cancel(id, &mut self.output);
        }
    }

    fn end(&mut self, client: &Client, response: Option<Response>) {
        match &client.sink {
            Sink::Outbox => {
                let bundle = self.bundles.entry(client.key.connection).or_default();
                if let Some(response) = response {
                    encode_response(&mut bundle.bytes, client.key.request, &response);
                }
                bundle.ended.push(client.key.request);
            }
            Sink::Channel(channel) => {
                if let Some(response) = response {
                    // Who has gone need not know.
                    let _ = channel.send(response);
                }
            }
        }
    }

    /// To the node thread with what came together.
    fn hand_over(&mut self) {
        for (connection, bundle) in std::mem::take(&mut self.bundles) {
            self.mailbox.send(Letter::Watch { connection, bundle });
        }
    }
}

fn place(id: WatchId) -> usize {
    (id.0 & u64::from(u32::MAX)) as usize
}

/// Gives a part to another thread, in memory of its own: what is read there slowly must pin no batch.
fn pass_on(channel: &UnboundedSender<Response>, header: Header, part: &WatchPart) -> bool {
    let part = WatchPart {
        events: part.events.iter().map(owned).collect(),
        ..*part
    };
    let outcome = Ok(Answer::Watch(part));
    channel.send(Response { header, outcome }).is_ok()
}

fn owned(event: &WatchEvent) -> WatchEvent {
    let copy = |bytes: &mut Bytes| *bytes = Bytes::copy_from_slice(bytes);
    let mut event = event.clone();
    let previous = match &mut event {
        WatchEvent::Put { kv, previous } => {
            copy(&mut kv.key);
            copy(&mut kv.record.value);
            previous
        }
        WatchEvent::Delete { key, previous, .. } => {
            copy(key);
            previous
        }
    };
    if let Some(previous) = previous {
        copy(&mut previous.value);
    }
    event
}

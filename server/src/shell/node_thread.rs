//! The node thread: one runtime for the listener, all native connections, and the loop.

use std::net::TcpListener as StdListener;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use raftkv_protocol::{Header, Limits, Revision};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use super::ServerError;
use super::answer_post::AnswerPost;
use super::call_post::Calls;
use super::clock::Clock;
use super::door::CallAnswer;
use super::inbox::{Asked, Inbox, Mailbox};
use super::log_workers::{LogSetup, LogWorkers};
use super::node_context::{Identity, NodeContext};
use super::node_loop::{NodeLoop, Parts};
use super::notice::Notices;
use super::pending::Origin;
use super::snapshot_workers::SnapshotWorkers;
use super::storage::Storage;
use super::store_workers::StoreWorkers;
use super::watch_desk::WatchDesk;
use super::watch_worker;
use crate::config::Bounds;
use crate::disk::{Disk, RealDisk};
use crate::log::LogConfig;
use crate::native::{self, Doorway};
use crate::replica::{Event, Hop, Node, NodeConfig};
use crate::transport::{Dialer, ForwardLinks, PeerLinks, Tls};

/// What the thread is given.
pub(super) struct NodeSetup {
    pub(super) node: NodeConfig,
    pub(super) identity: Identity,
    pub(super) limits: Limits,
    pub(super) bounds: Bounds,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) log: LogConfig,
    pub(super) storage: Storage,
    pub(super) listener: StdListener,
    pub(super) calls: Calls,
    pub(super) answers: AnswerPost,
    pub(super) mailbox: Mailbox,
}

/// Starts the thread; `ended` is dropped when it ends.
pub(super) fn spawn(
    setup: NodeSetup,
    ended: oneshot::Sender<()>,
) -> Result<JoinHandle<Result<(), ServerError>>, ServerError> {
    let run = move || {
        let outcome = run(setup);
        drop(ended);
        outcome
    };
    std::thread::Builder::new()
        .name("node".into())
        .spawn(run)
        .map_err(ServerError::Threads)
}

fn run(setup: NodeSetup) -> Result<(), ServerError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(ServerError::Threads)?;
    let local = LocalSet::new();
    let outcome = local.block_on(&runtime, async {
        // A task of its own rather than this future: then it takes its turn behind the connections it was woken by.
        let node = tokio::task::spawn_local(serve(setup));
        node.await.unwrap_or(Err(ServerError::NodeThread))
    });
    drop(local);
    // A host name is resolved on a thread of the runtime, which may take the resolver half a minute: not waited for.
    runtime.shutdown_background();
    outcome
}

async fn serve(setup: NodeSetup) -> Result<(), ServerError> {
    let clock = Clock::start();
    let inbox = Rc::new(Inbox::beside(
        &setup.mailbox,
        clock,
        setup.bounds.max_pending_bytes,
    ));
    let context = Rc::new(NodeContext::new(
        setup.identity,
        setup.limits,
        setup.bounds,
        setup.tls,
    ));
    let dialer = Rc::new(Dialer::new(context.clone()));
    let peers = Rc::new(PeerLinks::new(
        dialer.clone(),
        inbox.clone(),
        setup.bounds.max_peer_unsent_bytes,
    ));
    // Snapshots go by connections of their own: nothing waits behind them.
    let bulk = Rc::new(PeerLinks::new(
        dialer.clone(),
        inbox.clone(),
        setup.bounds.max_peer_unsent_bytes,
    ));
    let storage = setup.storage;
    let mut notices = Notices::default();
    if let Some(membership) = &storage.membership {
        notices.know(membership);
        context.know_members(membership);
    }
    let node = Node::new(setup.node, storage.restored, seed()?, clock.now())?;
    let disk = storage.disk.clone();
    let log_setup = LogSetup {
        disk: storage.disk,
        config: setup.log,
        identity: storage.identity,
        mailbox: setup.mailbox.clone(),
    };
    let mut log = LogWorkers::new(log_setup);
    if let Some(opened) = storage.log {
        log.start(opened)?;
    }
    let header = Header {
        cluster: context.cluster(),
        node: context.identity,
        term: 0,
        revision: Revision(1),
        epoch: context.epoch(),
    };
    let (feed, watch_thread) = watch_worker::start(storage.store.clone(), header, clock, &setup.mailbox)?;
    let desk = Rc::new(WatchDesk::new(feed, setup.bounds));
    let snapshots = SnapshotWorkers::start(storage.place, storage.store.number, &setup.mailbox)?;
    let store = StoreWorkers::start(storage.store, &setup.mailbox)?;
    tokio::task::spawn_local(measure_space(disk, inbox.clone()));
    if let Some(tls) = context.tls.clone() {
        tokio::task::spawn_local(async move { tls.tend().await });
    }
    let doorway = Doorway {
        context: context.clone(),
        inbox: inbox.clone(),
        peers: peers.clone(),
        watches: desk.clone(),
    };
    setup
        .listener
        .set_nonblocking(true)
        .map_err(ServerError::Threads)?;
    let listener = TcpListener::from_std(setup.listener).map_err(ServerError::Threads)?;
    tokio::task::spawn_local(native::accept(listener, Rc::new(doorway)));
    tokio::task::spawn_local(take_calls(setup.calls, inbox.clone()));
    let node_loop = NodeLoop::new(Parts {
        node,
        clock,
        mailbox: setup.mailbox,
        forwards: ForwardLinks::new(dialer, inbox.clone(), clock),
        inbox,
        context,
        peers,
        answers: setup.answers,
        log,
        store,
        snapshots,
        bulk,
        notices,
        watches: desk,
        watch_thread,
    });
    node_loop.run(setup.bounds.drain_timeout).await
}

/// Tells the node now and then how much room the disk has left.
async fn measure_space(disk: RealDisk, inbox: Rc<Inbox>) {
    const INTERVAL: Duration = Duration::from_millis(100);
    loop {
        match disk.free_bytes() {
            Ok(bytes) => inbox.push(Event::FreeSpace { bytes }),
            Err(error) => tracing::warn!(%error, "the room on the disk can not be measured"),
        }
        tokio::time::sleep(INTERVAL).await;
        if inbox.is_closed() {
            return;
        }
    }
}

/// Moves requests of other threads into the inbox, all that wait at once.
async fn take_calls(mut calls: Calls, inbox: Rc<Inbox>) {
    let mut taken = Vec::new();
    loop {
        calls.take(&mut taken).await;
        if inbox.is_closed() {
            // The calls are dropped untaken, which tells their callers that nothing was done.
            return;
        }
        for call in taken.drain(..) {
            call.take();
            let asked = Asked {
                request: call.request,
                hop: Hop::First,
                timeout: call.timeout,
            };
            let origin = match call.answer {
                CallAnswer::Call(answer) => Origin::Call(answer),
                CallAnswer::Watch(watcher) => Origin::Watch(watcher),
            };
            inbox.ask(asked, origin);
        }
    }
}

fn seed() -> Result<u64, ServerError> {
    getrandom::u64().map_err(ServerError::Randomness)
}

//! Clients that load a cluster and record what they were told, for the linearizability checker.
//!
//! Each client is a thread that asks one thing at a time, of a node it picks anew from time to time. Values are never
//! used twice, so each answer tells which write it saw.

mod door;
mod mix;
mod native_door;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use raftkv_protocol::Revision;

use crate::harness::{Cluster, Deadline, HttpClient, Node, wait_for};
use crate::linearizability::{
    Action, ClientId, History, Operation, Outcome, SharedRecorder, StepLimit, check,
};

pub use door::{Door, Ended, HttpDoor};
pub use mix::Mix;
pub use native_door::NativeDoor;

/// What the clients do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many clients.
    pub clients: u32,
    /// On which keys.
    pub keys: Keys,
    /// Which operations.
    pub mix: Mix,
    /// Everything the clients draw follows from it (but what they meet does not).
    pub seed: u64,
}

/// Which keys the clients use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// So many, shared by all; few keys make many conflicts.
    Shared(u64),
    /// Each operation has a key of its own, so that each acknowledged write can be read back.
    OwnEach,
}

/// Clients at work.
#[derive(Debug)]
pub struct Workload {
    recorder: Arc<SharedRecorder>,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<JoinHandle<()>>,
}

impl Workload {
    /// Starts the clients. `open` gives each its doors: one per node, or one that finds the right node by itself.
    ///
    /// # Panics
    /// When threads can not be started.
    #[must_use]
    pub fn start(plan: Plan, open: impl Fn(ClientId) -> Vec<Box<dyn Door>>) -> Workload {
        Workload::resume(plan, Arc::default(), open)
    }

    /// Goes on with a history: as [`Workload::start`], after the last round's clients have stopped.
    ///
    /// # Panics
    /// When threads can not be started.
    #[must_use]
    pub fn resume(
        plan: Plan,
        recorder: Arc<SharedRecorder>,
        open: impl Fn(ClientId) -> Vec<Box<dyn Door>>,
    ) -> Workload {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let start = |number| {
            let client = Client {
                id: ClientId(number),
                doors: open(ClientId(number)),
                plan,
                rng: fastrand::Rng::with_seed(plan.seed ^ (u64::from(number) << 32)),
                recorder: Arc::clone(&recorder),
                answered: Arc::clone(&answered),
            };
            let stop = Arc::clone(&stop);
            let thread = std::thread::Builder::new().name(format!("client {number}"));
            thread
                .spawn(move || client.run(&stop))
                .expect("a thread for a client")
        };
        let clients = (0..plan.clients).map(start).collect();
        Workload {
            recorder,
            stop,
            answered,
            clients,
        }
    }

    /// Waits until so many more requests were answered.
    ///
    /// # Panics
    /// When they are not by the deadline.
    #[track_caller]
    pub fn wait_for_answers(&self, more: u64, deadline: Deadline) {
        let wanted = self.answered.load(Ordering::Relaxed) + more;
        wait_for("answers", deadline, || {
            match self.answered.load(Ordering::Relaxed) {
                now if now >= wanted => Ok(()),
                now => Err(format!("{} of {more}", (now + more).saturating_sub(wanted))),
            }
        });
    }

    /// Stops the clients, each after the answer it waits for, and returns what they recorded.
    ///
    /// # Panics
    /// When a client did.
    #[must_use]
    pub fn finish(mut self) -> Arc<SharedRecorder> {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            client.join().expect("a client that only records what it meets");
        }
        Arc::clone(&self.recorder)
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// One client.
struct Client {
    id: ClientId,
    doors: Vec<Box<dyn Door>>,
    plan: Plan,
    rng: fastrand::Rng,
    recorder: Arc<SharedRecorder>,
    answered: Arc<AtomicU64>,
}

/// Chance that a client goes to another node after an answer.
const MOVES: f64 = 0.1;

/// How long a client that was refused waits, so that refusals do not become the load.
const REFUSED_WAIT: Duration = Duration::from_millis(5);

impl Client {
    fn run(mut self, stop: &AtomicBool) {
        let mut door = self.rng.usize(0..self.doors.len());
        let mut seen_revision = 0;
        let mut number = 0_u64;
        while !stop.load(Ordering::Relaxed) {
            number += 1;
            let unique = format!("{}-{number}-{:x}", self.id.0, self.plan.seed);
            let key = Bytes::from(match self.plan.keys {
                Keys::Shared(keys) => format!("key{}", self.rng.u64(0..keys)),
                Keys::OwnEach => format!("key{unique}"),
            });
            let value = Bytes::from(unique);
            let action = self.plan.mix.draw(&mut self.rng, value, seen_revision);
            let id = self.recorder.invoke(self.id, key.clone(), action.clone());
            match self.doors[door].execute(&key, &action) {
                Ended::Answered(outcome) => {
                    seen_revision = mix::revision_of(&outcome).unwrap_or(seen_revision);
                    self.recorder.answered(id, outcome);
                    self.answered.fetch_add(1, Ordering::Relaxed);
                }
                Ended::Failed => {
                    self.recorder.failed(id);
                    door = self.rng.usize(0..self.doors.len());
                    std::thread::sleep(REFUSED_WAIT);
                }
                // The recorder takes it as unknown, unless told otherwise.
                Ended::Unknown => door = self.rng.usize(0..self.doors.len()),
            }
            if self.rng.f64() < MOVES {
                door = self.rng.usize(0..self.doors.len());
            }
        }
    }
}

/// The doors of one client of this cluster, none of which waits longer than this for an answer. Every other client uses
/// the native library, which knows the whole cluster; the others have the HTTP API of each node.
#[must_use]
pub fn doors(cluster: &Cluster, client: ClientId, timeout: Duration) -> Vec<Box<dyn Door>> {
    let nodes = cluster.nodes().iter();
    if client.0 % 2 == 1 {
        let ports: Vec<u16> = nodes.map(Node::native_port).collect();
        return vec![Box::new(NativeDoor::new(&ports, timeout))];
    }
    nodes
        .map(|node| Box::new(HttpDoor(HttpClient::new(node.http_port(), timeout))) as Box<dyn Door>)
        .collect()
}

/// A put that was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcknowledgedPut {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The revision that the acknowledgement named.
    pub revision: Revision,
}

/// All puts of a history that were acknowledged.
#[must_use]
pub fn acknowledged_puts(history: &History) -> Vec<AcknowledgedPut> {
    let acknowledged = |operation: &Operation| match (&operation.action, operation.outcome()) {
        (Action::Put { value, .. }, Some(Outcome::Put { revision })) => Some(AcknowledgedPut {
            key: operation.key.clone(),
            value: value.clone(),
            revision: *revision,
        }),
        _ => None,
    };
    history.operations().iter().filter_map(acknowledged).collect()
}

/// Shows that the history is linearizable, and prints how much it is worth.
///
/// # Panics
/// When it is not, or that could not be decided.
#[track_caller]
pub fn assert_linearizable(history: &History) {
    let operations = history.operations();
    let unknown = operations
        .iter()
        .filter(|operation| operation.outcome().is_none())
        .count();
    let changes = operations.iter().filter_map(Operation::change).count();
    println!(
        "{} operations, {changes} known changes, {unknown} of unknown outcome",
        operations.len()
    );
    if let Err(error) = check(history, StepLimit::default()).into_result() {
        panic!("{error}");
    }
}

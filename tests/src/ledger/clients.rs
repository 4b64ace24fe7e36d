//! The writers: many at a time in one thread, over one native client.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use raftkv_client::{Applied, Client, Error};
use raftkv_protocol::{Record, Revision};
use tokio::sync::watch;

use super::{End, Ledger, Story};
use crate::harness::{Deadline, wait_for};

/// What the writers do.
#[derive(Clone, Copy, Debug)]
pub struct LoadPlan {
    /// Writers at the same time.
    pub writers: u32,
    /// Keys that each of them works on.
    pub keys_each: usize,
    /// Values have up to so many bytes.
    pub value_bytes: usize,
    /// Names the load: two with different rounds never share a key.
    pub round: u64,
}

/// A key that expires lives so long.
const SHORT_TTL: Duration = Duration::from_millis(700);
const LONG_TTL: Duration = Duration::from_secs(24 * 3600);
const REFUSED_WAIT: Duration = Duration::from_millis(5);

/// Writers at work.
#[derive(Debug)]
pub struct Load {
    stop: watch::Sender<bool>,
    answered: Arc<AtomicU64>,
    thread: JoinHandle<Ledger>,
}

impl Load {
    /// Starts them on the nodes with these native ports.
    ///
    /// # Panics
    /// When the system refuses what they need.
    #[must_use]
    pub fn start(plan: LoadPlan, native_ports: &[u16], timeout: Duration) -> Load {
        let endpoints: Vec<String> = native_ports
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        let client = Client::builder().endpoints(endpoints).timeout(timeout).build();
        let client = client.expect("addresses of this form are valid");
        let (stop, stopped) = watch::channel(false);
        let answered: Arc<AtomicU64> = Arc::default();
        let counter = Arc::clone(&answered);
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime for clients");
            runtime.block_on(run_all(plan, client, counter, stopped))
        };
        let thread = std::thread::Builder::new().name("writers".into()).spawn(run);
        Load {
            stop,
            answered,
            thread: thread.expect("a thread for clients"),
        }
    }

    /// Requests that were answered so far.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits until so many more requests were answered.
    ///
    /// # Panics
    /// When they are not by the deadline.
    #[track_caller]
    pub fn wait_for_answers(&self, more: u64, deadline: Deadline) {
        let wanted = self.answered() + more;
        wait_for("answers", deadline, || match self.answered() {
            now if now >= wanted => Ok(()),
            now => Err(format!("{} of {more}", (now + more).saturating_sub(wanted))),
        });
    }

    /// Stops the writers at once, and adds what they know to the ledger.
    ///
    /// # Panics
    /// When a writer did: it was told something that can not be.
    pub fn finish_into(self, ledger: &mut Ledger) {
        let _ = self.stop.send(true);
        let found = self
            .thread
            .join()
            .expect("writers that only record what they meet");
        ledger.stories.extend(found.stories);
    }
}

async fn run_all(
    plan: LoadPlan,
    client: Client,
    answered: Arc<AtomicU64>,
    stopped: watch::Receiver<bool>,
) -> Ledger {
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..plan.writers {
        let writer = Writer {
            number,
            plan,
            client: client.clone(),
            answered: Arc::clone(&answered),
            rng: fastrand::Rng::with_seed((plan.round << 32) ^ u64::from(number)),
            slots: vec![0; plan.keys_each],
            stories: BTreeMap::new(),
        };
        writers.spawn(writer.run(stopped.clone()));
    }
    let mut ledger = Ledger::default();
    while let Some(stories) = writers.join_next().await {
        ledger.stories.extend(stories.expect("a writer"));
    }
    ledger
}

/// What a writer asks next.
enum Ask {
    Put(Bytes, Condition),
    Delete(Condition),
    /// A put of a key that expires.
    Lend(Bytes),
}

#[derive(Clone, Copy)]
enum Condition {
    Always,
    /// What the key is: it holds.
    AsItIs,
    /// It does not hold.
    Other,
}

/// How it ended.
enum Told {
    Put(Revision),
    Deleted { existed: bool, revision: Revision },
    ConditionFailed(Option<Revision>),
}

struct Writer {
    number: u32,
    plan: LoadPlan,
    client: Client,
    answered: Arc<AtomicU64>,
    rng: fastrand::Rng,
    /// How many keys each place has used up.
    slots: Vec<u32>,
    stories: BTreeMap<Bytes, Story>,
}

impl Writer {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) -> BTreeMap<Bytes, Story> {
        while !*stopped.borrow() {
            let slot = self.rng.usize(0..self.slots.len());
            let key = format!("{}.{}.{slot}.{}", self.plan.round, self.number, self.slots[slot]);
            let key = Bytes::from(key);
            let before = self.stories.entry(key.clone()).or_default().record();
            let ask = self.draw();
            let told = {
                let asked = ask_for(&self.client, key.clone(), &ask, before.as_ref());
                tokio::select! {
                    told = asked => told,
                    // What was sent may happen.
                    _ = stopped.changed() => Err(Applied::Unknown),
                }
            };
            let is_refused = matches!(told, Err(Applied::No));
            let story = self.stories.entry(key).or_default();
            record(story, before.as_ref(), ask, told);
            if !story.is_open() {
                self.slots[slot] += 1;
            }
            if is_refused {
                tokio::time::sleep(REFUSED_WAIT).await;
            } else {
                self.answered.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.stories
    }

    fn draw(&mut self) -> Ask {
        let value = |rng: &mut fastrand::Rng, most: usize| {
            let mut value = format!("{:016x}", rng.u64(..)).into_bytes();
            value.resize(rng.usize(16..most.max(17)), b'.');
            Bytes::from(value)
        };
        let condition = match self.rng.u32(0..10) {
            0..=6 => Condition::Always,
            7..=8 => Condition::AsItIs,
            _ => Condition::Other,
        };
        match self.rng.u32(0..100) {
            0..=77 => Ask::Put(value(&mut self.rng, self.plan.value_bytes), condition),
            78..=96 => Ask::Delete(condition),
            _ => Ask::Lend(value(&mut self.rng, self.plan.value_bytes)),
        }
    }
}

async fn ask_for(client: &Client, key: Bytes, ask: &Ask, before: Option<&Record>) -> Result<Told, Applied> {
    // No key is at the revision of an empty store.
    let never = Revision(1);
    let ended = match ask {
        Ask::Put(value, condition) => {
            let set = client.set(key, value.clone());
            let set = match (condition, before) {
                (Condition::Always, _) => set,
                (Condition::AsItIs, None) => set.if_absent(),
                (Condition::AsItIs, Some(record)) => set.if_revision(record.mod_revision).ttl(LONG_TTL),
                (Condition::Other, None) => set.if_revision(never),
                (Condition::Other, Some(_)) => set.if_absent(),
            };
            set.await.map(Told::Put)
        }
        Ask::Lend(value) => client.set(key, value.clone()).ttl(SHORT_TTL).await.map(Told::Put),
        Ask::Delete(condition) => {
            let delete = client.delete(key);
            let delete = match (condition, before) {
                (Condition::Always, _) | (Condition::AsItIs, None) => delete,
                (Condition::AsItIs, Some(record)) => delete.if_revision(record.mod_revision),
                (Condition::Other, _) => delete.if_revision(never),
            };
            delete.await.map(|deleted| Told::Deleted {
                existed: deleted.existed,
                revision: deleted.revision,
            })
        }
    };
    match ended {
        Ok(told) => Ok(told),
        Err(Error::ConditionFailed { current }) => Ok(Told::ConditionFailed(current)),
        Err(error) => Err(error.applied()),
    }
}

/// Writes down how it ended; the writer knows what the answer must be.
fn record(story: &mut Story, before: Option<&Record>, ask: Ask, told: Result<Told, Applied>) {
    let can_happen = match &ask {
        Ask::Put(_, condition) | Ask::Delete(condition) => !matches!(condition, Condition::Other),
        Ask::Lend(_) => true,
    };
    match (told, ask) {
        (Err(Applied::No), _) => {}
        (Err(Applied::Unknown), _) if !can_happen => {}
        (Err(Applied::Unknown), Ask::Put(value, _)) => story.end = End::Unknown(Some(value)),
        (Err(Applied::Unknown), Ask::Delete(_)) => story.end = End::Unknown(None),
        (Err(Applied::Unknown), Ask::Lend(value)) => story.end = End::MayExpire(value),
        (Ok(Told::Put(revision)), Ask::Put(value, _)) if can_happen => story.put(revision, value),
        (Ok(Told::Put(revision)), Ask::Lend(value)) => {
            story.put(revision, value);
            story.end = End::Expires;
        }
        (Ok(Told::Deleted { existed, revision }), Ask::Delete(_)) if can_happen => {
            assert_eq!(existed, before.is_some(), "a delete at {revision} of {before:?}");
            if existed {
                story.deleted(revision);
            }
        }
        (Ok(Told::ConditionFailed(current)), Ask::Put(..) | Ask::Delete(_)) if !can_happen => {
            let expected = before.map(|record| record.mod_revision);
            assert_eq!(current, expected, "what a failed condition tells");
        }
        (Ok(told), _) => {
            let told = match told {
                Told::Put(revision) => format!("a put at {revision}"),
                Told::Deleted { revision, .. } => format!("a delete at {revision}"),
                Told::ConditionFailed(current) => format!("a failed condition, now {current:?}"),
            };
            panic!("the answer was {told}, the key was {before:?}");
        }
    }
}

//! Wakes the connections of an open loop when their operations are due.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::schedule::due;

/// So often the thread looks whether it is still wanted.
const LONGEST_SLEEP: Duration = Duration::from_millis(50);

/// A thread that sleeps from one due time to the next. The runtime's own timer is a millisecond coarse, which is more
/// than many operations take.
///
/// To wake a task from another thread takes a system call. So the thread wakes one task for all operations that have become due,
/// and that one wakes the connections, which takes none.
#[derive(Debug)]
pub(crate) struct Pacer {
    dues: Vec<Arc<Notify>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    waker: AbortHandle,
}

/// How far the thread has come.
#[derive(Debug, Default)]
struct Ticks {
    /// So many operations have become due.
    reached: AtomicU64,
    tick: Notify,
}

impl Pacer {
    /// Runs within the runtime that the connections run in.
    pub(crate) fn start(begin: Instant, rate: NonZeroU32, connections: usize) -> Pacer {
        let dues: Vec<Arc<Notify>> = (0..connections).map(|_| Arc::new(Notify::new())).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let ticks = Arc::new(Ticks::default());
        let thread = thread::spawn({
            let (ticks, stop) = (Arc::clone(&ticks), Arc::clone(&stop));
            move || pace(begin, rate, &ticks, &stop)
        });
        let waker = tokio::spawn(wake(dues.clone(), ticks)).abort_handle();
        Pacer {
            dues,
            stop,
            thread: Some(thread),
            waker,
        }
    }

    /// What is notified for one connection.
    pub(crate) fn due(&self, connection: usize) -> Arc<Notify> {
        Arc::clone(&self.dues[connection])
    }
}

fn pace(begin: Instant, rate: NonZeroU32, ticks: &Ticks, stop: &AtomicBool) {
    let mut reached = 0;
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        let left = due(begin, rate, reached).saturating_duration_since(now);
        if !left.is_zero() {
            thread::sleep(left.min(LONGEST_SLEEP));
            continue;
        }
        while due(begin, rate, reached) <= now {
            reached += 1;
        }
        ticks.reached.store(reached, Ordering::Release);
        ticks.tick.notify_one();
    }
}

async fn wake(dues: Vec<Arc<Notify>>, ticks: Arc<Ticks>) {
    let mut woken = 0;
    loop {
        ticks.tick.notified().await;
        let reached = ticks.reached.load(Ordering::Acquire);
        // One call is enough for whoever has several due.
        let last_turn = woken.max(reached.saturating_sub(dues.len() as u64));
        for n in last_turn..reached {
            dues[n as usize % dues.len()].notify_one();
        }
        woken = reached;
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.waker.abort();
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did, its message has been printed.
            drop(thread.join());
        }
    }
}

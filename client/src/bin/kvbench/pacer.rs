//! Wakes the connections of an open loop when their operations are due.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::schedule::due;

/// So often the thread looks whether it is still wanted.
const LONGEST_SLEEP: Duration = Duration::from_millis(50);

/// A thread that sleeps from one due time to the next. The runtime's own timer is a millisecond coarse, which is more
/// than many operations take.
#[derive(Debug)]
pub(crate) struct Pacer {
    dues: Vec<Arc<Notify>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pacer {
    pub(crate) fn start(begin: Instant, rate: NonZeroU32, connections: usize) -> Pacer {
        let dues: Vec<Arc<Notify>> = (0..connections).map(|_| Arc::new(Notify::new())).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (dues, stop) = (dues.clone(), Arc::clone(&stop));
            move || pace(begin, rate, &dues, &stop)
        });
        Pacer {
            dues,
            stop,
            thread: Some(thread),
        }
    }

    /// What is notified for one connection.
    pub(crate) fn due(&self, connection: usize) -> Arc<Notify> {
        Arc::clone(&self.dues[connection])
    }
}

fn pace(begin: Instant, rate: NonZeroU32, dues: &[Arc<Notify>], stop: &AtomicBool) {
    for n in 0.. {
        let due = due(begin, rate, n);
        loop {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            thread::sleep(left.min(LONGEST_SLEEP));
        }
        dues[n as usize % dues.len()].notify_one();
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did, its message has been printed.
            drop(thread.join());
        }
    }
}

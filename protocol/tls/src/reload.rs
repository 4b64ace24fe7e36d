//! Something made from files, made again when they change: certificates are renewed without a restart.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::TlsError;
use crate::files::{Material, Stamp, TlsFiles};

/// Files are looked at no more often.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What a look at the files came to.
#[derive(Debug)]
pub enum Reload {
    /// Nothing has changed, or it was looked a moment ago.
    Same,
    /// New connections are made with what the files hold now.
    Renewed,
    /// The files have changed to something that can not be used; what was read before is still in use. Told once for each
    /// change.
    Failed(TlsError),
}

/// Makes something of what the files held.
type Make<T> = dyn Fn(&TlsFiles, &Material) -> Result<T, TlsError> + Send + Sync;

/// Made from files.
pub(crate) struct Reloading<T> {
    files: TlsFiles,
    make: Box<Make<T>>,
    state: Mutex<State<T>>,
}

impl<T> fmt::Debug for Reloading<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloading")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

struct State<T> {
    made: Arc<T>,
    stamp: Stamp,
    looked_at: Instant,
}

impl<T> Reloading<T> {
    pub(crate) fn new(
        files: TlsFiles,
        make: impl Fn(&TlsFiles, &Material) -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Reloading<T>, TlsError> {
        // Before the files are read: what changes meanwhile is seen at the next look.
        let stamp = files.stamp();
        let made = Arc::new(make(&files, &files.read()?)?);
        let state = State {
            made,
            stamp,
            looked_at: Instant::now(),
        };
        Ok(Reloading {
            files,
            make: Box::new(make),
            state: Mutex::new(state),
        })
    }

    pub(crate) fn current(&self) -> Arc<T> {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .made
            .clone()
    }

    /// Looks at the files, if the last look was long enough ago.
    pub(crate) fn look(&self, now: Instant) -> Reload {
        let state = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(state.looked_at) < LOOK_INTERVAL {
            return Reload::Same;
        }
        state.looked_at = now;
        let stamp = self.files.stamp();
        if stamp == state.stamp {
            return Reload::Same;
        }
        state.stamp = stamp;
        match self.files.read().and_then(|read| (self.make)(&self.files, &read)) {
            Ok(made) => {
                state.made = Arc::new(made);
                Reload::Renewed
            }
            Err(error) => Reload::Failed(error),
        }
    }
}

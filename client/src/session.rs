//! Exactly once: writes are numbered within a session, so that the cluster knows one that it gets again.
//!
//! The session is opened with the first write, lives while there are writes, and is left to expire. One that expired because
//! the client was idle is replaced without anybody noticing.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use raftkv_protocol::{Answer, CheckedCommand, Command, Once, Request, SESSION_WINDOW, SessionId};
use tokio::sync::Notify;

use crate::client::{Client, unexpected};
use crate::error::{Applied, Error};
use crate::request::NO_LIMITS;

/// A session lives so long without a write. Long enough for whatever a write waits for.
const TTL: Duration = Duration::from_secs(600);

/// An opening whose answer was lost is tried again; a session that nobody uses expires.
const OPEN_ATTEMPTS: usize = 3;

/// The session of a client, if it has one now.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    /// Held while one is opened, so that one is.
    current: tokio::sync::Mutex<Option<Arc<Session>>>,
}

#[derive(Debug)]
struct Session {
    id: SessionId,
    numbers: Mutex<Numbers>,
    /// A number was given back.
    returned: Notify,
}

#[derive(Debug)]
struct Numbers {
    next: u64,
    /// Of writes whose callers still wait.
    outstanding: BTreeSet<u64>,
}

/// A write's number. Dropped, it says that nobody waits for that write's answer any more.
#[derive(Debug)]
pub(crate) struct Numbered {
    session: Arc<Session>,
    once: Once,
}

impl Sessions {
    /// Numbers a write; waits while too many before it are not answered.
    pub(crate) async fn number(&self, client: &Client) -> Result<Numbered, Error> {
        let session = self.session(client).await?;
        loop {
            let returned = session.returned.notified();
            tokio::pin!(returned);
            // From here on nothing that is given back is missed.
            returned.as_mut().enable();
            if let Some(once) = session.take_number() {
                return Ok(Numbered {
                    session: Arc::clone(&session),
                    once,
                });
            }
            returned.await;
        }
    }

    /// The cluster does not know the write's session any more: the next write opens another one.
    pub(crate) async fn expired(&self, numbered: &Numbered) {
        let mut current = self.current.lock().await;
        if current
            .as_ref()
            .is_some_and(|session| session.id == numbered.session.id)
        {
            *current = None;
        }
    }

    async fn session(&self, client: &Client) -> Result<Arc<Session>, Error> {
        let mut current = self.current.lock().await;
        if let Some(session) = &*current {
            return Ok(Arc::clone(session));
        }
        let session = Arc::new(Session {
            id: open(client).await?,
            numbers: Mutex::new(Numbers {
                next: 1,
                outstanding: BTreeSet::new(),
            }),
            returned: Notify::new(),
        });
        *current = Some(Arc::clone(&session));
        Ok(session)
    }
}

impl Session {
    /// `None`: it would be too far ahead of the first that is not answered.
    fn take_number(&self) -> Option<Once> {
        let mut numbers = self.numbers();
        let sequence = numbers.next;
        let first_unacknowledged = numbers.outstanding.first().copied().unwrap_or(sequence);
        if sequence - first_unacknowledged >= SESSION_WINDOW {
            return None;
        }
        numbers.next += 1;
        numbers.outstanding.insert(sequence);
        Some(Once {
            session: self.id,
            sequence,
            first_unacknowledged,
        })
    }

    fn numbers(&self) -> std::sync::MutexGuard<'_, Numbers> {
        // Each change of it is whole.
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Numbered {
    pub(crate) fn once(&self) -> Once {
        self.once
    }
}

impl Drop for Numbered {
    fn drop(&mut self) {
        self.session.numbers().outstanding.remove(&self.once.sequence);
        self.session.returned.notify_waiters();
    }
}

async fn open(client: &Client) -> Result<SessionId, Error> {
    let ttl_ms = u64::try_from(TTL.as_millis()).unwrap_or(u64::MAX);
    let command = Command::OpenSession { ttl_ms };
    let command = CheckedCommand::new(&command, &NO_LIMITS).map_err(Error::Rejected)?;
    for _ in 0..OPEN_ATTEMPTS {
        match client.execute(Request::Write(command.clone())).await {
            Ok(Answer::SessionOpened { session, .. }) => return Ok(session),
            Ok(other) => return Err(unexpected("a session", &other, Applied::No)),
            Err(Error::OutcomeUnknown { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    // The write that needs it was not sent.
    Err(Error::TimedOut {
        after: client.time_out(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Arc<Session> {
        Arc::new(Session {
            id: SessionId(7),
            numbers: Mutex::new(Numbers {
                next: 1,
                outstanding: BTreeSet::new(),
            }),
            returned: Notify::new(),
        })
    }

    fn number(session: &Arc<Session>) -> Option<Numbered> {
        let once = session.take_number()?;
        let session = Arc::clone(session);
        Some(Numbered { session, once })
    }

    #[test]
    fn a_number_is_acknowledged_when_nobody_waits_for_it_and_those_before_it() {
        let session = session();
        let [first, second, third] = [(); 3].map(|()| number(&session).expect("room"));
        assert_eq!((third.once().sequence, third.once().first_unacknowledged), (3, 1));
        drop(second);
        assert_eq!(number(&session).expect("room").once().first_unacknowledged, 1);
        drop(first);
        assert_eq!(number(&session).expect("room").once().first_unacknowledged, 3);
    }

    #[test]
    fn numbers_run_ahead_by_a_window_at_most() {
        let session = session();
        let oldest = number(&session).expect("room");
        for _ in 1..SESSION_WINDOW {
            drop(number(&session).expect("room"));
        }
        assert!(number(&session).is_none());
        drop(oldest);
        let next = number(&session).expect("room").once();
        assert_eq!(
            (next.sequence, next.first_unacknowledged),
            (SESSION_WINDOW + 1, SESSION_WINDOW + 1)
        );
    }
}

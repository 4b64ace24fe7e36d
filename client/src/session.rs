//! Exactly once: writes are numbered within a session, so that the cluster knows one that it gets again.
//!
//! The session is opened with the first write, lives while there are writes, and is left to expire. One that expired because
//! the client was idle is replaced without anybody noticing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use raftkv_protocol::{Answer, CheckedCommand, Command, Once, Request, SessionId};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::client::{Client, unexpected};
use crate::error::{Applied, Error};
use crate::numbering::Numbers;
use crate::request::NO_LIMITS;
use crate::retry::Kind;

/// A session lives at least so long without a write. No longer than need be: those of programs that have ended count as well.
const SHORTEST_TTL: Duration = Duration::from_secs(60);

/// And so many time-outs: a write must find its session for as long as it is sent again.
const TIME_OUTS_PER_TTL: u32 = 2;

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

/// A write's number. Dropped, it says that nobody waits for that write's answer any more.
#[derive(Debug)]
pub(crate) struct Numbered {
    session: Arc<Session>,
    once: Once,
}

impl Sessions {
    /// Numbers a write; waits while too many before it are not answered.
    pub(crate) async fn number(&self, client: &Client, deadline: Instant) -> Result<Numbered, Error> {
        let session = self.session(client, deadline).await?;
        loop {
            let returned = session.returned.notified();
            tokio::pin!(returned);
            // From here on nothing that is given back is missed.
            returned.as_mut().enable();
            if let Some(once) = session.numbers().take() {
                return Ok(Numbered {
                    session: Arc::clone(&session),
                    once,
                });
            }
            let given_back = timeout_at(deadline, returned).await;
            given_back.map_err(|_| not_sent(client))?;
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

    async fn session(&self, client: &Client, deadline: Instant) -> Result<Arc<Session>, Error> {
        let current = timeout_at(deadline, self.current.lock()).await;
        let mut current = current.map_err(|_| not_sent(client))?;
        if let Some(session) = &*current {
            return Ok(Arc::clone(session));
        }
        let session = Arc::new(Session::new(open(client, deadline).await?));
        *current = Some(Arc::clone(&session));
        Ok(session)
    }
}

impl Session {
    fn new(id: SessionId) -> Session {
        Session {
            id,
            numbers: Mutex::new(Numbers::new(id)),
            returned: Notify::new(),
        }
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
        self.session.numbers().give_back(self.once.sequence);
        self.session.returned.notify_waiters();
    }
}

async fn open(client: &Client, deadline: Instant) -> Result<SessionId, Error> {
    let ttl = SHORTEST_TTL.max(client.time_out() * TIME_OUTS_PER_TTL);
    let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    let command = Command::OpenSession { ttl_ms };
    let command = CheckedCommand::new(&command, &NO_LIMITS).map_err(Error::Rejected)?;
    // As a numbered write it is sent again if its answer is lost: a session that nobody uses expires.
    let opened = client.execute_until(Kind::NumberedWrite, Request::Write(command), deadline);
    match opened.await {
        Ok(Answer::SessionOpened { session, .. }) => Ok(session),
        Ok(other) => Err(unexpected("a session", &other, Applied::No)),
        Err(Error::OutcomeUnknown { .. }) => Err(not_sent(client)),
        Err(error) => Err(error),
    }
}

/// The write that waited for its number was not sent.
fn not_sent(client: &Client) -> Error {
    Error::TimedOut {
        after: client.time_out(),
    }
}

#[cfg(test)]
mod tests {
    use raftkv_protocol::SESSION_WINDOW;

    use super::*;

    fn session() -> Arc<Session> {
        Arc::new(Session::new(SessionId(7)))
    }

    fn number(session: &Arc<Session>) -> Option<Numbered> {
        let once = session.numbers().take()?;
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

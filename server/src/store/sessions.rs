//! Sessions: a write that is sent again within one is applied once (thesis 6.3, R75).
//!
//! A session keeps the outcomes of its writes from the first that the client has not acknowledged on. A write whose outcome
//! is kept is not applied again. Refusals are kept too: a copy that was delayed on its way must not happen after its client
//! was told that it did not.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use raftkv_protocol::{ErrorCode, Failure, Once, Revision, SESSION_WINDOW, SessionId};
use raftkv_raft::simulation::{mark, mutant};
use serde::{Deserialize, Serialize};

use super::base::Row;
use super::outcome::{Kept, Outcome};
use super::rows;

/// Most sessions at one time.
pub(super) const MAX_SESSIONS: usize = 100_000;

/// Most bytes of outcomes that one session keeps.
const MAX_BYTES_PER_SESSION: usize = 1 << 20;
/// Most bytes of outcomes that all sessions keep together.
const MAX_BYTES: usize = 256 << 20;

/// Memory that a session's row costs beside the outcomes that it keeps, about.
const ROW_BYTES: u64 = 128;

const FORMAT_VERSION: u8 = 1;

/// One session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    /// How long it lives without a write or renewal, milliseconds.
    pub(super) ttl_ms: u64,
    /// It ends at this log time, microseconds.
    pub(super) deadline_us: u64,
    first_unacknowledged: u64,
    /// From `first_unacknowledged` on; `None`: not applied yet.
    outcomes: VecDeque<Option<Kept>>,
    kept_bytes: usize,
    /// Where it stands in the order of deadlines: at its own, or before it.
    hint_us: u64,
    is_changed: bool,
}

/// On disk: a version byte, then this in postcard. A released struct never changes.
#[derive(Serialize, Deserialize)]
struct Version1 {
    ttl_ms: u64,
    deadline_us: u64,
    first_unacknowledged: u64,
    /// Sequence and outcome, ascending.
    outcomes: Vec<(u64, Vec<u8>)>,
}

impl Session {
    fn encode(&self) -> Bytes {
        let numbered = (self.first_unacknowledged..).zip(&self.outcomes);
        let version_1 = Version1 {
            ttl_ms: self.ttl_ms,
            deadline_us: self.deadline_us,
            first_unacknowledged: self.first_unacknowledged,
            outcomes: numbered
                .filter_map(|(sequence, kept)| Some((sequence, kept.as_ref()?.encode())))
                .collect(),
        };
        let encoded = postcard::to_extend(&version_1, vec![FORMAT_VERSION]);
        encoded.expect("numbers and bytes always encode").into()
    }

    /// Reads a row's value back.
    ///
    /// # Errors
    /// A sentence when the bytes are no session of this version.
    pub(super) fn decode(bytes: &[u8]) -> Result<Session, &'static str> {
        let (version, rest) = bytes.split_first().ok_or("a session's row is empty")?;
        if *version != FORMAT_VERSION {
            return Err("a session of another format version");
        }
        let read: Version1 = postcard::from_bytes(rest).map_err(|_| "a session does not decode")?;
        let mut session = Session::new(read.ttl_ms, read.deadline_us);
        session.first_unacknowledged = read.first_unacknowledged;
        session.is_changed = false;
        for (sequence, encoded) in &read.outcomes {
            let at = sequence.checked_sub(read.first_unacknowledged);
            let at = at.filter(|at| *at < SESSION_WINDOW);
            let at = at.ok_or("a session keeps an outcome outside its window")?;
            session.keep(at, Kept::decode(encoded)?);
        }
        Ok(session)
    }

    /// What its unacknowledged writes came to, by sequence.
    pub(super) fn outcomes(&self) -> BTreeMap<u64, Outcome> {
        let numbered = (self.first_unacknowledged..).zip(&self.outcomes);
        let applied = numbered.filter_map(|(sequence, kept)| Some((sequence, kept.as_ref()?.outcome())));
        applied.collect()
    }

    fn new(ttl_ms: u64, deadline_us: u64) -> Session {
        Session {
            ttl_ms,
            deadline_us,
            first_unacknowledged: 1,
            outcomes: VecDeque::new(),
            kept_bytes: 0,
            hint_us: deadline_us,
            is_changed: true,
        }
    }

    /// `at`: the sequence's distance from the first unacknowledged one.
    fn keep(&mut self, at: u64, kept: Kept) {
        let at = usize::try_from(at).expect("a window's distance");
        if self.outcomes.len() <= at {
            self.outcomes.resize(at + 1, None);
        }
        self.kept_bytes += kept.size_bytes();
        self.outcomes[at] = Some(kept);
    }

    /// The client wants no outcome below `first_unacknowledged` any more; bytes that this freed.
    fn acknowledge(&mut self, first_unacknowledged: u64) -> usize {
        let mut freed = 0;
        while self.first_unacknowledged < first_unacknowledged {
            match self.outcomes.pop_front() {
                Some(kept) => freed += kept.as_ref().map_or(0, Kept::size_bytes),
                None => {
                    self.first_unacknowledged = first_unacknowledged;
                    break;
                }
            }
            self.first_unacknowledged += 1;
        }
        self.kept_bytes -= freed;
        freed
    }
}

/// What is to be done with a write of a session.
#[derive(Debug)]
pub(super) enum Standing {
    /// Apply it, and tell [`Sessions::applied`].
    Fresh,
    /// It was applied before; or it can not be.
    Answered(Outcome),
}

/// All sessions.
///
/// # Invariants
/// * `hints` has each session once, at its `hint_us`, which is not behind its deadline: a write moves the deadline alone.
/// * `kept_bytes` is the sum of the sessions'.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_id: BTreeMap<SessionId, Session>,
    hints: BTreeSet<(u64, SessionId)>,
    /// Opened, written in, or ended since the generation began; may name one twice.
    changed: Vec<SessionId>,
    /// What the rows of these will hold, at most.
    changed_bytes: u64,
    kept_bytes: usize,
}

impl Sessions {
    /// As a base holds them.
    pub(super) fn restored(sessions: Vec<(SessionId, Session)>) -> Sessions {
        let mut restored = Sessions::default();
        for (id, mut session) in sessions {
            if mutant("X19_answers_of_sessions_lost_at_a_restart") {
                session.acknowledge(u64::MAX);
                session.first_unacknowledged = 1;
            }
            restored.kept_bytes += session.kept_bytes;
            restored.hints.insert((session.hint_us, id));
            restored.by_id.insert(id, session);
        }
        restored
    }

    pub(super) fn count(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn open(&mut self, id: SessionId, ttl_ms: u64, deadline_us: u64) {
        let session = Session::new(ttl_ms, deadline_us);
        self.hints.insert((session.hint_us, id));
        self.by_id.insert(id, session);
        self.changed.push(id);
        self.changed_bytes += ROW_BYTES;
    }

    /// The session's time to live, if it is there.
    pub(super) fn ttl_ms(&self, id: SessionId) -> Option<u64> {
        self.by_id.get(&id).map(|session| session.ttl_ms)
    }

    /// Moves the deadline of a session that is there.
    pub(super) fn renew(&mut self, id: SessionId, deadline_us: u64) {
        let Some(session) = self.by_id.get_mut(&id) else {
            return;
        };
        session.deadline_us = deadline_us;
        if !std::mem::replace(&mut session.is_changed, true) {
            self.changed.push(id);
            self.changed_bytes += ROW_BYTES + session.kept_bytes as u64;
        }
    }

    /// Ends a session; was it there?
    pub(super) fn end(&mut self, id: SessionId) -> bool {
        let Some(session) = self.by_id.remove(&id) else {
            return false;
        };
        self.hints.remove(&(session.hint_us, id));
        self.kept_bytes -= session.kept_bytes;
        self.changed.push(id);
        self.changed_bytes += ROW_BYTES;
        true
    }

    /// What is to be done with a write of a session that is there.
    pub(super) fn standing(&mut self, once: Once) -> Standing {
        let session = self.by_id.get_mut(&once.session);
        let session = session.expect("the caller has looked whether it is there");
        self.kept_bytes -= session.acknowledge(once.first_unacknowledged);
        let Some(at) = once.sequence.checked_sub(session.first_unacknowledged) else {
            mark("session: copy behind its acknowledgement refused");
            return Standing::Answered(Err(forgotten(once, session.first_unacknowledged)));
        };
        if at >= SESSION_WINDOW {
            return Standing::Answered(Err(too_far_ahead(once)));
        }
        let at = usize::try_from(at).expect("a window's distance");
        match session.outcomes.get(at) {
            Some(Some(kept)) => {
                mark("session: write answered again");
                Standing::Answered(kept.outcome())
            }
            Some(None) | None => Standing::Fresh,
        }
    }

    /// A write that was fresh was applied, and came to this; behind it the store is at `revision`. Ignored when the session
    /// ended itself.
    pub(super) fn applied(&mut self, once: Once, outcome: &Outcome, revision: Revision) {
        let Some(session) = self.by_id.get_mut(&once.session) else {
            return;
        };
        let room =
            (MAX_BYTES_PER_SESSION - session.kept_bytes).min(MAX_BYTES.saturating_sub(self.kept_bytes));
        let kept = Kept::of(outcome, revision, room);
        self.kept_bytes += kept.size_bytes();
        self.changed_bytes += kept.size_bytes() as u64;
        let mut at = once.sequence - session.first_unacknowledged;
        if mutant("X25_answer_kept_for_another_sequence") {
            at += 1;
        }
        session.keep(at, kept);
    }

    /// Brings the first hints up to their sessions' deadlines, as far as they have come at `log_time_us`; then the first of
    /// them is a deadline, if it has come.
    pub(super) fn first_due(&mut self, log_time_us: u64) -> Option<(u64, SessionId)> {
        while let Some(&(hint_us, id)) = self.hints.first() {
            if hint_us > log_time_us {
                return None;
            }
            let session = self.by_id.get_mut(&id).expect("each hint is of a session");
            if session.deadline_us == hint_us {
                return Some((hint_us, id));
            }
            self.hints.pop_first();
            session.hint_us = session.deadline_us;
            self.hints.insert((session.hint_us, id));
        }
        None
    }

    /// At or before the first deadline.
    pub(super) fn next_us(&self) -> Option<u64> {
        self.hints.first().map(|(hint_us, _)| *hint_us)
    }

    /// Memory that its drain will hold on to for what changed since the generation began, at most.
    pub(super) fn changed_bytes(&self) -> u64 {
        self.changed_bytes
    }

    /// The rows of what the generation that ends now changed, ascending.
    pub(super) fn take_changed(&mut self) -> Vec<Row> {
        self.changed_bytes = 0;
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_unstable();
        changed.dedup();
        if mutant("X19_sessions_not_in_the_snapshot") {
            changed.clear();
        }
        let row = |id: SessionId| {
            let session = self.by_id.get_mut(&id);
            Row {
                key: rows::session_row(id),
                value: session.map(|session| {
                    session.is_changed = false;
                    session.encode()
                }),
            }
        };
        changed.into_iter().map(row).collect()
    }
}

/// What a write of a session is told that is not there.
pub(super) fn expired(session: SessionId) -> Failure {
    Failure::new(
        ErrorCode::SessionExpired,
        format!("session {session} has expired, or was closed, or never was; nothing was applied"),
    )
}

fn forgotten(once: Once, first_unacknowledged: u64) -> Failure {
    let message = format!(
        "write {} of session {} came behind the acknowledgement of all below {first_unacknowledged}: what became of it was told, \
         and is forgotten; this copy was not applied",
        once.sequence, once.session
    );
    Failure::new(ErrorCode::BadRequest, message)
}

fn too_far_ahead(once: Once) -> Failure {
    let message = format!(
        "write {} of session {} is more than {SESSION_WINDOW} ahead of the first unacknowledged one; nothing was applied",
        once.sequence, once.session
    );
    Failure::new(ErrorCode::BadRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv_protocol::Answer;

    const ID: SessionId = SessionId(7);

    fn once(sequence: u64, first_unacknowledged: u64) -> Once {
        Once {
            session: ID,
            sequence,
            first_unacknowledged,
        }
    }

    fn put(revision: u64) -> Outcome {
        Ok(Answer::Put {
            revision: Revision(revision),
        })
    }

    fn opened() -> Sessions {
        let mut sessions = Sessions::default();
        sessions.open(ID, 10, 100);
        sessions
    }

    fn is_fresh(sessions: &mut Sessions, once: Once) -> bool {
        matches!(sessions.standing(once), Standing::Fresh)
    }

    #[test]
    fn writes_come_in_any_order_and_each_is_fresh_once() {
        let mut sessions = opened();
        for sequence in [3, 1, 2] {
            assert!(is_fresh(&mut sessions, once(sequence, 1)));
            sessions.applied(once(sequence, 1), &put(sequence), Revision(sequence));
        }
        for sequence in [1, 2, 3] {
            let Standing::Answered(outcome) = sessions.standing(once(sequence, 1)) else {
                panic!("{sequence} was applied");
            };
            assert_eq!(outcome, put(sequence));
        }
        assert!(is_fresh(&mut sessions, once(4, 3)));
        let Standing::Answered(Err(failure)) = sessions.standing(once(2, 1)) else {
            panic!("2 was acknowledged");
        };
        assert_eq!(failure.code, ErrorCode::BadRequest);
    }

    #[test]
    fn a_jump_of_the_acknowledgement_leaves_nothing_behind() {
        let mut sessions = opened();
        sessions.applied(once(1, 1), &put(1), Revision(1));
        assert!(is_fresh(&mut sessions, once(u64::MAX, u64::MAX)));
        let Standing::Answered(Err(_)) = sessions.standing(once(5, 5)) else {
            panic!("all below was acknowledged");
        };
    }

    #[test]
    fn outcomes_that_are_too_large_are_known_as_applied() {
        let mut sessions = opened();
        let large = Err(Failure::new(ErrorCode::TooLarge, "x".repeat(70 << 10)));
        assert!(is_fresh(&mut sessions, once(1, 1)));
        sessions.applied(once(1, 1), &large, Revision(9));
        let Standing::Answered(Err(failure)) = sessions.standing(once(1, 1)) else {
            panic!("1 was applied");
        };
        assert_eq!(failure.code, ErrorCode::OutcomeUnknown);
        assert!(failure.message.contains("revision 9"), "{failure}");
    }

    #[test]
    fn a_session_comes_back_from_its_row() {
        let mut sessions = opened();
        let refused = Err(Failure::new(ErrorCode::LeaseNotFound, "none"));
        sessions.applied(once(2, 1), &refused, Revision(1));
        sessions.applied(once(4, 1), &put(4), Revision(4));
        let rows = sessions.take_changed();
        let value = rows[0].value.as_ref().expect("it is there");
        let read = Session::decode(value).expect("just encoded");
        assert_eq!(Some(&read), sessions.by_id.get(&ID));
        assert_eq!(read.encode(), value);
        let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "010a64010202070 90d046e6f6e650402 0004".replace(' ', ""));
        for length in 0..value.len() {
            assert!(Session::decode(&value[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_write_moves_the_deadline_and_its_hint_follows_when_it_is_due() {
        let mut sessions = opened();
        sessions.renew(ID, 500);
        assert_eq!(sessions.next_us(), Some(100));
        assert_eq!(sessions.first_due(200), None);
        assert_eq!(sessions.next_us(), Some(500));
        assert_eq!(sessions.first_due(500), Some((500, ID)));
        assert!(sessions.end(ID) && !sessions.end(ID));
        assert_eq!(sessions.next_us(), None);
    }
}

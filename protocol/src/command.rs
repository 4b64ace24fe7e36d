//! What the state machine executes. Encoded once, by the client library or the listener; the same bytes then go into the
//! log, to the followers and into their logs.

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::wire::append;
use crate::{ErrorCode, Failure, LeaseId, Limits, MAX_TXN_KEYS, Once, Revision, SessionId, Txn};

/// Longest `Idempotency-Key`, bytes.
pub const MAX_IDEMPOTENCY_KEY_BYTES: usize = 255;

/// Longest time to live: a hundred years, so that no sum with a clock can overflow. Milliseconds.
pub const MAX_TTL_MS: u64 = 100 * 365 * 86_400_000;

/// More than a command's encoding needs beside key and value, bytes.
const COMMAND_OVERHEAD_BYTES: usize = 48;

/// When a write may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Condition {
    /// Always.
    Always,
    /// Only if the key does not exist (`if_revision: 0` at the HTTP door).
    Absent,
    /// Only if the key exists and was last changed by this revision.
    ModRevision(Revision),
}

/// One command, borrowing from its encoding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command<'a> {
    /// Sets a key.
    Put {
        /// 1 to [`Limits::key_bytes`] bytes.
        #[serde(with = "serde_bytes")]
        key: &'a [u8],
        /// Up to [`Limits::value_bytes`] bytes.
        #[serde(with = "serde_bytes")]
        value: &'a [u8],
        /// When it may happen.
        condition: Condition,
        /// Deleted by itself so many milliseconds of log time after this write; 1 to [`MAX_TTL_MS`].
        ttl_ms: Option<u64>,
    },
    /// Deletes a key.
    Delete {
        /// The key.
        #[serde(with = "serde_bytes")]
        key: &'a [u8],
        /// When it may happen.
        condition: Condition,
    },
    /// Carries log time forward while keys with a TTL exist; proposed by the leader alone.
    Tick,
    /// History before `oldest` is given up: from here on all nodes answer alike what is too old to be read. Proposed by the
    /// leader alone.
    KeepHistoryFrom {
        /// The oldest revision that can still be read.
        oldest: Revision,
    },
    /// Several operations at once, under conditions.
    Txn(#[serde(borrow)] Txn<'a>),
    /// Executes a command unless one was executed under the same key lately; then answers what that one answered.
    Once {
        /// What the client named the request by (HTTP `Idempotency-Key`), 1 to [`MAX_IDEMPOTENCY_KEY_BYTES`] bytes.
        #[serde(with = "serde_bytes")]
        idempotency_key: &'a [u8],
        /// The command, encoded; not another of this kind.
        #[serde(with = "serde_bytes")]
        command: &'a [u8],
    },
    /// Makes a lease.
    GrantLease {
        /// `None`: the store chooses. Clients choose below [`LeaseId::FIRST_OF_SERVER`].
        id: Option<LeaseId>,
        /// How long it lives without renewal, milliseconds of log time; 1 to [`MAX_TTL_MS`].
        ttl_ms: u64,
    },
    /// Lets leases live for their whole time again, from now on.
    RenewLeases {
        /// Which; those that are not there are passed over.
        ids: Vec<LeaseId>,
    },
    /// Ends a lease and deletes the keys that hang on it, at one revision.
    RevokeLease {
        /// Which.
        id: LeaseId,
    },
    /// Opens a session, within which a write that is sent again is applied once.
    OpenSession {
        /// How long it lives without a write or renewal, milliseconds of log time; 1 to [`MAX_TTL_MS`].
        ttl_ms: u64,
    },
    /// Lets a session live for its whole time again.
    RenewSession {
        /// Which.
        session: SessionId,
    },
    /// Ends a session.
    CloseSession {
        /// Which.
        session: SessionId,
    },
    /// Every replica hashes its stored records from a key on, as they are as of this entry, and the hashes are compared. It
    /// changes nothing; proposed by the leader alone. The bounds stand here so that replicas of any version keep to the same.
    Scrub {
        /// The first key; empty: the first of all.
        #[serde(with = "serde_bytes")]
        from: &'a [u8],
        /// At most so many keys.
        max_keys: u32,
        /// At most so many bytes of keys and values, but for a single record.
        max_bytes: u32,
    },
}

/// A command that was decoded and checked against the limits: the only form in which one can be proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedCommand {
    encoded: Bytes,
    once: Option<Once>,
}

impl CheckedCommand {
    /// Decodes and checks what came from a client, and keeps those bytes.
    ///
    /// # Errors
    /// `bad_request` if it does not decode, is for the leader alone, or asks for what can not be; `too_large` if it is over
    /// a limit.
    pub fn from_client(encoded: Bytes, limits: &Limits) -> Result<CheckedCommand, Failure> {
        limits.check_request(&encoded)?;
        let command = decode_command(&encoded).map_err(|error| {
            Failure::new(
                ErrorCode::BadRequest,
                format!("the command is not valid: {error}"),
            )
        })?;
        check(&command, limits)?;
        Ok(CheckedCommand { encoded, once: None })
    }

    /// Checks and encodes.
    ///
    /// # Errors
    /// As [`CheckedCommand::from_client`].
    pub fn new(command: &Command<'_>, limits: &Limits) -> Result<CheckedCommand, Failure> {
        check(command, limits)?;
        let checked = CheckedCommand {
            encoded: encode(command),
            once: None,
        };
        limits.check_request(&checked.encoded)?;
        Ok(checked)
    }

    /// The leader's own [`Command::Tick`].
    #[must_use]
    pub fn tick() -> CheckedCommand {
        CheckedCommand {
            encoded: encode(&Command::Tick),
            once: None,
        }
    }

    /// The leader's own [`Command::KeepHistoryFrom`].
    #[must_use]
    pub fn keep_history_from(oldest: Revision) -> CheckedCommand {
        CheckedCommand {
            encoded: encode(&Command::KeepHistoryFrom { oldest }),
            once: None,
        }
    }

    /// The leader's own [`Command::Scrub`].
    #[must_use]
    pub fn scrub(from: &[u8], max_keys: u32, max_bytes: u32) -> CheckedCommand {
        let command = Command::Scrub {
            from,
            max_keys,
            max_bytes,
        };
        CheckedCommand {
            encoded: encode(&command),
            once: None,
        }
    }

    /// Does it ask for more room on the disk, rather than give some back? Such commands are refused when there is none.
    #[must_use]
    pub fn grows_the_store(&self) -> bool {
        decode_command(&self.encoded).is_ok_and(|command| grows(&command))
    }

    /// The same, as one write of a session: sent again, it is applied once.
    #[must_use]
    pub fn within(mut self, once: Once) -> CheckedCommand {
        self.once = Some(once);
        self
    }

    /// Which write of a session it is; `None`: it is in no session.
    #[must_use]
    pub fn once(&self) -> Option<Once> {
        self.once
    }

    /// The encoding that goes into the log.
    #[must_use]
    pub fn encoded(&self) -> &Bytes {
        &self.encoded
    }
}

fn encode(command: &Command<'_>) -> Bytes {
    let raw_bytes = match command {
        Command::Put { key, value, .. } => key.len() + value.len(),
        Command::Delete { key, .. } => key.len(),
        Command::Scrub { from, .. } => from.len(),
        Command::Once {
            idempotency_key,
            command,
        } => idempotency_key.len() + command.len(),
        _ => 0,
    };
    let mut out = BytesMut::with_capacity(raw_bytes + COMMAND_OVERHEAD_BYTES);
    append(&mut out, command);
    out.freeze()
}

fn grows(command: &Command<'_>) -> bool {
    match command {
        Command::Put { .. } | Command::GrantLease { .. } | Command::OpenSession { .. } => true,
        Command::Txn(txn) => txn.has_puts(),
        Command::Once { command, .. } => decode_command(command).is_ok_and(|command| grows(&command)),
        Command::Delete { .. }
        | Command::Tick
        | Command::KeepHistoryFrom { .. }
        | Command::RenewLeases { .. }
        | Command::RevokeLease { .. }
        | Command::RenewSession { .. }
        | Command::CloseSession { .. }
        | Command::Scrub { .. } => false,
    }
}

/// What a client may ask for.
fn check(command: &Command<'_>, limits: &Limits) -> Result<(), Failure> {
    let refused = |message: &str| Err(Failure::new(ErrorCode::BadRequest, message));
    match command {
        Command::Put {
            key, value, ttl_ms, ..
        } => {
            limits.check_key(key)?;
            limits.check_value(value)?;
            ttl_ms.map_or(Ok(()), check_ttl)
        }
        Command::Delete { key, .. } => limits.check_key(key),
        Command::Tick => refused("log time is carried forward by the leader alone, not by clients"),
        Command::KeepHistoryFrom { .. } => refused("history is given up by the leader alone, not by clients"),
        Command::Scrub { .. } => refused("replicas are compared by the leader alone, not by clients"),
        Command::Txn(txn) => txn.check(limits),
        Command::Once {
            idempotency_key,
            command,
        } => check_once(idempotency_key, command, limits),
        Command::GrantLease { id: Some(id), .. } if id.0 == 0 || *id >= LeaseId::FIRST_OF_SERVER => {
            refused("the id of a lease is 1 to 2^62 - 1, or left to the server")
        }
        Command::GrantLease { ttl_ms, .. } | Command::OpenSession { ttl_ms } => check_ttl(*ttl_ms),
        Command::RenewLeases { ids } if ids.len() > MAX_TXN_KEYS => Err(Failure::new(
            ErrorCode::TooLarge,
            format!(
                "{} leases are to be renewed; one request renews at most {MAX_TXN_KEYS}",
                ids.len()
            ),
        )),
        Command::RenewLeases { .. }
        | Command::RevokeLease { .. }
        | Command::RenewSession { .. }
        | Command::CloseSession { .. } => Ok(()),
    }
}

/// How long a key, lease or session may live.
pub(crate) fn check_ttl(ttl_ms: u64) -> Result<(), Failure> {
    let message = match ttl_ms {
        0 => "the time to live is 0; it must be at least one millisecond",
        1..=MAX_TTL_MS => return Ok(()),
        _ => "the time to live is more than a hundred years; leave it out for what is to stay",
    };
    Err(Failure::new(ErrorCode::BadRequest, message))
}

fn check_once(idempotency_key: &[u8], command: &[u8], limits: &Limits) -> Result<(), Failure> {
    let refused = |message: String| Err(Failure::new(ErrorCode::BadRequest, message));
    if !(1..=MAX_IDEMPOTENCY_KEY_BYTES).contains(&idempotency_key.len()) {
        return refused(format!(
            "the idempotency key has {} bytes; it has 1 to {MAX_IDEMPOTENCY_KEY_BYTES}",
            idempotency_key.len()
        ));
    }
    match decode_command(command) {
        Ok(Command::Once { .. }) => {
            refused("a command is named by one idempotency key, not by two".to_owned())
        }
        Ok(command) => check(&command, limits),
        Err(error) => refused(format!("the command is not valid: {error}")),
    }
}

/// Why bytes are not a command.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommandError {
    /// They do not decode.
    #[error("it does not decode ({0})")]
    Malformed(#[from] postcard::Error),
    /// More bytes than the command has.
    #[error("{count} bytes are left over behind it")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
}

/// Decodes a command that was checked when it was proposed (from the log). It borrows from its encoding.
///
/// # Errors
/// If the bytes are not exactly one command of this version.
pub fn decode_command(encoded: &[u8]) -> Result<Command<'_>, CommandError> {
    let (command, rest) = postcard::take_from_bytes(encoded)?;
    match rest.len() {
        0 => Ok(command),
        count => Err(CommandError::TrailingBytes { count }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        key_bytes: 4,
        value_bytes: 8,
        request_bytes: 64,
    };

    fn put<'a>(key: &'a [u8], value: &'a [u8], ttl_ms: Option<u64>) -> Command<'a> {
        Command::Put {
            key,
            value,
            condition: Condition::Always,
            ttl_ms,
        }
    }

    /// What both ways to check a command say of it.
    fn refusal(command: &Command<'_>) -> (ErrorCode, String) {
        let new = CheckedCommand::new(command, &LIMITS).expect_err("refused when made");
        let received =
            CheckedCommand::from_client(encode(command), &LIMITS).expect_err("refused when received");
        assert_eq!(new, received);
        (new.code, new.message)
    }

    #[test]
    fn commands_at_the_limits_are_taken() {
        for command in [
            put(b"k", b"", None),
            put(b"kkkk", b"vvvvvvvv", Some(1)),
            put(b"k", b"v", Some(MAX_TTL_MS)),
        ] {
            let checked = CheckedCommand::new(&command, &LIMITS).unwrap();
            assert_eq!(decode_command(checked.encoded()).unwrap(), command);
        }
    }

    #[test]
    fn what_a_client_sent_is_kept_and_not_copied() {
        let sent = encode(&put(b"k", b"v", None));
        let checked = CheckedCommand::from_client(sent.clone(), &LIMITS).unwrap();
        assert_eq!(checked.encoded().as_ptr_range(), sent.as_ptr_range());
    }

    #[test]
    fn an_empty_key_is_a_bad_request() {
        for command in [
            put(b"", b"v", None),
            Command::Delete {
                key: b"",
                condition: Condition::Always,
            },
        ] {
            assert_eq!(refusal(&command).0, ErrorCode::BadRequest);
        }
    }

    #[test]
    fn an_over_long_key_or_value_is_too_large_and_the_sentence_has_the_numbers() {
        let (code, message) = refusal(&put(b"kkkkk", b"v", None));
        assert_eq!(
            (code, message.as_str()),
            (ErrorCode::TooLarge, "the key has 5 bytes, the limit is 4 bytes")
        );
        let (code, message) = refusal(&put(b"k", b"vvvvvvvvv", None));
        assert_eq!(
            (code, message.as_str()),
            (ErrorCode::TooLarge, "the value has 9 bytes, the limit is 8 bytes")
        );
    }

    #[test]
    fn a_request_over_its_limit_is_too_large_though_key_and_value_are_not() {
        let limits = Limits {
            request_bytes: 5,
            ..LIMITS
        };
        let command = put(b"k", b"vvvv", None);
        let new = CheckedCommand::new(&command, &limits).unwrap_err();
        let received = CheckedCommand::from_client(encode(&command), &limits).unwrap_err();
        assert_eq!(
            (new.code, received.code),
            (ErrorCode::TooLarge, ErrorCode::TooLarge)
        );
    }

    #[test]
    fn a_time_to_live_of_nothing_or_of_more_than_a_hundred_years_is_a_bad_request() {
        for ttl_ms in [0, MAX_TTL_MS + 1] {
            assert_eq!(refusal(&put(b"k", b"v", Some(ttl_ms))).0, ErrorCode::BadRequest);
        }
    }

    #[test]
    fn what_is_kept_of_history_is_the_leaders_alone() {
        let command = Command::KeepHistoryFrom { oldest: Revision(7) };
        assert_eq!(refusal(&command).0, ErrorCode::BadRequest);
        let checked = CheckedCommand::keep_history_from(Revision(7));
        assert_eq!(decode_command(checked.encoded()), Ok(command));
    }

    #[test]
    fn scrubs_are_the_leaders_alone() {
        let command = Command::Scrub {
            from: b"k",
            max_keys: 7,
            max_bytes: 9,
        };
        assert_eq!(refusal(&command).0, ErrorCode::BadRequest);
        let checked = CheckedCommand::scrub(b"k", 7, 9);
        assert_eq!(decode_command(checked.encoded()), Ok(command));
    }

    #[test]
    fn a_command_under_an_idempotency_key_is_checked_as_the_command_itself() {
        let under = |idempotency_key: &[u8], command: &Command<'_>| {
            let command = encode(command);
            refusal(&Command::Once {
                idempotency_key,
                command: &command,
            })
        };
        assert_eq!(under(b"", &put(b"k", b"v", None)).0, ErrorCode::BadRequest);
        assert_eq!(under(b"i", &put(b"", b"v", None)).0, ErrorCode::BadRequest);
        assert_eq!(under(b"i", &put(b"kkkkk", b"v", None)).0, ErrorCode::TooLarge);
        assert_eq!(under(b"i", &Command::Tick).0, ErrorCode::BadRequest);
        let inner = encode(&put(b"k", b"v", None));
        let once = Command::Once {
            idempotency_key: b"i",
            command: &inner,
        };
        assert!(CheckedCommand::new(&once, &LIMITS).is_ok());
        assert_eq!(under(b"j", &once).0, ErrorCode::BadRequest);
    }

    #[test]
    fn clients_choose_ids_of_leases_below_those_of_the_server() {
        let grant = |id| Command::GrantLease {
            id: Some(LeaseId(id)),
            ttl_ms: 1,
        };
        for id in [0, LeaseId::FIRST_OF_SERVER.0] {
            assert_eq!(refusal(&grant(id)).0, ErrorCode::BadRequest);
        }
        assert!(CheckedCommand::new(&grant(LeaseId::FIRST_OF_SERVER.0 - 1), &LIMITS).is_ok());
        for command in [
            Command::GrantLease { id: None, ttl_ms: 0 },
            Command::OpenSession { ttl_ms: 0 },
        ] {
            assert_eq!(refusal(&command).0, ErrorCode::BadRequest);
        }
    }

    #[test]
    fn one_request_renews_so_many_leases_and_no_more() {
        let limits = Limits::default();
        let renew = |count| Command::RenewLeases {
            ids: vec![LeaseId(1); count],
        };
        assert!(CheckedCommand::new(&renew(MAX_TXN_KEYS), &limits).is_ok());
        let refused = CheckedCommand::new(&renew(MAX_TXN_KEYS + 1), &limits).unwrap_err();
        assert_eq!(refused.code, ErrorCode::TooLarge);
    }

    #[test]
    fn a_tick_is_the_leaders_alone() {
        assert_eq!(refusal(&Command::Tick).0, ErrorCode::BadRequest);
        assert_eq!(
            decode_command(CheckedCommand::tick().encoded()),
            Ok(Command::Tick)
        );
    }

    #[test]
    fn bytes_that_are_not_exactly_one_command_are_a_bad_request() {
        let whole = encode(&put(b"k", b"v", None));
        let mut longer = whole.to_vec();
        longer.push(0);
        assert_eq!(
            decode_command(&longer),
            Err(CommandError::TrailingBytes { count: 1 })
        );
        for bytes in [
            longer,
            whole[..whole.len() - 1].to_vec(),
            Vec::new(),
            vec![0xff; 9],
        ] {
            let failure = CheckedCommand::from_client(bytes.into(), &LIMITS).unwrap_err();
            assert_eq!(failure.code, ErrorCode::BadRequest);
        }
    }
}

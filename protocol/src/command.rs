//! What the state machine executes. Encoded once, by the client library or the listener; the same bytes then go into the
//! log, to the followers and into their logs.

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::wire::append;
use crate::{ErrorCode, Failure, Limits, Revision};

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
        /// Deleted by itself so many milliseconds of log time after this write; at least 1.
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
}

/// A command that was decoded and checked against the limits: the only form in which one can be proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedCommand {
    encoded: Bytes,
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
        Ok(CheckedCommand { encoded })
    }

    /// Checks and encodes.
    ///
    /// # Errors
    /// As [`CheckedCommand::from_client`].
    pub fn new(command: &Command<'_>, limits: &Limits) -> Result<CheckedCommand, Failure> {
        check(command, limits)?;
        let checked = CheckedCommand {
            encoded: encode(command),
        };
        limits.check_request(&checked.encoded)?;
        Ok(checked)
    }

    /// The leader's own [`Command::Tick`].
    #[must_use]
    pub fn tick() -> CheckedCommand {
        CheckedCommand {
            encoded: encode(&Command::Tick),
        }
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
        Command::Tick => 0,
    };
    let mut out = BytesMut::with_capacity(raw_bytes + COMMAND_OVERHEAD_BYTES);
    append(&mut out, command);
    out.freeze()
}

/// What a client may ask for.
fn check(command: &Command<'_>, limits: &Limits) -> Result<(), Failure> {
    let refused = |message: &str| Err(Failure::new(ErrorCode::BadRequest, message));
    match *command {
        Command::Put {
            key, value, ttl_ms, ..
        } => {
            limits.check_key(key)?;
            limits.check_value(value)?;
            match ttl_ms {
                Some(0) => refused("the time to live is 0; it must be at least one millisecond"),
                Some(_) | None => Ok(()),
            }
        }
        Command::Delete { key, .. } => limits.check_key(key),
        Command::Tick => refused("log time is carried forward by the leader alone, not by clients"),
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

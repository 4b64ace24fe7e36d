//! Ranges of keys, as they are typed.

use std::ffi::OsString;

use bytes::Bytes;
use clap::Args;
use raftkv_client::KeySpan;

use crate::outcome::Trouble;
use crate::output;

/// `--prefix`, or `--from` and `--to`.
#[derive(Args, Debug)]
pub(crate) struct SpanArguments {
    /// All keys that begin with this; "" is all there are
    #[arg(long, value_name = "PREFIX", conflicts_with_all = ["from", "to"])]
    pub(crate) prefix: Option<OsString>,
    /// Keys from this one on
    #[arg(long, value_name = "KEY")]
    pub(crate) from: Option<OsString>,
    /// Keys before this one
    #[arg(long, value_name = "KEY")]
    pub(crate) to: Option<OsString>,
}

impl SpanArguments {
    /// The range that they name.
    pub(crate) fn span(&self) -> Result<KeySpan, Trouble> {
        let bytes = |typed: &OsString| output::argument_bytes(typed);
        if let Some(prefix) = &self.prefix {
            return Ok(KeySpan::prefix(&bytes(prefix)));
        }
        let span = KeySpan {
            from: self.from.as_ref().map_or_else(Bytes::new, bytes),
            to: self.to.as_ref().map(bytes),
        };
        match span.is_empty() {
            true => Err(Trouble::NothingBetween),
            false => Ok(span),
        }
    }
}

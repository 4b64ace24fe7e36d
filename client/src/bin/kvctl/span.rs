//! Ranges of keys, as they are typed.

use std::ffi::OsString;

use bytes::Bytes;
use raftkv_client::KeySpan;

use crate::outcome::Trouble;
use crate::output;

/// The range that `--prefix`, or `--from` and `--to`, name.
pub(crate) fn span(
    prefix: Option<&OsString>,
    from: Option<&OsString>,
    to: Option<&OsString>,
) -> Result<KeySpan, Trouble> {
    let bytes = |typed: &OsString| output::argument_bytes(typed);
    if let Some(prefix) = prefix {
        return Ok(KeySpan::prefix(&bytes(prefix)));
    }
    let span = KeySpan {
        from: from.map_or_else(Bytes::new, bytes),
        to: to.map(bytes),
    };
    match span.is_empty() {
        true => Err(Trouble::NothingBetween),
        false => Ok(span),
    }
}

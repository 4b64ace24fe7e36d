//! Answers in RESP2, as far as our commands bring them.

use bytes::{Bytes, BytesMut};

use super::RedisError;

/// One answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// `+OK` and its like.
    Simple,
    /// `-ERR ...`
    Error,
    Integer(i64),
    /// `None`: nothing there.
    Bulk(Option<Bytes>),
}

/// Takes the first answer out of the buffer, once all of it is there.
pub(super) fn take_reply(buffer: &mut BytesMut) -> Result<Option<Reply>, RedisError> {
    let Some(line_end) = buffer.iter().position(|byte| *byte == b'\n') else {
        return Ok(None);
    };
    let line_bytes = line_end + 1;
    let line = buffer[..line_end]
        .strip_suffix(b"\r")
        .unwrap_or(&buffer[..line_end]);
    let reply = match line.split_first() {
        Some((b'+', _)) => Reply::Simple,
        Some((b'-', _)) => Reply::Error,
        Some((b':', number)) => Reply::Integer(parse(number)?),
        Some((b'$', b"-1")) => Reply::Bulk(None),
        Some((b'$', length)) => {
            let length = usize::try_from(parse(length)?).map_err(|_| RedisError::NotANumber)?;
            return Ok(take_bulk(buffer, line_bytes, length));
        }
        other => return Err(RedisError::NotResp(other.map_or(b'\n', |(mark, _)| *mark))),
    };
    drop(buffer.split_to(line_bytes));
    Ok(Some(reply))
}

fn take_bulk(buffer: &mut BytesMut, line_bytes: usize, length: usize) -> Option<Reply> {
    const LINE_END_BYTES: usize = 2;
    if buffer.len() < line_bytes + length + LINE_END_BYTES {
        return None;
    }
    drop(buffer.split_to(line_bytes));
    let value = buffer.split_to(length).freeze();
    drop(buffer.split_to(LINE_END_BYTES));
    Some(Reply::Bulk(Some(value)))
}

fn parse(number: &[u8]) -> Result<i64, RedisError> {
    let text = std::str::from_utf8(number).map_err(|_| RedisError::NotANumber)?;
    text.parse().map_err(|_| RedisError::NotANumber)
}

//! HTTP/1.1 messages, as far as our API needs them.

use bytes::{BufMut, Bytes, BytesMut};

use super::HttpError;

/// Our API sends five headers of its own and the usual three.
const MAX_HEADERS: usize = 32;

/// A whole answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HttpAnswer {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

/// `GET path` followed by `rest`, which must not need percent-encoding.
pub(super) fn write_get(out: &mut BytesMut, host: &str, path: &str, rest: &[u8]) {
    write_bodiless(out, b"GET ", host, path, rest);
}

/// `DELETE` of the same.
pub(super) fn write_delete(out: &mut BytesMut, host: &str, path: &str, rest: &[u8]) {
    write_bodiless(out, b"DELETE ", host, path, rest);
}

fn write_bodiless(out: &mut BytesMut, method: &[u8], host: &str, path: &str, rest: &[u8]) {
    let host = host.as_bytes();
    for part in [
        method,
        path.as_bytes(),
        rest,
        b" HTTP/1.1\r\nHost: ",
        host,
        b"\r\n\r\n",
    ] {
        out.put_slice(part);
    }
}

/// `POST path` with a JSON body.
pub(super) fn write_post(out: &mut BytesMut, host: &str, path: &str, body: &[u8]) {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    out.put_slice(head.as_bytes());
    out.put_slice(body);
}

/// Takes the first answer out of the buffer, once all of it is there.
pub(super) fn take_answer(buffer: &mut BytesMut) -> Result<Option<HttpAnswer>, HttpError> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head_bytes) = response.parse(buffer)? else {
        return Ok(None);
    };
    let is_length = |header: &&httparse::Header<'_>| header.name.eq_ignore_ascii_case("content-length");
    let length = response.headers.iter().find(is_length);
    let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok());
    let body_bytes: usize = length.ok_or(HttpError::NoLength)?;
    let status = response.code.unwrap_or_default();
    if buffer.len() - head_bytes < body_bytes {
        return Ok(None);
    }
    drop(buffer.split_to(head_bytes));
    let body = buffer.split_to(body_bytes).freeze();
    Ok(Some(HttpAnswer { status, body }))
}

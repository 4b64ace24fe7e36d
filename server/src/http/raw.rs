//! For whoever speaks HTTP to a port on which no HTTP server listens.

/// A whole answer: 400, with this sentence for people. The sentence needs no escaping in JSON.
pub(crate) fn bad_request(sentence: &str) -> String {
    let body = format!("{{\"error\":\"{sentence}\",\"code\":\"bad_request\"}}");
    let length = body.len();
    format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

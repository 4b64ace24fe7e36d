//! HTTP connections within TLS.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::raw::bad_request;
use crate::transport::Tls;

/// Both sides have agreed on keys within this time, or the connection is closed.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// The first byte of whoever begins TLS (RFC 8446, 5.1: a record that holds a handshake).
const HANDSHAKE_RECORD: u8 = 0x16;

/// Whoever speaks plain HTTP is told where it goes instead: curl and browsers would show a broken connection.
const PLAIN_REFUSED: &str = "this port speaks HTTP within TLS: write https://";

/// Agrees on keys with a client, and judges its certificate.
///
/// # Errors
/// When it has none that is accepted, takes too long, or speaks plain HTTP.
pub(super) async fn accept(stream: TcpStream, tls: &Tls) -> io::Result<TlsStream<TcpStream>> {
    let accept = async {
        refuse_plain(&stream).await?;
        TlsAcceptor::from(tls.renewed().acceptor()).accept(stream).await
    };
    let accepted = tokio::time::timeout(HANDSHAKE_TIMEOUT, accept).await;
    accepted.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn refuse_plain(stream: &TcpStream) -> io::Result<()> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 || first[0] == HANDSHAKE_RECORD {
        return Ok(());
    }
    // Closed with something unread, a connection is reset, and its client may never see the answer.
    while stream.try_read(&mut [0; 4096]).is_ok_and(|count| count > 0) {}
    stream.try_write(bad_request(PLAIN_REFUSED).as_bytes())?;
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        "plain HTTP where TLS is spoken",
    ))
}

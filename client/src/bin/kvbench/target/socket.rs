//! A connection with a buffer each way, for protocols that are small enough to be spoken here.

use std::io;

use bytes::BytesMut;
use raftkv_tls::Stream;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::CONNECT_TIMEOUT;

/// Room offered to each read: some two hundred answers with values of 256 bytes.
const READ_BYTES: usize = 64 << 10;

/// The session encodes into `outgoing` and takes answers out of `incoming`; here bytes are moved.
#[derive(Debug)]
pub(super) struct Socket {
    stream: Stream,
    pub(super) incoming: BytesMut,
    pub(super) outgoing: BytesMut,
}

/// Connects in time; small requests are sent at once.
pub(super) async fn connect(address: &str) -> io::Result<TcpStream> {
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address));
    let stream = connecting.await.map_err(|_| io::ErrorKind::TimedOut)??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Socket {
    pub(super) async fn connect(address: &str) -> io::Result<Socket> {
        Ok(Socket {
            stream: connect(address).await?.into(),
            incoming: BytesMut::new(),
            outgoing: BytesMut::new(),
        })
    }

    /// Writes what the system takes at once; [`Socket::drive`] writes the rest.
    pub(super) fn send(&mut self) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            match self.stream.try_write(&self.outgoing) {
                Ok(written) => drop(self.outgoing.split_to(written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits until bytes can be moved, and moves them. Cancelling it loses nothing.
    pub(super) async fn drive(&mut self) -> io::Result<()> {
        let interest = match self.outgoing.is_empty() {
            true => Interest::READABLE,
            false => Interest::READABLE | Interest::WRITABLE,
        };
        let ready = self.stream.tcp().ready(interest).await?;
        if ready.is_writable() {
            self.send()?;
        }
        if ready.is_readable() {
            self.incoming.reserve(READ_BYTES);
            match self.stream.try_read(&mut self.incoming) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

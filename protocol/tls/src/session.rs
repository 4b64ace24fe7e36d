//! One TLS session without its socket: what arrived goes in, what is to be sent comes out.

use std::io::{self, Read, Write};

use bytes::{Buf, BytesMut};
use rustls::Connection;
use rustls::pki_types::CertificateDer;

use crate::ReadSize;
use crate::error::explain;

/// Most that one read asks for.
const LARGEST_READ_BYTES: usize = 64 << 10;

/// Most that is encrypted ahead of what the socket takes, bytes.
const MOST_UNSENT_BYTES: usize = 256 << 10;

/// A session's state.
#[derive(Debug)]
pub(crate) struct Session {
    tls: Connection,
    /// As it arrived; taken in at once, so empty between two reads.
    arrived: BytesMut,
    read_size: ReadSize,
    /// Came with the handshake's last message.
    early: BytesMut,
    has_ended: bool,
}

impl Session {
    pub(crate) fn new(mut tls: Connection) -> Session {
        tls.set_buffer_limit(Some(MOST_UNSENT_BYTES));
        Session {
            tls,
            arrived: BytesMut::new(),
            read_size: ReadSize::up_to(LARGEST_READ_BYTES),
            early: BytesMut::new(),
            has_ended: false,
        }
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    pub(crate) fn wants_write(&self) -> bool {
        self.tls.wants_write()
    }

    /// Has the other side said that nothing more comes?
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// The other side's certificate, and those between it and its authority.
    pub(crate) fn peer_certificates(&self) -> Option<Vec<CertificateDer<'static>>> {
        self.tls.peer_certificates().map(<[_]>::to_vec)
    }

    /// Has something come with the handshake?
    pub(crate) fn has_early(&self) -> bool {
        !self.early.is_empty()
    }

    /// Takes what came with the handshake.
    pub(crate) fn take_early(&mut self, plain: &mut BytesMut) {
        plain.unsplit(self.early.split());
    }

    /// Lets `read` read once, from the socket; how much it brought.
    pub(crate) fn receive(
        &mut self,
        read: impl FnOnce(&mut BytesMut) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.arrived.reserve(self.read_size.bytes());
        let count = read(&mut self.arrived)?;
        self.read_size.took(count);
        Ok(count)
    }

    /// Decrypts what has arrived, in the handshake.
    pub(crate) fn shake_hands(&mut self) -> Result<(), rustls::Error> {
        let mut early = std::mem::take(&mut self.early);
        let outcome = self.take_in(&mut early);
        self.early = early;
        outcome
    }

    /// Decrypts what has arrived, up to the last whole record.
    pub(crate) fn decrypt(&mut self, plain: &mut BytesMut) -> io::Result<()> {
        self.take_in(plain)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, explain(&error)))
    }

    fn take_in(&mut self, plain: &mut BytesMut) -> Result<(), rustls::Error> {
        while !self.arrived.is_empty() && !self.has_ended {
            let taken = self
                .tls
                .read_tls(&mut &self.arrived[..])
                .map_err(|error| rustls::Error::General(error.to_string()))?;
            self.arrived.advance(taken);
            let state = self.tls.process_new_packets()?;
            let count = state.plaintext_bytes_to_read();
            if count > 0 {
                let start = plain.len();
                plain.resize(start + count, 0);
                self.tls
                    .reader()
                    .read_exact(&mut plain[start..])
                    .map_err(|error| rustls::Error::General(error.to_string()))?;
            }
            self.has_ended = state.peer_has_closed();
        }
        Ok(())
    }

    /// Encrypts as much of `plain` as there is room for.
    pub(crate) fn encrypt(&mut self, plain: &[u8]) -> io::Result<usize> {
        self.tls.writer().write(plain)
    }

    /// Writes what was encrypted, as far as `out` takes it.
    pub(crate) fn write_to(&mut self, out: &mut dyn Write) -> io::Result<()> {
        while self.tls.wants_write() {
            if self.tls.write_tls(out)? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }
}

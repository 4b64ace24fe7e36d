//! A connection that is plain or within TLS. Reading and writing never wait: that is said by [`Stream::readable`] and
//! [`Stream::writable`], as with the socket itself.

use std::io::{self, IoSlice, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::HandshakeError;
use crate::session::Session;

/// What a flush left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// Nothing.
    All,
    /// The socket takes no more for now.
    Part,
}

/// A connection.
#[derive(Debug)]
pub struct Stream {
    tcp: TcpStream,
    /// `None`: plain. Locked for moments only, and by nobody else: connections belong to one task.
    session: Option<Box<Mutex<Session>>>,
}

impl From<TcpStream> for Stream {
    /// A plain one.
    fn from(tcp: TcpStream) -> Stream {
        Stream { tcp, session: None }
    }
}

impl Stream {
    pub(crate) async fn accept(tcp: TcpStream, config: Arc<ServerConfig>) -> Result<Stream, HandshakeError> {
        let tls = ServerConnection::new(config)?;
        shake_hands(tcp, Session::new(tls.into())).await
    }

    pub(crate) async fn connect(
        tcp: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Stream, HandshakeError> {
        let tls = ClientConnection::new(config, name)?;
        shake_hands(tcp, Session::new(tls.into())).await
    }

    /// The socket, for its settings.
    #[must_use]
    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// What the other side has presented, its own certificate first; `None`: nothing.
    #[must_use]
    pub fn peer_certificates(&self) -> Option<Vec<CertificateDer<'static>>> {
        self.lock()?.peer_certificates()
    }

    /// Waits until something can be read, or reading would tell why not.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn readable(&self) -> io::Result<()> {
        if self.lock().is_some_and(|session| session.has_early()) {
            return Ok(());
        }
        self.tcp.readable().await
    }

    /// Waits until something can be written, or writing would tell why not.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn writable(&self) -> io::Result<()> {
        self.tcp.writable().await
    }

    /// Reads once what is there, and appends it; 0: the other side has closed.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; when the socket fails, or what comes was not encrypted by the other side.
    pub fn try_read(&self, bytes: &mut BytesMut) -> io::Result<usize> {
        let Some(mut session) = self.lock() else {
            return receive(&self.tcp, bytes);
        };
        let before = bytes.len();
        session.take_early(bytes);
        while bytes.len() == before {
            if session.has_ended() {
                return Ok(0);
            }
            if session.receive(|arrived| receive(&self.tcp, arrived))? == 0 {
                return Ok(0);
            }
            let decrypted = session.decrypt(bytes);
            // What TLS itself has to say, such as why it ends the connection.
            let told = self.send(&mut session);
            decrypted?;
            told?;
        }
        Ok(bytes.len() - before)
    }

    /// Waits until something is there, and reads once; 0: the other side has closed.
    ///
    /// # Errors
    /// As [`Stream::try_read`], but `WouldBlock`.
    pub async fn read(&self, bytes: &mut BytesMut) -> io::Result<usize> {
        loop {
            self.readable().await?;
            match self.try_read(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return outcome,
            }
        }
    }

    /// Writes as much as is taken now; what is taken within TLS may still wait, see [`Stream::try_flush`].
    ///
    /// # Errors
    /// `WouldBlock` when nothing is taken; when the socket fails.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let Some(mut session) = self.lock() else {
            return self.tcp.try_write(bytes);
        };
        if self.send(&mut session)? == Flushed::Part {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = session.encrypt(bytes)?;
        self.send(&mut session)?;
        Ok(count)
    }

    /// Writes what was taken and still waits.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn try_flush(&self) -> io::Result<Flushed> {
        match self.lock() {
            None => Ok(Flushed::All),
            Some(mut session) => self.send(&mut session),
        }
    }

    /// Does something wait that was taken?
    #[must_use]
    pub fn has_unsent(&self) -> bool {
        self.lock().is_some_and(|session| session.wants_write())
    }

    /// Writes all of it, and waits for that.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        loop {
            let outcome = match bytes {
                [] => match self.try_flush()? {
                    Flushed::All => return Ok(()),
                    Flushed::Part => Err(io::ErrorKind::WouldBlock.into()),
                },
                bytes => self.try_write(bytes),
            };
            match outcome {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                Err(error) => return Err(error),
            }
        }
    }

    fn lock(&self) -> Option<MutexGuard<'_, Session>> {
        let session = self.session.as_ref()?;
        Some(session.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn send(&self, session: &mut Session) -> io::Result<Flushed> {
        send(&self.tcp, session)
    }
}

async fn shake_hands(tcp: TcpStream, mut session: Session) -> Result<Stream, HandshakeError> {
    loop {
        if send(&tcp, &mut session)? == Flushed::Part {
            tcp.writable().await?;
            continue;
        }
        if !session.is_handshaking() {
            let session = Some(Box::new(Mutex::new(session)));
            return Ok(Stream { tcp, session });
        }
        tcp.readable().await?;
        match session.receive(|arrived| receive(&tcp, arrived)) {
            Ok(0) => {
                let closed = "the other side closed the connection instead of agreeing on keys";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, closed).into());
            }
            Ok(_) => session.shake_hands().inspect_err(|_| {
                // The other side is told why, if it still listens.
                let _ = send(&tcp, &mut session);
            })?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reads once. A read that found less than it had room for has taken all there was: the socket is not asked for more before it
/// tells that more came, which spares every second system call.
fn receive(tcp: &TcpStream, bytes: &mut BytesMut) -> io::Result<usize> {
    // Only epoll is known to tell of whatever comes after such a read, be it within the same moment.
    const TELLS_AGAIN: bool = cfg!(target_os = "linux");
    let mut count = 0;
    let read = tcp.try_io(Interest::READABLE, || {
        let room = bytes.capacity() - bytes.len();
        count = tcp.try_read_buf(bytes)?;
        match TELLS_AGAIN && count > 0 && count < room {
            // So the runtime learns that nothing is left. What it has heard from the system meanwhile stays.
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => Ok(()),
        }
    });
    match read {
        Err(_) if count > 0 => Ok(count),
        read => read.map(|()| count),
    }
}

fn send(tcp: &TcpStream, session: &mut Session) -> io::Result<Flushed> {
    match session.write_to(&mut WithoutWaiting(tcp)) {
        Ok(()) => Ok(Flushed::All),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Flushed::Part),
        Err(error) => Err(error),
    }
}

/// A socket that takes what it takes.
struct WithoutWaiting<'a>(&'a TcpStream);

impl Write for WithoutWaiting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(pieces)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as expected"
)]
mod tests {
    use std::future::ready;

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    async fn connected() -> (TcpStream, Stream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let sender = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (sender, Stream::from(listener.accept().await.unwrap().0))
    }

    async fn is_readable_now(stream: &Stream) -> bool {
        tokio::select! {
            biased;
            readable = stream.readable() => readable.is_ok(),
            () = ready(()) => false,
        }
    }

    #[tokio::test]
    async fn a_read_that_took_all_there_was_is_not_followed_by_one_that_finds_nothing() {
        let (mut sender, stream) = connected().await;
        let mut bytes = BytesMut::new();
        for round in 1..=3 {
            sender.write_all(b"four").await.unwrap();
            bytes.reserve(64);
            assert_eq!(stream.read(&mut bytes).await.unwrap(), 4);
            if cfg!(target_os = "linux") {
                assert!(!is_readable_now(&stream).await, "after {round} reads");
            }
        }
        // What filled the room may not have been all.
        sender.write_all(&[7; 100]).await.unwrap();
        let mut full = BytesMut::with_capacity(60);
        assert_eq!(stream.read(&mut full).await.unwrap(), 60);
        assert!(is_readable_now(&stream).await);
        full.reserve(100);
        assert_eq!(stream.read(&mut full).await.unwrap(), 40);
        drop(sender);
        assert_eq!(stream.read(&mut full).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn nothing_that_comes_meanwhile_is_missed() {
        const BYTES: usize = 200_000;
        let (sender, stream) = connected().await;
        let mut sender = sender.into_std().unwrap();
        sender.set_nonblocking(false).unwrap();
        let sending = std::thread::spawn(move || {
            for byte in 0..BYTES {
                sender.write_all(&[byte as u8]).unwrap();
            }
        });
        let mut bytes = BytesMut::new();
        loop {
            bytes.reserve(1 << 10);
            if stream.read(&mut bytes).await.unwrap() == 0 {
                break;
            }
        }
        sending.join().unwrap();
        let expected: Vec<u8> = (0..BYTES).map(|byte| byte as u8).collect();
        assert!(bytes == expected[..], "every byte, in order");
    }
}

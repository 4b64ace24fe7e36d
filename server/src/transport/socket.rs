//! What all our connections share: how they are set up, read in large pieces and written once per batch.

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use raftkv_tls::{Flushed, ReadSize, Stream};
use tokio::net::TcpStream;

/// Most that one read asks for: more makes no system call cheaper.
const LARGEST_READ_BYTES: usize = 256 << 10;

/// A new block is made when less than this part of the next read has room in the old one.
const LEAST_SPARE: usize = 4;

/// A buffer that has grown past this is given back when it is empty: one large frame must not cost its connection
/// megabytes for ever.
const KEPT_BUFFER_BYTES: usize = 1 << 20;

/// Bytes sent to a node that stay unconfirmed so long end the connection: behind a partition, the kernel would otherwise
/// go on waiting for minutes after the network has healed.
const UNCONFIRMED_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection on which nothing is said for so long is asked whether anybody is still there.
const KEEPALIVE_TIME: Duration = Duration::from_secs(30);

/// For every connection: small frames go out at once, and a machine that vanished is noticed in the end.
pub(crate) fn configure(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE_TIME);
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// For connections to nodes, which always read: silence is noticed soon. A client may take its time.
pub(super) fn expect_prompt_reader(stream: &TcpStream) -> io::Result<()> {
    expect_reader(stream, UNCONFIRMED_TIMEOUT)
}

/// Ends the connection when the other side takes nothing of what was sent for so long. Only Linux can do that.
#[cfg_attr(
    not(target_os = "linux"),
    expect(unused_variables, reason = "there is no such option elsewhere")
)]
pub(crate) fn expect_reader(stream: &TcpStream, timeout: Duration) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(timeout))?;
    Ok(())
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// More bytes are in the buffer.
    Some,
    /// The other side has closed.
    End,
}

/// Bytes that arrived and are not decoded yet.
#[derive(Debug)]
pub(crate) struct ReadBuffer {
    pub(crate) bytes: BytesMut,
    next_read: ReadSize,
}

impl ReadBuffer {
    pub(crate) fn new() -> ReadBuffer {
        ReadBuffer {
            bytes: BytesMut::new(),
            next_read: ReadSize::up_to(LARGEST_READ_BYTES),
        }
    }

    /// Makes room for the next read, but not before most of the block is used up. What was decoded from a block keeps all
    /// of it in memory (a follower's tail of the log does so for long), so many small reads must share one: a block each
    /// would hold a hundred times what was sent.
    fn make_room(&mut self) {
        let spare = self.bytes.capacity() - self.bytes.len();
        if spare < self.next_read.bytes() / LEAST_SPARE {
            self.bytes.reserve(self.next_read.bytes());
        }
    }

    /// Waits until something arrives, and takes what is there.
    pub(crate) async fn fill(&mut self, stream: &Stream) -> io::Result<Read> {
        loop {
            stream.readable().await?;
            self.make_room();
            if self.bytes.is_empty() && self.bytes.capacity() > KEPT_BUFFER_BYTES {
                self.bytes = BytesMut::with_capacity(self.next_read.bytes());
            }
            match stream.try_read(&mut self.bytes) {
                Ok(0) => return Ok(Read::End),
                Ok(count) => {
                    self.next_read.took(count);
                    return Ok(Read::Some);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Writes as much of `unsent` as the socket takes now.
pub(crate) fn flush(stream: &Stream, unsent: &mut BytesMut) -> io::Result<Flushed> {
    while !unsent.is_empty() {
        match stream.try_write(unsent) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => unsent.advance(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Flushed::Part),
            Err(error) => return Err(error),
        }
    }
    if unsent.capacity() > KEPT_BUFFER_BYTES {
        *unsent = BytesMut::new();
    } else {
        unsent.clear();
    }
    stream.try_flush()
}

/// Did the other side's process end the connection (rather than a network that fell silent)?
pub(crate) fn is_reset(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes `pieces` small pieces through a buffer that a burst has grown, keeps them all, and says how many blocks they
    /// came in.
    async fn blocks_of(pieces: usize, piece_bytes: usize) -> io::Result<usize> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let sender = TcpStream::connect(listener.local_addr()?).await?;
        let receiver = Stream::from(listener.accept().await?.0);
        let mut buffer = ReadBuffer::new();
        while buffer.next_read.bytes() < LARGEST_READ_BYTES {
            buffer.next_read.took(LARGEST_READ_BYTES);
        }
        let piece = vec![7; piece_bytes];
        let mut kept = Vec::with_capacity(pieces);
        let mut blocks = 0;
        let mut end = std::ptr::null();
        for _ in 0..pieces {
            sender.writable().await?;
            assert_eq!(sender.try_write(&piece)?, piece_bytes);
            while buffer.bytes.len() < piece_bytes {
                assert_eq!(buffer.fill(&receiver).await?, Read::Some);
            }
            let taken = buffer.bytes.split().freeze();
            blocks += usize::from(taken.as_ptr() != end);
            end = taken.as_ptr_range().end;
            kept.push(taken);
        }
        Ok(blocks)
    }

    #[test]
    fn small_pieces_that_are_kept_share_their_blocks() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let blocks = runtime.expect("a runtime").block_on(blocks_of(2_000, 400));
        let least = (2_000 * 400) / LARGEST_READ_BYTES;
        assert!(blocks.expect("loopback works") <= 2 * (least + 1));
    }
}

//! One connection through a proxy.

use std::io;
use std::net::Ipv4Addr;

use bytes::{Bytes, BytesMut};
use raftkv_protocol::NodeId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::rules::{Direction, Flow, Link, Rules};
use super::speaker::{Speaker, speaker};

/// Chunks under way in one direction; beyond, the sender's own window holds it back.
const CHUNKS: usize = 256;

/// Most that is read at once, bytes.
const CHUNK_BYTES: usize = 64 << 10;

/// Most that is read before the first frame must be there, bytes.
const FIRST_FRAME_BYTES: usize = 64 << 10;

/// The node behind a proxy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Destination {
    pub(super) node: usize,
    pub(super) port: u16,
}

/// Carries one accepted connection to its end.
pub(super) async fn carry(mut inbound: TcpStream, destination: Destination, rules: watch::Receiver<Rules>) {
    let Ok((speaker, first)) = first_frame(&mut inbound).await else {
        return;
    };
    let way = Way {
        speaker,
        destination: destination.node,
        rules,
    };
    way.clone().until_open(Heading::There).await;
    let Ok(mut outbound) = TcpStream::connect((Ipv4Addr::LOCALHOST, destination.port)).await else {
        return abort(&inbound);
    };
    // Latency is what the rules say, and nothing more.
    let _ = (inbound.set_nodelay(true), outbound.set_nodelay(true));
    let ended = {
        let (inbound_read, inbound_write) = inbound.split();
        let (outbound_read, outbound_write) = outbound.split();
        let there = pump(inbound_read, outbound_write, first, (way.clone(), Heading::There));
        let back = pump(
            outbound_read,
            inbound_write,
            Bytes::new(),
            (way.clone(), Heading::Back),
        );
        tokio::select! {
            both = async { tokio::try_join!(there, back) } => both.map(drop),
            () = way.until_reset() => Err(io::ErrorKind::ConnectionReset.into()),
        }
    };
    if ended.is_err() {
        abort(&inbound);
        abort(&outbound);
    }
}

/// The end of this connection is a reset, whatever is still under way.
fn abort(stream: &TcpStream) {
    // If it is gone already there is nothing left to reset.
    let _ = stream.set_zero_linger();
}

async fn first_frame(stream: &mut TcpStream) -> io::Result<(Option<NodeId>, Bytes)> {
    let mut buffer = BytesMut::with_capacity(CHUNK_BYTES);
    loop {
        let ended = stream.read_buf(&mut buffer).await? == 0;
        match speaker(&buffer) {
            Speaker::Node(identity) => return Ok((Some(identity), buffer.freeze())),
            Speaker::Other => return Ok((None, buffer.freeze())),
            Speaker::NotSaidYet if ended || buffer.len() > FIRST_FRAME_BYTES => {
                return Ok((None, buffer.freeze()));
            }
            Speaker::NotSaidYet => {}
        }
    }
}

/// Which of a connection's two directions.
#[derive(Clone, Copy, Debug)]
enum Heading {
    /// From the node that connected.
    There,
    /// To it.
    Back,
}

/// Between whom a connection runs.
#[derive(Clone)]
struct Way {
    speaker: Option<NodeId>,
    destination: usize,
    rules: watch::Receiver<Rules>,
}

impl Way {
    /// The link as it is now; nodes may be introduced after they have connected.
    fn link(&self, rules: &Rules, heading: Heading) -> Link {
        let Some(from) = self.speaker.and_then(|identity| rules.node(identity)) else {
            return Link::default();
        };
        let there = Direction {
            from,
            to: self.destination,
        };
        match heading {
            Heading::There => rules.link(there),
            Heading::Back => rules.link(there.back()),
        }
    }

    /// Waits while the direction is cut. The proxy ends with its rules, so a closed channel needs no answer.
    async fn until_open(mut self, heading: Heading) {
        let is_open = |way: &Way, rules: &Rules| way.link(rules, heading).flow == Flow::Open;
        let way = self.clone();
        let _ = self.rules.wait_for(|rules| is_open(&way, rules)).await;
    }

    async fn until_reset(mut self) {
        let way = self.clone();
        let resets =
            |rules: &Rules| way.link(rules, Heading::There).resets + way.link(rules, Heading::Back).resets;
        let before = resets(&self.rules.borrow());
        // More, not other: a node that is introduced later brings its count with it, and one reset too many is harmless.
        let _ = self.rules.wait_for(|rules| resets(rules) > before).await;
    }

    fn delay(&self, heading: Heading) -> std::time::Duration {
        self.link(&self.rules.borrow(), heading).delay
    }
}

/// Carries bytes, and at last their end, one way.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    first: Bytes,
    (way, heading): (Way, Heading),
) -> io::Result<()> {
    let (sender, mut receiver) = mpsc::channel::<(Instant, io::Result<Bytes>)>(CHUNKS);
    let read = async move {
        read_all(&mut from, first, sender).await;
        // What was read is still to be written: only that ends the pump.
        std::future::pending::<()>().await;
    };
    let write = async {
        while let Some((arrived, chunk)) = receiver.recv().await {
            sleep_until(arrived + way.delay(heading)).await;
            way.clone().until_open(heading).await;
            to.write_all(&chunk?).await?;
        }
        way.clone().until_open(heading).await;
        to.shutdown().await
    };
    tokio::select! {
        written = write => written,
        () = read => Ok(()),
    }
}

/// Reads to the end, or to the error that takes its place. Dropping the sender tells the end.
async fn read_all(from: &mut ReadHalf<'_>, first: Bytes, sender: mpsc::Sender<(Instant, io::Result<Bytes>)>) {
    let mut next = Ok(first);
    loop {
        let is_last = next.is_err();
        if sender.send((Instant::now(), next)).await.is_err() || is_last {
            return;
        }
        let mut buffer = BytesMut::with_capacity(CHUNK_BYTES);
        next = match from.read_buf(&mut buffer).await {
            Ok(0) => return,
            Ok(_) => Ok(buffer.freeze()),
            Err(error) => Err(error),
        };
    }
}

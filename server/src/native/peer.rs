//! A connection that another node made: its messages, one way.

use std::io;
use std::rc::Rc;

use raftkv_protocol::{NodeId, PeerMessage, decode_peer};
use tokio::net::TcpStream;

use super::Doorway;
use crate::replica::Event;
use crate::transport::handshake::{self, Incoming};
use crate::transport::socket::{self, Read};

/// Serves until the peer goes away or breaks the protocol. That its process ended the connection is an event for the
/// node; that we closed it because it spoke nonsense is not.
///
/// The hello tells the peer's identity, the event wants its address: that is known from the membership, or from the
/// introduction with which an unformed node begins. A peer whose address never became known ends unnoticed.
pub(super) async fn serve(
    stream: TcpStream,
    incoming: Incoming,
    peer: NodeId,
    doorway: &Rc<Doorway>,
) -> io::Result<()> {
    if let Some(address) = doorway.context.peer_address(peer) {
        doorway.peers.nudge(&address);
    }
    let ended = read_messages(&stream, incoming, doorway).await;
    let is_gone = match &ended {
        Ok(()) => true,
        Err(error) => socket::is_reset(error),
    };
    if let Some(address) = doorway.context.peer_address(peer).filter(|_| is_gone) {
        doorway.inbox.push(Event::PeerReset(address));
    }
    ended
}

async fn read_messages(stream: &TcpStream, mut incoming: Incoming, doorway: &Doorway) -> io::Result<()> {
    loop {
        while let Some(frame) = incoming.next_frame()? {
            let message = decode_peer(frame).map_err(handshake::invalid)?;
            if let PeerMessage::Introduce(introduction) = &message {
                doorway
                    .context
                    .note_peer(introduction.identity, &introduction.address);
                // It is up, so our own connection to it need not wait for its next attempt.
                doorway.peers.nudge(&introduction.address);
            }
            doorway.inbox.push(Event::Peer(message));
        }
        if incoming.buffer.fill(stream).await? == Read::End {
            return Ok(());
        }
    }
}

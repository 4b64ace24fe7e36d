//! A connection that another node made: its messages, one way.

use std::io;
use std::rc::Rc;

use raftkv_protocol::{Address, KnockWay, MembershipMessage, NodeId, PeerMessage, decode_peer};
use raftkv_tls::Stream;

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
    stream: Stream,
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

async fn read_messages(stream: &Stream, mut incoming: Incoming, doorway: &Doorway) -> io::Result<()> {
    loop {
        while let Some(frame) = incoming.next_frame()? {
            let message = decode_peer(frame).map_err(handshake::invalid)?;
            if let Some((identity, address)) = speaker(&message) {
                doorway.context.note_peer(identity, address);
                // It is up, so our own connection to it need not wait for its next attempt.
                doorway.peers.nudge(address);
            }
            doorway.inbox.push(Event::Peer(message));
        }
        if incoming.buffer.fill(stream).await? == Read::End {
            return Ok(());
        }
    }
}

/// Who sent it and from where, if it says so.
fn speaker(message: &PeerMessage) -> Option<(NodeId, &Address)> {
    match message {
        PeerMessage::Introduce(introduction) => Some((introduction.identity, &introduction.address)),
        PeerMessage::Membership(MembershipMessage::Knock(knock)) if knock.way == KnockWay::Direct => {
            Some((knock.introduction.identity, &knock.introduction.address))
        }
        PeerMessage::Membership(MembershipMessage::Present(presence)) => {
            Some((presence.identity, &presence.address))
        }
        PeerMessage::Membership(_) | PeerMessage::Raft(_) | PeerMessage::Found(_) => None,
    }
}

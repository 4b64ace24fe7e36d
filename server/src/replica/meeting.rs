//! How a formed node meets nodes that are not, or not yet, of its cluster.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use raftkv_protocol::{Address, FormedIn, Founding, Introduction, NodeName, PeerMessage};
use raftkv_raft::simulation::mark;
use raftkv_raft::{self as raft, Time};

use super::formed::Formed;
use super::notice::Repeated;
use super::outbox::Outbox;
use super::{Effect, Notice};
use crate::membership::Membership;

/// Peers that the flags name and the stored membership does not are told so this often.
const KNOCK_INTERVAL: Duration = Duration::from_secs(10);

/// What a formed node knows for meetings.
#[derive(Debug)]
pub(super) struct Meeting {
    /// Entry 1's payload, for members that are not formed yet; `None` once the log no longer holds it.
    founding: Option<Bytes>,
    /// Members that have spoken as formed nodes since this process started.
    spoken: BTreeSet<raft::NodeId>,
    /// Peers that only the flags name.
    strangers: Vec<Address>,
    next_knock: Time,
    foreign_said: Repeated,
}

impl Meeting {
    pub(super) fn new(
        founding: Option<Bytes>,
        ours: &Introduction,
        stored: &Membership,
        now: Time,
    ) -> Meeting {
        let is_stored = |address: &Address| stored.members.iter().any(|member| member.address == *address);
        let listed = ours.peers.iter().map(|(_, address)| address);
        let strangers: Vec<_> = listed
            .filter(|address| **address != ours.address && !is_stored(address))
            .cloned()
            .collect();
        Meeting {
            founding,
            spoken: BTreeSet::new(),
            next_knock: if strangers.is_empty() { Time::NEVER } else { now },
            strangers,
            foreign_said: Repeated::default(),
        }
    }

    pub(super) fn next_knock(&self) -> Time {
        self.next_knock
    }

    /// A consensus message of this cluster came from the member `node`: it is formed.
    pub(super) fn heard_from(&mut self, node: raft::NodeId) {
        self.spoken.insert(node);
    }
}

/// The stored membership wins over the flags; the operator is told where they differ.
pub(super) fn ignored_flags(ours: &Introduction, stored: &Membership) -> Option<Notice> {
    let mut flags: Vec<NodeName> = ours.peers.iter().map(|(name, _)| name.clone()).collect();
    flags.push(ours.name.clone());
    flags.sort();
    flags.dedup();
    let mut stored: Vec<NodeName> = stored.members.iter().map(|member| member.name.clone()).collect();
    stored.sort();
    (!ours.peers.is_empty() && flags != stored).then_some(Notice::FlagsIgnored { stored, flags })
}

/// A log whose members do not include this node's identity gives it no say.
pub(super) fn not_named(ours: &Introduction, stored: &Membership) -> Option<Notice> {
    let is_named = stored.member(raft::NodeId(ours.identity.0)).is_some();
    (!is_named).then(|| Notice::NotAMember {
        cluster: stored.cluster,
        command: format!("kvctl member replace {}", ours.name),
    })
}

impl Formed {
    /// Someone tells who they are.
    pub(super) fn meet(&mut self, now: Time, theirs: &Introduction, out: &mut Outbox) {
        if theirs.identity == self.config.introduction.identity {
            return;
        }
        match &theirs.formed {
            Some(formed) if formed.cluster == self.members.current().cluster => {}
            Some(formed) => self.meet_foreigner(now, theirs, formed, out),
            None => {
                let message = self.answer_unformed(theirs);
                out.push(Effect::Send {
                    to: theirs.address.clone(),
                    message,
                });
            }
        }
    }

    /// Founding for a member that has not become formed yet; otherwise who we are, so that it can say what would mend it.
    fn answer_unformed(&self, theirs: &Introduction) -> PeerMessage {
        let identity = raft::NodeId(theirs.identity.0);
        let is_member = self.members.current().member(identity).is_some();
        match &self.meeting.founding {
            // A member that spoke as a formed node and now says it is unformed has lost its log, votes and
            // acknowledgements with it: under the same identity it must not come back (R44, D07).
            Some(_) if is_member && self.meeting.spoken.contains(&identity) => {
                mark("member came back without its log");
                PeerMessage::Introduce(self.introduction())
            }
            Some(founding) if is_member => PeerMessage::Found(Founding {
                to: theirs.identity,
                cluster: self.members.current().cluster,
                configuration: founding.to_vec(),
            }),
            Some(_) | None => PeerMessage::Introduce(self.introduction()),
        }
    }

    fn introduction(&self) -> Introduction {
        let membership = self.members.current();
        Introduction {
            formed: Some(FormedIn {
                cluster: membership.cluster,
                members: membership.members.clone(),
            }),
            ..self.config.introduction.clone()
        }
    }

    fn meet_foreigner(&mut self, now: Time, theirs: &Introduction, formed: &FormedIn, out: &mut Outbox) {
        mark("foreign cluster met");
        let notice = Notice::ForeignPeer {
            peer: theirs.name.clone(),
            address: theirs.address.clone(),
            cluster: formed.cluster,
        };
        if self.meeting.foreign_said.is_due(now, &notice) {
            out.notice(notice);
        }
    }

    /// Tells the members of the founding configuration that they are, now that the log that says so is durable.
    pub(super) fn announce(&self, out: &mut Outbox) {
        let Some(founding) = &self.meeting.founding else {
            return;
        };
        let membership = self.members.current();
        let itself = self.config.introduction.identity;
        for member in membership
            .members
            .iter()
            .filter(|member| member.identity != itself)
        {
            let found = Founding {
                to: member.identity,
                cluster: membership.cluster,
                configuration: founding.to_vec(),
            };
            out.push(Effect::Send {
                to: member.address.clone(),
                message: PeerMessage::Found(found),
            });
        }
    }

    /// Tells peers that only the flags name which cluster this node is in: their logs, or ours, then say what is wrong.
    pub(super) fn knock(&mut self, now: Time, out: &mut Outbox) {
        if now < self.meeting.next_knock {
            return;
        }
        self.meeting.next_knock = now.after(KNOCK_INTERVAL);
        for to in &self.meeting.strangers {
            let message = PeerMessage::Introduce(self.introduction());
            out.push(Effect::Send {
                to: to.clone(),
                message,
            });
        }
    }
}

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
        // Peers that are let in by themselves need not hear first that they are not members.
        let first_knock = match may_grow(founding.as_ref()) {
            true => now.after(KNOCK_INTERVAL),
            false => now,
        };
        Meeting {
            founding,
            spoken: BTreeSet::new(),
            next_knock: if strangers.is_empty() {
                Time::NEVER
            } else {
                first_knock
            },
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

/// A cluster that was formed by one node alone takes in the peers that its flags name.
pub(super) fn may_grow(founding: Option<&Bytes>) -> bool {
    let founding = founding.and_then(|payload| Membership::decode(payload).ok());
    founding.is_some_and(|founding| founding.members.len() == 1)
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
            Some(formed) if formed.cluster == self.members.current().cluster => {
                self.presences.learn(theirs.identity, &theirs.address);
                for member in &formed.members {
                    self.presences.learn(member.identity, &member.address);
                }
            }
            Some(formed) => self.meet_foreigner(now, theirs, formed, out),
            None => self.meet_unformed(now, theirs, out),
        }
    }

    fn meet_unformed(&mut self, now: Time, theirs: &Introduction, out: &mut Outbox) {
        let identity = raft::NodeId(theirs.identity.0);
        let is_member = self.members.current().member(identity).is_some();
        if !is_member && self.is_wanted_peer(theirs) {
            // It is told once it is admitted; anything else would only alarm its operator.
            self.grow_by(now, theirs);
            return;
        }
        let message = self.answer_unformed(theirs);
        out.push(Effect::Send {
            to: theirs.address.clone(),
            message,
        });
    }

    /// Founding or admission for a member that has not become formed yet; otherwise who we are, so that it can say what
    /// would mend it.
    pub(super) fn answer_unformed(&self, theirs: &Introduction) -> PeerMessage {
        let identity = raft::NodeId(theirs.identity.0);
        let is_member = self.members.current().member(identity).is_some();
        let has_acknowledged = || {
            let progress = self.raft.progress(identity);
            progress.is_some_and(|progress| progress.matched.is_some())
        };
        let answer = match &self.meeting.founding {
            Some(_) | None if !is_member => None,
            // A member that spoke as a formed node and now says it is unformed has lost its log, votes and
            // acknowledgements with it: under the same identity it must not come back (R44, D07).
            Some(_) | None if self.meeting.spoken.contains(&identity) || has_acknowledged() => {
                mark("member came back without its log");
                None
            }
            Some(founding) if self.is_founder(identity) => Some(PeerMessage::Found(Founding {
                to: theirs.identity,
                cluster: self.members.current().cluster,
                configuration: founding.to_vec(),
            })),
            // The leader alone: nobody else knows whether it acknowledged something before.
            Some(_) | None if self.raft.role() == raft::RoleName::Leader => self
                .is_admitted(theirs.identity)
                .then(|| self.admission(theirs.identity))
                .flatten(),
            Some(_) | None => None,
        };
        answer.unwrap_or_else(|| PeerMessage::Introduce(self.introduction()))
    }

    fn is_founder(&self, identity: raft::NodeId) -> bool {
        let founding = self.meeting.founding.as_deref();
        let founding = founding.and_then(|payload| Membership::decode(payload).ok());
        founding.is_some_and(|founding| founding.member(identity).is_some())
    }

    pub(super) fn introduction(&self) -> Introduction {
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
        let ours = &self.config.introduction;
        let is_listed = ours.peers.iter().any(|(_, address)| *address == theirs.address);
        if self.meeting.foreign_said.is_due(now, &notice) {
            out.notice(notice);
            let ignored = ignored_flags(ours, self.members.current()).filter(|_| is_listed);
            ignored.into_iter().for_each(|notice| out.notice(notice));
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

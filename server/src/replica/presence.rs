//! Members tell each other where they are, in which life: so addresses may change while identities stay, a node that was
//! removed learns it, and two processes on copies of one data directory are told apart.
//!
//! ```text
//!            stored address is ours                           Welcome
//! start ──────────────────────────────► takes part ◄───────────────────────── asks
//!   └──── stored address is another's ──────────────────────────────────────►  ▲
//!                                       takes part ──(Duplicate, Removed)──► set aside
//! ```
//! A node that asks, or is set aside, sends and takes no consensus message: it neither votes nor acknowledges. The process
//! that is known to be alive wins; the later one waits until nobody has heard of the other for [`ALIVE`].

use std::collections::BTreeMap;
use std::time::Duration;

use raftkv_protocol::{Address, MembershipMessage, NodeId, PeerMessage, Presence, Standing, StandingReply};
use raftkv_raft::simulation::mark;
use raftkv_raft::{self as raft, LeaderLeases, Time};

use super::formed::Formed;
use super::notice::Repeated;
use super::outbox::Outbox;
use super::{Effect, Notice};
use crate::membership::Membership;

/// Members tell of themselves this often, and those that ask a little more often.
const TELL_INTERVAL: Duration = Duration::from_secs(2);
const ASK_INTERVAL: Duration = Duration::from_millis(500);

/// A process that was heard of within this time counts as alive; several tellings fit in.
const ALIVE: Duration = Duration::from_secs(5);

/// Most identities whose address is remembered; more than any cluster has.
const MAX_CONTACTS: usize = 256;

/// May this node take part in consensus?
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Takes,
    /// Its address is not the stored one: a member must say that no other process has its identity.
    Asks,
    /// Another process with this identity is alive.
    Duplicate {
        address: Address,
        since: Time,
    },
    Removed,
}

/// What is known of the process behind an identity.
#[derive(Clone, Debug)]
struct Seen {
    /// `None`: it has only sent consensus messages so far.
    incarnation: Option<u64>,
    address: Address,
    heard: Option<Time>,
    lease_drift_ppm: Option<u32>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Presences {
    incarnation: u64,
    part: Part,
    next_telling: Time,
    seen: BTreeMap<NodeId, Seen>,
    /// Addresses from hearsay, for identities that no configuration of ours names yet.
    hearsay: BTreeMap<NodeId, Address>,
    leases_said: Repeated,
}

impl Presences {
    pub(super) fn new(
        incarnation: u64,
        ours: (NodeId, &Address),
        stored: &Membership,
        now: Time,
    ) -> Presences {
        let (identity, address) = ours;
        let is_alone = is_only_voter(stored, identity);
        let stored = stored.member(raft::NodeId(identity.0));
        let moved = stored.is_some_and(|member| member.address != *address);
        Presences {
            incarnation,
            part: if moved && !is_alone {
                Part::Asks
            } else {
                Part::Takes
            },
            next_telling: now,
            seen: BTreeMap::new(),
            hearsay: BTreeMap::new(),
            leases_said: Repeated::default(),
        }
    }

    #[cfg(test)]
    pub(super) fn incarnation(&self) -> u64 {
        self.incarnation
    }

    pub(super) fn takes_part(&self) -> bool {
        self.part == Part::Takes
    }

    pub(super) fn next_telling(&self) -> Time {
        self.next_telling
    }

    /// Where an identity was heard from in this life.
    pub(super) fn address(&self, identity: NodeId) -> Option<&Address> {
        self.seen
            .get(&identity)
            .filter(|seen| seen.incarnation.is_some())
            .map(|seen| &seen.address)
    }

    /// Members came or went: who is new knows nothing of this node.
    pub(super) fn tell_now(&mut self) {
        self.next_telling = Time(0);
    }

    pub(super) fn hearsay(&self, identity: NodeId) -> Option<&Address> {
        self.hearsay.get(&identity)
    }

    /// Where members of our cluster are, as someone says.
    pub(super) fn learn(&mut self, identity: NodeId, address: &Address) {
        if self.hearsay.len() < MAX_CONTACTS || self.hearsay.contains_key(&identity) {
            self.hearsay.insert(identity, address.clone());
        }
    }

    /// A consensus message came from a member, whose configured address is this.
    pub(super) fn heard_from(&mut self, identity: NodeId, configured: &Address, now: Time) {
        match self.seen.get_mut(&identity) {
            Some(seen) => seen.heard = Some(now),
            None => {
                let seen = Seen {
                    incarnation: None,
                    address: configured.clone(),
                    heard: Some(now),
                    lease_drift_ppm: None,
                };
                self.seen.insert(identity, seen);
            }
        }
    }

    /// The process at this address ended.
    pub(super) fn reset(&mut self, address: &Address) {
        for seen in self.seen.values_mut().filter(|seen| seen.address == *address) {
            seen.heard = None;
        }
    }

    /// Where another process with the identity is alive, if one is.
    fn rival(&self, presence: &Presence, now: Time) -> Option<&Address> {
        let seen = self.seen.get(&presence.identity)?;
        let is_other = seen.address != presence.address && seen.incarnation != Some(presence.incarnation);
        let is_alive = seen.heard.is_some_and(|heard| now.since(heard) < ALIVE);
        (is_other && is_alive).then_some(&seen.address)
    }

    /// Do all these voters keep leader leases by our bound, as far as they have said so in this life?
    pub(super) fn leases_agree(&self, ours: Option<u32>, mut others: impl Iterator<Item = NodeId>) -> bool {
        others.all(|voter| {
            let seen = self.seen.get(&voter).filter(|seen| seen.incarnation.is_some());
            seen.is_some_and(|seen| seen.lease_drift_ppm == ours)
        })
    }

    /// Why this node takes no part, if so.
    pub(super) fn explanation(&self) -> Option<String> {
        match &self.part {
            Part::Takes => None,
            Part::Asks => Some(
                "this node's address is not the one the cluster has stored; waiting for a member to confirm that no other process runs under its identity"
                    .to_owned(),
            ),
            Part::Duplicate { address, .. } => Some(format!(
                "another server with this node's identity is alive at {address}: this data directory is a copy of its; stop one of the two, and start new nodes with an empty --data-dir"
            )),
            Part::Removed => Some(
                "this node was removed from the cluster; to bring it back, empty its data directory and start it with --join"
                    .to_owned(),
            ),
        }
    }
}

/// Is there no other voter, who could say anything of it?
fn is_only_voter(members: &Membership, identity: NodeId) -> bool {
    let mut everyone = members.everyone();
    everyone.all(|member| member.identity == identity || !member.voter)
}

/// The bound on clock drift by which leases are kept; `None`: they are off.
pub(super) fn lease_drift_ppm(leases: LeaderLeases) -> Option<u32> {
    match leases {
        LeaderLeases::Off => None,
        LeaderLeases::On { max_clock_drift_ppm } => Some(max_clock_drift_ppm),
    }
}

impl Formed {
    /// Tells all other members that this node is up and where.
    pub(super) fn tell_presence(&mut self, now: Time, out: &mut Outbox) {
        if now < self.presences.next_telling {
            return;
        }
        let interval = if self.presences.takes_part() {
            TELL_INTERVAL
        } else {
            ASK_INTERVAL
        };
        self.presences.next_telling = now.after(interval);
        let ours = &self.config.introduction;
        let presence = Presence {
            cluster: self.members.current().cluster,
            identity: ours.identity,
            name: ours.name.clone(),
            address: ours.address.clone(),
            http: ours.http.clone(),
            incarnation: self.presences.incarnation,
            lease_drift_ppm: lease_drift_ppm(self.config.raft.leader_leases),
        };
        let members = self.members.current().everyone().map(|member| member.identity);
        let mut others: Vec<NodeId> = members.chain(self.presences.hearsay.keys().copied()).collect();
        others.sort_unstable();
        others.dedup();
        for other in others.into_iter().filter(|other| *other != ours.identity) {
            if let Some(to) = self.address_of(raft::NodeId(other.0)) {
                let message = MembershipMessage::Present(presence.clone());
                out.push(Effect::Send {
                    to: to.clone(),
                    message: PeerMessage::Membership(message),
                });
            }
        }
    }

    /// Nobody has spoken of a rival for long, and no voter is left who could welcome us: as at a start alone, we go on.
    pub(super) fn end_silent_accusation(&mut self, now: Time, out: &mut Outbox) {
        let Part::Duplicate { since, .. } = self.presences.part else {
            return;
        };
        let is_alone = is_only_voter(self.members.current(), self.config.introduction.identity);
        if is_alone && now.since(since) >= ALIVE {
            mark("the only voter takes part again, nobody spoke of a rival");
            self.presences.part = Part::Takes;
            out.notice(Notice::TakesPart);
        }
    }

    /// Where a node is: what it says itself counts most, what others say least.
    pub(super) fn address_of(&self, node: raft::NodeId) -> Option<&Address> {
        let identity = NodeId(node.0);
        let itself = self.presences.address(identity);
        itself
            .or_else(|| self.members.address(node))
            .or_else(|| self.presences.hearsay(identity))
    }

    /// Someone says that it is a member.
    pub(super) fn presence_told(&mut self, now: Time, presence: &Presence, out: &mut Outbox) {
        if self.presences.part == Part::Removed {
            mark("a removed node judges nobody");
            return;
        }
        let membership = self.members.current();
        if presence.cluster != membership.cluster {
            mark("presence of another cluster ignored");
            return;
        }
        let ours = &self.config.introduction;
        let standing = if presence.identity == ours.identity {
            if presence.incarnation == self.presences.incarnation || !self.presences.takes_part() {
                return;
            }
            mark("our own identity spoke to us from another process");
            Standing::Duplicate {
                address: ours.address.clone(),
            }
        } else if self
            .members
            .as_of(self.raft.commit())
            .was_removed(presence.identity)
            && membership.member(raft::NodeId(presence.identity.0)).is_none()
        {
            Standing::Removed
        } else if membership.member(raft::NodeId(presence.identity.0)).is_none() {
            // We may be behind: it may be a member that our log does not name yet.
            self.presences.learn(presence.identity, &presence.address);
            return;
        } else if let Some(rival) = self.presences.rival(presence, now) {
            mark("second process with a member's identity refused");
            Standing::Duplicate {
                address: rival.clone(),
            }
        } else {
            self.take_note(now, presence, out);
            Standing::Welcome
        };
        let reply = StandingReply {
            to: presence.identity,
            incarnation: presence.incarnation,
            cluster: presence.cluster,
            standing,
        };
        let message = MembershipMessage::Standing(reply);
        out.push(Effect::Send {
            to: presence.address.clone(),
            message: PeerMessage::Membership(message),
        });
    }

    /// A member is up.
    fn take_note(&mut self, now: Time, presence: &Presence, out: &mut Outbox) {
        let seen = Seen {
            incarnation: Some(presence.incarnation),
            address: presence.address.clone(),
            heard: Some(now),
            lease_drift_ppm: presence.lease_drift_ppm,
        };
        self.presences.seen.insert(presence.identity, seen);
        let ours = lease_drift_ppm(self.config.raft.leader_leases);
        if ours != presence.lease_drift_ppm {
            let notice = Notice::LeasesDiffer {
                peer: presence.name.clone(),
                ours,
                theirs: presence.lease_drift_ppm,
            };
            if self.presences.leases_said.is_due(now, &notice) {
                out.notice(notice);
            }
        }
        let stored = self.members.current().member(raft::NodeId(presence.identity.0));
        let is_moved =
            stored.is_some_and(|member| member.address != presence.address || member.http != presence.http);
        if is_moved {
            self.changes
                .moved(presence.identity, &presence.address, presence.http.as_ref());
        }
        if is_moved {
            // It may not know all the members there are now.
            out.push(Effect::Send {
                to: presence.address.clone(),
                message: PeerMessage::Introduce(self.introduction()),
            });
        }
    }

    /// What a member makes of us.
    pub(super) fn standing_told(&mut self, now: Time, reply: &StandingReply, out: &mut Outbox) {
        // A removed identity is removed in every life.
        let is_this_life =
            reply.incarnation == self.presences.incarnation || reply.standing == Standing::Removed;
        let is_ours = reply.to == self.config.introduction.identity
            && is_this_life
            && reply.cluster == self.members.current().cluster;
        if !is_ours {
            mark("verdict on another node or life ignored");
            return;
        }
        let next = match (&reply.standing, &self.presences.part) {
            (Standing::Welcome, Part::Takes) => return,
            // Whoever told so may know more than the one that welcomes us.
            (Standing::Welcome, Part::Duplicate { since, .. }) if now.since(*since) < ALIVE => return,
            (Standing::Welcome, Part::Removed) => return,
            (Standing::Welcome, Part::Duplicate { .. } | Part::Asks) => Part::Takes,
            (Standing::Duplicate { address }, _) => Part::Duplicate {
                address: address.clone(),
                since: now,
            },
            (Standing::Removed, _) => Part::Removed,
        };
        let (did, does) = (self.presences.takes_part(), next == Part::Takes);
        let is_news = std::mem::discriminant(&next) != std::mem::discriminant(&self.presences.part);
        self.presences.part = next;
        match (did, does) {
            (false, true) => {
                mark("node takes part after it asked");
                out.notice(Notice::TakesPart);
            }
            (_, false) if is_news => {
                mark("node set aside");
                let reason = self.presences.explanation().unwrap_or_default();
                self.refuse_reads(&reason, out);
                self.refuse_writes(&reason, out);
                out.notice(Notice::SetAside { reason });
            }
            (_, _) => {}
        }
    }
}

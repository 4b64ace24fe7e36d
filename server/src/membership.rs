//! The payload of configuration entries: who the members are, with the labels and addresses that operators gave them.
//!
//! # Bytes
//! Two versions, both in postcard. The first has no version byte: it begins with the cluster id, which is never 0. All later
//! ones begin with a 0 and their version. What the first can express is still written in it, so the founding entry of a
//! cluster is the same whichever program made it.

use std::collections::BTreeSet;

use bytes::Bytes;
use raftkv_protocol::{ClusterId, HistoryEpoch, Member, NodeId, NodeName};
use raftkv_raft as raft;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The history epoch of a cluster that was never restored or recovered.
pub const FIRST_EPOCH: HistoryEpoch = HistoryEpoch(1);

/// What no cluster id begins with, and each later version does.
const VERSIONED: u8 = 0;
const VERSION_2: u8 = 2;

/// Most removed identities that are remembered; beyond, the oldest are forgotten.
const MAX_REMOVED: usize = 1024;

/// The members of the cluster, as a configuration entry's payload carries them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The cluster.
    pub cluster: ClusterId,
    /// Grows with each recovery: history forked there.
    pub epoch: HistoryEpoch,
    /// Its members, sorted by name. While a member is replaced, two stand under its name.
    pub members: Vec<Member>,
    /// While voters change: who voted before, and votes until the change is complete.
    pub outgoing: Option<BTreeSet<NodeId>>,
    /// Those of them that are no members afterwards.
    pub leaving: Vec<Member>,
    /// Learners that become voters only when an operator asks for it.
    pub held: BTreeSet<NodeId>,
    /// Learners that are to take a member's place.
    pub replacing: Vec<Replacement>,
    /// Identities that were members and never will be again (R63). Oldest first.
    pub removed: Vec<Tombstone>,
}

/// A learner that takes a member's place when it has caught up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replacement {
    /// The learner.
    pub new: NodeId,
    /// Whose place it takes.
    pub old: NodeId,
}

/// What is left of a removed member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// Its identity.
    pub identity: NodeId,
    /// The name it had.
    pub name: NodeName,
}

/// The first version. A released struct never changes.
#[derive(Serialize, Deserialize)]
struct Version1 {
    cluster: ClusterId,
    members: Vec<Member>,
}

/// The second version, behind its two first bytes.
#[derive(Serialize, Deserialize)]
struct Version2 {
    cluster: ClusterId,
    epoch: HistoryEpoch,
    members: Vec<Member>,
    outgoing: Option<BTreeSet<NodeId>>,
    leaving: Vec<Member>,
    held: BTreeSet<NodeId>,
    replacing: Vec<Replacement>,
    removed: Vec<Tombstone>,
}

/// A configuration entry's payload that this version can not read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("a configuration entry is not readable ({0}); was the data directory written by a newer version?")]
pub struct UnreadableMembership(String);

impl UnreadableMembership {
    /// There is none where one must be.
    #[must_use]
    pub fn missing() -> UnreadableMembership {
        UnreadableMembership("it is missing".to_owned())
    }
}

impl Membership {
    /// Members of a cluster that was never changed.
    #[must_use]
    pub fn of(cluster: ClusterId, members: Vec<Member>) -> Membership {
        Membership {
            cluster,
            epoch: FIRST_EPOCH,
            members,
            outgoing: None,
            leaving: Vec::new(),
            held: BTreeSet::new(),
            replacing: Vec::new(),
            removed: Vec::new(),
        }
    }

    /// Encodes it as an entry's payload.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let encoded = if self.fits_version_1() {
            postcard::to_allocvec(&Version1 {
                cluster: self.cluster,
                members: self.members.clone(),
            })
        } else {
            postcard::to_extend(&Version2::from(self.clone()), vec![VERSIONED, VERSION_2])
        };
        encoded.expect("plain data always encodes").into()
    }

    /// Reads an entry's payload.
    ///
    /// # Errors
    /// When it is not one.
    pub fn decode(payload: &[u8]) -> Result<Membership, UnreadableMembership> {
        let unreadable = |error: postcard::Error| UnreadableMembership(error.to_string());
        match payload {
            [VERSIONED, VERSION_2, rest @ ..] => {
                let version_2: Version2 = postcard::from_bytes(rest).map_err(unreadable)?;
                Ok(Membership::from(version_2))
            }
            [VERSIONED, version, ..] => Err(UnreadableMembership(format!("it has version {version}"))),
            _ => {
                let version_1: Version1 = postcard::from_bytes(payload).map_err(unreadable)?;
                Ok(Membership::of(version_1.cluster, version_1.members))
            }
        }
    }

    fn fits_version_1(&self) -> bool {
        *self == Membership::of(self.cluster, self.members.clone())
    }

    /// What consensus needs of it.
    #[must_use]
    pub fn configuration(&self) -> raft::Configuration {
        let (voters, learners): (Vec<_>, Vec<_>) = self.members.iter().partition(|member| member.voter);
        let ids = |members: Vec<&Member>| members.into_iter().map(|m| raft::NodeId(m.identity.0)).collect();
        let outgoing = self.outgoing.as_ref();
        raft::Configuration {
            voters: ids(voters),
            outgoing: outgoing.map(|half| half.iter().map(|voter| raft::NodeId(voter.0)).collect()),
            learners: ids(learners),
        }
    }

    /// Everyone who receives the log: the members, and those that are leaving.
    pub fn everyone(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().chain(&self.leaving)
    }

    /// The member with this identity, leaving ones included.
    #[must_use]
    pub fn member(&self, identity: raft::NodeId) -> Option<&Member> {
        self.everyone().find(|member| member.identity.0 == identity.0)
    }

    /// The member that an operator means by a name: of two while one is replaced, the one that is to go.
    #[must_use]
    pub fn named(&self, name: &NodeName) -> Option<&Member> {
        let is_new = |member: &&Member| self.replacing.iter().any(|pair| pair.new == member.identity);
        let named = || self.members.iter().filter(|member| member.name == *name);
        named().find(|member| !is_new(member)).or_else(|| named().next())
    }

    /// Was this identity a member and removed?
    #[must_use]
    pub fn was_removed(&self, identity: NodeId) -> bool {
        self.removed
            .iter()
            .any(|tombstone| tombstone.identity == identity)
    }

    /// The next step towards `members`: a joint configuration when the voters change, else the whole change.
    #[must_use]
    pub fn towards(&self, mut members: Vec<Member>) -> Membership {
        members.sort_by(|a, b| (&a.name, a.identity).cmp(&(&b.name, b.identity)));
        let voters = |members: &[Member]| -> BTreeSet<NodeId> {
            let voters = members.iter().filter(|member| member.voter);
            voters.map(|member| member.identity).collect()
        };
        let before = voters(&self.members);
        let stays = |member: &Member| members.iter().any(|kept| kept.identity == member.identity);
        let gone: Vec<Member> = self.members.iter().filter(|m| !stays(m)).cloned().collect();
        let outgoing = (voters(&members) != before).then_some(before);
        let mut next = Membership {
            members,
            leaving: Vec::new(),
            outgoing,
            ..self.clone()
        };
        next.bury(gone.iter());
        if next.outgoing.is_some() {
            next.leaving = gone;
        }
        next.forget_what_is_done();
        next
    }

    /// The step by which a learner becomes a voter; one that replaces a member takes its place with it.
    #[must_use]
    pub fn with_promoted(&self, learner: NodeId) -> Membership {
        let pair = self.replacing.iter().find(|pair| pair.new == learner);
        let is_replaced = |member: &Member| pair.is_some_and(|pair| pair.old == member.identity);
        let members = self.members.iter().filter(|member| !is_replaced(member));
        let promote = |member: &Member| Member {
            voter: member.voter || member.identity == learner,
            ..member.clone()
        };
        self.towards(members.map(promote).collect())
    }

    /// A joint configuration without its outgoing half.
    #[must_use]
    pub fn without_outgoing(&self) -> Membership {
        Membership {
            outgoing: None,
            leaving: Vec::new(),
            ..self.clone()
        }
    }

    fn bury<'a>(&mut self, gone: impl Iterator<Item = &'a Member>) {
        for member in gone {
            if !self.was_removed(member.identity) {
                self.removed.push(Tombstone {
                    identity: member.identity,
                    name: member.name.clone(),
                });
            }
        }
        let surplus = self.removed.len().saturating_sub(MAX_REMOVED);
        self.removed.drain(..surplus);
    }

    /// Notes about learners that are none any more, or whose counterpart is gone.
    fn forget_what_is_done(&mut self) {
        let members = &self.members;
        let is_learner = |id: NodeId| members.iter().any(|m| m.identity == id && !m.voter);
        let is_member = |id: NodeId| members.iter().any(|m| m.identity == id);
        self.held.retain(|learner| is_learner(*learner));
        self.replacing
            .retain(|pair| is_learner(pair.new) && is_member(pair.old));
    }
}

impl From<Membership> for Version2 {
    fn from(membership: Membership) -> Version2 {
        Version2 {
            cluster: membership.cluster,
            epoch: membership.epoch,
            members: membership.members,
            outgoing: membership.outgoing,
            leaving: membership.leaving,
            held: membership.held,
            replacing: membership.replacing,
            removed: membership.removed,
        }
    }
}

impl From<Version2> for Membership {
    fn from(read: Version2) -> Membership {
        Membership {
            cluster: read.cluster,
            epoch: read.epoch,
            members: read.members,
            outgoing: read.outgoing,
            leaving: read.leaving,
            held: read.held,
            replacing: read.replacing,
            removed: read.removed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(number: u64, voter: bool) -> Member {
        Member {
            name: NodeName::from(format!("n{number}").as_str()),
            identity: NodeId(number),
            address: format!("h:{number}").as_str().into(),
            http: None,
            voter,
        }
    }

    fn three() -> Membership {
        Membership::of(ClusterId(7), (1..=3).map(|number| member(number, true)).collect())
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_bytes_of_version_1_never_change() {
        let one = Membership::of(ClusterId(7), vec![member(1, true)]);
        assert_eq!(hex(&one.encode()), "0701026e310103683a310001");
        assert_eq!(Membership::decode(&one.encode()), Ok(one));
    }

    #[test]
    fn the_bytes_of_version_2_never_change() {
        let mut joint = three().towards(vec![member(1, true), member(2, true), member(4, false)]);
        joint.held.insert(NodeId(4));
        joint.replacing.push(Replacement {
            new: NodeId(4),
            old: NodeId(2),
        });
        joint.epoch = HistoryEpoch(2);
        let golden = "0002070203026e310103683a310001026e320203683a320001026e340403683a34000001030102\
                      0301026e330303683a33000101040104020103026e33";
        assert_eq!(hex(&joint.encode()), golden);
        assert_eq!(Membership::decode(&joint.encode()), Ok(joint));
    }

    #[test]
    fn what_is_cut_short_or_newer_is_an_error() {
        let whole = three().towards(vec![member(1, true), member(2, true)]).encode();
        for length in 0..whole.len() {
            assert!(Membership::decode(&whole[..length]).is_err(), "{length} bytes");
        }
        assert!(Membership::decode(&[0, 3, 1]).is_err());
    }

    #[test]
    fn r58_a_change_of_voters_is_joint_and_the_core_sees_it_so() {
        let joint = three().towards(vec![member(1, true), member(2, true), member(4, true)]);
        let three = three().configuration();
        let wanted = [1, 2, 4].map(raft::NodeId).into();
        assert_eq!(joint.configuration(), three.towards(wanted, [].into()));
        assert!(
            joint.member(raft::NodeId(3)).is_some(),
            "it is sent to until it has left"
        );
        let left = joint.without_outgoing();
        assert_eq!(left.configuration(), joint.configuration().without_outgoing());
        assert!(left.member(raft::NodeId(3)).is_none());
        assert!(left.was_removed(NodeId(3)));
    }

    #[test]
    fn a_change_of_learners_is_whole_at_once() {
        let mut members = three().members;
        members.push(member(4, false));
        let mut next = three().towards(members);
        assert_eq!(next.outgoing, None);
        next.held.insert(NodeId(4));
        let back = next.towards(three().members);
        assert!(back.held.is_empty(), "nothing is noted about who is gone");
        assert!(back.was_removed(NodeId(4)));
    }
}

//! The payload of configuration entries: who the members are, with the labels and addresses that operators gave them.

use bytes::Bytes;
use raftkv_protocol::{ClusterId, Member};
use raftkv_raft as raft;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The members of the cluster, as a configuration entry's payload carries them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its members, sorted by name.
    pub members: Vec<Member>,
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
    /// Encodes it as an entry's payload.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        postcard::to_allocvec(self)
            .expect("plain data always encodes")
            .into()
    }

    /// Reads an entry's payload.
    ///
    /// # Errors
    /// When it is not one.
    pub fn decode(payload: &[u8]) -> Result<Membership, UnreadableMembership> {
        postcard::from_bytes(payload).map_err(|error| UnreadableMembership(error.to_string()))
    }

    /// What consensus needs of it.
    #[must_use]
    pub fn configuration(&self) -> raft::Configuration {
        let (voters, learners): (Vec<_>, Vec<_>) = self.members.iter().partition(|member| member.voter);
        let ids = |members: Vec<&Member>| members.into_iter().map(|m| raft::NodeId(m.identity.0)).collect();
        raft::Configuration {
            voters: ids(voters),
            outgoing: None,
            learners: ids(learners),
        }
    }

    /// The member with this identity.
    #[must_use]
    pub fn member(&self, identity: raft::NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.identity.0 == identity.0)
    }
}

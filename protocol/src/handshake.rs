//! The first frame in each direction: who speaks, in which version, about which cluster.
//!
//! The dialler sends [`Hello`], the listener answers [`HandshakeReply`]; after a [`Welcome`] both speak the version it
//! names, after a [`Rejection`] the listener closes. The layout of these two frames is the same in every version: only
//! what is appended behind their last field, and ignored by those who do not know it, may grow.

use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{ClusterId, HistoryEpoch, Limits, NodeId};

/// The first bytes of both handshake bodies. Not ASCII at its end, so that no text protocol begins so.
pub const MAGIC: [u8; 8] = *b"raftkv\xb5\x01";

/// The protocol versions this program speaks. A rolling upgrade needs two neighbours to have one in common.
pub const PROTOCOL_VERSIONS: RangeInclusive<u16> = 1..=1;

/// The features this program knows; none exist yet.
pub const KNOWN_FEATURES: u64 = 0;

/// Features in these bits must be known by the listener, or it refuses; those in the others are only used when both know
/// them.
pub const REQUIRED_FEATURES: u64 = 0xffff_ffff_0000_0000;

/// Who dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Speaker {
    /// A client: requests follow.
    Client,
    /// A node: peer messages follow.
    Peer,
    /// A node that passes its clients' requests on: requests follow, and the listener does not pass them on again.
    Forwarder,
}

/// The dialler's first frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Versions the speaker can speak.
    pub versions: RangeInclusive<u16>,
    /// Features the speaker wants; see [`REQUIRED_FEATURES`].
    pub features: u64,
    /// Who speaks.
    pub speaker: Speaker,
    /// The cluster the speaker belongs to, or wants; `None`: none yet, or any.
    pub cluster: Option<ClusterId>,
    /// The speaker's own identity; `None`: a client.
    pub node: Option<NodeId>,
    /// Credentials; `None`: anonymous.
    pub authentication: Option<Vec<u8>>,
}

impl Hello {
    /// An anonymous hello in all versions and features of this program.
    #[must_use]
    pub fn new(speaker: Speaker, cluster: Option<ClusterId>, node: Option<NodeId>) -> Hello {
        Hello {
            versions: PROTOCOL_VERSIONS,
            features: KNOWN_FEATURES,
            speaker,
            cluster,
            node,
            authentication: None,
        }
    }
}

/// The listener agrees: what holds on this connection from here on.
///
/// Answers carry neither cluster nor node nor epoch: a listener closes the connections it welcomed under others when it
/// becomes formed or its history forks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The version both speak from the next frame on.
    pub version: u16,
    /// The features both use.
    pub features: u64,
    /// The listener's cluster; `None` while it is unformed.
    pub cluster: Option<ClusterId>,
    /// The listener's identity.
    pub node: NodeId,
    /// Its history epoch.
    pub epoch: HistoryEpoch,
    /// What requests must keep to.
    pub limits: Limits,
}

/// The listener refuses, and closes the connection.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the connection was refused ({code}): {message}")]
pub struct Rejection {
    /// For programs.
    pub code: RejectionCode,
    /// For people: what was expected, what came, what to do.
    pub message: String,
}

/// Why a connection was refused; later ones are only added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectionCode {
    /// No protocol version in common.
    UnsupportedVersion,
    /// A required feature is not known here.
    UnknownFeature,
    /// The speaker belongs to, or wants, another cluster.
    WrongCluster,
    /// The speaker claims the listener's own identity.
    WrongNode,
    /// Credentials are missing, wrong, or not expected.
    Authentication,
    /// The listener is about to stop: go to another node.
    ShuttingDown,
    /// The listener has as many connections as it takes.
    TooManyConnections,
    /// A code that a later version added.
    Other(u16),
}

impl RejectionCode {
    /// Every code this program knows.
    pub(crate) const KNOWN: [RejectionCode; 7] = [
        RejectionCode::UnsupportedVersion,
        RejectionCode::UnknownFeature,
        RejectionCode::WrongCluster,
        RejectionCode::WrongNode,
        RejectionCode::Authentication,
        RejectionCode::ShuttingDown,
        RejectionCode::TooManyConnections,
    ];

    /// Its number on the wire.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            RejectionCode::UnsupportedVersion => 1,
            RejectionCode::UnknownFeature => 2,
            RejectionCode::WrongCluster => 3,
            RejectionCode::WrongNode => 4,
            RejectionCode::Authentication => 5,
            RejectionCode::ShuttingDown => 6,
            RejectionCode::TooManyConnections => 7,
            RejectionCode::Other(number) => number,
        }
    }

    /// The code of a number on the wire.
    #[must_use]
    pub fn from_number(number: u16) -> RejectionCode {
        let known = RejectionCode::KNOWN
            .into_iter()
            .find(|code| code.number() == number);
        known.unwrap_or(RejectionCode::Other(number))
    }
}

impl fmt::Display for RejectionCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RejectionCode::UnsupportedVersion => "unsupported_version",
            RejectionCode::UnknownFeature => "unknown_feature",
            RejectionCode::WrongCluster => "wrong_cluster",
            RejectionCode::WrongNode => "wrong_node",
            RejectionCode::Authentication => "authentication",
            RejectionCode::ShuttingDown => "shutting_down",
            RejectionCode::TooManyConnections => "too_many_connections",
            RejectionCode::Other(number) => return write!(f, "code {number}"),
        })
    }
}

/// The listener's first frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandshakeReply {
    /// Go on.
    Welcome(Welcome),
    /// Closed.
    Rejection(Rejection),
}

impl From<Result<Welcome, Rejection>> for HandshakeReply {
    fn from(outcome: Result<Welcome, Rejection>) -> HandshakeReply {
        match outcome {
            Ok(welcome) => HandshakeReply::Welcome(welcome),
            Err(rejection) => HandshakeReply::Rejection(rejection),
        }
    }
}

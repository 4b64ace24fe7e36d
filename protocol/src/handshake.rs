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
    const KNOWN: [RejectionCode; 7] = [
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

/// Does the listener take new connections?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// Yes.
    Serving,
    /// No: it is about to stop.
    ShuttingDown,
    /// No: it has as many as it takes.
    Full,
}

/// What a listener is and speaks: its side of [`negotiate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Versions it can speak; [`PROTOCOL_VERSIONS`].
    pub versions: RangeInclusive<u16>,
    /// Features it knows; [`KNOWN_FEATURES`].
    pub features: u64,
    /// Its cluster; `None` while unformed.
    pub cluster: Option<ClusterId>,
    /// Its identity.
    pub node: NodeId,
    /// Its history epoch.
    pub epoch: HistoryEpoch,
    /// What it asks requests to keep to.
    pub limits: Limits,
    /// Does it take connections?
    pub availability: Availability,
}

/// Decides whether and how a listener and a speaker go on.
///
/// # Errors
/// A rejection to send to the speaker before closing, when they do not fit together.
pub fn negotiate(hello: &Hello, listener: &Listener) -> Result<Welcome, Rejection> {
    check_availability(listener.availability)?;
    let version = common_version(&hello.versions, &listener.versions)?;
    let features = common_features(hello.features, listener.features)?;
    check_identity(hello, listener)?;
    check_authentication(hello)?;
    Ok(Welcome {
        version,
        features,
        cluster: listener.cluster,
        node: listener.node,
        epoch: listener.epoch,
        limits: listener.limits,
    })
}

fn reject<T>(code: RejectionCode, message: impl Into<String>) -> Result<T, Rejection> {
    let message = message.into();
    Err(Rejection { code, message })
}

fn check_availability(availability: Availability) -> Result<(), Rejection> {
    match availability {
        Availability::Serving => Ok(()),
        Availability::ShuttingDown => reject(
            RejectionCode::ShuttingDown,
            "this node is shutting down; connect to another one",
        ),
        Availability::Full => reject(
            RejectionCode::TooManyConnections,
            "this node has as many connections as it takes; close some, share one among many requests, or connect to \
             another node",
        ),
    }
}

/// The newest version both speak.
fn common_version(speaker: &RangeInclusive<u16>, listener: &RangeInclusive<u16>) -> Result<u16, Rejection> {
    let newest = *speaker.end().min(listener.end());
    if speaker.contains(&newest) && listener.contains(&newest) {
        return Ok(newest);
    }
    let message = format!(
        "this node speaks protocol versions {} to {}, the other side {} to {}: upgrade the older of the two, one version \
         at a time",
        listener.start(),
        listener.end(),
        speaker.start(),
        speaker.end()
    );
    reject(RejectionCode::UnsupportedVersion, message)
}

fn common_features(wanted: u64, known: u64) -> Result<u64, Rejection> {
    let missing = wanted & REQUIRED_FEATURES & !known;
    if missing == 0 {
        return Ok(wanted & known);
    }
    let message = format!(
        "the other side requires features {missing:#018x} that this node does not know: upgrade this node, or turn them \
         off there"
    );
    reject(RejectionCode::UnknownFeature, message)
}

/// An unformed listener welcomes members of any cluster: that is how it becomes formed.
fn check_identity(hello: &Hello, listener: &Listener) -> Result<(), Rejection> {
    if let (Some(theirs), Some(ours)) = (hello.cluster, listener.cluster)
        && theirs != ours
    {
        let message = format!(
            "this node belongs to cluster {ours}, the other side to cluster {theirs}: check the addresses it was given"
        );
        return reject(RejectionCode::WrongCluster, message);
    }
    if hello.node == Some(listener.node) {
        let message = format!(
            "the other side claims the identity {} of this node: either it dialled its own address, or its data directory \
             is a copy of this node's; a copy must never run beside its original",
            listener.node
        );
        return reject(RejectionCode::WrongNode, message);
    }
    Ok(())
}

fn check_authentication(hello: &Hello) -> Result<(), Rejection> {
    match hello.authentication {
        None => Ok(()),
        // Taking credentials that nobody checks would let their owner believe that somebody does.
        Some(_) => reject(
            RejectionCode::Authentication,
            "credentials were given, but this node has no authentication: connect without",
        ),
    }
}

/// What bytes that are not ours seem to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// An HTTP request or answer.
    Http,
    /// The begin of a TLS connection.
    Tls,
    /// Something else.
    Unrecognised,
}

impl Foreign {
    /// The foreign protocol that a stream beginning with `first` is known to be, judged by at most four bytes.
    #[must_use]
    pub fn recognise(first: &[u8]) -> Option<Foreign> {
        const HTTP: [&[u8; 4]; 11] = [
            b"GET ", b"POST", b"PUT ", b"DELE", b"HEAD", b"OPTI", b"PATC", b"CONN", b"TRAC", b"PRI ", b"HTTP",
        ];
        let first = first.first_chunk::<4>()?;
        if HTTP.contains(&first) {
            return Some(Foreign::Http);
        }
        let is_tls = first[0] == 0x16 && first[1] == 3;
        is_tls.then_some(Foreign::Tls)
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Foreign::Http => {
                "got HTTP: the HTTP API has a port of its own (`--http`); this one is for kvctl, client libraries and nodes"
            }
            Foreign::Tls => "got TLS: this port is not set up for it",
            Foreign::Unrecognised => "got bytes of another protocol: check the address and the port",
        })
    }
}

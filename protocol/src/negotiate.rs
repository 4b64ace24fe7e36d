//! Whether and how a listener and a speaker go on after a hello: a pure decision.

use std::ops::RangeInclusive;

use crate::handshake::{Hello, REQUIRED_FEATURES, Rejection, RejectionCode, Speaker, Welcome};
use crate::{ClusterId, HistoryEpoch, Limits, NodeId};

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

/// What the connection itself proves of who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Nothing, and nothing is asked: whoever can connect is believed.
    NotAsked,
    /// It is a node.
    Node,
    /// It is a client, or nobody in particular.
    NoNode,
}

/// What a listener is and speaks: its side of [`negotiate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Versions it can speak; [`PROTOCOL_VERSIONS`](crate::PROTOCOL_VERSIONS).
    pub versions: RangeInclusive<u16>,
    /// Features it knows; [`KNOWN_FEATURES`](crate::KNOWN_FEATURES).
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
    /// What the connection proves.
    pub proof: Proof,
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
    check_proof(hello.speaker, listener.proof)?;
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
            "the node that was asked is of cluster {ours}, the one that asked of cluster {theirs}: check the address that was asked"
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

/// Nodes take each other's word for everything, and pass on what their clients may do.
fn check_proof(speaker: Speaker, proof: Proof) -> Result<(), Rejection> {
    match (speaker, proof) {
        (Speaker::Client, _) | (_, Proof::NotAsked | Proof::Node) => Ok(()),
        (Speaker::Peer | Speaker::Forwarder, Proof::NoNode) => reject(
            RejectionCode::Authentication,
            "the other side says that it is a node and does not prove it: its certificate must be one of the same authority \
             that allows both ends of a connection (extended key usage serverAuth and clientAuth)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST_CLUSTER: ClusterId = ClusterId(1);
    const SECOND_CLUSTER: ClusterId = ClusterId(2);
    const SPEAKER: NodeId = NodeId(10);
    const LISTENER: NodeId = NodeId(20);

    fn hello(versions: RangeInclusive<u16>) -> Hello {
        Hello {
            versions,
            ..Hello::new(Speaker::Peer, Some(FIRST_CLUSTER), Some(SPEAKER))
        }
    }

    fn listener(versions: RangeInclusive<u16>) -> Listener {
        Listener {
            versions,
            features: 0,
            cluster: Some(FIRST_CLUSTER),
            node: LISTENER,
            epoch: HistoryEpoch(3),
            limits: Limits::default(),
            availability: Availability::Serving,
            proof: Proof::NotAsked,
        }
    }

    fn refusal(hello: &Hello, listener: &Listener) -> RejectionCode {
        negotiate(hello, listener).unwrap_err().code
    }

    #[test]
    fn the_newest_common_version_is_spoken() {
        for (speaker, here, expected) in [
            (1..=1, 1..=1, Some(1)),
            (1..=2, 2..=3, Some(2)),
            (2..=3, 1..=2, Some(2)),
            (1..=9, 4..=5, Some(5)),
            (1..=1, 2..=3, None),
            (4..=5, 2..=3, None),
        ] {
            match negotiate(&hello(speaker), &listener(here)) {
                Ok(welcome) => assert_eq!(Some(welcome.version), expected),
                Err(rejection) => {
                    assert_eq!(expected, None);
                    assert_eq!(rejection.code, RejectionCode::UnsupportedVersion);
                }
            }
        }
    }

    #[test]
    fn unknown_optional_features_are_left_out_and_required_ones_refused() {
        const OPTIONAL: u64 = 1 << 3;
        const REQUIRED: u64 = 1 << 40;
        let with = |wanted, known| {
            let hello = Hello {
                features: wanted,
                ..hello(1..=1)
            };
            let listener = Listener {
                features: known,
                ..listener(1..=1)
            };
            negotiate(&hello, &listener).map(|welcome| welcome.features)
        };
        assert_eq!(with(OPTIONAL, 0), Ok(0));
        assert_eq!(with(OPTIONAL | REQUIRED, u64::MAX), Ok(OPTIONAL | REQUIRED));
        assert_eq!(with(0, REQUIRED), Ok(0));
        assert_eq!(
            with(REQUIRED, OPTIONAL).unwrap_err().code,
            RejectionCode::UnknownFeature
        );
    }

    #[test]
    fn members_of_different_clusters_do_not_talk_but_unformed_nodes_talk_to_all() {
        for (theirs, ours, is_welcome) in [
            (Some(FIRST_CLUSTER), Some(FIRST_CLUSTER), true),
            (Some(SECOND_CLUSTER), Some(FIRST_CLUSTER), false),
            (None, Some(FIRST_CLUSTER), true),
            (Some(FIRST_CLUSTER), None, true),
            (None, None, true),
        ] {
            let mut hello = hello(1..=1);
            hello.cluster = theirs;
            let mut listener = listener(1..=1);
            listener.cluster = ours;
            let reply = negotiate(&hello, &listener);
            assert_eq!(reply.is_ok(), is_welcome, "{theirs:?} {ours:?}");
            if let Err(rejection) = reply {
                assert_eq!(rejection.code, RejectionCode::WrongCluster);
            }
        }
    }

    #[test]
    fn a_copy_of_the_listener_is_refused() {
        let copy = Hello::new(Speaker::Peer, Some(FIRST_CLUSTER), Some(LISTENER));
        assert_eq!(refusal(&copy, &listener(1..=1)), RejectionCode::WrongNode);
    }

    #[test]
    fn credentials_that_nobody_would_check_are_refused() {
        let mut hello = hello(1..=1);
        hello.authentication = Some(b"secret".to_vec());
        assert_eq!(refusal(&hello, &listener(1..=1)), RejectionCode::Authentication);
    }

    #[test]
    fn a_listener_that_stops_or_is_full_says_which() {
        for (availability, expected) in [
            (Availability::ShuttingDown, RejectionCode::ShuttingDown),
            (Availability::Full, RejectionCode::TooManyConnections),
        ] {
            let mut listener = listener(1..=1);
            listener.availability = availability;
            assert_eq!(refusal(&hello(1..=1), &listener), expected);
        }
    }

    #[test]
    fn rejection_codes_keep_their_numbers_and_later_ones_are_carried() {
        let numbers: Vec<u16> = RejectionCode::KNOWN.iter().map(|code| code.number()).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7]);
        for number in 0..=20 {
            assert_eq!(RejectionCode::from_number(number).number(), number);
        }
    }

    #[test]
    fn where_proof_is_asked_only_a_node_may_say_that_it_is_one() {
        for speaker in [Speaker::Client, Speaker::Forwarder, Speaker::Peer] {
            for proof in [Proof::NotAsked, Proof::Node, Proof::NoNode] {
                let hello = Hello {
                    speaker,
                    ..hello(1..=1)
                };
                let listener = Listener {
                    proof,
                    ..listener(1..=1)
                };
                let outcome = negotiate(&hello, &listener).map_err(|rejection| rejection.code);
                let is_refused = outcome == Err(RejectionCode::Authentication);
                let expected = speaker != Speaker::Client && proof == Proof::NoNode;
                assert_eq!(is_refused, expected, "{speaker:?} {proof:?} {outcome:?}");
            }
        }
    }
}

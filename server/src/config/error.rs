//! Why a command line can not be carried out: one sentence each, with what to type instead.

use raftkv_protocol::{Address, NodeName};
use thiserror::Error;

use super::{HostPort, InvalidAddress};

/// A command line that leaves something open, or contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs)]
pub enum ConfigError {
    #[error("--id is missing: give this node a name, such as `server --id node1 --http :8080`")]
    NoId,
    #[error(
        "{name:?} is not a usable name: a name has 1 to 64 letters, digits, '-', '_' or '.', and begins with a letter or digit"
    )]
    Name { name: String },
    #[error("{flag}: {source}")]
    Address {
        flag: &'static str,
        source: InvalidAddress,
    },
    #[error(
        "the name {name} does not end in a number up to 58535, so it does not say where to listen: add --listen HOST:PORT, such as --listen 127.0.0.1:7001 (a name like node1 means that address by itself)"
    )]
    NoListen { name: NodeName },
    #[error(
        "--peers names {name} without an address, and the name does not end in a number up to 58535: write {name}=HOST:PORT, such as {name}=10.0.0.2:7000 (a bare name like node2 means 127.0.0.1:7002)"
    )]
    PeerWithoutAddress { name: NodeName },
    #[error(
        "--peers names nobody: name the other nodes, such as --peers node2,node3, or leave the flag out to run a cluster of one"
    )]
    NoPeers,
    #[error("--peers {peer}: an address without a host says nothing to other nodes: write {name}=HOST:PORT")]
    PeerWithoutHost { peer: String, name: NodeName },
    #[error("--peers names {name} twice, with {first} and {second}: give it one address")]
    PeerTwice {
        name: NodeName,
        first: Address,
        second: Address,
    },
    #[error("{first} and {second} have the same address {address}: each node needs its own")]
    SharedAddress {
        first: NodeName,
        second: NodeName,
        address: Address,
    },
    #[error(
        "--peers gives this node ({name}) the address {listed}, but it is reached at {own}: make them agree (--listen or --advertise)"
    )]
    OwnAddressDiffers {
        name: NodeName,
        listed: Address,
        own: Address,
    },
    #[error(
        "--listen {listen} means every interface, which tells other nodes nothing: add --advertise HOST:{}, the address at which they reach this one",
        listen.port
    )]
    UnreachableListen { listen: HostPort },
    #[error(
        "--join and --peers exclude each other: --peers forms a new cluster with those nodes, --join asks a running one to be let in"
    )]
    JoinAndPeers,
    #[error(
        "--join {join} names no other node: write the --listen address of any member of the running cluster"
    )]
    UselessJoin { join: HostPort },
    #[error(
        "--tls-cert and --tls-key go together, and --tls-ca and --tls-client-certificates go with them: name this node's certificate and its key, both as PEM files (`kvctl certificate node NAME --host HOST` makes them)"
    )]
    HalfIdentity,
    #[error(
        "--tls-client-certificates required: by whom they must be signed is missing, name the authority's certificate with --tls-ca"
    )]
    NoAuthority,
    #[error(
        "nodes prove to each other that they are nodes: name the authority that signed their certificates with --tls-ca"
    )]
    NoAuthorityForNodes,
    #[error("--tls-crl lists what an authority has revoked: name the authority with --tls-ca, too")]
    ListWithoutAuthority,
    #[error("{flag} {address} is no address others can connect to: write HOST:PORT with both")]
    UnreachableAdvertise { flag: &'static str, address: HostPort },
}

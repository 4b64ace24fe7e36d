//! An unformed node: it tells the listed peers who it is, and learns who is there and who agrees.
//!
//! A cluster forms only when every listed peer has answered, is unformed, and lists the same set; then the smallest name
//! alone writes entry 1. All others become formed through a formed node.
//!
//! Messages may be late or doubled, and disks may be lost. So a peer's word counts for the founder only if it names the
//! founder's identity: an identity is new with each disk, so such a word is younger than the disk. A node that was in a
//! cluster before the founder's disk was lost has no such word, and two foundings never both find a majority. A cluster may
//! have gone on to members that are not listed: see [`elsewhere`].

mod elsewhere;

use std::time::Duration;

use raftkv_protocol::{
    Address, Admission, ClusterId, FormedIn, Founding, Introduction, Knock, KnockWay, Member,
    MembershipMessage, NodeId, NodeName, PeerMessage, Standing, StandingReply,
};
use raftkv_raft::Time;
use raftkv_raft::simulation::{mark, mutant};

use self::elsewhere::Elsewhere;
use super::founding::Founded;
use super::notice::Repeated;
use super::outbox::Outbox;
use super::{Effect, Notice};

/// Introductions are repeated about this often, so that nodes may start in any order and messages may be lost.
const INTRODUCTION_INTERVAL: Duration = Duration::from_millis(200);

/// An introduction is answered at most this often per peer: two nodes that answer each other's answers must not spin.
const ANSWER_INTERVAL: Duration = Duration::from_millis(100);

/// A peer counts as unformed only if it said so within this time. Several introductions fit in, so that lost messages
/// rarely delay forming; and a peer that was replaced or formed since is not counted on for long.
const FRESHNESS: Duration = Duration::from_secs(3);

/// The operator hears of missing peers after this time: starting three terminals by hand takes that long.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is known of a listed peer.
#[derive(Debug)]
enum Heard {
    Nothing,
    /// Unformed, and told the same list.
    Agrees {
        identity: NodeId,
        http: Option<Address>,
        at: Time,
        of: Addressee,
    },
    /// Unformed, and told another list, or another name or address than we were told for it.
    Differs,
    /// In a cluster that does not take this node in; the command mends it.
    Formed {
        cluster: ClusterId,
        command: String,
    },
}

/// Whom a peer's last words were meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Addressee {
    /// This node: the peer has heard of this very identity. So it spoke after this identity was made, and whatever
    /// cluster it was in then it was not in one founded by a former identity of this name.
    Us,
    /// Not known: it has not heard of this node, or the words are from before this identity was made.
    Anyone,
}

#[derive(Debug)]
struct Peer {
    name: NodeName,
    address: Address,
    heard: Heard,
    answered_at: Option<Time>,
    said: Repeated,
}

/// An unformed node.
#[derive(Debug)]
pub(super) struct Forming {
    ours: Introduction,
    /// All listed peers but this node.
    peers: Vec<Peer>,
    next_introduction: Time,
    patient_until: Time,
    waiting_said: Repeated,
    stranger_said: Repeated,
    stranger_answered_at: Option<Time>,
    joining: Joining,
    elsewhere: Elsewhere,
    elsewhere_said: Repeated,
}

/// A node that is to join a cluster forms none.
#[derive(Debug)]
struct Joining {
    /// The member that is asked.
    at: Option<Address>,
    /// What was heard of the cluster there.
    heard: Option<JoinAnswer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JoinAnswer {
    /// It does not name this node yet.
    Waits(ClusterId),
    /// This identity was a member of it, and removed.
    Removed(ClusterId),
}

impl Forming {
    pub(super) fn new(mut ours: Introduction, join: Option<Address>, now: Time) -> Forming {
        ours.formed = None;
        ours.heard = Vec::new();
        let itself = (ours.name.clone(), ours.address.clone());
        if !ours.peers.contains(&itself) {
            ours.peers.push(itself);
        }
        ours.peers.sort();
        let peers = ours.peers.iter().filter(|(name, _)| *name != ours.name);
        Forming {
            peers: peers.map(|(name, address)| Peer::new(name, address)).collect(),
            next_introduction: now,
            patient_until: now.after(PATIENCE),
            waiting_said: Repeated::default(),
            stranger_said: Repeated::default(),
            stranger_answered_at: None,
            joining: Joining {
                at: join,
                heard: None,
            },
            elsewhere: Elsewhere::default(),
            elsewhere_said: Repeated::default(),
            ours,
        }
    }

    /// When [`Forming::poll`] wants to be called next.
    pub(super) fn next_deadline(&self) -> Time {
        self.next_introduction
    }

    /// Someone tells who they are.
    pub(super) fn meet(&mut self, now: Time, theirs: &Introduction, out: &mut Outbox) {
        if theirs.identity == self.ours.identity {
            // Our own echo; or a copied data directory, which must not count as a second node.
            mark("introduction with our own identity ignored");
            return;
        }
        match &theirs.formed {
            Some(cluster) => self.meet_formed(now, theirs, cluster, out),
            None => self.meet_unformed(now, theirs, out),
        }
    }

    /// A formed node names us in its founding configuration.
    pub(super) fn accept(&self, founding: &Founding) -> Option<Founded> {
        match Founded::accept(founding, &self.ours) {
            Ok(founded) => Some(founded),
            Err(_) => {
                mark("founding refused");
                None
            }
        }
    }

    /// A formed node lets us join its running cluster.
    pub(super) fn admit(&self, admission: &Admission) -> Option<Founded> {
        match Founded::admit(admission, &self.ours) {
            Ok(founded) => Some(founded),
            Err(_) => {
                mark("admission refused");
                None
            }
        }
    }

    /// A member tells that this identity is not wanted.
    pub(super) fn standing(&mut self, reply: &StandingReply) {
        if reply.to == self.ours.identity && reply.standing == Standing::Removed {
            self.joining.heard = Some(JoinAnswer::Removed(reply.cluster));
        }
    }

    /// Repeats introductions and notices. `Some`: this node alone founds the cluster, now.
    pub(super) fn poll(&mut self, now: Time, rng: &mut fastrand::Rng, out: &mut Outbox) -> Option<Founded> {
        if now >= self.next_introduction {
            let half_us = INTRODUCTION_INTERVAL.as_micros() as u64 / 2;
            let jittered = Duration::from_micros(half_us + half_us / 2 + rng.u64(0..=half_us));
            self.next_introduction = now.after(jittered);
            match &self.joining.at {
                Some(at) => self.knock(at, out),
                None => {
                    for peer in &self.peers {
                        self.introduce(&peer.address, out);
                    }
                    if let Some(member) = self.elsewhere.member() {
                        self.knock(member, out);
                    }
                    self.say_who_is_missing(now, out);
                }
            }
        }
        let members = self.agreed_members(now)?;
        if self.founds_beside_another(now, out) {
            return None;
        }
        Some(Founded::new(ClusterId(rng.u64(1..)), members))
    }

    /// Would the cluster be a second one beside one that lives on elsewhere? Then the operator hears of it.
    fn founds_beside_another(&mut self, now: Time, out: &mut Outbox) -> bool {
        let Some((cluster, command)) = self.elsewhere.known() else {
            return false;
        };
        let command = command.to_owned();
        say(
            now,
            &mut self.elsewhere_said,
            Notice::NotAMember { cluster, command },
            out,
        );
        true
    }

    /// Why there is no service yet, and what to do about it.
    pub(super) fn explanation(&self, now: Time) -> String {
        if let Some(explanation) = self.joining_explanation() {
            return explanation;
        }
        let formed = self.peers.iter().find_map(|peer| match &peer.heard {
            Heard::Formed { cluster, command } => Some((peer, cluster, command)),
            Heard::Nothing | Heard::Agrees { .. } | Heard::Differs => None,
        });
        if let Some((peer, cluster, command)) = formed {
            return format!(
                "{} is already in cluster {cluster}, which does not name this node; run: {command}",
                peer.name
            );
        }
        if let Some(peer) = self
            .peers
            .iter()
            .find(|peer| matches!(peer.heard, Heard::Differs))
        {
            return format!(
                "{} ({}) was given another --peers list; start all nodes with the same names and addresses",
                peer.name, peer.address
            );
        }
        let missing = self.missing(now);
        if missing.is_empty() {
            let is_formed_now = || "all peers have answered; the cluster is being formed".to_owned();
            return self.elsewhere.explanation().unwrap_or_else(is_formed_now);
        }
        let missing: Vec<_> = missing
            .iter()
            .map(|(name, address)| format!("{name} ({address})"))
            .collect();
        format!(
            "the cluster is not formed yet: waiting for {}; start them with the same --peers list",
            missing.join(", ")
        )
    }

    fn joining_explanation(&self) -> Option<String> {
        let name = &self.ours.name;
        match (self.joining.heard, &self.joining.at) {
            (Some(JoinAnswer::Removed(cluster)), _) => Some(format!(
                "this data directory was a member of cluster {cluster} and was removed; start with an empty one to join again"
            )),
            (Some(JoinAnswer::Waits(cluster)), Some(_)) => Some(format!(
                "waiting to be let into cluster {cluster}; run: kvctl member add {name}"
            )),
            (None, Some(at)) => Some(format!(
                "waiting for an answer from {at} (--join); is a server of the cluster running there?"
            )),
            (Some(JoinAnswer::Waits(_)) | None, None) => None,
        }
    }

    /// Asks a member of a running cluster to be let in.
    fn knock(&self, to: &Address, out: &mut Outbox) {
        let knock = Knock {
            introduction: self.ours.clone(),
            way: KnockWay::Direct,
        };
        out.push(Effect::Send {
            to: to.clone(),
            message: PeerMessage::Membership(MembershipMessage::Knock(knock)),
        });
    }

    fn meet_cluster_to_join(&mut self, now: Time, cluster: &FormedIn, out: &mut Outbox) {
        let answer = JoinAnswer::Waits(cluster.cluster);
        if !matches!(self.joining.heard, Some(JoinAnswer::Removed(_))) {
            self.joining.heard = Some(answer);
        }
        let is_known = cluster.members.iter().any(|member| member.name == self.ours.name);
        let verb = if is_known { "replace" } else { "add" };
        let notice = Notice::WaitingForAdmission {
            cluster: cluster.cluster,
            command: format!("kvctl member {verb} {}", self.ours.name),
        };
        say(now, &mut self.stranger_said, notice, out);
    }

    fn meet_formed(&mut self, now: Time, theirs: &Introduction, cluster: &FormedIn, out: &mut Outbox) {
        if self.joining.at.is_some() {
            self.meet_cluster_to_join(now, cluster, out);
            return;
        }
        let command = self.mending_command(theirs, cluster);
        let Some(place) = self.peers.iter().position(|peer| peer.address == theirs.address) else {
            let is_ours =
                |member: &Member| member.name == self.ours.name && member.address == self.ours.address;
            if cluster.members.iter().any(is_ours) {
                self.elsewhere.learn(cluster, &self.ours);
            }
            let notice = Notice::ForeignPeer {
                peer: theirs.name.clone(),
                address: theirs.address.clone(),
                cluster: cluster.cluster,
            };
            say(now, &mut self.stranger_said, notice, out);
            // An operator may have named our address to its cluster: then it wants to know who is here.
            if is_due(self.stranger_answered_at, now) {
                self.stranger_answered_at = Some(now);
                self.knock(&theirs.address, out);
            }
            return;
        };
        self.elsewhere.learn(cluster, &self.ours);
        // It may be told to replace what had our name.
        if is_due(self.peers[place].answered_at, now) {
            self.peers[place].answered_at = Some(now);
            self.knock(&theirs.address, out);
        }
        self.peers[place].heard = Heard::Formed {
            cluster: cluster.cluster,
            command: command.clone(),
        };
        mark("unformed node met a formed cluster without it");
        let notice = Notice::NotAMember {
            cluster: cluster.cluster,
            command,
        };
        // Every node of that cluster tells the same.
        if !self
            .peers
            .iter()
            .any(|peer| peer.said.has_just_said(now, &notice))
        {
            say(now, &mut self.peers[place].said, notice, out);
        }
    }

    /// A formed node that wants us sends `Found`. One that introduces itself instead does not know our identity, or
    /// knows that the log of this identity was lost.
    fn mending_command(&self, theirs: &Introduction, cluster: &FormedIn) -> String {
        let ours = &self.ours;
        let is_known = |member: &Member| member.name == ours.name || member.identity == ours.identity;
        match cluster.members.iter().find(|member| is_known(member)) {
            Some(member) => format!("kvctl member replace {}", member.name),
            None => join_command(ours, &theirs.address),
        }
    }

    fn meet_unformed(&mut self, now: Time, theirs: &Introduction, out: &mut Outbox) {
        let mut their_list = theirs.peers.clone();
        their_list.sort();
        let lists_agree = their_list == self.ours.peers;
        let known = |peer: &&mut Peer| peer.name == theirs.name || peer.address == theirs.address;
        let peer = self.peers.iter_mut().find(known);
        let said = match peer {
            Some(peer) if lists_agree && peer.name == theirs.name && peer.address == theirs.address => {
                peer.heard = Heard::Agrees {
                    identity: theirs.identity,
                    http: theirs.http.clone(),
                    at: now,
                    of: match theirs.heard.contains(&self.ours.identity) {
                        true => Addressee::Us,
                        false => Addressee::Anyone,
                    },
                };
                if is_due(peer.answered_at, now) {
                    peer.answered_at = Some(now);
                    self.introduce(&theirs.address, out);
                }
                return;
            }
            Some(peer) => {
                peer.heard = Heard::Differs;
                &mut peer.said
            }
            None => {
                // It lists us and we do not list it. Unanswered, it would wait for us as if we were not there.
                if is_due(self.stranger_answered_at, now) {
                    self.stranger_answered_at = Some(now);
                    self.introduce(&theirs.address, out);
                }
                &mut self.stranger_said
            }
        };
        mark("peer lists differ");
        let notice = Notice::PeerListsDiffer {
            peer: theirs.name.clone(),
            ours: self.ours.peers.clone(),
            theirs: theirs.peers.clone(),
        };
        say(now, said, notice, out);
    }

    fn say_who_is_missing(&mut self, now: Time, out: &mut Outbox) {
        let peers = self.missing(now);
        if now >= self.patient_until && !peers.is_empty() {
            say(now, &mut self.waiting_said, Notice::WaitingFor { peers }, out);
        }
    }

    /// Says who this node is, and whom it has heard of.
    fn introduce(&self, to: &Address, out: &mut Outbox) {
        let heard = self.peers.iter().filter_map(Peer::identity).collect();
        let ours = Introduction {
            heard,
            ..self.ours.clone()
        };
        out.push(Effect::Send {
            to: to.clone(),
            message: PeerMessage::Introduce(ours),
        });
    }

    /// Listed peers that were not heard of (lately), or have not heard of this node.
    fn missing(&self, now: Time) -> Vec<(NodeName, Address)> {
        let is_missing = |peer: &&Peer| match peer.heard {
            Heard::Nothing => true,
            Heard::Agrees { at, of, .. } => now.since(at) > FRESHNESS || of == Addressee::Anyone,
            Heard::Differs | Heard::Formed { .. } => false,
        };
        let missing = self.peers.iter().filter(is_missing);
        missing
            .map(|peer| (peer.name.clone(), peer.address.clone()))
            .collect()
    }

    /// All members, when every listed peer agrees and this node has the smallest name.
    fn agreed_members(&self, now: Time) -> Option<Vec<Member>> {
        let is_to_join = self.joining.at.is_some() || self.joining.heard.is_some();
        if is_to_join || self.peers.iter().any(|peer| peer.name < self.ours.name) {
            return None;
        }
        let agreed: Vec<_> = self.peers.iter().filter_map(|peer| peer.agreed(now)).collect();
        let is_enough = if mutant("forming_without_every_peer") {
            agreed.len() * 2 >= self.peers.len()
        } else {
            agreed.len() == self.peers.len()
        };
        let mut members = agreed;
        members.push(Member {
            name: self.ours.name.clone(),
            identity: self.ours.identity,
            address: self.ours.address.clone(),
            http: self.ours.http.clone(),
            voter: true,
        });
        (is_enough && has_distinct_identities(&members)).then_some(members)
    }
}

impl Peer {
    fn new(name: &NodeName, address: &Address) -> Peer {
        Peer {
            name: name.clone(),
            address: address.clone(),
            heard: Heard::Nothing,
            answered_at: None,
            said: Repeated::default(),
        }
    }

    /// Whom it said to be, if it agreed.
    fn identity(&self) -> Option<NodeId> {
        match &self.heard {
            Heard::Agrees { identity, .. } => Some(*identity),
            Heard::Nothing | Heard::Differs | Heard::Formed { .. } => None,
        }
    }

    /// As a member, if it agreed lately, and with this very node.
    fn agreed(&self, now: Time) -> Option<Member> {
        match &self.heard {
            Heard::Agrees {
                identity,
                http,
                at,
                of: Addressee::Us,
            } if now.since(*at) <= FRESHNESS => Some(Member {
                name: self.name.clone(),
                identity: *identity,
                address: self.address.clone(),
                http: http.clone(),
                voter: true,
            }),
            Heard::Nothing | Heard::Agrees { .. } | Heard::Differs | Heard::Formed { .. } => None,
        }
    }
}

/// Starts this node so that it asks at `at` to be let in.
fn join_command(ours: &Introduction, at: &Address) -> String {
    format!("server --id {} --listen {} --join {at}", ours.name, ours.address)
}

/// May an introduction be answered again?
fn is_due(answered_at: Option<Time>, now: Time) -> bool {
    answered_at.is_none_or(|at| now.since(at) >= ANSWER_INTERVAL)
}

/// Two nodes on copies of one data directory are not two nodes.
fn has_distinct_identities(members: &[Member]) -> bool {
    let mut identities: Vec<_> = members.iter().map(|member| member.identity).collect();
    identities.sort_unstable();
    identities.windows(2).all(|pair| pair[0] != pair[1])
}

fn say(now: Time, said: &mut Repeated, notice: Notice, out: &mut Outbox) {
    if said.is_due(now, &notice) {
        out.notice(notice);
    }
}

//! What the node wants its operator to know, as log lines with named fields.

use std::collections::HashMap;

use raftkv_protocol::{Address, Member, NodeId, NodeName};
use raftkv_raft::{StepDown, Transition};
use tracing::{info, warn};

use crate::membership::Membership;
use crate::replica::Notice;

/// Writes notices; remembers the members' names, so that lines say `node2` instead of an identity.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    names: HashMap<u64, NodeName>,
}

impl Notices {
    pub(crate) fn know(&mut self, membership: &Membership) {
        let names = membership
            .everyone()
            .map(|member| (member.identity.0, member.name.clone()));
        self.names = names.collect();
    }

    pub(crate) fn write(&mut self, notice: &Notice) {
        match notice {
            Notice::Transition(transition) => self.transition(*transition),
            Notice::Formed(membership) => {
                self.know(membership);
                let members: Vec<_> = membership.members.iter().map(|member| &*member.name.0).collect();
                info!(cluster = %membership.cluster, members = members.join(","), "the cluster is formed");
            }
            Notice::PeerListsDiffer { peer, ours, theirs } => warn!(
                %peer,
                ours = list(ours),
                theirs = list(theirs),
                "no cluster is formed: this node and {peer} were told different --peers; make them name the same nodes"
            ),
            Notice::WaitingFor { peers } => info!(
                peers = list(peers),
                "waiting for peers that have not answered yet; the cluster is formed once all have"
            ),
            Notice::NotAMember { cluster, command } => warn!(
                %cluster,
                command,
                "the cluster does not know this node's data directory, so this node does not serve; mend it with: {command}"
            ),
            Notice::WaitingForAdmission { cluster, command } => info!(
                %cluster,
                command,
                "waiting to be let into the cluster; do so with: {command}"
            ),
            Notice::MembersChanged(membership) => {
                self.know(membership);
                let members: Vec<_> = membership.members.iter().map(describe).collect();
                info!(members = members.join(","), "the cluster's members changed");
            }
            Notice::SetAside { reason } => warn!(reason, "this node takes no part: {reason}"),
            Notice::TakesPart => info!("this node takes part again"),
            Notice::LeasesDiffer { peer, ours, theirs } => warn!(
                %peer,
                ours = drift(*ours),
                theirs = drift(*theirs),
                "this node and {peer} were told different --leader-leases-max-drift-ppm: reads by leader lease ask a majority instead; make them agree"
            ),
            Notice::ForeignPeer {
                peer,
                address,
                cluster,
            } => warn!(
                %peer,
                %address,
                %cluster,
                "{peer} at {address} belongs to another cluster; its messages are ignored"
            ),
            Notice::SnapshotStarted { peer, last } => info!(
                peer = self.name(peer.0),
                through = last.index.get(),
                "a node is behind what the log still holds: it is sent a snapshot"
            ),
            Notice::SnapshotDelivered { peer, last } => info!(
                peer = self.name(peer.0),
                through = last.index.get(),
                "the snapshot has arrived"
            ),
            Notice::SnapshotInstalled { from, last } => info!(
                from = self.name(from.0),
                through = last.index.get(),
                "this node was behind what the log still holds: its state comes from a snapshot now"
            ),
            Notice::SnapshotBroken { what } => warn!(what, "a snapshot that came in was dropped"),
            Notice::StatesDiffer { peer, at, keys: None } => tracing::error!(
                peer = self.name(peer.0),
                entry = at.get(),
                "this node and another one made different states of the same log; the majority decides which one is wrong"
            ),
            Notice::StatesDiffer {
                peer,
                at,
                keys: Some(keys),
            } => tracing::error!(
                peer = self.name(peer.0),
                entry = at.get(),
                keys,
                "this node and another one have different records stored; the majority decides which one is wrong"
            ),
            Notice::RecordsScrubbed { keys, last } => info!(
                keys,
                through = last.get(),
                "all stored records were hashed and compared among the nodes"
            ),
            Notice::ColdFileDamaged { damage } => tracing::error!(
                "a file of this node is damaged: {damage}; the node serves on, for all that it stores now stands elsewhere, but its disk may be failing: check it, or replace the node (kvctl member replace NAME)"
            ),
            Notice::Quarantined { explanation } => tracing::error!("{explanation}"),
            Notice::SpaceLow {
                free_bytes,
                reserve_bytes,
            } => warn!(
                free_mib = free_bytes >> 20,
                reserve_mib = reserve_bytes >> 20,
                "the disk is nearly full: puts are refused (no_space), deletes and reads go on; free room on the disk or delete keys"
            ),
            Notice::SpaceReturned { free_bytes } => {
                info!(
                    free_mib = free_bytes >> 20,
                    "the disk has room again: puts are taken"
                );
            }
            Notice::FlagsIgnored { stored, flags } => warn!(
                stored = names(stored),
                flags = names(flags),
                "--peers names other nodes than the stored membership; the stored one is used"
            ),
        }
    }

    fn transition(&self, transition: Transition) {
        match transition {
            Transition::PreCampaign { campaign_term } => {
                info!(term = campaign_term.0, "no leader is heard: asking for pre-votes");
            }
            Transition::Campaign { term } => info!(term = term.0, "campaigning"),
            Transition::Elected { term, .. } => info!(term = term.0, "elected: this node leads"),
            Transition::SteppedDown { term, reason } => {
                let reason = match reason {
                    StepDown::HigherTerm => "another node campaigns or leads in a higher term",
                    StepDown::LostQuorum => "no majority answered for an election time-out",
                    StepDown::SlowDisk => "this node's disk did not finish a write for an election time-out",
                    StepDown::Transferred => "leadership was handed over, as asked",
                    StepDown::NotAVoter => "the cluster's configuration does not name it as a voter any more",
                };
                warn!(term = term.0, reason, "this node leads no more");
            }
            Transition::Follows { term, leader } => match leader {
                Some(leader) => info!(term = term.0, leader = self.name(leader.0), "following"),
                None => info!(term = term.0, "no leader is known"),
            },
            Transition::TransferStarted { target } => {
                info!(target_node = self.name(target.0), "handing leadership over");
            }
            Transition::TransferAborted { target } => warn!(
                target_node = self.name(target.0),
                "the node did not take leadership over in time: this node goes on"
            ),
            Transition::LeaseDropped => {
                warn!("the clock jumped: the leader lease is dropped until a majority answers again")
            }
        }
    }

    fn name(&self, identity: u64) -> String {
        let known = self.names.get(&identity).map(ToString::to_string);
        known.unwrap_or_else(|| NodeId(identity).to_string())
    }
}

fn describe(member: &Member) -> String {
    let kind = if member.voter { "" } else { " (learner)" };
    format!("{}={}{kind}", member.name, member.address)
}

fn drift(ppm: Option<u32>) -> String {
    ppm.map_or_else(|| "off".to_owned(), |ppm| ppm.to_string())
}

fn list(peers: &[(NodeName, Address)]) -> String {
    let items: Vec<_> = peers
        .iter()
        .map(|(name, address)| format!("{name}={address}"))
        .collect();
    items.join(",")
}

fn names(names: &[NodeName]) -> String {
    let items: Vec<_> = names.iter().map(|name| &*name.0).collect();
    items.join(",")
}

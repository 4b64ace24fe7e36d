//! What an unformed node has heard of a cluster that lives on without the peers it lists.
//!
//! `--peers` names the founders, and stays in the command line when the cluster has long had other members. Founders that lose
//! their disks one after another agree again, and would found a second, empty cluster beside the first. So whoever has heard of
//! a cluster with members that are not listed founds none: if that cluster is gone for good, its operator knows, and starts the
//! node again.

use raftkv_protocol::{Address, ClusterId, FormedIn, Introduction, Member};

use super::join_command;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    known: Option<KnownCluster>,
}

#[derive(Debug)]
struct KnownCluster {
    cluster: ClusterId,
    /// A member that is not listed.
    member: Address,
    command: String,
}

impl Elsewhere {
    /// A member tells of its cluster. The last word about a cluster counts.
    pub(super) fn learn(&mut self, cluster: &FormedIn, ours: &Introduction) {
        let is_listed = |member: &Member| ours.peers.iter().any(|(name, _)| *name == member.name);
        let unlisted = cluster.members.iter().find(|member| !is_listed(member));
        if let Some(member) = unlisted {
            self.known = Some(KnownCluster {
                cluster: cluster.cluster,
                member: member.address.clone(),
                command: mending_command(cluster, &member.address, ours),
            });
        } else {
            self.known.take_if(|known| known.cluster == cluster.cluster);
        }
    }

    /// The cluster that no other one is to be founded beside, and what lets this node into it.
    pub(super) fn known(&self) -> Option<(ClusterId, &str)> {
        self.known
            .as_ref()
            .map(|known| (known.cluster, known.command.as_str()))
    }

    /// Whom to tell that this node is there, so that it can be let in.
    pub(super) fn member(&self) -> Option<&Address> {
        self.known.as_ref().map(|known| &known.member)
    }

    /// Why none is founded, and what to do.
    pub(super) fn explanation(&self) -> Option<String> {
        self.known.as_ref().map(|known| {
            format!(
                "all peers are there and in no cluster, but cluster {} has members that --peers does not list ({}), so no second one is formed; run: {}; if that cluster is gone for good, restart this node",
                known.cluster, known.member, known.command
            )
        })
    }
}

fn mending_command(cluster: &FormedIn, member: &Address, ours: &Introduction) -> String {
    let is_known = cluster.members.iter().any(|member| member.name == ours.name);
    if is_known {
        return format!("kvctl --endpoints {member} member replace {}", ours.name);
    }
    join_command(ours, member)
}

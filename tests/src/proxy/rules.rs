//! What the proxies do to each link.

use std::collections::BTreeMap;
use std::time::Duration;

use raftkv_protocol::NodeId;

/// Does anything get through?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flow {
    /// Yes.
    #[default]
    Open,
    /// Nothing; it stands still until the link is open again.
    Cut,
}

/// One direction between two nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Whether bytes get through.
    pub flow: Flow,
    /// How much later they arrive.
    pub delay: Duration,
    /// How often its connections were reset.
    pub resets: u64,
}

/// From one node to another, both counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Direction {
    pub(super) from: usize,
    pub(super) to: usize,
}

impl Direction {
    pub(super) fn back(self) -> Direction {
        Direction {
            from: self.to,
            to: self.from,
        }
    }
}

/// All links, and who is who.
#[derive(Debug, Default)]
pub(super) struct Rules {
    nodes: BTreeMap<NodeId, usize>,
    links: BTreeMap<Direction, Link>,
}

impl Rules {
    pub(super) fn introduce(&mut self, identity: NodeId, node: usize) {
        self.nodes.insert(identity, node);
    }

    pub(super) fn node(&self, identity: NodeId) -> Option<usize> {
        self.nodes.get(&identity).copied()
    }

    pub(super) fn link(&self, direction: Direction) -> Link {
        self.links.get(&direction).copied().unwrap_or_default()
    }

    pub(super) fn link_mut(&mut self, direction: Direction) -> &mut Link {
        self.links.entry(direction).or_default()
    }

    /// Whole and fast; the count of resets stays, or connections would miss one.
    pub(super) fn heal(&mut self) {
        for link in self.links.values_mut() {
            *link = Link {
                resets: link.resets,
                ..Link::default()
            };
        }
    }
}

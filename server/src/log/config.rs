//! Settings of the log, and whose it is.

use raftkv_protocol::{ClusterId, NodeId};

/// Settings of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Size of one segment file, bytes; a multiple of 4096. A single larger batch gets a segment of its own size.
    pub segment_size_bytes: u64,
    /// Segments made ready ahead of need, filled with zeros; of those not needed any more twice as many are kept, so that in
    /// the long run none has to be filled.
    pub spare_segments: usize,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig {
            segment_size_bytes: 64 << 20,
            spare_segments: 1,
        }
    }
}

/// Whose log it is; in each segment's header (R40).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOwner {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
}

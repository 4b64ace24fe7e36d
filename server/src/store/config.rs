//! Settings of the store on one node. None of them changes what replicas agree on.

/// Settings of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Memory that the overlay may hold, bytes: the generation that is written to takes at most half of it, then it is
    /// frozen and drains into the base. More means fewer and larger drains (less CPU for each write), more memory, and more
    /// of the log to replay after a crash.
    pub overlay_bytes: u64,
    /// Memory for records that were read from the base, bytes.
    pub cache_bytes: u64,
}

impl StoreConfig {
    /// The generation that is written to takes at most this; nothing is applied beyond it until the one before has drained.
    #[must_use]
    pub fn generation_bytes(&self) -> u64 {
        self.overlay_bytes / 2
    }

    /// It is frozen at this size, if the one before has drained: what is left to the bound is room for the next one while
    /// it drains.
    #[must_use]
    pub fn freeze_bytes(&self) -> u64 {
        self.overlay_bytes / 8 * 3
    }
}

impl Default for StoreConfig {
    fn default() -> Self {
        StoreConfig {
            overlay_bytes: 192 << 20,
            cache_bytes: 64 << 20,
        }
    }
}

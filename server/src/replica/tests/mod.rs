//! Scenarios of whole nodes on a small deterministic harness; the big simulation stands in the tests crate.

mod cluster;
mod divergence;
mod drains;
mod forced;
mod forming;
mod members;
#[cfg(feature = "simulation")]
mod planted;
mod promises;
mod ranges;
mod reads;
mod scrub;
mod snapshots;
mod sources;
mod tenure;
mod translate;
mod ttl;
mod txn_ranges;
mod writes;

//! The planted bugs of store and replica, by name. Each must be caught by the simulator.

/// Names for [`raftkv_raft::simulation::set_mutant`].
#[cfg(feature = "simulation")]
pub const MUTANTS: &[&str] = &[
    "X10_answer_before_commit",
    "X26_local_clock_in_apply",
    "X30_timeout_reported_as_failure",
    "read_served_before_applied",
    "forwarded_write_retried_after_lost",
    "forming_without_every_peer",
];

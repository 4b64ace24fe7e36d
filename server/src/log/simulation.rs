//! What the simulator can ask of the log: planted bugs, and situations that must occur.

/// The planted bugs of this module, and what each one does. See [`raftkv_raft::simulation`].
pub const MUTANTS: &[(&str, &str)] = &[
    (
        "X10_log_sync_skipped",
        "the log says that a batch is synced, and has not synced it (R34)",
    ),
    (
        "X10_replayed_tail_not_synced",
        "recovery does not sync what it replayed (R36)",
    ),
    (
        "X10_segment_name_not_synced",
        "a new segment's name is not synced (R36)",
    ),
    (
        "X13_hard_state_after_its_entries",
        "a batch carries the hard state from before it: the term comes after its entries (R33)",
    ),
    (
        "X21_cut_below_the_proven_sync_point",
        "recovery cuts the log at a bad record that was synced (R41)",
    ),
    (
        "X22_failed_sync_retried",
        "a failed sync is tried again, and believed (R37)",
    ),
];

/// The situations this module marks. A long enough set of simulations with bad disks reaches each of them.
pub const MARKS: &[&str] = &[
    "log: begun anew behind a snapshot",
    "log: damage refused",
    "log: foreign segment refused",
    "log: install finished at the start",
    "log: mark written",
    "log: next segment",
    "log: segment compacted",
    "log: torn tail cut",
    "log: unproven tail written again",
];

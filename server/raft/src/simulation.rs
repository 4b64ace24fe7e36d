//! Hooks for the simulator: planted bugs (mutants), marks for situations that must occur, and forced rare behaviour.
//!
//! Without the feature `simulation` every hook is a constant that the compiler removes: a product build can not
//! contain a mutant, and CI proves it on the built binary.
//!
//! Call sites name what they mean: `if mutant("X02_vote_before_sync") { .. }`, `mark("truncated")`,
//! `if buggify("one entry per append") { .. }`. The names this
//! crate uses are listed here; a test compares the lists with the sources.

/// The planted bugs of this crate, and what each one does.
#[cfg(feature = "simulation")]
pub const MUTANTS: &[(&str, &str)] = &[
    (
        "X01_old_term_committed_by_counting",
        "an entry of an older term is committed by counting replicas (R27)",
    ),
    (
        "X02_vote_before_sync",
        "a vote is answered before it is durable (R1)",
    ),
    (
        "X03_vote_cleared_on_step_down",
        "a leader or candidate that steps down within its term forgets its vote (R2)",
    ),
    (
        "X03_vote_forgotten_at_restart",
        "the vote is forgotten at restart (R2)",
    ),
    (
        "X04_log_check_by_index_first",
        "logs are compared by length before term (R3)",
    ),
    ("X04_log_check_skipped", "votes are given whatever the log (R3)"),
    (
        "X05_timer_restarted_by_pre_vote_grant",
        "granting a pre-vote restarts the election timer (R6)",
    ),
    (
        "X05_timer_restarted_by_refused_vote",
        "refusing a vote restarts the election timer (R6)",
    ),
    (
        "X06_every_append_truncates",
        "each append cuts what follows it, conflict or not (R18)",
    ),
    (
        "X07_commit_up_to_own_last",
        "a follower commits up to its own last entry (R20)",
    ),
    (
        "X08_hint_taken_for_match",
        "a refusal's hint is taken for a match (R23)",
    ),
    ("X08_match_may_fall", "a late ack lowers the match (R23)"),
    (
        "X09_ack_of_an_older_term_accepted",
        "acks of an older term count (R22)",
    ),
    (
        "X09_ack_of_another_session_accepted",
        "acks of a peer's former stay count (R22)",
    ),
    (
        "X10_ack_before_durable",
        "entries are acknowledged before they are durable (R34)",
    ),
    (
        "X10_ack_of_duplicate_before_durable",
        "only duplicate and empty appends are acknowledged before they are durable (R34)",
    ),
    (
        "X11_leader_counts_itself_before_sync",
        "the leader counts itself by its last entry, durable or not (R29)",
    ),
    (
        "X12_late_completion_counts_for_new_entries",
        "a late write completion counts for the entries that overwrote its own (R35)",
    ),
    (
        "X14_configuration_kept_over_truncation",
        "a configuration outlives the truncation of its entry (R56)",
    ),
    (
        "X14_votes_counted_by_an_older_configuration",
        "votes are counted by a configuration older than the log's (R13)",
    ),
    (
        "X15_change_before_own_term_commit",
        "a leader takes a configuration change before its term has a commit (R57)",
    ),
    (
        "X16_joint_quorum_of_the_new_half",
        "in a joint configuration the new half decides alone (R58)",
    ),
    (
        "X16_joint_quorum_of_the_union",
        "in a joint configuration a majority of the union decides (R58)",
    ),
    (
        "X17_joint_left_before_it_is_committed",
        "a joint configuration is left before it is committed (R59)",
    ),
    (
        "X17_joint_left_by_its_own_leader_alone",
        "a new leader does not leave the joint configuration that it finds (R59)",
    ),
    (
        "X18_phantom_configuration_kept_over_a_snapshot",
        "a configuration of the old log outlives the snapshot that took its place (R51)",
    ),
    (
        "X20_log_reset_counts_before_it_is_durable",
        "a snapshot counts as installed before it is durable (R49)",
    ),
    (
        "X20_older_snapshot_accepted",
        "a snapshot of what is committed already is installed (R50)",
    ),
    (
        "X23_read_round_reused",
        "a read rides on a round that was sent before it arrived (R68)",
    ),
    (
        "X23_read_without_own_term_commit",
        "reads are confirmed before the term has a commit (R68)",
    ),
    (
        "X23_read_without_quorum_round",
        "reads are confirmed without a quorum (R68)",
    ),
    (
        "X24_lease_counted_from_the_ack",
        "a lease starts when its round is answered, not when it was sent (R70)",
    ),
    (
        "X24_lease_forgotten_at_restart",
        "a voter that restarts forgets that a leader may count on it (R71)",
    ),
    (
        "X24_lease_kept_over_a_transfer",
        "a leader that hands over goes on reading by its lease (R67)",
    ),
    (
        "X24_no_check_after_the_read",
        "a lease is not looked at again after the state was read (R70)",
    ),
    (
        "X27_no_check_quorum",
        "a leader that nobody answers goes on (R11)",
    ),
    (
        "X27_transfer_flag_ignored",
        "stickiness holds against a transfer of leadership (R66)",
    ),
    (
        "X28_full_window_never_reopened",
        "nothing reopens a full window whose appends were lost (R77)",
    ),
    (
        "X28_next_below_match",
        "a refusal sends next below the match (R24)",
    ),
    ("X28_probe_never_left", "a lost probe is never repeated (R77)"),
    (
        "X29_proposal_stamped_with_a_newer_term",
        "a node that leads no more appends proposals under the newer term (R26)",
    ),
];

/// The situations this crate marks. A long enough set of simulations reaches each of them.
#[cfg(feature = "simulation")]
pub const MARKS: &[&str] = &[
    "ack beyond the log dropped",
    "append refused, another term stands there",
    "append refused, the log is shorter",
    "change refused before the term's first commit",
    "change refused while another is under way",
    "change refused, a new voter has not caught up",
    "change refused, no majority would be alive",
    "committed with the leader's own disk behind",
    "configuration entries gave way to a snapshot",
    "early hand-over ignored",
    "fetch for a peer",
    "fetch that was not open dropped",
    "fetched entries were gone",
    "fetched for a peer",
    "fetched for apply",
    "forwarded read given up",
    "forwarded read repeated",
    "full window asked about",
    "hand-over to a node that does not vote ignored",
    "joint configuration of another leader left",
    "late answer to a forwarded read dropped",
    "late hand-over ignored",
    "leader outside its configuration stepped down",
    "lease dropped, the clock jumped",
    "lease given up for a transfer",
    "lease read refused by the second check",
    "log compacted",
    "malformed append dropped",
    "message for another node or garbage dropped",
    "old-term entry on a quorum not committed by counting",
    "older term answered with ours",
    "peer needs a snapshot",
    "pre-vote refused by stickiness",
    "pre-vote refused for its log",
    "pre-vote refused for its term",
    "probe refused",
    "proposal refused during a transfer",
    "proposal refused, too much uncommitted",
    "read dropped at step-down",
    "read for a peer refused, too many wait",
    "read waits for the term's first commit",
    "refusal below the match ignored",
    "refusal of no outstanding probe ignored",
    "replicate refused",
    "reply of an older term dropped",
    "reply of another session dropped",
    "reset connection to a leader with a lease",
    "snapshot failed, asked again later",
    "snapshot installed",
    "snapshot of an older term refused",
    "snapshot of what is committed refused",
    "snapshot of what the log holds refused",
    "snapshot refused as garbage",
    "snapshot report of another session dropped",
    "snapshot report of another term dropped",
    "snapshot state left by an ack",
    "stale fetch dropped",
    "stepped down, own disk is slow",
    "stepped down, quorum lost",
    "stickiness ended by a reset connection",
    "transfer aborted",
    "transfer refused, the target does not vote",
    "transfer waits for its target",
    "truncated",
    "truncated a configuration entry",
    "vote refused for a lease",
    "vote refused for its log",
    "vote refused, it is cast",
    "vote refused, the term has a leader",
    "vote request ignored by stickiness",
    "window full",
    "write completion capped by a truncation",
];

#[cfg(feature = "simulation")]
mod active {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    #[derive(Default)]
    struct Hooks {
        mutant: Option<&'static str>,
        marks: BTreeMap<&'static str, u64>,
        buggify: Option<(fastrand::Rng, BTreeMap<&'static str, f64>)>,
    }

    thread_local! {
        static HOOKS: RefCell<Hooks> = RefCell::new(Hooks::default());
    }

    /// Is the planted bug `name` switched on in this thread?
    #[must_use]
    pub fn mutant(name: &'static str) -> bool {
        HOOKS.with_borrow(|hooks| hooks.mutant == Some(name))
    }

    /// Switches one planted bug on, or all off, for this thread.
    pub fn set_mutant(name: Option<&'static str>) {
        HOOKS.with_borrow_mut(|hooks| hooks.mutant = name);
    }

    /// Counts that the situation `name` occurred.
    pub fn mark(name: &'static str) {
        HOOKS.with_borrow_mut(|hooks| *hooks.marks.entry(name).or_default() += 1);
    }

    /// All marks counted in this thread since the last call.
    #[must_use]
    pub fn take_marks() -> BTreeMap<&'static str, u64> {
        HOOKS.with_borrow_mut(|hooks| std::mem::take(&mut hooks.marks))
    }

    /// Should the rare but legal behaviour `name` happen now? Each name has a probability of its own, drawn once a run.
    #[must_use]
    pub fn buggify(name: &'static str) -> bool {
        HOOKS.with_borrow_mut(|hooks| {
            let Some((rng, rates)) = &mut hooks.buggify else {
                return false;
            };
            let rate = *rates
                .entry(name)
                .or_insert_with(|| if rng.f64() < 0.5 { 0.0 } else { rng.f64() * 0.2 });
            rate > 0.0 && rng.f64() < rate
        })
    }

    /// Turns forced rare behaviour on with a seed, or off, for this thread.
    pub fn set_buggify(seed: Option<u64>) {
        HOOKS.with_borrow_mut(|hooks| {
            hooks.buggify = seed.map(|seed| (fastrand::Rng::with_seed(seed), BTreeMap::new()));
        });
    }
}

#[cfg(feature = "simulation")]
pub use active::{buggify, mark, mutant, set_buggify, set_mutant, take_marks};

/// Is the planted bug `name` switched on? Never, in a product build.
#[cfg(not(feature = "simulation"))]
#[inline(always)]
#[must_use]
pub const fn mutant(_name: &'static str) -> bool {
    false
}

/// Counts that a situation occurred; nothing in a product build.
#[cfg(not(feature = "simulation"))]
#[inline(always)]
pub const fn mark(_name: &'static str) {}

/// Forces rare legal behaviour; never in a product build.
#[cfg(not(feature = "simulation"))]
#[inline(always)]
#[must_use]
pub const fn buggify(_name: &'static str) -> bool {
    false
}

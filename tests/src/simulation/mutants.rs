//! Planted bugs: each must be found, or the simulator has a hole.

use raftkv_raft::simulation as core;

use super::search::search;

/// The simulator's own planted bug: an operator puts an empty disk in, and the node's old identity on it (R44).
pub(crate) const WIPED_DISK_KEEPS_IDENTITY: &str = "X22_wiped_disk_keeps_identity";

/// Another one, of its disks: they do what the real ones do in an order of their own.
pub(crate) const LOG_BEGUN_BEFORE_THE_SWITCH: &str = "X20_log_begun_anew_before_the_switch";

/// Those of the simulator.
const OWN: &[(&str, &str)] = &[
    (
        WIPED_DISK_KEEPS_IDENTITY,
        "a wiped disk rejoins under the old identity (R44)",
    ),
    (
        LOG_BEGUN_BEFORE_THE_SWITCH,
        "the log begins anew behind a snapshot that is not the current state yet (R49)",
    ),
];

/// Those that the simulator is not asked to find: what finds each instead, by the rule that it breaks (the tests in
/// `server/raft/tests/rules`; `tests/mutants.rs` there runs each with its mutant, and fails if it does not fail), and why not
/// here.
pub const ELSEWHERE: &[(&str, &str, &str)] = &[
    (
        "X09_ack_of_another_session_accepted",
        "replication::r22_acks_of_another_stay_are_dropped",
        "it takes an identity that is added again: the replica lets none in twice (R63)",
    ),
    (
        "X15_change_before_own_term_commit",
        "membership::m01_no_change_before_the_leader_has_committed_in_its_term",
        "the replica asks whether it may before it proposes (Formed::may_change)",
    ),
    (
        "X23_read_round_reused",
        "reads::r68_only_a_round_sent_after_the_read_confirms_it",
        "an old round's answer must come behind a read, to a leader that has lost its place: one of 1640 seeds",
    ),
    (
        "X24_lease_counted_from_the_ack",
        "leases::r70_a_lease_lasts_from_the_sending_of_the_round_that_a_quorum_answered",
        "a read must fall between the right end of a lease and the wrong one, after another's write: one of 2100 seeds",
    ),
    (
        "X24_lease_forgotten_at_restart",
        "leases::q07_a_restarted_voter_keeps_its_promise_for_an_election_timeout",
        "a restart, an election and a read within one lease: not met in 4000 seeds",
    ),
    (
        "X24_no_check_after_the_read",
        "leases::q06_a_pause_between_check_and_read_is_noticed_after_it",
        "the simulator's pauses come between batches, not within one",
    ),
    (
        "X20_older_snapshot_accepted",
        "snapshots::s04_snapshot_at_or_below_commit_is_ignored_and_the_commit_acknowledged",
        "a snapshot that comes when the log has caught up meanwhile: three in 2500 seeds",
    ),
    (
        "X14_configuration_kept_over_truncation",
        "replication::r56_truncation_takes_a_configuration_back",
        "a cut change must be followed by one at a lower index: one of 3000 seeds",
    ),
    (
        "X14_votes_counted_by_an_older_configuration",
        "elections::r13_votes_are_counted_by_the_latest_configuration_committed_or_not",
        "a vote must fall between two configurations whose majorities are strangers to it: not met so far",
    ),
    (
        "X18_phantom_configuration_kept_over_a_snapshot",
        "snapshots::s05_snapshots_configuration_wins_over_one_in_the_log",
        "a change that nobody decided must lie in a log that a snapshot replaces: not met so far",
    ),
    (
        "X24_lease_kept_over_a_transfer",
        "leases::q08_no_lease_from_the_hand_over_on_even_when_it_is_aborted",
        "a read must fall between the successor's first write and the end of the lease: not met so far",
    ),
    (
        "X27_transfer_flag_ignored",
        "transfers::t03_voters_that_hear_a_leader_elect_its_successor",
        "a transfer that fails breaks no invariant here: the leader goes on, and an operator may be told no",
    ),
    (
        "X29_proposal_stamped_with_a_newer_term",
        "the random runs of server/raft/tests/mutants.rs",
        "it takes proposals that queue in the core: the replica asks for the role first",
    ),
];

/// How long one mutant is looked for.
pub const MOST_SEEDS: u64 = 4_000;

/// All planted bugs that the simulator must find: name, and what each does.
#[must_use]
pub fn all() -> Vec<(&'static str, &'static str)> {
    let mut all = known();
    all.retain(|(name, _)| !ELSEWHERE.iter().any(|(elsewhere, ..)| elsewhere == name));
    all
}

/// Those that are found elsewhere, too: they can be switched on by name.
#[must_use]
pub fn known() -> Vec<(&'static str, &'static str)> {
    let lists = [
        core::MUTANTS,
        raftkv_server::replica::MUTANTS,
        raftkv_server::log::simulation::MUTANTS,
        raftkv_server::store::history::simulation::MUTANTS,
        raftkv_server::watch::MUTANTS,
        raftkv_server::recovery::MUTANTS,
        OWN,
    ];
    lists.into_iter().flatten().copied().collect()
}

/// How a mutant was found.
#[derive(Clone, Debug)]
pub struct Kill {
    /// The first seed that broke something.
    pub seed: u64,
    /// How many seeds that took.
    pub seeds: u64,
    /// CPU seconds that took.
    pub cpu_seconds: f64,
    /// The invariant that broke.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
}

/// Looks for one mutant, over at most so many seeds.
///
/// # Errors
/// The CPU seconds spent in vain.
pub fn hunt(name: &'static str, most_seeds: u64, jobs: usize) -> Result<Kill, f64> {
    let found = search(0..most_seeds, jobs, 1, Some(name), &|_| {});
    let Some((seed, outcome)) = found.failures.into_iter().next() else {
        return Err(found.cpu_seconds);
    };
    let violation = outcome
        .violations
        .into_iter()
        .next()
        .expect("a failure has a violation");
    Ok(Kill {
        seed,
        seeds: found.runs,
        cpu_seconds: found.cpu_seconds,
        invariant: violation.invariant,
        what: violation.what,
    })
}

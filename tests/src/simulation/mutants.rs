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

/// Those that can not show yet, and the part that they wait for. They join the search with it.
pub const WAITING: &[(&str, &str)] = &[
    (
        "X09_ack_of_another_session_accepted",
        "a removed identity that is added again: the replica lets none in twice (R63), so it shows in the core's own tests",
    ),
    (
        "X15_change_before_own_term_commit",
        "a replica that proposes at once: this one asks first whether it may, so it shows in the core's own tests",
    ),
    (
        "X24_lease_forgotten_at_restart",
        "a restart, an election and a read within one lease: not met in 4000 seeds, so it shows in the core's own tests",
    ),
    (
        "X24_no_check_after_the_read",
        "a pause within a batch: the simulator's pauses come between them, so it shows in the core's own tests",
    ),
    (
        "X20_older_snapshot_accepted",
        "snapshots that come when the log has caught up meanwhile: three in 2500 seeds, so it shows in the core's own tests",
    ),
    (
        "X14_configuration_kept_over_truncation",
        "a hunt to the end: members change and leaders hand over in the simulator now, and it was not looked for long enough",
    ),
    (
        "X14_votes_counted_by_an_older_configuration",
        "a hunt to the end: members change and leaders hand over in the simulator now, and it was not looked for long enough",
    ),
    (
        "X18_phantom_configuration_kept_over_a_snapshot",
        "a hunt to the end: members change and leaders hand over in the simulator now, and it was not looked for long enough",
    ),
    (
        "X24_lease_kept_over_a_transfer",
        "a hunt to the end: members change and leaders hand over in the simulator now, and it was not looked for long enough",
    ),
    (
        "X27_transfer_flag_ignored",
        "a hunt to the end: members change and leaders hand over in the simulator now, and it was not looked for long enough",
    ),
    (
        "X29_proposal_stamped_with_a_newer_term",
        "a replica that queues proposals in the core: this one asks for the role first, so it shows in the core's own tests",
    ),
];

/// How long one mutant is looked for.
pub const MOST_SEEDS: u64 = 4_000;

/// All planted bugs that the simulator must find: name, and what each does.
#[must_use]
pub fn all() -> Vec<(&'static str, &'static str)> {
    let mut all = known();
    all.retain(|(name, _)| !WAITING.iter().any(|(waiting, _)| waiting == name));
    all
}

/// Those that wait, too: they can be switched on by name.
#[must_use]
pub fn known() -> Vec<(&'static str, &'static str)> {
    let lists = [
        core::MUTANTS,
        raftkv_server::replica::MUTANTS,
        raftkv_server::log::simulation::MUTANTS,
        raftkv_server::store::history::simulation::MUTANTS,
        raftkv_server::watch::MUTANTS,
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

//! Each planted bug must be caught: tests that find nothing prove nothing before they find these.
//!
//! A mutant is given to random simulations of whole groups, or to the test of the rule it breaks. `SURVEY=X` tells
//! which seed finds which of the mutants whose names start so.
#![cfg(feature = "simulation")]

#[path = "rules/elections.rs"]
mod elections;
mod harness;
#[path = "rules/leases.rs"]
mod leases;
#[path = "rules/membership.rs"]
mod membership;
#[path = "rules/persistence.rs"]
mod persistence;
#[path = "rules/reads.rs"]
mod reads;
#[path = "rules/replication.rs"]
mod replication;
#[path = "rules/snapshots.rs"]
mod snapshots;
#[path = "rules/transfers.rs"]
mod transfers;

use std::collections::BTreeSet;
use std::panic::catch_unwind;

use harness::chaos::run;
use raftkv_raft::simulation::{MUTANTS, set_mutant};

const SEEDS: u64 = 400;

/// Caught by some of the random runs.
const BY_RANDOM_RUNS: &[&str] = &[
    "X01_old_term_committed_by_counting",
    "X02_vote_before_sync",
    "X03_vote_forgotten_at_restart",
    "X04_log_check_by_index_first",
    "X04_log_check_skipped",
    "X06_every_append_truncates",
    "X07_commit_up_to_own_last",
    "X08_hint_taken_for_match",
    "X10_ack_before_durable",
    "X10_ack_of_duplicate_before_durable",
    "X11_leader_counts_itself_before_sync",
    "X12_late_completion_counts_for_new_entries",
    "X14_configuration_kept_over_truncation",
    "X14_votes_counted_by_an_older_configuration",
    "X16_joint_quorum_of_the_new_half",
    "X16_joint_quorum_of_the_union",
    "X17_joint_left_before_it_is_committed",
    "X17_joint_left_by_its_own_leader_alone",
    "X20_log_reset_counts_before_it_is_durable",
    "X20_older_snapshot_accepted",
    "X23_read_without_own_term_commit",
    "X28_full_window_never_reopened",
    "X28_next_below_match",
    "X28_probe_never_left",
    "X29_proposal_stamped_with_a_newer_term",
];

/// Caught by the test of the rule that they break.
const BY_RULES: &[(&str, fn())] = &[
    (
        "X01_old_term_committed_by_counting",
        replication::r27_older_terms_are_committed_by_the_own_term_alone,
    ),
    (
        "X02_vote_before_sync",
        elections::r01_vote_leaves_after_it_is_durable,
    ),
    (
        "X03_vote_cleared_on_step_down",
        elections::r02_vote_outlives_step_down_in_the_same_term,
    ),
    (
        "X03_vote_forgotten_at_restart",
        elections::r01_durable_vote_binds_after_restart,
    ),
    (
        "X04_log_check_by_index_first",
        elections::r03_term_of_the_last_entry_goes_before_length,
    ),
    (
        "X05_timer_restarted_by_pre_vote_grant",
        elections::r06_granting_a_pre_vote_does_not_restart_the_timer,
    ),
    (
        "X05_timer_restarted_by_refused_vote",
        elections::r06_refusing_a_vote_does_not_restart_the_timer,
    ),
    (
        "X06_every_append_truncates",
        replication::r18_short_old_append_never_shortens_a_matching_log,
    ),
    (
        "X07_commit_up_to_own_last",
        replication::r20_commit_follows_what_is_verified,
    ),
    (
        "X08_match_may_fall",
        replication::r23_late_ack_does_not_lower_the_match,
    ),
    (
        "X09_ack_of_an_older_term_accepted",
        replication::r22_acks_of_an_older_term_are_dropped,
    ),
    (
        "X09_ack_of_another_session_accepted",
        replication::r22_acks_of_another_stay_are_dropped,
    ),
    (
        "X11_leader_counts_itself_before_sync",
        replication::r29_leader_counts_itself_by_what_is_durable,
    ),
    (
        "X12_late_completion_counts_for_new_entries",
        persistence::r35_late_completion_does_not_prove_new_entries,
    ),
    (
        "X14_configuration_kept_over_truncation",
        replication::r56_truncation_takes_a_configuration_back,
    ),
    (
        "X14_votes_counted_by_an_older_configuration",
        elections::r13_votes_are_counted_by_the_latest_configuration_committed_or_not,
    ),
    (
        "X15_change_before_own_term_commit",
        membership::m01_no_change_before_the_leader_has_committed_in_its_term,
    ),
    (
        "X16_joint_quorum_of_the_new_half",
        elections::r58_joint_configuration_elects_by_both_halves,
    ),
    (
        "X16_joint_quorum_of_the_union",
        elections::r58_joint_configuration_elects_by_both_halves,
    ),
    (
        "X17_joint_left_before_it_is_committed",
        membership::r59_the_joint_configuration_is_left_once_it_is_committed,
    ),
    (
        "X17_joint_left_by_its_own_leader_alone",
        membership::m03_a_new_leader_leaves_the_joint_configuration_that_it_finds,
    ),
    (
        "X18_phantom_configuration_kept_over_a_snapshot",
        snapshots::s05_snapshots_configuration_wins_over_one_in_the_log,
    ),
    (
        "X20_log_reset_counts_before_it_is_durable",
        snapshots::r49_snapshot_is_acknowledged_once_it_is_durable,
    ),
    (
        "X20_older_snapshot_accepted",
        snapshots::s04_snapshot_at_or_below_commit_is_ignored_and_the_commit_acknowledged,
    ),
    (
        "X23_read_round_reused",
        reads::r68_only_a_round_sent_after_the_read_confirms_it,
    ),
    (
        "X23_read_without_own_term_commit",
        reads::r68_read_waits_for_the_first_commit_of_the_term,
    ),
    (
        "X23_read_without_quorum_round",
        reads::r68_no_read_without_a_quorum,
    ),
    (
        "X24_lease_counted_from_the_ack",
        leases::r70_a_lease_lasts_from_the_sending_of_the_round_that_a_quorum_answered,
    ),
    (
        "X24_lease_forgotten_at_restart",
        leases::q07_a_restarted_voter_keeps_its_promise_for_an_election_timeout,
    ),
    (
        "X24_lease_kept_over_a_transfer",
        leases::q08_no_lease_from_the_hand_over_on_even_when_it_is_aborted,
    ),
    (
        "X24_no_check_after_the_read",
        leases::q06_a_pause_between_check_and_read_is_noticed_after_it,
    ),
    (
        "X27_no_check_quorum",
        elections::r11_leader_without_answers_steps_down_in_its_term,
    ),
    (
        "X27_transfer_flag_ignored",
        elections::r66_transfer_overrides_stickiness,
    ),
    (
        "X27_transfer_flag_ignored",
        transfers::t03_voters_that_hear_a_leader_elect_its_successor,
    ),
    (
        "X28_full_window_never_reopened",
        replication::r77_window_bounds_what_is_under_way_and_a_heartbeat_reopens_it,
    ),
    (
        "X28_probe_never_left",
        replication::r77_probe_is_repeated_once_a_heartbeat,
    ),
];

/// Does some seed fail with this mutant? Which one first?
fn seed_that_finds(mutant: &'static str) -> Option<u64> {
    set_mutant(Some(mutant));
    let seed = (0..SEEDS).find(|seed| catch_unwind(|| run(*seed, 3 + seed % 2 * 2)).is_err());
    set_mutant(None);
    seed
}

#[test]
fn random_runs_find_what_they_can() {
    let survey = std::env::var("SURVEY").ok();
    for (name, _) in MUTANTS {
        let is_surveyed = survey.as_ref().is_some_and(|start| name.starts_with(start));
        if is_surveyed || (survey.is_none() && BY_RANDOM_RUNS.contains(name)) {
            let seed = seed_that_finds(name);
            println!("{name}: found by seed {seed:?}");
            assert!(
                is_surveyed || seed.is_some(),
                "{name} survives {SEEDS} random runs"
            );
        }
    }
}

#[test]
fn the_test_of_each_rule_finds_its_mutants() {
    for (name, rule) in BY_RULES {
        rule();
        set_mutant(Some(name));
        let outcome = catch_unwind(rule);
        set_mutant(None);
        assert!(outcome.is_err(), "{name} is not noticed");
    }
}

#[test]
fn every_mutant_has_its_hunter() {
    let by_rules = BY_RULES.iter().map(|(name, _)| *name);
    let hunted: BTreeSet<&str> = BY_RANDOM_RUNS.iter().copied().chain(by_rules).collect();
    let listed: BTreeSet<&str> = MUTANTS.iter().map(|(name, _)| *name).collect();
    assert_eq!(hunted, listed);
}

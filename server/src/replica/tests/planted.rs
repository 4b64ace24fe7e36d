//! Each planted bug is caught by a scenario of this folder: a test that can not fail proves nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};

use raftkv_raft::simulation::set_mutant;

use super::{drains, forced, forming, reads, scrub, ttl, writes};
use crate::replica::planted::MUTANTS;

/// The scenario that must fail with the planted bug.
fn catcher(mutant: &str) -> fn() {
    match mutant {
        "X10_answer_before_commit" => writes::answer_comes_only_after_a_majority_has_it,
        "X26_local_clock_in_apply" => ttl::key_expires_on_all_nodes_without_any_request,
        "X30_timeout_reported_as_failure" => writes::deadline_passed_after_proposing_is_outcome_unknown,
        "read_served_before_applied" => reads::confirmed_read_waits_for_entries_that_are_not_applied_here_yet,
        "forwarded_write_retried_after_lost" => {
            writes::forwarded_write_lost_on_the_way_is_unknown_and_never_sent_again
        }
        "forming_without_every_peer" => forming::two_of_three_do_not_form_and_say_who_is_missing,
        "force_ignored" => {
            forced::r64_forced_removal_is_proposed_and_completes_once_the_nodes_it_needs_are_back
        }
        "gathered_record_of_a_key_lost" => drains::entries_that_depend_on_drained_records_wait_for_them,
        "quarantine_forgotten_at_restart" => scrub::a_restart_does_not_end_a_quarantine,
        unknown => panic!("no scenario is named for {unknown}"),
    }
}

#[test]
fn every_planted_bug_is_caught() {
    // Those of drains take crashes and held scans to show, those of pages, sessions, leases and transactions a model of what
    // should come: `sim --mutants` asks the simulator for every one of them.
    const ELSEWHERE: [&str; 25] = [
        "image_of_the_oldest_kept_change_left_out",
        "drain_loses_a_record",
        "scrub_of_a_later_state",
        "drain_split_in_two",
        "generation_dropped_before_its_drain",
        "log_cut_before_the_drain",
        "old_lookup_believed",
        "scan_mixes_two_states",
        "last_key_of_a_page_read_again",
        "page_read_from_a_newer_state",
        "X19_sessions_not_in_the_snapshot",
        "X19_answers_of_sessions_lost_at_a_restart",
        "X19_renewal_of_a_lease_not_stored",
        "X25_session_made_silently",
        "X25_answer_kept_for_another_sequence",
        "idempotency_keys_lost_at_a_restart",
        "idempotency_key_taken_for_the_command",
        "expired_lease_leaves_its_keys",
        "lease_comes_back_without_its_keys",
        "key_stays_on_its_former_lease",
        "leases_end_at_an_election",
        "log_time_rests_while_leases_run",
        "branch_taken_without_its_compares",
        "increment_done_twice",
        "operation_blind_to_those_before",
    ];
    for (mutant, _) in MUTANTS.iter().filter(|(mutant, _)| !ELSEWHERE.contains(mutant)) {
        let scenario = catcher(mutant);
        scenario();
        set_mutant(Some(mutant));
        let outcome = catch_unwind(AssertUnwindSafe(scenario));
        set_mutant(None);
        assert!(outcome.is_err(), "{mutant} was not caught");
    }
}

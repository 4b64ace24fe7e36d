//! What a node writes, what it starts from, and what it does while its disk is slow: R33, R35, R39, R43, R46.

use crate::harness::lone::{Lone, accepted, append, heartbeat, messages};
use crate::harness::{Durable, command, entry, id, index, voters};
use raftkv_raft::{Config, NodeId, Raft, RestoreError, Restored, RoleName, StepDown, Term, Time, Transition};

#[test]
fn r33_term_rides_with_the_first_entry_of_it() {
    let mut node = Lone::new();
    node.hear(2, 5, append(id(1, 1), 1, vec![entry(id(2, 5), "a")]));
    assert_eq!(node.node.queued.len(), 1);
    assert_eq!(node.node.queued[0].hard_state.term, Term(5));
}

#[test]
fn commit_alone_causes_no_write() {
    let mut node = Lone::with(Durable::founded(voters(3)).with_terms(&[1]));
    node.hear(2, 1, heartbeat(Some(2), 1));
    assert_eq!(node.commit(), index(2));
    assert!(node.node.queued.is_empty());
}

#[test]
fn r46_written_commit_never_passes_what_earlier_writes_carry() {
    let mut node = Lone::new();
    node.hear(2, 1, append(id(1, 1), 2, vec![entry(id(2, 1), "a")]));
    assert_eq!(node.commit(), index(2));
    assert_eq!(
        node.node.queued[0].hard_state.commit,
        index(1),
        "a torn write may keep only the hard state"
    );
}

#[test]
pub(crate) fn r35_late_completion_does_not_prove_new_entries() {
    let mut node = Lone::new();
    node.hear(2, 1, append(id(1, 1), 1, vec![entry(id(2, 1), "old")]));
    for (leader, term) in [(3, 2), (2, 3)] {
        node.hear(leader, term, append(id(1, 1), 1, vec![entry(id(2, term), "new")]));
    }
    let now = node.now;
    assert_eq!(node.node.queued.len(), 3);
    for _ in 0..2 {
        node.node.persist_one(now);
        assert_eq!(messages(node.sends()), []);
        assert_eq!(node.raft().persisted_index(), index(1));
    }
    node.node.persist_one(now);
    assert_eq!(messages(node.sends()), [accepted(2)]);
}

#[test]
fn r39_leader_whose_disk_stands_still_hands_over() {
    let mut leader = Lone::leading(Durable::founded(voters(3)));
    let now = leader.now;
    leader.raft().propose(now, vec![command("a")]).unwrap();
    leader.sends();
    for round in 1..=5 {
        leader.wait(50);
        leader.hear(2, 2, crate::harness::lone::round_answered(round));
        assert_eq!(leader.raft().role(), RoleName::Leader);
    }
    leader.wait(50);
    assert!(leader.node.transitions.contains(&Transition::SteppedDown {
        term: Term(2),
        reason: StepDown::SlowDisk,
    }));
}

fn refusal(change: impl FnOnce(&mut Restored)) -> String {
    let mut restored = Durable::founded(voters(3)).with_terms(&[1, 3]).restored();
    change(&mut restored);
    match Raft::new(NodeId(1), Config::default(), restored, 1, Time(0)) {
        Err(RestoreError::Contradiction { what }) => what,
        other => panic!("a contradiction is refused, got {other:?}"),
    }
}

#[test]
fn r46_contradictory_state_does_not_start() {
    assert_eq!(
        refusal(|restored| restored.hard_state.commit = index(9)),
        "commit index 9 is beyond the last entry 3"
    );
    assert_eq!(
        refusal(|restored| restored.applied = index(4)),
        "applied index 4 is beyond the last entry 3"
    );
    assert_eq!(
        refusal(|restored| restored.base = id(2, 1)),
        "applied index 1 is below the base 2"
    );
    assert_eq!(
        refusal(|restored| restored.hard_state.term = Term(2)),
        "the log holds an entry of term 3, the stored term is 2"
    );
    assert_eq!(
        refusal(|restored| restored.term_runs.truncate(1)),
        "the last entry is 3@3, the last run has term 1"
    );
    assert_eq!(
        refusal(|restored| restored.configuration.voters.clear()),
        "the configuration as of 1: it has no voters"
    );
}

#[test]
fn r46_start_commits_what_was_applied() {
    let mut restored = Durable::founded(voters(3)).with_terms(&[1, 1]).restored();
    restored.applied = index(3);
    let raft = Raft::new(NodeId(1), Config::default(), restored, 1, Time(0)).unwrap();
    assert_eq!(raft.commit(), index(3));
}

#[test]
fn restart_applies_again_by_fetching() {
    let mut node = Lone::with(Durable::founded(voters(3)).with_terms(&[1, 1, 1]).committed(3));
    node.sends();
    let now = node.now;
    assert!(node.node.fetch_one(now));
    node.sends();
    let applied: Vec<u64> = node
        .node
        .applied
        .iter()
        .map(|entry| entry.id.index.get())
        .collect();
    assert_eq!(applied, [2, 3]);
}

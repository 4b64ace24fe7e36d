//! Appends, acknowledgements, commitment and flow: R16 to R32, R56, R77, R78.

use crate::harness::lone::{
    Lone, accepted, append, heartbeat, messages, round_answered, session, vote_request,
};
use crate::harness::{Durable, command, entry, id, index, voters};
use raftkv_raft::{
    Config, Configuration, EntryId, EntryKind, Message, NodeId, ProposeError, ReplicationSession, RoleName,
};

fn refused(at: u64, hint: EntryId) -> Message {
    Message::AppendRefused {
        session: session(),
        refused: index(at),
        hint,
    }
}

fn entries(ids: &[(u64, u64)]) -> Vec<raftkv_raft::Entry> {
    ids.iter()
        .map(|(at, term)| entry(id(*at, *term), &format!("{term}.{at}")))
        .collect()
}

/// What a node appended to, as (prev, entries).
fn appends_to(node: u64, sent: Vec<raftkv_raft::Envelope>) -> Vec<(EntryId, Vec<EntryId>)> {
    let to_node = sent.into_iter().filter(|envelope| envelope.to == NodeId(node));
    to_node
        .filter_map(|envelope| match envelope.message {
            Message::Append { prev, entries, .. } => {
                Some((prev, entries.iter().map(|entry| entry.id).collect()))
            }
            _ => None,
        })
        .collect()
}

fn follower(terms: &[u64]) -> Lone {
    Lone::with(Durable::founded(voters(3)).with_terms(terms))
}

fn leader(terms: &[u64]) -> Lone {
    Lone::leading(Durable::founded(voters(3)).with_terms(terms))
}

#[test]
fn r16_each_term_starts_with_the_leaders_noop() {
    let leader = leader(&[1]);
    let last = leader.node.disk.entries.last().unwrap();
    assert_eq!((last.id, last.kind), (id(3, 2), EntryKind::Noop));
}

#[test]
fn r17_append_is_checked_by_index_and_term() {
    let mut node = follower(&[1, 2]);
    node.hear(2, 3, append(id(3, 1), 1, Vec::new()));
    assert_eq!(messages(node.persist()), [refused(3, id(2, 1))]);
    assert_eq!(
        messages(node.hear(2, 3, append(id(9, 3), 1, Vec::new()))),
        [refused(9, id(3, 2))]
    );
    assert_eq!(
        messages(node.hear(2, 3, append(id(3, 2), 1, Vec::new()))),
        [accepted(3)]
    );
}

#[test]
pub(crate) fn r18_short_old_append_never_shortens_a_matching_log() {
    let mut node = follower(&[1, 1, 1]);
    node.hear(2, 2, append(id(1, 1), 1, entries(&[(2, 1)])));
    assert_eq!(messages(node.persist()), [accepted(2)]);
    assert_eq!(node.raft().last(), id(4, 1));
}

#[test]
fn r18_cut_starts_at_the_first_real_conflict() {
    let mut node = follower(&[1, 2, 2]);
    node.hear(2, 4, append(id(1, 1), 1, entries(&[(2, 1), (3, 3)])));
    assert_eq!(node.node.queued[0].truncate_from, Some(index(3)));
    assert_eq!(node.node.queued[0].entries, entries(&[(3, 3)]));
}

#[test]
#[should_panic(expected = "conflicting entry at or below commit")]
fn r19_conflict_with_a_committed_entry_halts() {
    let mut node = Lone::with(Durable::founded(voters(3)).with_terms(&[1, 1]).committed(3));
    node.hear(2, 4, append(id(2, 1), 1, entries(&[(3, 3)])));
}

#[test]
#[should_panic(expected = "second leader in term")]
fn r19_second_leader_of_the_term_halts() {
    let mut node = Lone::new();
    node.hear(2, 2, heartbeat(None, 1));
    node.hear(3, 2, heartbeat(None, 1));
}

#[test]
pub(crate) fn r20_commit_follows_what_is_verified() {
    let mut node = follower(&[1, 1, 1, 1]);
    node.hear(2, 2, append(id(2, 1), 5, Vec::new()));
    assert_eq!(node.commit(), index(2), "the rest of our log may differ");
}

#[test]
fn r21_large_commit_in_a_heartbeat_is_survived() {
    let mut node = Lone::new();
    node.hear(2, 2, heartbeat(Some(1000), 1));
    assert_eq!(node.commit(), index(1));
}

#[test]
fn r21_heartbeats_carry_no_more_than_is_known_to_match() {
    let mut leader = leader(&[1, 1]);
    leader.hear(2, 2, accepted(4));
    leader.hear(3, 2, accepted(2));
    assert_eq!(leader.commit(), index(4));
    let commits: Vec<_> = messages(leader.wait(50))
        .into_iter()
        .filter_map(|message| match message {
            Message::Heartbeat { commit, .. } => Some(commit),
            _ => None,
        })
        .collect();
    assert_eq!(commits, [Some(index(4)), Some(index(2))]);
}

#[test]
pub(crate) fn r22_acks_of_an_older_term_are_dropped() {
    let mut leader = leader(&[1]);
    leader.hear(2, 1, accepted(3));
    assert_eq!(leader.commit(), index(1));
}

#[test]
pub(crate) fn r22_acks_of_another_stay_are_dropped() {
    let mut leader = leader(&[1]);
    let former = Message::AppendAccepted {
        session: ReplicationSession(index(7)),
        matched: index(3),
    };
    leader.hear(2, 2, former);
    assert_eq!(leader.commit(), index(1));
}

#[test]
pub(crate) fn r23_late_ack_does_not_lower_the_match() {
    let mut leader = leader(&[1]);
    leader.hear(2, 2, accepted(3));
    leader.hear(2, 2, accepted(2));
    let matched = messages(leader.wait(50))
        .into_iter()
        .find_map(|message| match message {
            Message::Heartbeat { commit, .. } => Some(commit),
            _ => None,
        });
    assert_eq!(matched, Some(Some(index(3))));
}

#[test]
pub(crate) fn r23_hint_never_counts() {
    let mut leader = leader(&[1]);
    leader.hear(2, 2, refused(2, id(1, 1)));
    leader.hear(3, 2, accepted(1));
    assert_eq!(leader.commit(), index(1));
    let mut other = Lone::leading(Durable::founded(voters(3)).with_terms(&[2, 2]));
    other.hear(2, 3, refused(3, id(9, 3)));
    assert_eq!(other.commit(), index(1));
}

#[test]
fn r24_refusals_skip_whole_terms_both_ways() {
    let mut leader = Lone::leading(Durable::founded(voters(3)).with_terms(&[1, 3, 3, 3, 3, 5, 5, 5]));
    let sent = leader.hear(2, 6, refused(9, id(8, 4)));
    assert_eq!(appends_to(2, sent), [(id(6, 3), vec![])]);
    let sent = leader.hear(2, 6, refused(6, id(5, 2)));
    assert_eq!(appends_to(2, sent), [(id(2, 1), vec![])]);
    leader.hear(2, 6, accepted(2));
    let now = leader.now;
    assert!(leader.node.fetch_one(now), "what is not in memory is read back");
    assert_eq!(
        appends_to(2, leader.sends())[0].0,
        id(2, 1),
        "and from there on it streams"
    );
}

#[test]
fn r25_what_was_gone_when_it_was_read_is_asked_for_again() {
    let mut leader = Lone::leading(Durable::founded(voters(3)).with_terms(&[1, 3, 3, 3]));
    leader.hear(2, 4, refused(5, id(2, 1)));
    leader.hear(2, 4, accepted(2));
    let fetch = leader.node.fetches.remove(0);
    leader.raft().fetch_gone(fetch);
    assert_eq!(
        appends_to(2, leader.sends()),
        [],
        "nothing was read, nothing is sent"
    );
    assert_eq!(leader.node.fetches, [fetch]);
}

#[test]
fn r24_refusal_that_answers_no_probe_is_ignored() {
    let mut leader = leader(&[1, 1, 1]);
    assert_eq!(appends_to(2, leader.hear(2, 2, refused(3, id(2, 1)))), []);
}

#[test]
fn r26_proposals_keep_the_term_that_accepted_them() {
    let mut leader = leader(&[]);
    let now = leader.now;
    let first = leader
        .raft()
        .propose(now, vec![command("a"), command("b")])
        .unwrap();
    assert_eq!(first, id(3, 2));
    leader.hear(3, 5, heartbeat(None, 1));
    let refusal = leader.raft().propose(now, vec![command("c")]);
    let leader_now = Some(NodeId(3));
    assert_eq!(refusal, Err(ProposeError::NotLeader { leader: leader_now }));
    leader.persist();
    assert!(leader.node.disk.entries.iter().all(|entry| entry.id.term.0 <= 2));
}

#[test]
pub(crate) fn r27_older_terms_are_committed_by_the_own_term_alone() {
    let mut leader = Lone::leading(Durable::founded(voters(3)).with_terms(&[2, 2]));
    leader.hear(2, 3, accepted(3));
    assert_eq!(
        leader.commit(),
        index(1),
        "a majority holds 3@2, of an older term"
    );
    leader.hear(2, 3, accepted(4));
    assert_eq!(leader.commit(), index(4));
}

#[test]
pub(crate) fn r28_leader_outside_the_configuration_does_not_count_itself() {
    let configuration = Configuration::of_voters([2, 3].map(NodeId));
    let mut leader = Lone::with(Durable::founded(voters(3)).with_configuration(2, configuration));
    leader.campaign_with(&[2, 3]);
    for voter in [2, 3] {
        leader.hear(
            voter,
            3,
            crate::harness::lone::vote(raftkv_raft::Verdict::Granted),
        );
    }
    assert_eq!(leader.raft().role(), RoleName::Leader);
    leader.persist();
    leader.hear(2, 3, accepted(3));
    assert_eq!(leader.commit(), index(1), "one of two voters");
    leader.hear(3, 3, accepted(3));
    assert_eq!(leader.commit(), index(3));
}

#[test]
pub(crate) fn r29_leader_counts_itself_by_what_is_durable() {
    let mut leader = Lone::new();
    leader.campaign();
    leader.hear(2, 2, crate::harness::lone::vote(raftkv_raft::Verdict::Granted));
    leader.hear(2, 2, accepted(2));
    assert_eq!(
        leader.commit(),
        index(1),
        "one of three: its own write is not finished"
    );
    leader.persist();
    assert_eq!(leader.commit(), index(2));
}

#[test]
fn r29_leader_applies_only_what_is_durable_at_home() {
    let mut leader = Lone::new();
    leader.campaign();
    leader.hear(2, 2, crate::harness::lone::vote(raftkv_raft::Verdict::Granted));
    leader.hear(2, 2, accepted(2));
    leader.hear(3, 2, accepted(2));
    assert_eq!((leader.commit(), leader.node.applied.len()), (index(2), 0));
    leader.persist();
    assert_eq!(leader.node.applied.len(), 1);
}

#[test]
fn r31_step_down_says_so_and_takes_nothing_back() {
    let mut leader = leader(&[]);
    let now = leader.now;
    leader.raft().propose(now, vec![command("a")]).unwrap();
    leader.persist();
    leader.wait(1000);
    assert_eq!(
        leader.raft().last(),
        id(3, 2),
        "the entry may still be committed: unknown, not failed"
    );
}

#[test]
fn r32_heartbeat_tells_the_commit_without_new_writes() {
    let mut node = follower(&[1, 1]);
    node.hear(2, 1, heartbeat(Some(3), 1));
    assert_eq!(node.commit(), index(3));
}

#[test]
fn r34_empty_append_is_not_acknowledged_before_the_disk() {
    let mut node = follower(&[]);
    node.hear(2, 1, append(id(1, 1), 1, entries(&[(2, 1)])));
    assert_eq!(messages(node.hear(2, 1, append(id(2, 1), 1, Vec::new()))), []);
    assert_eq!(messages(node.persist()), [accepted(2)]);
    assert_eq!(
        messages(node.hear(2, 1, append(id(2, 1), 1, Vec::new()))),
        [accepted(2)]
    );
}

#[test]
pub(crate) fn r56_truncation_takes_a_configuration_back() {
    let dropped = Configuration::of_voters([2, 3].map(NodeId));
    let mut node = Lone::with(Durable::founded(voters(3)).with_configuration(2, dropped.clone()));
    assert_eq!(*node.raft().configuration(), dropped);
    node.hear(2, 3, append(id(1, 1), 1, entries(&[(2, 3)])));
    assert_eq!(*node.raft().configuration(), voters(3));
}

#[test]
fn r61_messages_count_whatever_the_senders_membership() {
    let mut node = Lone::new();
    node.hear(9, 2, vote_request(id(1, 1)));
    assert_eq!(node.persist().len(), 1);
    node.hear(8, 3, append(id(1, 1), 1, entries(&[(2, 3)])));
    assert_eq!(messages(node.persist()), [accepted(2)]);
}

#[test]
pub(crate) fn r77_probe_is_repeated_once_a_heartbeat() {
    let mut leader = leader(&[1]);
    assert_eq!(appends_to(2, leader.wait(49)), [], "the first probe is out");
    leader.wait(1);
    assert_eq!(appends_to(2, leader.hear(2, 2, round_answered(1))).len(), 1);
    assert_eq!(
        appends_to(2, leader.hear(2, 2, round_answered(1))),
        [],
        "one a heartbeat"
    );
}

#[test]
pub(crate) fn r77_window_bounds_what_is_under_way_and_a_heartbeat_reopens_it() {
    let config = Config {
        max_inflight_appends: 1,
        max_append_entries: 1,
        ..Config::default()
    };
    let mut leader = Lone::configured(&config, Durable::founded(voters(3)));
    leader.elect();
    leader.hear(2, 2, accepted(2));
    let now = leader.now;
    leader
        .raft()
        .propose(now, ["a", "b", "c"].map(command).to_vec())
        .unwrap();
    assert_eq!(appends_to(2, leader.sends()), [(id(2, 2), vec![id(3, 2)])]);
    leader.wait(50);
    let asks = appends_to(2, leader.hear(2, 2, round_answered(1)));
    assert_eq!(asks, [(id(3, 2), vec![])], "where does the peer stand?");
    let again = appends_to(2, leader.hear(2, 2, refused(3, id(2, 2))));
    assert_eq!(again[0].0, id(2, 2));
    leader.hear(2, 2, accepted(3));
}

#[test]
fn r77_several_proposals_of_a_moment_leave_as_one_append() {
    let mut leader = leader(&[]);
    leader.hear(2, 2, accepted(2));
    let now = leader.now;
    for text in ["a", "b", "c"] {
        leader.raft().propose(now, vec![command(text)]).unwrap();
    }
    assert_eq!(
        appends_to(2, leader.sends()),
        [(id(2, 2), vec![id(3, 2), id(4, 2), id(5, 2)])]
    );
}

#[test]
fn r78_too_much_uncommitted_is_refused_before_it_is_appended() {
    let config = Config {
        max_uncommitted_bytes: 100,
        ..Config::default()
    };
    let mut leader = Lone::configured(&config, Durable::founded(voters(3)));
    leader.elect();
    let now = leader.now;
    let refusal = leader
        .raft()
        .propose(now, vec![command("too much beside the no-op")]);
    assert_eq!(
        refusal,
        Err(ProposeError::Overloaded {
            uncommitted_bytes: 64
        })
    );
    assert_eq!(leader.raft().last(), id(2, 2));
    leader.hear(2, 2, accepted(2));
    let alone = "x".repeat(1000);
    assert!(
        leader.raft().propose(now, vec![command(&alone)]).is_ok(),
        "a batch is taken when nothing waits"
    );
}

#[test]
fn malformed_appends_are_dropped() {
    let mut node = follower(&[]);
    let gap = append(id(1, 1), 1, entries(&[(3, 1)]));
    let falling = append(id(1, 1), 1, entries(&[(2, 2), (3, 1)]));
    let future = append(id(1, 1), 1, entries(&[(2, 9)]));
    let mut nameless = entries(&[(2, 1)]);
    nameless[0].kind = EntryKind::Configuration;
    for message in [gap, falling, future, append(id(1, 1), 1, nameless)] {
        assert_eq!(messages(node.hear(2, 2, message.clone())), [], "{message:?}");
        assert_eq!(node.raft().last(), id(1, 1));
    }
}

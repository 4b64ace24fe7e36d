//! Compaction, and snapshots received and sent: R17, R46, R49 to R54, R77.

use crate::harness::lone::{
    Lone, accepted, append, heartbeat, messages, round_answered, session, vote_request,
};
use crate::harness::{Durable, Snapshot, command, entry, id, index, voters};
use raftkv_raft::{
    Configuration, Entry, EntryId, EntryKind, Envelope, Message, NodeId, Raft, ReplicationSession, RoleName,
    SendSnapshot, SnapshotOffer, SnapshotVerdict, Term, Time, Transition,
};

fn offer(from: u64, term: u64, last: EntryId) -> SnapshotOffer {
    SnapshotOffer {
        from: NodeId(from),
        term: Term(term),
        session: session(),
        last,
    }
}

/// A snapshot up to `last`, all of whose entries have its term.
fn snapshot(last: EntryId, configuration: Configuration) -> Snapshot {
    let indices = 2..=last.index.get();
    Snapshot {
        last,
        configuration,
        applied: indices.map(|at| entry(id(at, last.term.0), "state")).collect(),
    }
}

fn install(node: &mut Lone, from: u64, term: u64, last: EntryId) -> SnapshotVerdict {
    let now = node.now;
    node.node
        .receive(now, offer(from, term, last), snapshot(last, voters(3)))
}

fn part(node: &mut Lone, from: u64, term: u64, last: EntryId) -> SnapshotVerdict {
    let now = node.now;
    node.raft().snapshot_part(now, offer(from, term, last))
}

/// A leader of term 2 in a group of three, which has applied `count` commands after its no-op and keeps `keep` entries.
fn compacted_leader(count: usize, keep: u64) -> Lone {
    let mut leader = Lone::leading(Durable::founded(voters(3)));
    let now = leader.now;
    leader
        .raft()
        .propose(now, vec![command("a"); count])
        .expect("it leads");
    leader.persist();
    leader.hear(2, 2, accepted(2 + count as u64));
    assert_eq!(leader.node.applied.len(), count + 1);
    leader.node.compact(keep);
    leader
}

fn appends_to(node: u64, sent: &[Envelope]) -> usize {
    let is_append = |envelope: &&Envelope| matches!(envelope.message, Message::Append { .. });
    sent.iter()
        .filter(is_append)
        .filter(|envelope| envelope.to == NodeId(node))
        .count()
}

fn wanted(leader: &mut Lone) -> Vec<SendSnapshot> {
    leader.sends();
    std::mem::take(&mut leader.node.wanted)
}

/// The session of everybody who is in the configuration as of the base, once its own index is forgotten.
fn session_of_base(base: u64) -> ReplicationSession {
    ReplicationSession(index(base))
}

fn for_node_3() -> SendSnapshot {
    SendSnapshot {
        to: NodeId(3),
        term: Term(2),
        session: session(),
    }
}

#[test]
fn r17_the_base_answers_for_what_was_compacted() {
    let mut node = Lone::with(Durable::founded(voters(3)).with_terms(&[1, 1, 1]).committed(4));
    node.hear(2, 1, append(id(4, 1), 4, Vec::new()));
    let now = node.now;
    assert!(node.node.fetch_one(now));
    node.sends();
    node.node.compact(0);
    assert_eq!(
        messages(node.hear(2, 1, append(id(4, 1), 4, vec![entry(id(5, 1), "b")]))),
        []
    );
    assert_eq!(messages(node.persist()), [accepted(5)]);
    let old = append(id(2, 1), 4, vec![entry(id(3, 1), "old")]);
    assert_eq!(
        messages(node.hear(2, 1, old)),
        [accepted(5)],
        "below the base everything matches"
    );
}

#[test]
#[should_panic(expected = "the log is cut after")]
fn r48_what_is_not_applied_is_not_compacted() {
    let mut node = Lone::with(Durable::founded(voters(3)).with_terms(&[1, 1]));
    node.raft().compacted(id(3, 1));
}

#[test]
fn r77_peer_behind_the_base_gets_a_snapshot_and_heartbeats_but_no_appends() {
    let mut leader = compacted_leader(5, 0);
    assert_eq!(
        wanted(&mut leader),
        [for_node_3()],
        "it never answered, and what it was sent is gone"
    );
    let now = leader.now;
    leader.raft().propose(now, vec![command("b")]).unwrap();
    let sent = leader.wait(50);
    assert_eq!(appends_to(3, &sent), 0);
    assert_eq!(appends_to(2, &sent), 1);
    assert!(
        sent.iter().any(|envelope| envelope.to == NodeId(3)),
        "heartbeats go on"
    );
    assert_eq!(appends_to(3, &leader.hear(3, 2, round_answered(1))), 0);
    assert_eq!(wanted(&mut leader), [], "asked for once");
}

/// A disk with five entries of term 1 after the founding entry, all committed and the first three in a snapshot.
fn compacted_disk() -> Durable {
    let mut disk = Durable::founded(voters(3))
        .with_terms(&[1, 1, 1, 1, 1])
        .committed(6);
    let state = disk.entries[..3].to_vec();
    disk.compact(id(4, 1), state);
    disk
}

#[test]
fn r77_refusal_that_leads_below_the_base_asks_for_a_snapshot_at_once() {
    let mut leader = Lone::leading(compacted_disk());
    let refused = |hint| Message::AppendRefused {
        session: session_of_base(4),
        refused: index(6),
        hint,
    };
    assert_eq!(appends_to(3, &leader.hear(3, 2, refused(id(3, 1)))), 0);
    let asked = wanted(&mut leader);
    assert_eq!(
        asked.iter().map(|asked| asked.to).collect::<Vec<_>>(),
        [NodeId(3)]
    );
    assert_eq!(
        appends_to(2, &leader.hear(2, 2, refused(id(4, 1)))),
        1,
        "node 2 holds the base"
    );
    assert_eq!(wanted(&mut leader), []);
}

#[test]
pub(crate) fn s01_ack_at_or_beyond_the_base_ends_the_snapshot_state() {
    let mut leader = compacted_leader(5, 0);
    leader.hear(3, 2, accepted(6));
    let now = leader.now;
    leader.raft().propose(now, vec![command("b")]).unwrap();
    assert_eq!(
        appends_to(3, &leader.sends()),
        0,
        "7 is at the base, the peer has 6"
    );
    let sent = leader.hear(3, 2, accepted(7));
    assert_eq!(appends_to(3, &sent), 1, "it streams again, without a probe");
}

#[test]
fn s01_installed_snapshot_is_probed_from_its_end() {
    let mut leader = compacted_leader(5, 0);
    let asked = wanted(&mut leader);
    let now = leader.now;
    leader.raft().snapshot_sent(now, asked[0], id(7, 2));
    let sent = leader.sends();
    let probe = sent
        .iter()
        .find(|envelope| envelope.to == NodeId(3))
        .map(|envelope| &envelope.message);
    assert!(
        matches!(probe, Some(Message::Append { prev, .. }) if *prev == id(7, 2)),
        "{probe:?}"
    );
}

#[test]
fn s01_snapshot_that_was_compacted_away_meanwhile_is_followed_by_another() {
    let mut leader = compacted_leader(5, 2);
    let asked = wanted(&mut leader);
    leader.node.compact(0);
    let now = leader.now;
    leader.raft().snapshot_sent(now, asked[0], id(5, 2));
    assert_eq!(wanted(&mut leader), [for_node_3()]);
}

#[test]
fn r77_failed_transfer_is_asked_for_again_when_the_peer_lives() {
    let mut leader = compacted_leader(5, 0);
    let asked = wanted(&mut leader);
    let now = leader.now;
    leader.raft().snapshot_failed(now, asked[0]);
    assert_eq!(wanted(&mut leader), []);
    leader.wait(50);
    assert_eq!(wanted(&mut leader), [], "a dead peer costs nothing");
    leader.hear(3, 2, round_answered(1));
    assert_eq!(std::mem::take(&mut leader.node.wanted), [for_node_3()]);
}

#[test]
fn r22_reports_of_another_term_or_stay_are_dropped() {
    let mut leader = compacted_leader(5, 0);
    let asked = wanted(&mut leader)[0];
    let now = leader.now;
    let of_another_term = SendSnapshot {
        term: Term(1),
        ..asked
    };
    let of_another_stay = SendSnapshot {
        session: ReplicationSession(index(3)),
        ..asked
    };
    for stale in [of_another_term, of_another_stay] {
        leader.raft().snapshot_sent(now, stale, id(7, 2));
        assert_eq!(appends_to(3, &leader.sends()), 0, "{stale:?}");
    }
}

#[test]
fn r25_fetch_for_entries_that_are_compacted_is_closed() {
    let config = raftkv_raft::Config {
        tail_bytes: 1,
        ..raftkv_raft::Config::default()
    };
    let mut leader = Lone::configured(&config, Durable::founded(voters(3)));
    leader.elect();
    let now = leader.now;
    leader.raft().propose(now, vec![command("a"); 5]).unwrap();
    leader.persist();
    leader.hear(2, 2, accepted(7));
    leader.hear(3, 2, accepted(2));
    let fetch = leader.node.fetches.remove(0);
    leader.node.compact(0);
    let gone: Vec<Entry> = (3..=7).map(|at| entry(id(at, 2), "a")).collect();
    leader.raft().fetched(now, fetch, gone);
    assert_eq!(appends_to(3, &leader.sends()), 0);
    assert_eq!(std::mem::take(&mut leader.node.wanted), [for_node_3()]);
}

#[test]
pub(crate) fn s04_snapshot_at_or_below_commit_is_ignored_and_the_commit_acknowledged() {
    let mut node = Lone::with(Durable::founded(voters(3)).with_terms(&[1, 1, 1]).committed(3));
    for last in [id(2, 1), id(3, 1)] {
        assert_eq!(install(&mut node, 2, 2, last), SnapshotVerdict::Held);
        assert_eq!(node.commit(), index(3));
        assert_eq!(node.raft().last(), id(4, 1));
    }
    assert!(messages(node.persist()).contains(&accepted(3)));
}

#[test]
fn s06_snapshot_that_is_a_prefix_of_the_log_keeps_the_log() {
    let mut node = Lone::with(Durable::founded(voters(3)).with_terms(&[1, 1, 1]));
    assert_eq!(part(&mut node, 2, 1, id(3, 1)), SnapshotVerdict::Held);
    assert_eq!((node.commit(), node.raft().last()), (index(3), id(4, 1)));
    assert_eq!(messages(node.sends()), [accepted(3)]);
}

#[test]
fn s06_snapshot_that_conflicts_drops_the_whole_log() {
    let mut node = Lone::with(Durable::founded(voters(3)).with_terms(&[1, 2, 2, 2]).committed(2));
    assert_eq!(install(&mut node, 2, 4, id(4, 3)), SnapshotVerdict::Accepted);
    assert_eq!((node.commit(), node.raft().last()), (index(4), id(4, 3)));
    node.persist();
    assert_eq!(node.node.disk.entries, []);
    assert_eq!(node.node.disk.hard_state.commit, index(4));
    assert_eq!(node.node.applied.len(), 3, "the snapshot's state");
    node.hear(2, 4, append(id(4, 3), 5, vec![entry(id(5, 4), "next")]));
    node.persist();
    assert_eq!(node.node.applied.len(), 4, "and what follows it");
}

#[test]
pub(crate) fn r49_snapshot_is_acknowledged_once_it_is_durable() {
    let mut node = Lone::with(Durable::founded(voters(3)).with_terms(&[1, 1]));
    node.hear(2, 2, heartbeat(None, 1));
    node.persist();
    assert_eq!(install(&mut node, 2, 2, id(9, 2)), SnapshotVerdict::Accepted);
    assert_eq!(messages(node.sends()), []);
    assert_eq!(
        node.raft().persisted_index(),
        index(1),
        "only what is committed is sure to stay"
    );
    assert_eq!(
        messages(node.hear(2, 2, heartbeat(None, 2))),
        [round_answered(2)],
        "the leader is answered all the while"
    );
    assert_eq!(
        messages(node.hear(2, 2, append(id(9, 2), 9, vec![entry(id(10, 2), "b")]))),
        []
    );
    let now = node.now;
    node.node.persist_one(now);
    assert_eq!(messages(node.sends()), [accepted(9)]);
    assert_eq!(messages(node.persist()), [accepted(10)]);
}

#[test]
fn r49_writes_of_the_old_log_prove_nothing_of_the_new_one() {
    let mut node = Lone::new();
    let old = (2..=8).map(|at| entry(id(at, 1), "old")).collect();
    node.hear(2, 1, append(id(1, 1), 1, old));
    assert_eq!(install(&mut node, 3, 2, id(5, 2)), SnapshotVerdict::Accepted);
    node.sends();
    assert_eq!((node.node.queued.len(), node.node.installs.len()), (1, 1));
    let now = node.now;
    node.node.persist_one(now);
    assert_eq!(node.raft().persisted_index(), index(1));
    assert_eq!(messages(node.sends()), []);
    node.node.persist_one(now);
    assert_eq!(node.raft().persisted_index(), index(5));
    assert_eq!(messages(node.sends()), [accepted(5)]);
}

#[test]
fn r49_what_was_never_written_of_the_old_log_is_not_written() {
    let mut node = Lone::new();
    let envelope = Envelope {
        from: NodeId(2),
        to: NodeId(1),
        term: Term(3),
        message: append(id(1, 1), 1, vec![entry(id(2, 3), "old")]),
    };
    let now = node.now;
    node.raft().step(now, envelope);
    install(&mut node, 2, 3, id(5, 3));
    node.sends();
    assert_eq!(node.node.queued, []);
    let (install, _) = &node.node.installs[0];
    assert_eq!(
        (install.hard_state.term, install.hard_state.commit),
        (Term(3), index(5)),
        "the new term rides along"
    );
}

#[test]
pub(crate) fn s05_snapshots_configuration_wins_over_one_in_the_log() {
    let stale = Durable::founded(voters(3))
        .with_configuration(2, voters(5))
        .with_terms(&[2]);
    let mut node = Lone::with(stale);
    assert_eq!(*node.raft().configuration(), voters(5));
    install(&mut node, 2, 4, id(6, 3));
    assert_eq!(*node.raft().configuration(), voters(3));
    node.persist();
    node.restart();
    assert_eq!(*node.raft().configuration(), voters(3));
}

#[test]
fn s07_ex_leader_with_waiting_proposals_takes_a_snapshot_that_covers_them() {
    let mut leader = Lone::leading(Durable::founded(voters(3)));
    let now = leader.now;
    leader.raft().propose(now, vec![command("a")]).unwrap();
    leader.sends();
    assert_eq!(install(&mut leader, 3, 3, id(9, 3)), SnapshotVerdict::Accepted);
    leader.persist();
    let ended = |transition: &Transition| matches!(transition, Transition::SteppedDown { term: Term(2), .. });
    assert!(
        leader.node.transitions.iter().any(ended),
        "its callers learn: unknown"
    );
    assert_eq!(leader.node.applied.len(), 8);
}

#[test]
fn s08_candidate_takes_the_snapshot_of_its_terms_leader() {
    let mut candidate = Lone::new();
    candidate.campaign();
    assert_eq!(install(&mut candidate, 3, 2, id(9, 2)), SnapshotVerdict::Accepted);
    assert_eq!(
        (candidate.raft().role(), candidate.raft().leader()),
        (RoleName::Follower, Some(NodeId(3)))
    );
}

#[test]
fn s08_empty_learner_survives_a_large_commit_and_takes_a_snapshot() {
    let mut learner = Lone::with(Durable::founded(Configuration {
        learners: [NodeId(1)].into(),
        ..Configuration::of_voters([2, 3].map(NodeId))
    }));
    learner.hear(2, 2, heartbeat(Some(1000), 1));
    assert_eq!(learner.commit(), index(1));
    assert_eq!(install(&mut learner, 2, 2, id(9, 2)), SnapshotVerdict::Accepted);
    learner.persist();
    assert_eq!(learner.node.applied.len(), 8);
}

#[test]
#[should_panic(expected = "conflicting entry at or below commit")]
fn r19_snapshot_of_another_entry_than_the_committed_one_halts() {
    let mut node = Lone::with(Durable::founded(voters(3)).with_terms(&[1, 1]).committed(3));
    part(&mut node, 2, 4, id(3, 4));
}

#[test]
fn r53_snapshot_of_an_older_term_is_refused_with_ours() {
    let mut node = Lone::with(Durable::founded(voters(3)).at_term(5));
    assert_eq!(part(&mut node, 2, 4, id(9, 3)), SnapshotVerdict::Refused);
    let sent = node.sends();
    assert_eq!((sent.len(), sent[0].term), (1, Term(5)));
    assert_eq!(
        part(&mut node, 2, 6, id(9, 7)),
        SnapshotVerdict::Refused,
        "an entry newer than its leader's term"
    );
    assert_eq!(node.raft().term(), Term(5));
    let nobody = Configuration::of_voters([]);
    let now = node.now;
    assert_eq!(
        node.raft().install(now, offer(2, 5, id(9, 5)), nobody),
        SnapshotVerdict::Refused
    );
}

#[test]
#[should_panic(expected = "second leader in term")]
fn r19_snapshot_of_a_second_leader_halts() {
    let mut leader = Lone::leading(Durable::founded(voters(3)));
    part(&mut leader, 3, 2, id(9, 2));
}

#[test]
fn r06_each_part_of_a_snapshot_is_a_sign_of_the_leader() {
    let mut node = Lone::new();
    for _ in 0..20 {
        node.wait(100);
        assert_eq!(part(&mut node, 2, 2, id(9, 2)), SnapshotVerdict::Accepted);
        node.persist();
    }
    assert_eq!(
        messages(node.hear(3, 3, vote_request(id(9, 2)))),
        [],
        "and of one to cling to"
    );
    assert_eq!(node.raft().leader(), Some(NodeId(2)));
}

#[test]
fn r50_what_was_asked_for_before_an_install_is_dropped_after_it() {
    let mut node = Lone::with(Durable::founded(voters(3)).with_terms(&[1, 1]).committed(3));
    node.sends();
    let fetch = node.node.fetches.remove(0);
    install(&mut node, 2, 2, id(9, 2));
    let now = node.now;
    node.raft().fetch_gone(fetch);
    node.raft()
        .fetched(now, fetch, vec![entry(id(2, 1), "1.2"), entry(id(3, 1), "1.3")]);
    node.persist();
    let applied: Vec<u64> = node
        .node
        .applied
        .iter()
        .map(|entry| entry.id.index.get())
        .collect();
    assert_eq!(applied, (2..=9).collect::<Vec<_>>());
}

#[test]
fn p06_restart_with_everything_compacted() {
    let mut disk = Durable::founded(voters(3)).with_terms(&[1, 1, 1]).committed(4);
    let state = disk.entries.clone();
    disk.compact(id(4, 1), state);
    let mut leader = Lone::leading(disk);
    assert_eq!(leader.raft().last(), id(5, 2));
    let ack = Message::AppendAccepted {
        session: session_of_base(4),
        matched: index(5),
    };
    leader.hear(2, 2, ack);
    assert_eq!(
        leader.node.applied.last().map(|entry| (entry.id, entry.kind)),
        Some((id(5, 2), EntryKind::Noop))
    );
}

#[test]
fn p06_restart_with_an_uncommitted_configuration_above_the_base() {
    let mut disk = Durable::founded(voters(3)).with_terms(&[1, 1]).committed(3);
    let state = disk.entries.clone();
    disk.compact(id(3, 1), state);
    let mut node = Lone::with(disk.with_configuration(2, voters(5)));
    assert_eq!(*node.raft().configuration(), voters(5));
}

#[test]
fn p06_restart_with_a_state_machine_ahead_of_the_base() {
    let mut restored = Durable::founded(voters(3)).with_terms(&[1, 1, 1]).restored();
    restored.applied = index(3);
    let mut raft = Raft::new(NodeId(1), raftkv_raft::Config::default(), restored, 1, Time(0)).unwrap();
    assert_eq!(raft.commit(), index(3));
    assert!(raft.take_ready(Time(0)).is_empty(), "nothing is applied twice");
    raft.compacted(id(2, 1));
    raft.compacted(id(1, 1));
    assert_eq!(
        raft.base(),
        id(2, 1),
        "an older cut that is reported late changes nothing"
    );
}

#[test]
fn r22_stays_survive_compaction() {
    let mut disk = Durable::founded(voters(2))
        .with_configuration(1, voters(3))
        .with_terms(&[1, 1]);
    disk.hard_state.commit = index(4);
    let mut leader = Lone::leading(disk);
    let admitted = ReplicationSession(index(2));
    let sessions = |sent: Vec<Envelope>| -> Vec<ReplicationSession> {
        let to_node_3 = sent.into_iter().filter(|envelope| envelope.to == NodeId(3));
        to_node_3
            .filter_map(|envelope| match envelope.message {
                Message::Heartbeat { session, .. } => Some(session),
                _ => None,
            })
            .collect()
    };
    assert_eq!(sessions(leader.wait(50)), [admitted]);
    let now = leader.now;
    leader.node.fetch_one(now);
    leader.sends();
    leader.hear(2, 2, accepted(5));
    leader.node.compact(0);
    assert_eq!(sessions(leader.wait(50)), [admitted]);
}

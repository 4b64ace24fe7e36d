//! Configuration changes: R14, R22, R28, R30, R56 to R64.

use crate::harness::lone::{Lone, accepted, append, messages, round_answered, vote, vote_request};
use crate::harness::{Durable, Group, change, command, entry, id, index, nodes, voters};
use raftkv_raft::{
    ChangeChecks, ChangeError, Configuration, Message, NodeId, ReplicationSession, RoleName, StepDown,
    Transition, Verdict,
};

fn voters_of(numbers: &[u64]) -> Configuration {
    Configuration {
        voters: nodes(numbers),
        outgoing: None,
        learners: nodes(&[]),
    }
}

fn joint(incoming: &[u64], outgoing: &[u64]) -> Configuration {
    Configuration {
        outgoing: Some(nodes(outgoing)),
        ..voters_of(incoming)
    }
}

/// Leads term 2 with its no-op committed; node 2 has answered.
fn leader() -> Lone {
    let mut leader = Lone::leading(Durable::founded(voters(3)));
    leader.hear(2, 2, accepted(2));
    leader
}

/// Leads term 2, elected by these, its no-op durable here.
fn elected_by(electors: &[u64], disk: Durable) -> Lone {
    let mut leader = Lone::with(disk);
    leader.campaign_with(electors);
    for elector in electors {
        leader.hear(*elector, 2, vote(Verdict::Granted));
    }
    assert_eq!(leader.raft().role(), RoleName::Leader);
    leader.persist();
    leader
}

/// An ack of a stay that began at `session`.
fn accepted_in(session: u64, matched: u64) -> Message {
    Message::AppendAccepted {
        session: ReplicationSession(index(session)),
        matched: index(matched),
    }
}

fn is_sent_to(node: u64, sent: &[raftkv_raft::Envelope]) -> bool {
    sent.iter().any(|envelope| envelope.to == NodeId(node))
}

#[test]
fn r56_a_change_is_in_effect_once_it_is_appended() {
    let mut leader = leader();
    assert_eq!(leader.change(&[1, 2, 3], &[4]), Ok(id(3, 2)));
    assert_eq!(leader.raft().configuration().learners, nodes(&[4]));
    assert!(
        is_sent_to(4, &leader.sends()),
        "the learner is sent to before anything is durable"
    );
    assert_eq!(*leader.raft().committed_configuration(), voters(3));
}

#[test]
pub(crate) fn m01_no_change_before_the_leader_has_committed_in_its_term() {
    let mut leader = Lone::leading(Durable::founded(voters(3)).with_terms(&[1]).committed(2));
    assert_eq!(leader.change(&[1, 2], &[]), Err(ChangeError::NotCommittedInTerm));
    leader.hear(2, 2, accepted(3));
    assert_eq!(leader.change(&[1, 2], &[]), Ok(id(4, 2)));
}

#[test]
fn m11_one_change_at_a_time() {
    let mut leader = leader();
    let first = leader.change(&[1, 2, 3, 4], &[]).unwrap();
    let under_way = Err(ChangeError::UnderWay { since: first.index });
    assert_eq!(leader.change(&[1, 2, 3, 4, 5], &[]), under_way);
    leader.node.ignores_leaves = true;
    leader.persist();
    leader.hear(2, 2, accepted(3));
    leader.hear(3, 2, accepted(3));
    assert_eq!(leader.commit(), index(3));
    assert_eq!(
        leader.change(&[1, 2, 3, 4, 5], &[]),
        under_way,
        "the joint configuration is to be left first"
    );
}

#[test]
fn labels_of_members_change_in_an_entry_that_leaves_the_configuration_as_it_is() {
    let mut leader = leader();
    let now = leader.now;
    let other = change(voters_of(&[1, 2]), ChangeChecks::SameMembers);
    assert_eq!(
        leader.raft().propose_change(now, other),
        Err(ChangeError::NotASuccessor)
    );
    let same = change(voters(3), ChangeChecks::SameMembers);
    assert_eq!(leader.raft().propose_change(now, same.clone()), Ok(id(3, 2)));
    assert_eq!(*leader.raft().configuration(), voters(3));
    let under_way = Err(ChangeError::UnderWay { since: index(3) });
    assert_eq!(leader.raft().propose_change(now, same), under_way);
}

#[test]
fn m11_changes_that_can_not_work_are_refused() {
    let mut leader = leader();
    let what = "it has no voters";
    assert_eq!(leader.change(&[], &[]), Err(ChangeError::Contradiction { what }));
    let what = "a node is voter and learner in it";
    assert_eq!(
        leader.change(&[1, 2], &[2]),
        Err(ChangeError::Contradiction { what })
    );
    assert_eq!(leader.change(&[1, 2, 3], &[]), Err(ChangeError::NoChange));
    let now = leader.now;
    let skips_joint = change(voters_of(&[1, 2]), ChangeChecks::SafetyAlone);
    assert_eq!(
        leader.raft().propose_change(now, skips_joint),
        Err(ChangeError::NotASuccessor)
    );
    let of_another_base = change(joint(&[1, 2, 4], &[1, 2]), ChangeChecks::SafetyAlone);
    assert_eq!(
        leader.raft().propose_change(now, of_another_base),
        Err(ChangeError::NotASuccessor)
    );
    assert_eq!(leader.raft().last(), id(2, 2), "nothing was appended");
    let mut follower = Lone::new();
    assert_eq!(
        follower.change(&[1, 2], &[]),
        Err(ChangeError::NotLeader { leader: None })
    );
}

#[test]
pub(crate) fn r59_the_joint_configuration_is_left_once_it_is_committed() {
    let mut leader = leader();
    leader.change(&[1, 2, 4], &[3]).unwrap();
    leader.persist();
    assert_eq!(leader.node.leaves, []);
    leader.hear(2, 2, accepted(3));
    let left = Configuration {
        learners: nodes(&[3]),
        ..voters_of(&[1, 2, 4])
    };
    assert_eq!(*leader.raft().configuration(), left);
    assert_eq!(leader.node.leaves, [left]);
    assert_eq!(leader.raft().last(), id(4, 2));
}

#[test]
fn r59_leaving_is_asked_for_until_it_is_done() {
    let mut leader = leader();
    leader.node.ignores_leaves = true;
    leader.change(&[1, 2], &[]).unwrap();
    leader.persist();
    leader.hear(2, 2, accepted(3));
    assert_eq!(leader.node.leaves.len(), 1);
    leader.wait(50);
    assert_eq!(leader.node.leaves.len(), 2);
}

#[test]
pub(crate) fn m03_a_new_leader_leaves_the_joint_configuration_that_it_finds() {
    let disk = Durable::founded(voters(3)).with_configuration(1, joint(&[1, 2], &[1, 2, 3]));
    let mut leader = Lone::leading(disk);
    assert_eq!(leader.node.leaves, []);
    leader.hear(2, 2, accepted(3));
    assert_eq!(leader.node.leaves, [voters_of(&[1, 2])]);
    assert_eq!(leader.raft().last(), id(4, 2));
}

#[test]
fn r58_a_joint_configuration_commits_by_both_halves() {
    let mut leader = leader();
    leader.change(&[1, 4, 5], &[]).unwrap();
    leader.persist();
    leader.hear(2, 2, accepted(3));
    leader.hear(3, 2, accepted(3));
    assert_eq!(
        leader.commit(),
        index(2),
        "all of the outgoing half, one of three in the other"
    );
    leader.hear(4, 2, accepted_in(3, 3));
    assert_eq!(leader.commit(), index(3));
}

#[test]
fn m12_reads_and_check_quorum_need_the_outgoing_half_too() {
    let mut leader = leader();
    leader.change(&[1, 4, 5], &[2, 3]).unwrap();
    leader.persist();
    let now = leader.now;
    leader.raft().read(now, raftkv_raft::ReadId(7)).unwrap();
    leader.sends();
    for node in [4, 5] {
        let answer = Message::HeartbeatReply {
            session: ReplicationSession(index(3)),
            round: raftkv_raft::Round(1),
        };
        leader.hear(node, 2, answer);
    }
    assert_eq!(leader.node.reads, []);
    leader.hear(2, 2, round_answered(1));
    assert_eq!(leader.node.reads.len(), 1);
    for round in 2..8 {
        leader.wait(50);
        for node in [4, 5] {
            let answer = Message::HeartbeatReply {
                session: ReplicationSession(index(3)),
                round: raftkv_raft::Round(round),
            };
            leader.hear(node, 2, answer);
        }
    }
    assert_eq!(
        leader.raft().role(),
        RoleName::Follower,
        "the outgoing half is silent"
    );
}

#[test]
fn c04_a_write_behind_a_configuration_needs_the_new_quorum() {
    let mut leader = Lone::with(Durable::founded(voters(1)));
    leader.time_out();
    leader.persist();
    assert_eq!(
        (leader.raft().role(), leader.commit()),
        (RoleName::Leader, index(2))
    );
    leader.change(&[1, 2], &[]).unwrap();
    let now = leader.now;
    leader.raft().propose(now, vec![command("a")]).unwrap();
    leader.persist();
    assert_eq!(
        leader.commit(),
        index(2),
        "the one voter of before decides nothing alone"
    );
    leader.hear(2, 2, accepted_in(3, 4));
    assert_eq!(leader.commit(), index(4));
}

#[test]
fn c05_a_shrinking_group_commits_what_its_rest_holds() {
    let mut leader = elected_by(&[2, 3], Durable::founded(joint(&[1, 2, 3], &[1, 2, 3, 4])));
    leader.hear(2, 2, accepted(2));
    leader.node.ignores_leaves = true;
    leader.hear(3, 2, accepted(2));
    leader.persist();
    assert_eq!(leader.commit(), index(2));
    let now = leader.now;
    leader.raft().propose(now, vec![command("a")]).unwrap();
    leader.persist();
    leader.hear(2, 2, accepted(3));
    assert_eq!(leader.commit(), index(2), "two of the four");
    let leave = change(voters(3), ChangeChecks::SafetyAlone);
    leader.raft().propose_change(now, leave).unwrap();
    assert_eq!(leader.commit(), index(3), "two of the three");
}

#[test]
fn l07_ack_of_a_peers_first_stay_does_not_count_for_its_second() {
    let mut leader = leader();
    for (voters, learners) in [(&[1, 2][..], &[][..]), (&[1, 2], &[3])] {
        leader.change(voters, learners).unwrap();
        for _ in 0..3 {
            leader.persist();
            let last = leader.raft().last().index.get();
            leader.hear(2, 2, accepted(last));
        }
    }
    let second_stay = leader.raft().last().index.get();
    leader.hear(3, 2, accepted(second_stay));
    assert_eq!(
        leader.raft().progress(NodeId(3)).and_then(|peer| peer.matched),
        None
    );
    leader.hear(3, 2, accepted_in(second_stay, second_stay));
    assert_eq!(
        leader.raft().progress(NodeId(3)).and_then(|peer| peer.matched),
        Some(index(second_stay))
    );
}

#[test]
fn r60_a_learner_is_promoted_only_once_it_has_caught_up() {
    let mut leader = leader();
    leader.hear(3, 2, accepted(2));
    leader.change(&[1, 2, 3], &[4]).unwrap();
    leader.persist();
    leader.hear(2, 2, accepted(3));
    let now = leader.now;
    let promotion = leader
        .raft()
        .configuration()
        .towards(nodes(&[1, 2, 3, 4]), nodes(&[]));
    let promotion = change(promotion, ChangeChecks::All);
    let refusal = leader.raft().propose_change(now, promotion.clone());
    assert_eq!(
        refusal,
        Err(ChangeError::NotCaughtUp { node: NodeId(4) }),
        "it never answered: a wrong address"
    );
    assert!(!leader.raft().is_caught_up(now, NodeId(4)));
    leader.hear(4, 2, accepted_in(3, 3));
    assert!(leader.raft().is_caught_up(now, NodeId(4)));
    assert_eq!(leader.raft().propose_change(now, promotion), Ok(id(4, 2)));
}

#[test]
fn m10_a_learner_that_falls_behind_is_not_caught_up() {
    let mut leader = leader();
    leader.change(&[1, 2, 3], &[4]).unwrap();
    leader.persist();
    leader.hear(2, 2, accepted(3));
    let now = leader.now;
    leader.raft().propose(now, vec![command("a"); 3]).unwrap();
    leader.persist();
    leader.hear(2, 2, accepted(6));
    for round in 1..=10 {
        leader.wait(50);
        leader.hear(2, 2, round_answered(round));
        leader.hear(4, 2, accepted_in(3, 3));
    }
    let now = leader.now;
    assert!(
        !leader.raft().is_caught_up(now, NodeId(4)),
        "alive, and no further for 500 ms"
    );
    assert_eq!(leader.raft().role(), RoleName::Leader, "it slows nobody");
}

#[test]
fn r64_a_change_to_voters_of_which_no_majority_lives_is_refused() {
    let mut leader = elected_by(&[2, 3], Durable::founded(voters(5)));
    for node in [2, 3] {
        leader.hear(node, 2, accepted(2));
    }
    let now = leader.now;
    let shrunk = leader
        .raft()
        .configuration()
        .towards(nodes(&[1, 4, 5]), nodes(&[]));
    let refusal = leader
        .raft()
        .propose_change(now, change(shrunk.clone(), ChangeChecks::All));
    assert_eq!(refusal, Err(ChangeError::QuorumNotAlive { voters: 3, alive: 1 }));
    let forced = leader
        .raft()
        .propose_change(now, change(shrunk, ChangeChecks::SafetyAlone));
    assert_eq!(forced, Ok(id(3, 2)));
}

#[test]
fn m06_a_leader_outside_its_configuration_leads_until_that_is_committed() {
    let mut leader = leader();
    leader.hear(3, 2, accepted(2));
    leader.change(&[2, 3], &[]).unwrap();
    leader.persist();
    leader.hear(2, 2, accepted(3));
    assert_eq!(leader.commit(), index(2), "one of the two incoming");
    leader.hear(3, 2, accepted(3));
    leader.persist();
    assert_eq!(*leader.raft().configuration(), voters_of(&[2, 3]));
    assert_eq!(leader.raft().role(), RoleName::Leader);
    assert_eq!(leader.commit(), index(3));
    leader.hear(3, 2, accepted(4));
    assert_eq!(leader.commit(), index(3), "its own copy does not count");
    let sent = messages(leader.hear(2, 2, accepted(4)));
    assert_eq!(leader.commit(), index(4));
    assert!(sent.contains(&Message::TimeoutNow), "it hands over: {sent:?}");
    assert!(leader.node.transitions.contains(&Transition::SteppedDown {
        term: raftkv_raft::Term(2),
        reason: StepDown::NotAVoter,
    }));
    assert_eq!(
        leader.raft().next_deadline(),
        raftkv_raft::Time::NEVER,
        "and never campaigns"
    );
}

#[test]
fn m04_two_nodes_remove_the_leader_and_the_last_entry_is_on_it_alone() {
    let disk = Durable::founded(voters(2))
        .with_configuration(1, joint(&[2], &[1, 2]))
        .with_configuration(1, voters_of(&[2]))
        .committed(2);
    let mut removed = Lone::with(disk);
    removed.campaign();
    assert_eq!(removed.raft().role(), RoleName::Candidate);
    removed.hear(2, 2, vote(Verdict::Granted));
    assert_eq!(removed.raft().role(), RoleName::Leader);
    removed.persist();
    assert_eq!(removed.commit(), index(2));
    removed.hear(2, 2, accepted(4));
    assert_eq!(removed.commit(), index(4));
    assert_eq!(removed.raft().role(), RoleName::Follower);
}

#[test]
fn m05_a_leader_that_demotes_itself_still_votes_in_the_outgoing_half() {
    let mut leader = leader();
    leader.change(&[2, 3], &[1]).unwrap();
    leader.persist();
    leader.hear(2, 2, accepted(3));
    assert_eq!(leader.commit(), index(2), "one of the two incoming");
    leader.hear(3, 2, accepted(3));
    assert_eq!(leader.commit(), index(3));
    let mut candidate = Lone::with(Durable::founded(Configuration {
        learners: nodes(&[1]),
        ..joint(&[2, 3], &[1, 2, 3])
    }));
    candidate.campaign_with(&[2, 3]);
    candidate.hear(2, 2, vote(Verdict::Granted));
    assert_eq!(candidate.raft().role(), RoleName::Candidate);
    candidate.hear(3, 2, vote(Verdict::Granted));
    assert_eq!(candidate.raft().role(), RoleName::Leader);
}

#[test]
fn m07_a_truncated_change_gives_back_roles_and_quorums() {
    let mut leader = leader();
    leader.change(&[1, 2, 3, 4, 5], &[]).unwrap();
    leader.persist();
    leader.hear(3, 3, append(id(2, 2), 2, vec![entry(id(3, 3), "new")]));
    leader.persist();
    assert_eq!(*leader.raft().configuration(), voters(3));
    leader.campaign();
    leader.hear(2, 4, vote(Verdict::Granted));
    assert_eq!(leader.raft().role(), RoleName::Leader, "two of three again");
}

#[test]
fn e11_a_learner_that_has_not_seen_its_promotion_votes() {
    let mut learner = Lone::with(Durable::founded(Configuration {
        learners: nodes(&[1]),
        ..voters_of(&[2, 3])
    }));
    learner.hear(2, 2, vote_request(id(1, 1)));
    let granted = Message::VoteReply {
        verdict: Verdict::Granted,
    };
    assert_eq!(messages(learner.persist()), [granted]);
    assert_eq!(
        learner.raft().next_deadline(),
        raftkv_raft::Time::NEVER,
        "it does not campaign itself"
    );
}

#[test]
fn m08_a_removed_node_that_never_learns_it_does_not_disturb() {
    let mut group = Group::new(3);
    group.campaign(1);
    group.partition(&[3], &[1, 2]);
    group.change(1, &[1, 2], &[], ChangeChecks::SafetyAlone).unwrap();
    group.run(std::time::Duration::from_millis(200));
    assert_eq!(*group.raft(1).configuration(), voters_of(&[1, 2]));
    group.heal();
    let term = group.raft(1).term();
    group.run(std::time::Duration::from_secs(10));
    assert_eq!((group.leader(), group.raft(1).term()), (Some(1), term));
    assert_eq!(group.raft(3).role(), RoleName::PreCandidate, "it asks on and on");
}

#[test]
fn m02_all_voters_are_replaced() {
    let mut group = Group::new(3);
    for node in 4..=6 {
        group.start(node, Durable::founded(voters(3)));
    }
    group.campaign(1);
    group.propose(1, "a");
    group
        .change(1, &[1, 2, 3], &[4, 5, 6], ChangeChecks::All)
        .unwrap();
    group.run(std::time::Duration::from_millis(200));
    group.change(1, &[4, 5, 6], &[], ChangeChecks::All).unwrap();
    group.run(std::time::Duration::from_secs(2));
    let leader = group.leader().expect("one of the new voters took over");
    assert!((4..=6).contains(&leader));
    group.propose(leader, "b");
    group.run(std::time::Duration::from_millis(200));
    for node in 4..=6 {
        assert_eq!(group.payloads(node), ["a", "b"]);
    }
}

#[test]
fn s08_dead_peer_that_needs_a_snapshot_holds_up_neither_writes_nor_changes() {
    let mut group = Group::new(3);
    group.campaign(1);
    group.partition(&[3], &[1, 2]);
    for text in ["a", "b", "c"] {
        group.propose(1, text);
    }
    group.settle();
    group.node(1).compact(0);
    group.change(1, &[1, 2, 3], &[4], ChangeChecks::All).unwrap();
    group.start(4, Durable::founded(voters(3)));
    group.run(std::time::Duration::from_millis(200));
    assert_eq!(
        group.payloads(4),
        ["a", "b", "c"],
        "the new learner got a snapshot"
    );
    let now = group.now;
    assert!(group.raft(1).is_caught_up(now, NodeId(4)));
    group.change(1, &[1, 2, 4], &[], ChangeChecks::All).unwrap();
    group.run(std::time::Duration::from_millis(200));
    assert_eq!(*group.raft(1).committed_configuration(), voters_of(&[1, 2, 4]));
}

#[test]
fn r63_a_dropped_peer_is_spoken_to_no_more_and_its_acks_do_not_bring_it_back() {
    let mut leader = leader();
    leader.change(&[1, 2], &[]).unwrap();
    leader.persist();
    leader.hear(2, 2, accepted(3));
    assert_eq!(*leader.raft().configuration(), voters_of(&[1, 2]));
    let sent = leader.wait(50);
    assert!(!is_sent_to(3, &sent), "it is spoken to no more");
    leader.hear(3, 2, accepted(3));
    assert_eq!(leader.raft().progress(NodeId(3)), None);
}

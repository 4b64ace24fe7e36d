//! Leadership handed over: R66, R67.

use crate::harness::lone::{Lone, accepted, heartbeat, messages, round_answered, vote_request};
use crate::harness::{Durable, Group, command, id, index, nodes, voters};
use raftkv_raft::{
    Campaign, Configuration, Message, NodeId, ProposeError, RoleName, StepDown, Term, Time, TransferError,
    Transition,
};

fn leader() -> Lone {
    let mut leader = Lone::leading(Durable::founded(voters(3)));
    leader.hear(2, 2, accepted(2));
    leader
}

fn transfer(leader: &mut Lone, target: u64) -> Result<(), TransferError> {
    let now = leader.now;
    leader.raft().transfer(now, NodeId(target))
}

fn hand_overs(sent: Vec<raftkv_raft::Envelope>) -> usize {
    let sent = messages(sent);
    sent.iter()
        .filter(|message| **message == Message::TimeoutNow)
        .count()
}

#[test]
fn t01_target_that_is_level_is_told_at_once() {
    let mut leader = leader();
    assert_eq!(transfer(&mut leader, 2), Ok(()));
    assert_eq!(leader.raft().transfer_target(), Some(NodeId(2)));
    assert_eq!(hand_overs(leader.sends()), 1);
    assert_eq!(transfer(&mut leader, 2), Ok(()), "once more changes nothing");
    assert_eq!(hand_overs(leader.sends()), 0);
    assert_eq!(
        transfer(&mut leader, 3),
        Err(TransferError::UnderWay { target: NodeId(2) })
    );
    let now = leader.now;
    let refusal = leader.raft().propose(now, vec![command("a")]);
    assert_eq!(refusal, Err(ProposeError::TransferUnderWay { target: NodeId(2) }));
    let request = Message::VoteRequest {
        last: id(2, 2),
        campaign: Campaign::Transfer,
    };
    leader.hear(2, 3, request);
    assert!(leader.node.transitions.contains(&Transition::SteppedDown {
        term: Term(2),
        reason: StepDown::Transferred,
    }));
}

#[test]
fn t01_target_that_is_behind_is_brought_level_first() {
    let mut leader = leader();
    let now = leader.now;
    leader.raft().propose(now, vec![command("a")]).unwrap();
    leader.persist();
    transfer(&mut leader, 2).unwrap();
    assert_eq!(hand_overs(leader.sends()), 0);
    assert_eq!(hand_overs(leader.hear(2, 2, accepted(3))), 1);
}

#[test]
fn t01_transfer_to_a_dead_target_is_aborted_after_an_election_timeout() {
    let mut leader = leader();
    transfer(&mut leader, 3).unwrap();
    for round in 1..=6 {
        leader.wait(50);
        leader.hear(2, 2, round_answered(round));
    }
    let target = NodeId(3);
    assert!(
        leader
            .node
            .transitions
            .contains(&Transition::TransferAborted { target })
    );
    let now = leader.now;
    assert_eq!(leader.raft().propose(now, vec![command("a")]), Ok(id(3, 2)));
}

#[test]
fn t01_lost_hand_over_is_repeated_with_the_heartbeat() {
    let mut leader = leader();
    transfer(&mut leader, 2).unwrap();
    leader.sends();
    assert_eq!(hand_overs(leader.wait(50)), 1);
}

#[test]
fn t02_target_must_be_another_voter() {
    let mut leader = Lone::leading(Durable::founded(Configuration {
        learners: nodes(&[4]),
        ..voters(3)
    }));
    leader.hear(2, 2, accepted(2));
    for target in [4, 9] {
        let target = NodeId(target);
        assert_eq!(
            transfer(&mut leader, target.0),
            Err(TransferError::NotAVoter { target })
        );
    }
    let target = NodeId(1);
    assert_eq!(
        transfer(&mut leader, 1),
        Err(TransferError::LeadsAlready { target })
    );
    leader.change(&[1, 2], &[3, 4]).unwrap();
    let target = NodeId(3);
    assert_eq!(
        transfer(&mut leader, 3),
        Err(TransferError::NotAVoter { target }),
        "it is on its way out"
    );
    assert_eq!(
        transfer(&mut Lone::new(), 2),
        Err(TransferError::NotLeader { leader: None })
    );
}

#[test]
fn t03_campaign_goes_on_when_the_old_leaders_heartbeat_lands_after_the_hand_over() {
    let mut target = Lone::new();
    target.hear(2, 1, heartbeat(None, 1));
    target.hear(2, 1, Message::TimeoutNow);
    assert_eq!(
        (target.raft().role(), target.raft().term()),
        (RoleName::Candidate, Term(2))
    );
    let requests = messages(target.persist());
    let is_transfer = |message: &Message| {
        matches!(
            message,
            Message::VoteRequest {
                campaign: Campaign::Transfer,
                ..
            }
        )
    };
    assert_eq!(
        requests.iter().filter(|message| is_transfer(message)).count(),
        2,
        "no pre-vote: {requests:?}"
    );
    target.hear(2, 1, heartbeat(None, 2));
    assert_eq!(target.raft().role(), RoleName::Candidate);
}

#[test]
fn t03_late_hand_over_is_ignored() {
    let mut node = Lone::with(Durable::founded(voters(3)).at_term(5));
    assert_eq!(messages(node.hear(2, 4, Message::TimeoutNow)), []);
    assert_eq!(
        (node.raft().role(), node.raft().term()),
        (RoleName::Follower, Term(5))
    );
    node.hear(2, 6, Message::TimeoutNow);
    assert_eq!(
        (node.raft().role(), node.raft().term()),
        (RoleName::Follower, Term(6)),
        "nor is one from a term to come"
    );
}

#[test]
fn r66_hand_over_to_a_node_that_does_not_vote_is_ignored() {
    let mut learner = Lone::with(Durable::founded(Configuration {
        learners: nodes(&[1]),
        voters: nodes(&[2, 3]),
        outgoing: None,
    }));
    learner.hear(2, 1, Message::TimeoutNow);
    assert_eq!(learner.raft().role(), RoleName::Follower);
}

#[test]
pub(crate) fn t03_voters_that_hear_a_leader_elect_its_successor() {
    let mut group = Group::new(3);
    group.campaign(1);
    group.propose(1, "a");
    group.settle();
    let now = group.now;
    group.raft(1).transfer(now, NodeId(3)).unwrap();
    group.settle();
    assert_eq!(
        (group.leader(), group.now),
        (Some(3), now),
        "without a moment's wait"
    );
}

#[test]
fn r66_configuration_changes_wait_for_the_transfer() {
    let mut leader = leader();
    transfer(&mut leader, 3).unwrap();
    let target = NodeId(3);
    assert_eq!(
        leader.change(&[1, 2], &[]),
        Err(raftkv_raft::ChangeError::TransferUnderWay { target })
    );
}

#[test]
fn best_successor_lives_and_is_furthest() {
    let mut leader = leader();
    let now = leader.now;
    assert_eq!(leader.raft().best_successor(now), Some(NodeId(2)));
    leader.hear(3, 2, accepted(2));
    leader.raft().propose(now, vec![command("a")]).unwrap();
    leader.persist();
    leader.hear(3, 2, accepted(3));
    assert_eq!(leader.raft().best_successor(now), Some(NodeId(3)));
    let much_later = Time(now.0 + 400_000);
    assert_eq!(leader.raft().best_successor(much_later), None);
    assert_eq!(leader.commit(), index(3));
    assert_eq!(messages(leader.hear(3, 2, vote_request(id(3, 2)))).len(), 1);
}

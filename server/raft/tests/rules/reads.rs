//! ReadIndex: R68, R69, and the bound of R78.

use crate::harness::lone::{Lone, accepted, heartbeat, messages, round_answered};
use crate::harness::{Durable, index, voters};
use raftkv_raft::{Config, Envelope, Message, NodeId, ReadError, ReadId, ReadOutcome};

fn read(lone: &mut Lone, id: u64) -> Vec<Envelope> {
    let now = lone.now;
    lone.raft().read(now, ReadId(id)).expect("a leader is known");
    lone.sends()
}

fn confirmed(id: u64, at: u64) -> ReadOutcome {
    ReadOutcome::Confirmed {
        id: ReadId(id),
        index: index(at),
    }
}

fn rounds(sent: Vec<Envelope>) -> Vec<u64> {
    let to_two = sent.into_iter().filter(|envelope| envelope.to == NodeId(2));
    to_two
        .filter_map(|envelope| match envelope.message {
            Message::Heartbeat { round, .. } => Some(round.0),
            _ => None,
        })
        .collect()
}

fn leader() -> Lone {
    Lone::leading(Durable::founded(voters(3)))
}

fn settled_leader() -> Lone {
    let mut leader = leader();
    leader.hear(2, 2, accepted(2));
    leader
}

#[test]
pub(crate) fn r68_read_waits_for_the_first_commit_of_the_term() {
    let mut leader = leader();
    assert_eq!(rounds(read(&mut leader, 7)), []);
    leader.wait(50);
    leader.hear(2, 2, round_answered(1));
    assert_eq!(leader.node.reads, []);
    let sent = leader.hear(2, 2, accepted(2));
    assert_eq!(rounds(sent), [2]);
    leader.hear(2, 2, round_answered(2));
    assert_eq!(leader.node.reads, [confirmed(7, 2)]);
}

#[test]
pub(crate) fn r68_only_a_round_sent_after_the_read_confirms_it() {
    let mut leader = settled_leader();
    leader.wait(50);
    leader.hear(2, 2, round_answered(1));
    assert_eq!(rounds(read(&mut leader, 7)), [2]);
    leader.hear(2, 2, round_answered(1));
    assert_eq!(leader.node.reads, []);
    leader.hear(2, 2, round_answered(2));
    assert_eq!(leader.node.reads, [confirmed(7, 2)]);
}

#[test]
pub(crate) fn r68_no_read_without_a_quorum() {
    let mut leader = settled_leader();
    read(&mut leader, 7);
    assert_eq!(leader.node.reads, []);
    leader.hear(9, 2, round_answered(1));
    leader.hear(2, 1, round_answered(1));
    leader.hear(2, 2, round_answered(99));
    assert_eq!(
        leader.node.reads,
        [],
        "a stranger, an older term, a round never sent"
    );
    leader.wait(1000);
    assert_eq!(leader.node.reads, [ReadOutcome::Dropped { id: ReadId(7) }]);
}

#[test]
fn r68_lost_round_is_made_up_for_by_the_next_heartbeat() {
    let mut leader = settled_leader();
    read(&mut leader, 7);
    assert_eq!(rounds(leader.wait(50)), [2]);
    leader.hear(3, 2, round_answered(2));
    assert_eq!(leader.node.reads, [confirmed(7, 2)]);
}

#[test]
fn r68_single_voter_confirms_at_once() {
    let mut lone = Lone::with(Durable::founded(voters(1)));
    lone.wait(0);
    lone.persist();
    read(&mut lone, 7);
    assert_eq!(lone.node.reads, [confirmed(7, 2)]);
}

fn request(sent: Vec<Envelope>) -> ReadId {
    match messages(sent)[..] {
        [Message::ReadIndexRequest { id }] => id,
        ref other => panic!("one request is sent, got {other:?}"),
    }
}

#[test]
fn r69_follower_asks_its_leader_and_repeats_until_any_answer_comes() {
    let mut follower = Lone::new();
    let now = follower.now;
    assert_eq!(follower.raft().read(now, ReadId(7)), Err(ReadError::NoLeader));
    follower.hear(2, 1, heartbeat(None, 1));
    let first = request(read(&mut follower, 7));
    assert_eq!(request(follower.wait(100)), first);
    let answer = Message::ReadIndexReply {
        id: first,
        index: Some(index(1)),
    };
    follower.hear(2, 1, answer.clone());
    assert_eq!(follower.node.reads, [confirmed(7, 1)]);
    follower.hear(2, 1, answer);
    assert_eq!(
        follower.node.reads,
        [confirmed(7, 1)],
        "the second try's answer is nothing new"
    );
}

#[test]
fn r69_answer_to_a_former_life_is_nothing_to_this_one() {
    let mut follower = Lone::new();
    follower.hear(2, 1, heartbeat(None, 1));
    let before = request(read(&mut follower, 7));
    follower.restart();
    follower.hear(2, 1, heartbeat(None, 2));
    assert_ne!(request(read(&mut follower, 8)), before);
}

#[test]
fn r69_forwarded_reads_are_dropped_with_their_leader() {
    let mut follower = Lone::new();
    follower.hear(2, 1, heartbeat(None, 1));
    read(&mut follower, 7);
    follower.hear(3, 2, heartbeat(None, 1));
    assert_eq!(follower.node.reads, [ReadOutcome::Dropped { id: ReadId(7) }]);
}

#[test]
fn r78_waiting_reads_are_bounded() {
    let config = Config {
        max_pending_reads: 2,
        ..Config::default()
    };
    let mut leader = Lone::configured(&config, Durable::founded(voters(3)));
    leader.elect();
    read(&mut leader, 1);
    read(&mut leader, 2);
    let now = leader.now;
    assert_eq!(leader.raft().read(now, ReadId(3)), Err(ReadError::Overloaded));
    let refused = Message::ReadIndexReply {
        id: ReadId(9),
        index: None,
    };
    assert_eq!(
        messages(leader.hear(2, 2, Message::ReadIndexRequest { id: ReadId(9) })),
        [refused]
    );
}

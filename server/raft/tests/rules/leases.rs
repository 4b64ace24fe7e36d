//! Reads by leader lease: R70 to R72, R67.

use std::time::Duration;

use crate::harness::lone::{
    Lone, accepted, heartbeat, messages, pre_vote_request, round_answered, vote, vote_request,
};
use crate::harness::{Durable, Group, id, index, voters};
use raftkv_raft::{
    Campaign, Config, ConfigError, LeaderLease, LeaderLeases, Message, NodeId, RoleName, Term, Time,
    Transition, Verdict,
};

fn config() -> Config {
    Config {
        leader_leases: LeaderLeases::On {
            max_clock_drift_ppm: 500,
        },
        ..Config::default()
    }
}

fn node() -> Lone {
    Lone::configured(&config(), Durable::founded(voters(3)))
}

/// Leads, has committed in its term, and no round of it is answered.
fn leader() -> Lone {
    let mut leader = node();
    leader.elect();
    leader.hear(2, 2, accepted(2));
    leader
}

fn lease(leader: &mut Lone) -> Option<LeaderLease> {
    let now = leader.now;
    leader.raft().lease(now)
}

/// A time later than the node's present one.
fn later(node: &Lone, millis: u64) -> Time {
    node.now.after(Duration::from_millis(millis))
}

#[test]
pub(crate) fn r70_a_lease_lasts_from_the_sending_of_the_round_that_a_quorum_answered() {
    let mut leader = leader();
    assert_eq!(lease(&mut leader), None);
    leader.wait(50);
    let sent = leader.now;
    leader.now = later(&leader, 40);
    leader.hear(2, 2, round_answered(1));
    let held = LeaderLease {
        term: Term(2),
        index: index(2),
    };
    assert_eq!(lease(&mut leader), Some(held));
    // 300 ms * 0.9995 / 1.0005 - 15 ms
    assert_eq!(
        leader.raft().lease(sent.after(Duration::from_millis(284))),
        Some(held)
    );
    assert_eq!(leader.raft().lease(sent.after(Duration::from_millis(285))), None);
}

#[test]
pub(crate) fn q06_a_pause_between_check_and_read_is_noticed_after_it() {
    let mut leader = leader();
    leader.wait(50);
    leader.hear(2, 2, round_answered(1));
    let held = lease(&mut leader).unwrap();
    let after_pause = later(&leader, 300);
    assert!(!leader.raft().still_holds(after_pause, held));
    let soon = later(&leader, 10);
    assert!(leader.raft().still_holds(soon, held));
    leader.hear(3, 3, heartbeat(None, 1));
    assert!(!leader.raft().still_holds(soon, held), "another leads");
}

#[test]
fn r70_no_lease_without_leases_and_before_the_terms_first_commit() {
    let mut off = Lone::leading(Durable::founded(voters(3)));
    off.hear(2, 2, accepted(2));
    off.wait(50);
    off.hear(2, 2, round_answered(1));
    assert_eq!(lease(&mut off), None);
    let mut fresh = node();
    fresh.elect();
    fresh.wait(50);
    fresh.hear(2, 2, round_answered(1));
    assert_eq!(lease(&mut fresh), None);
    assert_eq!(lease(&mut Lone::new()), None, "nor on a follower");
}

#[test]
pub(crate) fn q08_no_lease_from_the_hand_over_on_even_when_it_is_aborted() {
    let mut leader = leader();
    leader.wait(50);
    leader.hear(2, 2, round_answered(1));
    assert!(lease(&mut leader).is_some());
    let now = leader.now;
    leader.raft().transfer(now, NodeId(2)).unwrap();
    assert_eq!(lease(&mut leader), None, "before the message is even out");
    for round in 2..=12 {
        leader.wait(50);
        leader.hear(2, 2, round_answered(round));
    }
    let target = NodeId(2);
    assert!(
        leader
            .node
            .transitions
            .contains(&Transition::TransferAborted { target })
    );
    assert_eq!(
        lease(&mut leader),
        None,
        "the message may arrive arbitrarily late"
    );
}

#[test]
fn r67_a_transfer_that_never_got_to_the_hand_over_costs_no_lease() {
    let mut leader = leader();
    let now = leader.now;
    leader.raft().transfer(now, NodeId(3)).unwrap();
    leader.wait(50);
    leader.hear(2, 2, round_answered(1));
    assert!(lease(&mut leader).is_some());
}

const GRANTED: Message = Message::VoteReply {
    verdict: Verdict::Granted,
};
const REFUSED: Message = Message::VoteReply {
    verdict: Verdict::Refused,
};

#[test]
pub(crate) fn q07_a_restarted_voter_keeps_its_promise_for_an_election_timeout() {
    let mut voter = node();
    voter.wait(299);
    assert_eq!(
        messages(voter.hear(3, 2, vote_request(id(1, 1)))),
        [],
        "not even its term is taken"
    );
    let asked = pre_vote_request(2, id(1, 1));
    let refusal = Message::PreVoteReply {
        campaign_term: Term(2),
        verdict: Verdict::Refused,
    };
    assert_eq!(messages(voter.hear(3, 1, asked)), [refusal]);
    assert_eq!(
        messages(voter.hear(3, 1, vote_request(id(1, 1)))),
        [REFUSED],
        "nor in the present term"
    );
    voter.wait(1);
    voter.hear(3, 2, vote_request(id(1, 1)));
    assert_eq!(messages(voter.persist()), [GRANTED]);
}

#[test]
fn q07_without_leases_a_restarted_voter_votes_at_once() {
    let mut voter = Lone::new();
    voter.hear(3, 2, vote_request(id(1, 1)));
    assert_eq!(messages(voter.persist()), [GRANTED]);
}

#[test]
fn r71_a_promise_outlives_a_change_of_term() {
    let mut voter = node();
    voter.wait(400);
    voter.hear(2, 1, heartbeat(None, 1));
    voter.hear(3, 4, vote(Verdict::Refused));
    assert_eq!((voter.raft().term(), voter.raft().leader()), (Term(4), None));
    voter.persist();
    assert_eq!(messages(voter.hear(3, 4, vote_request(id(1, 1)))), [REFUSED]);
    let handed_over = Message::VoteRequest {
        last: id(1, 1),
        campaign: Campaign::Transfer,
    };
    voter.hear(3, 4, handed_over);
    assert_eq!(
        messages(voter.persist()),
        [GRANTED],
        "the leader itself gave its lease up"
    );
}

#[test]
fn r71_reset_connection_does_not_end_stickiness_while_leases_are_on() {
    let mut voter = node();
    voter.wait(400);
    voter.hear(2, 1, heartbeat(None, 1));
    let now = voter.now;
    voter.raft().peer_reset(now, NodeId(2));
    voter.wait(100);
    assert_eq!(voter.raft().role(), RoleName::Follower);
    assert_eq!(messages(voter.hear(3, 2, vote_request(id(1, 1)))), []);
}

#[test]
fn r72_a_clock_that_jumped_drops_the_lease() {
    let mut leader = leader();
    leader.wait(50);
    leader.hear(2, 2, round_answered(1));
    leader.raft().clock_jumped();
    assert_eq!(lease(&mut leader), None);
    leader.sends();
    assert!(leader.node.transitions.contains(&Transition::LeaseDropped));
    leader.wait(50);
    leader.hear(2, 2, round_answered(2));
    assert!(
        lease(&mut leader).is_some(),
        "a round sent since then gives a new one"
    );
}

#[test]
fn r70_a_bound_that_no_clock_needs_is_refused() {
    for max_clock_drift_ppm in [0, 200_001] {
        let config = Config {
            leader_leases: LeaderLeases::On { max_clock_drift_ppm },
            ..Config::default()
        };
        assert!(matches!(config.validate(), Err(ConfigError::ClockDrift { .. })));
    }
    assert_eq!(config().validate(), Ok(()));
}

/// The clocks of a leader that is slow and a voter that is fast, each by so many millionths: does the voter ever help to elect
/// another leader while the lease lasts?
fn overlap(drift_ppm: u64) -> bool {
    let mut leader = leader();
    let mut voter = node();
    voter.wait(400);
    leader.wait(50);
    let (leader_start, voter_start) = (leader.now, voter.now);
    voter.hear(2, 1, heartbeat(None, 1));
    leader.hear(2, 2, round_answered(1));
    let granted = Message::PreVoteReply {
        campaign_term: Term(9),
        verdict: Verdict::Granted,
    };
    (0..600).any(|millis| {
        let true_time = millis * 1000;
        let leader_time = Time(leader_start.0 + true_time - true_time * drift_ppm / 1_000_000);
        voter.now = Time(voter_start.0 + true_time + true_time * drift_ppm / 1_000_000);
        let helps = messages(voter.hear(3, 1, pre_vote_request(9, id(1, 1)))) == [granted.clone()];
        helps && leader.raft().lease(leader_time).is_some()
    })
}

#[test]
fn q05_drift_inside_the_bound_is_harmless_and_beyond_it_is_not() {
    for drift_ppm in [0, 100, 500] {
        assert!(!overlap(drift_ppm), "{drift_ppm} ppm, the bound is 500");
    }
    assert!(overlap(100_000), "this test would notice a stale read");
}

#[test]
fn q07_followers_that_reboot_fast_elect_nobody_inside_the_lease() {
    let mut group = Group::with(config(), (1..=3).map(|node| (node, Durable::founded(voters(3)))));
    group.run(Duration::from_millis(2000));
    let leader = group.leader().expect("someone leads");
    let others: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
    group.partition(&[leader], &others);
    for other in &others {
        group.restart(*other);
    }
    let mut rivals = 0;
    for _ in 0..2000 {
        group.run(Duration::from_millis(1));
        let now = group.now;
        let has_lease = group.raft(leader).lease(now).is_some();
        rivals = group
            .leaders()
            .into_iter()
            .filter(|other| *other != leader)
            .count();
        assert!(
            rivals == 0 || !has_lease,
            "another node leads while the lease lasts"
        );
        if rivals > 0 {
            break;
        }
    }
    assert_eq!(rivals, 1, "the others did elect one at last");
}

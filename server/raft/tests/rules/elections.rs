//! Votes, pre-votes, terms and time-outs: R1 to R15.

use crate::harness::lone::{Lone, append, heartbeat, messages, pre_vote_request, vote, vote_request};
use crate::harness::{Durable, id, voters};
use raftkv_raft::{Campaign, Configuration, Message, NodeId, RoleName, StepDown, Term, Transition, Verdict};

const GRANTED: Message = Message::VoteReply {
    verdict: Verdict::Granted,
};
const REFUSED: Message = Message::VoteReply {
    verdict: Verdict::Refused,
};

fn pre_vote(campaign_term: u64, verdict: Verdict) -> Message {
    Message::PreVoteReply {
        campaign_term: Term(campaign_term),
        verdict,
    }
}

#[test]
pub(crate) fn r01_vote_leaves_after_it_is_durable() {
    let mut voter = Lone::new();
    assert_eq!(messages(voter.hear(2, 2, vote_request(id(1, 1)))), []);
    assert_eq!(messages(voter.persist()), [GRANTED]);
    assert_eq!(voter.node.disk.hard_state.vote, Some(NodeId(2)));
}

#[test]
pub(crate) fn r01_durable_vote_binds_after_restart() {
    let mut voter = Lone::new();
    voter.hear(2, 2, vote_request(id(1, 1)));
    voter.persist();
    voter.restart();
    assert_eq!(messages(voter.hear(3, 2, vote_request(id(1, 1)))), [REFUSED]);
    assert_eq!(messages(voter.hear(2, 2, vote_request(id(1, 1)))), [GRANTED]);
}

#[test]
fn r01_own_vote_counts_once_durable() {
    let mut candidate = Lone::new();
    candidate.time_out();
    candidate.hear(2, 1, pre_vote(2, Verdict::Granted));
    candidate.hear(2, 2, vote(Verdict::Granted));
    assert_eq!(candidate.raft().role(), RoleName::Candidate);
    candidate.persist();
    assert_eq!(candidate.raft().role(), RoleName::Leader);
}

#[test]
pub(crate) fn r02_vote_outlives_step_down_in_the_same_term() {
    let mut leader = Lone::leading(Durable::founded(voters(3)));
    leader.wait(1000);
    assert_eq!(leader.raft().role(), RoleName::Follower);
    assert_eq!(messages(leader.hear(3, 2, vote_request(id(9, 2)))), [REFUSED]);
}

#[test]
fn r02_repeated_request_gets_the_same_answer() {
    let mut voter = Lone::new();
    voter.hear(2, 2, vote_request(id(1, 1)));
    voter.persist();
    assert_eq!(messages(voter.hear(2, 2, vote_request(id(1, 1)))), [GRANTED]);
    assert_eq!(messages(voter.hear(3, 2, vote_request(id(1, 1)))), [REFUSED]);
}

#[test]
fn r03_equal_logs_are_electable() {
    let mut voter = Lone::with(Durable::founded(voters(3)).with_terms(&[1, 1]));
    voter.hear(2, 2, vote_request(id(3, 1)));
    assert_eq!(messages(voter.persist()), [GRANTED]);
}

#[test]
pub(crate) fn r03_term_of_the_last_entry_goes_before_length() {
    let mut voter = Lone::with(Durable::founded(voters(3)).with_terms(&[1, 3]));
    voter.hear(2, 4, vote_request(id(9, 2)));
    assert_eq!(messages(voter.persist()), [REFUSED]);
    voter.hear(3, 5, vote_request(id(2, 4)));
    assert_eq!(messages(voter.persist()), [GRANTED]);
}

#[test]
fn r04_learning_a_term_casts_no_vote() {
    let mut voter = Lone::with(Durable::founded(voters(3)).with_terms(&[1, 1]));
    voter.hear(2, 7, vote_request(id(1, 1)));
    assert_eq!(messages(voter.persist()), [REFUSED]);
    assert_eq!(
        (voter.node.disk.hard_state.term, voter.node.disk.hard_state.vote),
        (Term(7), None)
    );
    voter.hear(3, 7, vote_request(id(3, 1)));
    assert_eq!(messages(voter.persist()), [GRANTED]);
}

#[test]
fn r05_higher_term_deposes_and_is_durable_before_it_is_shown() {
    let mut leader = Lone::leading(Durable::founded(voters(3)));
    let reply = Message::AppendRefused {
        session: crate::harness::lone::session(),
        refused: crate::harness::index(1),
        hint: id(1, 1),
    };
    leader.hear(2, 9, reply);
    let deposed = Transition::SteppedDown {
        term: Term(2),
        reason: StepDown::HigherTerm,
    };
    assert!(leader.node.transitions.contains(&deposed));
    assert_eq!(messages(leader.hear(3, 9, pre_vote_request(9, id(1, 1)))), []);
    assert_eq!(messages(leader.persist()), [pre_vote(9, Verdict::Refused)]);
}

#[test]
pub(crate) fn r06_refusing_a_vote_does_not_restart_the_timer() {
    let mut voter = Lone::with(Durable::founded(voters(3)).with_terms(&[1, 1]));
    let deadline = voter.raft().next_deadline();
    voter.wait(100);
    voter.hear(2, 2, vote_request(id(1, 1)));
    assert_eq!(voter.raft().next_deadline(), deadline);
}

#[test]
pub(crate) fn r06_granting_a_pre_vote_does_not_restart_the_timer() {
    let mut voter = Lone::new();
    let deadline = voter.raft().next_deadline();
    voter.wait(100);
    assert_eq!(
        messages(voter.hear(2, 1, pre_vote_request(2, id(1, 1)))),
        [pre_vote(2, Verdict::Granted)]
    );
    assert_eq!(voter.raft().next_deadline(), deadline);
}

#[test]
fn r06_the_leader_and_a_granted_vote_restart_the_timer() {
    let mut voter = Lone::new();
    for message in [
        vote_request(id(1, 1)),
        heartbeat(None, 1),
        append(id(1, 1), 1, Vec::new()),
    ] {
        let deadline = voter.raft().next_deadline();
        voter.wait(150);
        voter.hear(2, 2, message.clone());
        assert!(voter.raft().next_deadline() > deadline, "{message:?}");
    }
}

#[test]
fn r07_timeouts_lie_between_one_and_two_times_the_least() {
    let mut node = Lone::new();
    let least = raftkv_raft::Config::default().election_timeout;
    let mut drawn = std::collections::BTreeSet::new();
    for _ in 0..50 {
        node.time_out();
        let timeout = node.raft().next_deadline().since(node.now);
        assert!(timeout >= least && timeout < least * 2, "{timeout:?}");
        drawn.insert(timeout);
    }
    assert!(drawn.len() > 40, "drawn anew each time: {drawn:?}");
}

#[test]
fn r08_answering_a_pre_vote_changes_nothing() {
    let mut voter = Lone::new();
    let before = (
        voter.raft().term(),
        voter.raft().next_deadline(),
        voter.raft().leader(),
    );
    voter.hear(2, 8, pre_vote_request(9, id(1, 1)));
    assert_eq!(
        (
            voter.raft().term(),
            voter.raft().next_deadline(),
            voter.raft().leader()
        ),
        before
    );
    assert!(voter.node.queued.is_empty(), "nothing to write");
}

#[test]
fn r08_pre_votes_are_not_votes_and_late_ones_count_for_nothing() {
    let mut candidate = Lone::new();
    candidate.campaign();
    candidate.hear(2, 1, pre_vote(2, Verdict::Granted));
    candidate.hear(3, 2, pre_vote(3, Verdict::Granted));
    assert_eq!(candidate.raft().role(), RoleName::Candidate);
    candidate.time_out();
    candidate.hear(2, 2, vote(Verdict::Granted));
    candidate.hear(3, 2, pre_vote(2, Verdict::Granted));
    assert_eq!(candidate.raft().role(), RoleName::PreCandidate);
}

#[test]
fn r09_pre_vote_of_a_lower_term_is_refused_with_ours() {
    let mut voter = Lone::with(Durable::founded(voters(3)).at_term(7));
    let sent = voter.hear(2, 3, pre_vote_request(4, id(9, 3)));
    assert_eq!(sent[0].term, Term(7));
    assert_eq!(messages(sent), [pre_vote(4, Verdict::Refused)]);
}

#[test]
fn r09_leader_that_forgot_its_role_is_not_refused_for_its_own_sake() {
    let mut voter = Lone::new();
    voter.hear(2, 1, heartbeat(None, 1));
    assert_eq!(
        messages(voter.hear(3, 1, pre_vote_request(2, id(1, 1)))),
        [pre_vote(2, Verdict::Refused)]
    );
    assert_eq!(
        messages(voter.hear(2, 1, pre_vote_request(2, id(1, 1)))),
        [pre_vote(2, Verdict::Granted)]
    );
    voter.hear(2, 2, vote_request(id(1, 1)));
    assert_eq!(messages(voter.persist()), [GRANTED]);
}

#[test]
fn r10_voter_with_a_live_leader_ignores_requests_and_their_term() {
    let mut voter = Lone::new();
    voter.hear(2, 1, heartbeat(None, 1));
    voter.wait(200);
    assert_eq!(messages(voter.hear(3, 5, vote_request(id(9, 4)))), []);
    assert_eq!(voter.raft().term(), Term(1));
}

#[test]
pub(crate) fn r66_transfer_overrides_stickiness() {
    let mut voter = Lone::new();
    voter.hear(2, 1, heartbeat(None, 1));
    let request = Message::VoteRequest {
        last: id(1, 1),
        campaign: Campaign::Transfer,
    };
    voter.hear(3, 2, request);
    assert_eq!(messages(voter.persist()), [GRANTED]);
}

#[test]
pub(crate) fn r11_leader_without_answers_steps_down_in_its_term() {
    let mut leader = Lone::leading(Durable::founded(voters(3)));
    leader.wait(299);
    assert_eq!(leader.raft().role(), RoleName::Leader);
    leader.wait(1);
    assert_eq!(
        (leader.raft().role(), leader.raft().term()),
        (RoleName::Follower, Term(2))
    );
}

#[test]
fn r11_leader_of_a_lower_term_is_told_ours() {
    let mut node = Lone::with(Durable::founded(voters(3)).at_term(7));
    for message in [heartbeat(None, 1), append(id(1, 1), 1, Vec::new())] {
        let sent = node.hear(2, 3, message);
        assert_eq!((sent.len(), sent[0].term), (1, Term(7)));
    }
    assert_eq!(node.raft().leader(), None);
}

#[test]
fn r13_votes_of_strangers_and_learners_do_not_count() {
    let mut configuration = Configuration::of_voters([1, 2, 3].map(NodeId));
    configuration.learners.insert(NodeId(4));
    let mut candidate = Lone::with(Durable::founded(configuration));
    candidate.campaign();
    for stranger in [4, 9] {
        candidate.hear(stranger, 2, vote(Verdict::Granted));
        assert_eq!(candidate.raft().role(), RoleName::Candidate);
    }
    candidate.hear(3, 2, vote(Verdict::Granted));
    assert_eq!(candidate.raft().role(), RoleName::Leader);
}

#[test]
fn r13_learners_answer_vote_requests() {
    let mut configuration = Configuration::of_voters([2, 3].map(NodeId));
    configuration.learners.insert(NodeId(1));
    let mut learner = Lone::with(Durable::founded(configuration));
    learner.hear(2, 2, vote_request(id(1, 1)));
    assert_eq!(messages(learner.persist()), [GRANTED]);
}

#[test]
fn r14_learners_and_strangers_do_not_campaign() {
    let mut configuration = Configuration::of_voters([2, 3].map(NodeId));
    configuration.learners.insert(NodeId(1));
    for configuration in [configuration, Configuration::of_voters([2, 3].map(NodeId))] {
        let mut node = Lone::with(Durable::founded(configuration));
        assert_eq!(node.raft().next_deadline(), raftkv_raft::Time::NEVER);
        node.wait(100_000);
        assert_eq!(node.raft().role(), RoleName::Follower);
    }
}

#[test]
pub(crate) fn r14_node_dropped_by_an_uncommitted_configuration_campaigns_without_its_own_vote() {
    let mut dropped = Lone::with(Durable::founded(voters(3)).with_configuration(2, voters_of(&[2, 3])));
    dropped.campaign_with(&[2, 3]);
    dropped.hear(2, 3, vote(Verdict::Granted));
    assert_eq!(dropped.raft().role(), RoleName::Candidate, "one of two");
    dropped.hear(3, 3, vote(Verdict::Granted));
    assert_eq!(dropped.raft().role(), RoleName::Leader);
}

fn voters_of(nodes: &[u64]) -> Configuration {
    Configuration::of_voters(nodes.iter().copied().map(NodeId))
}

#[test]
fn r15_leader_hint_is_dropped_with_the_term_and_by_campaigning() {
    let mut node = Lone::new();
    node.hear(2, 1, heartbeat(None, 1));
    assert_eq!(node.raft().leader(), Some(NodeId(2)));
    node.wait(1000);
    assert_eq!(
        (node.raft().role(), node.raft().leader()),
        (RoleName::PreCandidate, None)
    );
    node.hear(2, 1, heartbeat(None, 2));
    assert_eq!(node.raft().leader(), Some(NodeId(2)));
    node.wait(301);
    node.hear(3, 2, vote_request(id(1, 1)));
    assert_eq!(node.raft().leader(), None);
}

#[test]
pub(crate) fn r58_joint_configuration_elects_by_both_halves() {
    let mut joint = voters_of(&[1, 2, 3]);
    joint.outgoing = Some([3, 4, 5].map(NodeId).into());
    let mut candidate = Lone::with(Durable::founded(joint));
    candidate.campaign_with(&[2, 4, 5]);
    candidate.hear(2, 2, vote(Verdict::Granted));
    assert_eq!(candidate.raft().role(), RoleName::Candidate, "the new half alone");
    candidate.hear(4, 2, vote(Verdict::Granted));
    assert_eq!(
        candidate.raft().role(),
        RoleName::Candidate,
        "three of five, one of the outgoing half"
    );
    candidate.hear(5, 2, vote(Verdict::Granted));
    assert_eq!(candidate.raft().role(), RoleName::Leader);
}

#[test]
pub(crate) fn r13_votes_are_counted_by_the_latest_configuration_committed_or_not() {
    let grown = Durable::founded(voters(3)).with_configuration(2, voters(5));
    let mut candidate = Lone::with(grown);
    candidate.campaign_with(&[2, 3]);
    candidate.hear(2, 3, vote(Verdict::Granted));
    assert_eq!(candidate.raft().role(), RoleName::Candidate, "two of five");
    candidate.hear(4, 3, vote(Verdict::Granted));
    assert_eq!(candidate.raft().role(), RoleName::Leader);
}

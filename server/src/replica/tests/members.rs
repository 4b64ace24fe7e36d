//! Members come, go, move and are replaced; leadership is handed over.

use std::time::Duration;

use raftkv_protocol::{
    Address, Answer, Consistency, ErrorCode, Force, Member, MemberCommand, MembershipMessage, NodeName,
    PeerMessage, Promotion, Request, Response, Standing, StandingReply,
};

use super::cluster::{Cluster, address, code, config, found, get, name, put};
use super::drains::{tiny, write_many};
use crate::replica::{NodeConfig, Notice};

/// Settings of a node that asks `at` to be let in.
pub(super) fn joiner(number: usize, at: usize) -> NodeConfig {
    NodeConfig {
        join: Some(address(at)),
        ..config(number, &[])
    }
}

/// Three members that are ready, and the machines of `later` nodes that are off.
pub(super) fn three_and(later: Vec<NodeConfig>, seed: u64) -> Cluster {
    let mut configs: Vec<NodeConfig> = (1..=3).map(|number| config(number, &[1, 2, 3])).collect();
    configs.extend(later);
    let mut cluster = Cluster::new(configs, seed);
    (0..3).for_each(|machine| cluster.start(machine));
    cluster.run_until("three are ready", |cluster| {
        (0..3).all(|machine| is_ready(cluster, machine))
    });
    cluster
}

pub(super) fn is_ready(cluster: &Cluster, machine: usize) -> bool {
    cluster.is_up(machine) && cluster.node(machine).status(cluster.now).ready
}

fn why_not_ready(cluster: &Cluster, machine: usize) -> String {
    let status = cluster.node(machine).status(cluster.now);
    status.not_ready_because.unwrap_or_default()
}

pub(super) fn add(name: NodeName) -> Request {
    added_as(name, Promotion::CaughtUp)
}

/// Lets a node in that votes only when it is promoted.
pub(super) fn add_held(name: NodeName) -> Request {
    added_as(name, Promotion::Asked)
}

fn added_as(name: NodeName, promotion: Promotion) -> Request {
    Request::Member(MemberCommand::Add {
        name,
        address: None,
        promotion,
    })
}

fn remove(name: NodeName) -> Request {
    let force = Force::No;
    Request::Member(MemberCommand::Remove { name, force })
}

pub(super) fn replace(name: NodeName) -> Request {
    let force = Force::No;
    Request::Member(MemberCommand::Replace { name, force })
}

fn promote(name: NodeName) -> Request {
    let force = Force::No;
    Request::Member(MemberCommand::Promote { name, force })
}

pub(super) fn transfer(to: Option<NodeName>) -> Request {
    Request::Member(MemberCommand::TransferLeader { to })
}

fn members(response: &Response) -> Vec<Member> {
    match &response.outcome {
        Ok(Answer::Members(members)) => members.clone(),
        other => panic!("expected the members, got {other:?}"),
    }
}

pub(super) fn refusal(response: &Response) -> &str {
    assert_eq!(
        code(response),
        Some(ErrorCode::MembershipRefused),
        "{:?}",
        response.outcome
    );
    &response.outcome.as_ref().unwrap_err().message
}

/// Names of the voters, as the leader's configuration has them.
pub(super) fn voters(cluster: &Cluster) -> Vec<String> {
    let Some(leader) = cluster.leader() else {
        return Vec::new();
    };
    let is_joint = cluster
        .node(leader)
        .raft()
        .is_some_and(|raft| raft.configuration().outgoing.is_some());
    let members = cluster.node(leader).status(cluster.now).members;
    let voters = members.iter().filter(|member| member.voter && !is_joint);
    voters.map(|member| member.name.to_string()).collect()
}

pub(super) fn write(cluster: &mut Cluster, machine: usize, key: &str) {
    let response = cluster.call(machine, put(key, "v"));
    assert_eq!(code(&response), None, "{:?}", response.outcome);
}

#[test]
fn node_that_joins_waits_until_it_is_added_and_becomes_a_voter_by_itself() {
    // It knocks at each of the three once: two of them have to tell the leader.
    for at in 1..=3 {
        let mut cluster = three_and(vec![joiner(4, at)], 200 + at as u64);
        write(&mut cluster, 0, "before");
        cluster.start(3);
        cluster.run_for(Duration::from_secs(1));
        assert!(!cluster.is_formed(3));
        let why = why_not_ready(&cluster, 3);
        assert!(why.contains("kvctl member add node4"), "{why}");
        let added = cluster.call(0, add(name(4)));
        let is_there = |member: &Member| member.name == name(4) && member.address == address(4);
        assert!(members(&added).iter().any(is_there));
        cluster.run_until("it votes", |cluster| voters(cluster).len() == 4);
        cluster.run_until("it is ready", Cluster::all_ready);
        let read = cluster.call(3, get("before", Consistency::Linearizable));
        assert!(found(&read).is_some());
    }
}

#[test]
fn node_is_admitted_at_the_address_that_the_operator_names() {
    // It was told to form a cluster with somebody who never comes.
    let mut cluster = three_and(vec![config(4, &[4, 9])], 204);
    cluster.start(3);
    cluster.run_for(Duration::from_secs(1));
    let added = cluster.call(
        1,
        Request::Member(MemberCommand::Add {
            name: name(4),
            address: Some(address(4)),
            promotion: Promotion::CaughtUp,
        }),
    );
    assert_eq!(members(&added).len(), 4);
    cluster.run_until("all are ready", Cluster::all_ready);
}

#[test]
fn learner_that_is_held_votes_only_when_it_is_promoted() {
    let mut cluster = three_and(vec![joiner(4, 1)], 205);
    cluster.start(3);
    let added = cluster.call(2, add_held(name(4)));
    assert_eq!(code(&added), None);
    cluster.run_until("it is ready", Cluster::all_ready);
    cluster.run_for(Duration::from_secs(3));
    assert_eq!(voters(&cluster), ["node1", "node2", "node3"]);
    assert_eq!(code(&cluster.call(3, promote(name(4)))), None);
    assert_eq!(voters(&cluster).len(), 4);
    let again = cluster.call(3, promote(name(4)));
    assert!(refusal(&again).contains("votes already"));
}

#[test]
fn what_can_not_be_done_is_refused_with_the_reason() {
    let mut cluster = three_and(Vec::new(), 206);
    let nobody = cluster.call(0, add(name(4)));
    assert!(refusal(&nobody).contains("server --id node4"), "{nobody:?}");
    let known = cluster.call(1, add(name(2)));
    assert!(refusal(&known).contains("kvctl member replace node2"));
    let unknown = cluster.call(2, remove(name(7)));
    assert!(refusal(&unknown).contains("node1, node2, node3"));
    let alive = cluster.call(0, replace(name(2)));
    assert!(refusal(&alive).contains("alive"));
    assert_eq!(voters(&cluster).len(), 3);
}

#[test]
fn last_voter_is_never_removed() {
    let mut cluster = Cluster::new(vec![config(1, &[])], 207);
    cluster.start(0);
    cluster.run_until("it is ready", Cluster::all_ready);
    let refused = cluster.call(0, remove(name(1)));
    assert!(refusal(&refused).contains("only voter"));
}

#[test]
fn r64_removal_that_would_leave_no_live_majority_is_refused() {
    let mut cluster = three_and(Vec::new(), 208);
    let leader = cluster.leader().unwrap();
    let dead = cluster.follower();
    cluster.kill(dead);
    cluster.run_for(Duration::from_secs(1));
    let alive = cluster.follower();
    let refused = cluster.call(leader, remove(name(alive + 1)));
    let message = refusal(&refused).to_owned();
    assert!(
        message.contains("2 voters of which 1") && message.contains("--force"),
        "{message}"
    );
    assert_eq!(code(&cluster.call(leader, remove(name(dead + 1)))), None);
    assert_eq!(voters(&cluster).len(), 2);
    write(&mut cluster, alive, "after");
}

#[test]
fn r63_removed_node_stays_up_says_why_and_disturbs_nobody() {
    let mut cluster = three_and(Vec::new(), 209);
    let leader = cluster.leader().unwrap();
    let gone = cluster.follower();
    assert_eq!(code(&cluster.call(gone, remove(name(gone + 1)))), None);
    cluster.run_for(Duration::from_secs(10));
    let why = why_not_ready(&cluster, gone);
    assert!(why.contains("removed"), "{why}");
    assert_eq!(cluster.leader(), Some(leader));
    assert_eq!(
        code(&cluster.call(gone, put("k", "v"))),
        Some(ErrorCode::NotServing)
    );
    write(&mut cluster, leader, "after");
    // A restart changes nothing: nobody takes its votes.
    cluster.kill(gone);
    cluster.start(gone);
    cluster.run_for(Duration::from_secs(5));
    assert!(why_not_ready(&cluster, gone).contains("removed"));
    assert_eq!(voters(&cluster).len(), 2);
}

#[test]
fn removed_node_comes_back_only_with_a_new_identity() {
    let mut cluster = three_and(Vec::new(), 210);
    let gone = cluster.follower();
    assert_eq!(code(&cluster.call(gone, remove(name(gone + 1)))), None);
    // The log is lost, the identity is the removed one.
    let at = (gone + 1) % 3;
    let mut settings = joiner(gone + 1, at + 1);
    settings.introduction.identity = cluster.settings(gone).introduction.identity;
    cluster.lose_log(gone);
    cluster.reconfigure(gone, settings);
    cluster.start(gone);
    cluster.run_for(Duration::from_secs(2));
    assert!(why_not_ready(&cluster, gone).contains("was removed"));
    assert!(refusal(&cluster.call(at, add(name(gone + 1)))).contains("knocked"));
    cluster.wipe(gone);
    cluster.start(gone);
    assert_eq!(code(&cluster.call(at, add(name(gone + 1)))), None);
    cluster.run_until("it votes again", |cluster| {
        cluster.all_ready() && voters(cluster).len() == 3
    });
}

#[test]
fn r63_who_knocked_before_it_was_let_in_and_removed_is_not_let_in_again() {
    let mut cluster = three_and(vec![joiner(4, 1)], 231);
    cluster.start(3);
    assert_eq!(code(&cluster.call(0, add(name(4)))), None);
    let identity = cluster.settings(3).introduction.identity;
    assert_eq!(code(&cluster.call(0, remove(name(4)))), None);
    // Its last knock is not old yet.
    assert!(refusal(&cluster.call(0, add(name(4)))).contains("knocked"));
    cluster.run_for(Duration::from_secs(1));
    let members = cluster.node(0).status(cluster.now).members;
    assert!(members.iter().all(|member| member.identity != identity));
}

#[test]
fn member_is_not_replaced_by_itself() {
    let mut cluster = three_and(vec![joiner(4, 1)], 232);
    cluster.start(3);
    assert_eq!(code(&cluster.call(0, add(name(4)))), None);
    // Its last knock, as the node that it was before, is not old yet.
    let why = cluster.call(0, replace(name(4)));
    assert!(!refusal(&why).is_empty());
    cluster.run_until("it votes", |cluster| voters(cluster).len() == 4);
    cluster.run_until("it is ready", Cluster::all_ready);
}

#[test]
fn node_that_joins_answers_a_leader_that_its_log_does_not_name_yet() {
    let mut configs: Vec<NodeConfig> = (1..=3).map(tiny).collect();
    configs.extend([4, 5].map(|number| NodeConfig {
        join: Some(address(1)),
        ..tiny(number)
    }));
    let mut cluster = Cluster::new(configs, 233);
    (0..4).for_each(|machine| cluster.start(machine));
    cluster.run_until("three are ready", |cluster| {
        (0..3).all(|machine| is_ready(cluster, machine))
    });
    assert_eq!(code(&cluster.call(0, add(name(4)))), None);
    cluster.run_until("it votes", |cluster| voters(cluster).len() == 4);
    assert_eq!(code(&cluster.call(0, transfer(Some(name(4))))), None);
    write_many(&mut cluster, &[0, 1, 2], 100);
    cluster.run_for(Duration::from_secs(1));
    assert_eq!(cluster.leader(), Some(3));
    cluster.start(4);
    assert_eq!(code(&cluster.call(0, add(name(5)))), None);
    // The founding entry, which is all that its log holds, knows nothing of node4.
    cluster.run_until("it has the snapshot and votes", |cluster| {
        is_ready(cluster, 4) && voters(cluster).len() == 5
    });
    let is_install = |(machine, notice): &&(usize, Notice)| {
        *machine == 4 && matches!(notice, Notice::SnapshotInstalled { .. })
    };
    assert!(cluster.notices.iter().any(|notice| is_install(&notice)));
}

#[test]
fn leader_that_is_removed_hands_over_first() {
    for asked in 0..3 {
        let mut cluster = three_and(Vec::new(), 211 + asked as u64);
        let leader = cluster.leader().unwrap();
        let before = cluster.now;
        assert_eq!(code(&cluster.call(asked, remove(name(leader + 1)))), None);
        assert!(
            cluster.now.since(before) < Duration::from_millis(300),
            "no election time-out passed"
        );
        assert_ne!(cluster.leader(), Some(leader));
        assert_eq!(voters(&cluster).len(), 2);
        cluster.run_for(Duration::from_millis(10));
        assert!(
            why_not_ready(&cluster, leader).contains("removed"),
            "it is told at once"
        );
    }
}

#[test]
fn lost_disk_is_replaced_under_the_same_name_and_address() {
    for seed in 0..5 {
        let mut cluster = three_and(Vec::new(), 220 + seed);
        write(&mut cluster, 0, "before");
        let lost = cluster.follower();
        let old = cluster.settings(lost).introduction.identity;
        cluster.wipe(lost);
        // With the flags it always had.
        cluster.start(lost);
        // Now and then before the leader misses the old one.
        cluster.run_for(Duration::from_millis(250 * seed));
        let why = why_not_ready(&cluster, lost);
        let command = format!("kvctl member replace node{}", lost + 1);
        assert!(seed == 0 || why.contains(&command), "{why}");
        let other = (lost + 1) % 3;
        assert_eq!(code(&cluster.call(other, replace(name(lost + 1)))), None);
        cluster.run_until("it took the old one's place", |cluster| {
            let members = cluster.node(other).status(cluster.now).members;
            is_ready(cluster, lost) && members.len() == 3 && members.iter().all(|member| member.voter)
        });
        let status = cluster.node(other).status(cluster.now);
        assert_eq!(status.members.len(), 3, "the old identity is gone");
        assert!(status.members.iter().all(|member| member.identity != old));
        let read = cluster.call(lost, get("before", Consistency::Linearizable));
        assert!(found(&read).is_some());
    }
}

#[test]
fn leadership_goes_to_who_is_named_and_soon() {
    let mut cluster = three_and(vec![joiner(4, 1)], 230);
    let leader = cluster.leader().unwrap();
    let target = cluster.follower();
    let before = cluster.now;
    assert_eq!(
        code(&cluster.call(leader, transfer(Some(name(target + 1))))),
        None
    );
    cluster.run_until("the target leads", |cluster| cluster.leader() == Some(target));
    assert!(cluster.now.since(before) < Duration::from_millis(100));
    assert_eq!(
        code(&cluster.call(leader, transfer(Some(name(target + 1))))),
        None,
        "it leads already"
    );
    assert_eq!(code(&cluster.call(leader, transfer(None))), None);
    assert_ne!(cluster.leader(), Some(target));
    cluster.start(3);
    assert_eq!(code(&cluster.call(0, add_held(name(4)))), None);
    let learner = cluster.call(0, transfer(Some(name(4))));
    assert!(refusal(&learner).contains("does not vote"));
}

#[test]
fn transfer_to_a_node_that_is_down_is_given_up() {
    let mut cluster = three_and(Vec::new(), 231);
    let leader = cluster.leader().unwrap();
    let dead = cluster.follower();
    cluster.kill(dead);
    let refused = cluster.call(leader, transfer(Some(name(dead + 1))));
    assert!(refusal(&refused).contains("in time"));
    assert_eq!(cluster.leader(), Some(leader));
    write(&mut cluster, leader, "after");
}

#[test]
fn leader_that_stops_hands_over_and_what_waits_is_answered() {
    for seed in 0..5 {
        let mut cluster = three_and(Vec::new(), 240 + seed);
        let leader = cluster.leader().unwrap();
        let waiting = cluster.ask(leader, put("k", "v"));
        let before = cluster.now;
        cluster.drain(leader);
        assert!(cluster.node(leader).is_handing_over());
        cluster.run_until("another leads", |cluster| {
            cluster.leader().is_some_and(|now| now != leader)
        });
        assert!(cluster.now.since(before) < Duration::from_millis(100));
        assert_eq!(code(&cluster.wait(waiting)), None);
        assert!(!cluster.node(leader).is_handing_over() && cluster.node(leader).is_drained());
    }
}

#[test]
fn node_that_moved_is_found_at_its_new_address() {
    for seed in 0..5 {
        let mut cluster = three_and(Vec::new(), 250 + seed);
        // The leader too: then another one takes over meanwhile.
        let moved = seed as usize % 3;
        let mut settings = config(moved + 1, &[1, 2, 3]);
        settings.introduction.address = Address::from("127.0.0.1:7009");
        cluster.kill(moved);
        cluster.reconfigure(moved, settings);
        cluster.start(moved);
        cluster.run_until("the new address is stored", |cluster| {
            (0..3).all(|machine| {
                let members = cluster.node(machine).status(cluster.now).members;
                members
                    .iter()
                    .any(|member| &*member.address.0 == "127.0.0.1:7009")
            })
        });
        cluster.run_until("all are ready", Cluster::all_ready);
        write(&mut cluster, moved, "after");
    }
}

#[test]
fn single_node_may_move_too() {
    let mut cluster = Cluster::new(vec![config(1, &[])], 256);
    cluster.start(0);
    cluster.run_until("it is ready", Cluster::all_ready);
    cluster.kill(0);
    let mut settings = config(1, &[]);
    settings.introduction.address = Address::from("127.0.0.1:7009");
    cluster.reconfigure(0, settings);
    cluster.start(0);
    cluster.run_until("the new address is stored", |cluster| {
        let members = cluster.node(0).status(cluster.now).members;
        members
            .iter()
            .any(|member| &*member.address.0 == "127.0.0.1:7009")
    });
    write(&mut cluster, 0, "after");
}

#[test]
fn node_formed_alone_grows_by_the_peers_of_its_flags() {
    for seed in 0..5 {
        let mut cluster = Cluster::new(
            vec![config(1, &[]), config(2, &[1, 2, 3]), config(3, &[1, 2, 3])],
            260 + seed,
        );
        cluster.start(0);
        cluster.run_until("it is ready", |cluster| is_ready(cluster, 0));
        write(&mut cluster, 0, "alone");
        cluster.kill(0);
        cluster.reconfigure(0, config(1, &[1, 2, 3]));
        (0..3).for_each(|machine| cluster.start(machine));
        cluster.run_until("three vote", |cluster| voters(cluster).len() == 3);
        cluster.run_until("all are ready", Cluster::all_ready);
        let read = cluster.call(2, get("alone", Consistency::Linearizable));
        assert!(found(&read).is_some());
        let alarms = cluster
            .notices
            .iter()
            .filter(|(_, notice)| matches!(notice, Notice::NotAMember { .. } | Notice::FlagsIgnored { .. }));
        assert_eq!(alarms.count(), 0, "nobody is told to do what happens by itself");
    }
}

#[test]
fn peer_that_does_not_name_a_grown_node_back_is_not_let_in() {
    let mut cluster = Cluster::new(vec![config(1, &[]), config(2, &[2, 3])], 266);
    cluster.start(0);
    cluster.run_until("it is ready", |cluster| is_ready(cluster, 0));
    cluster.kill(0);
    cluster.reconfigure(0, config(1, &[1, 2]));
    (0..2).for_each(|machine| cluster.start(machine));
    cluster.run_for(Duration::from_secs(15));
    assert!(!cluster.is_formed(1));
}

#[test]
fn copy_of_a_data_directory_is_refused_while_the_original_lives() {
    let mut elsewhere = config(3, &[1, 2, 3]);
    elsewhere.introduction.address = address(9);
    let mut cluster = three_and(vec![elsewhere], 270);
    cluster.copy_directory(2, 3);
    cluster.start(3);
    cluster.run_for(Duration::from_secs(8));
    let why = why_not_ready(&cluster, 3);
    assert!(why.contains("127.0.0.1:7003") && why.contains("copy"), "{why}");
    assert!((0..3).all(|machine| is_ready(&cluster, machine)));
    assert_eq!(
        code(&cluster.call(3, get("k", Consistency::Stale))),
        Some(ErrorCode::NotServing)
    );
    let said = cluster
        .notices
        .iter()
        .filter(|(machine, notice)| *machine == 3 && matches!(notice, Notice::SetAside { .. }));
    assert_eq!(said.count(), 1);
    // With the original gone for good, the copy is that node.
    cluster.kill(2);
    cluster.run_until("the copy takes its place", |cluster| is_ready(cluster, 3));
    cluster.start(2);
    cluster.run_until("now the original is the later one", |cluster| {
        why_not_ready(cluster, 2).contains("copy")
    });
    assert!(is_ready(&cluster, 3));
}

#[test]
fn the_only_voter_goes_on_when_nobody_speaks_of_a_rival_any_more() {
    let mut cluster = Cluster::new(vec![config(1, &[])], 271);
    cluster.start(0);
    cluster.run_until("it is ready", |cluster| is_ready(cluster, 0));
    let formed = cluster.node(0).formed().expect("formed");
    let verdict = StandingReply {
        to: cluster.node(0).identity(),
        incarnation: formed.presences.incarnation(),
        cluster: formed.members.current().cluster,
        standing: Standing::Duplicate { address: address(9) },
    };
    let message = PeerMessage::Membership(MembershipMessage::Standing(verdict));
    cluster.inject(0, message);
    cluster.run_for(Duration::from_secs(3));
    assert!(why_not_ready(&cluster, 0).contains("127.0.0.1:7009"));
    cluster.run_until("it goes on", |cluster| is_ready(cluster, 0));
    assert!(cluster.call(0, put("k", "v")).outcome.is_ok());
}

#[test]
fn one_becomes_three_and_five_and_three_others_under_writes() {
    let mut configs = vec![config(1, &[])];
    configs.extend((2..=7).map(|number| joiner(number, if number <= 3 { 1 } else { 2 })));
    let mut cluster = Cluster::new(configs, 280);
    cluster.loss = 0.02;
    cluster.start(0);
    cluster.run_until("it is ready", |cluster| is_ready(cluster, 0));
    let mut written = Vec::new();
    let mut write_some = |cluster: &mut Cluster, machine: usize| {
        for _ in 0..10 {
            let key = format!("k{}", written.len());
            if cluster.call(machine, put(&key, "v")).outcome.is_ok() {
                written.push(key);
            }
        }
        written.len()
    };
    for number in 2..=5 {
        cluster.start(number - 1);
        assert_eq!(code(&cluster.call(0, add(name(number)))), None);
        write_some(&mut cluster, number - 2);
        cluster.run_until("it votes", |cluster| voters(cluster).len() == number);
    }
    for number in [1, 2] {
        assert_eq!(code(&cluster.call(3, remove(name(number)))), None);
        write_some(&mut cluster, 4);
    }
    assert_eq!(voters(&cluster), ["node3", "node4", "node5"]);
    cluster.loss = 0.0;
    let count = write_some(&mut cluster, 2);
    assert!(count > 30);
    for machine in 2..5 {
        for key in (0..count).map(|n| format!("k{n}")) {
            let read = cluster.call(machine, get(&key, Consistency::Linearizable));
            assert!(found(&read).is_some(), "{key} at machine {machine}");
        }
    }
}

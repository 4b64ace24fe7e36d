//! Forming: one writer of entry 1, and only when everybody agrees.

use std::time::Duration;

use raftkv_protocol::{
    ClusterId, Consistency, ErrorCode, FormedIn, Founding, Introduction, Member, PeerMessage, Request,
};

use super::cluster::{Cluster, address, code, config, get, name, put};
use super::members::add;
use crate::membership::Membership;
use crate::replica::{Node, Notice};

fn three_unformed(seed: u64) -> Cluster {
    Cluster::new((1..=3).map(|number| config(number, &[1, 2, 3])).collect(), seed)
}

#[test]
fn three_nodes_form_one_cluster_in_any_order_of_starts() {
    for (seed, order) in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]
        .into_iter()
        .enumerate()
    {
        let mut cluster = three_unformed(seed as u64);
        for machine in order {
            cluster.start(machine);
            cluster.run_for(Duration::from_millis(700));
        }
        cluster.run_until("all are ready", Cluster::all_ready);
        let membership = cluster.membership(0).unwrap();
        assert_eq!(membership.members.len(), 3);
        assert!((1..3).all(|machine| cluster.membership(machine).as_ref() == Some(&membership)));
    }
}

#[test]
fn forming_takes_well_under_two_seconds_after_the_last_start() {
    let mut cluster = three_unformed(7);
    (0..3).for_each(|machine| cluster.start(machine));
    let started = cluster.now;
    cluster.run_until("all are ready", Cluster::all_ready);
    assert!(cluster.now.since(started) < Duration::from_millis(1500));
}

#[test]
fn forming_survives_a_lossy_network() {
    for seed in 0..10 {
        let mut cluster = three_unformed(100 + seed);
        cluster.loss = 0.4;
        (0..3).for_each(|machine| cluster.start(machine));
        cluster.run_until("all are formed", |cluster| {
            (0..3).all(|machine| cluster.is_formed(machine))
        });
        let first = cluster.membership(0);
        assert!((1..3).all(|machine| cluster.membership(machine) == first));
    }
}

#[test]
fn node_without_peers_forms_alone_at_once() {
    let mut cluster = Cluster::new(vec![config(1, &[])], 1);
    cluster.start(0);
    cluster.run_for(Duration::from_secs(1));
    assert!(cluster.all_ready());
    assert!(code(&cluster.call(0, put("k", "v"))).is_none());
}

#[test]
pub(super) fn two_of_three_do_not_form_and_say_who_is_missing() {
    let mut cluster = three_unformed(2);
    cluster.start(0);
    cluster.start(1);
    cluster.run_for(Duration::from_secs(20));
    assert!(!cluster.is_formed(0) && !cluster.is_formed(1));
    let missing = vec![(name(3), address(3))];
    let said = cluster.notices.iter().filter(|notice| {
        **notice
            == (
                0,
                Notice::WaitingFor {
                    peers: missing.clone(),
                },
            )
    });
    assert!(
        (2..=3).contains(&said.count()),
        "after two seconds and then each ten"
    );
    let refused = cluster.call(0, put("k", "v"));
    assert_eq!(code(&refused), Some(ErrorCode::NoLeader));
    let message = refused.outcome.unwrap_err().message;
    assert!(
        message.contains("node3") && message.contains("127.0.0.1:7003"),
        "{message}"
    );
    assert_eq!(refused.header.cluster, None);
    assert!(!cluster.node(0).status(cluster.now).ready);
    assert!(
        cluster.call(0, Request::Status).outcome.is_ok(),
        "status is always told"
    );
}

#[test]
fn different_peer_lists_form_nothing_and_each_log_says_which() {
    let mut cluster = Cluster::new(
        vec![config(1, &[1, 2, 3]), config(2, &[1, 2, 3]), config(3, &[1, 3])],
        3,
    );
    (0..3).for_each(|machine| cluster.start(machine));
    cluster.run_for(Duration::from_secs(15));
    assert!((0..3).all(|machine| !cluster.is_formed(machine)));
    let differs = |machine: usize| {
        let is_said = |notice: &&(usize, Notice)| {
            notice.0 == machine
                && matches!(&notice.1, Notice::PeerListsDiffer { ours, theirs, .. } if ours != theirs)
        };
        cluster.notices.iter().filter(is_said).count()
    };
    assert!(
        (1..=3).contains(&differs(0)),
        "said on change, then each ten seconds"
    );
    assert!((1..=4).contains(&differs(2)), "two peers differ from it");
    assert!(
        (1..=3).contains(&differs(1)),
        "also a node that another one does not list hears of it"
    );
    let status = cluster.node(0).status(cluster.now);
    assert!(status.not_ready_because.unwrap().contains("--peers"));
}

#[test]
fn name_that_does_not_match_its_address_forms_nothing() {
    let mut swapped = config(2, &[1, 2]);
    swapped.introduction.address = address(1);
    let mut cluster = Cluster::new(vec![config(1, &[1, 2]), config(2, &[1, 2])], 4);
    cluster.start(0);
    // Something at node 2's address calls itself node 9.
    let mut wrong = config(2, &[1, 2]).introduction;
    wrong.name = name(9);
    for _ in 0..20 {
        cluster.inject(0, PeerMessage::Introduce(wrong.clone()));
        cluster.run_for(Duration::from_millis(100));
    }
    assert!(!cluster.is_formed(0));
    assert!(
        cluster
            .notices
            .iter()
            .any(|(_, notice)| matches!(notice, Notice::PeerListsDiffer { .. }))
    );
}

#[test]
fn wiped_node_that_meets_its_formed_cluster_names_the_command_that_mends_it() {
    let mut cluster = Cluster::ready(5);
    cluster.wipe(2);
    cluster.start(2);
    cluster.run_for(Duration::from_secs(3));
    assert!(!cluster.is_formed(2));
    let id = cluster.membership(0).unwrap().cluster;
    let command = "kvctl member replace node3".to_owned();
    let told = (
        2,
        Notice::NotAMember {
            cluster: id,
            command: command.clone(),
        },
    );
    let told = cluster.notices.iter().filter(|notice| **notice == told);
    assert_eq!(told.count(), 1, "once, whoever of the cluster was met");
    let refused = cluster.call(2, get("k", Consistency::Linearizable));
    assert!(refused.outcome.unwrap_err().message.contains(&command));
    assert!(cluster.node(0).raft().is_some() && cluster.leader().is_some());
}

#[test]
fn wiped_founder_does_not_found_a_second_cluster() {
    let mut cluster = Cluster::ready(6);
    cluster.wipe(0);
    cluster.start(0);
    cluster.run_for(Duration::from_secs(15));
    assert!(!cluster.is_formed(0));
}

/// The peers' words from before the founder lost its disk: late, doubled, or from a former process of theirs.
#[test]
fn introductions_under_way_since_before_a_disk_was_lost_found_no_second_cluster() {
    let mut cluster = Cluster::ready(17);
    let old: Vec<_> = [2, 3]
        .map(|number| Introduction {
            heard: vec![config(1, &[]).introduction.identity],
            ..config(number, &[1, 2, 3]).introduction
        })
        .into();
    cluster.wipe(0);
    cluster.start(0);
    for _ in 0..50 {
        old.iter()
            .for_each(|late| cluster.inject(0, PeerMessage::Introduce(late.clone())));
        cluster.run_for(Duration::from_millis(100));
        assert!(!cluster.is_formed(0), "its peers are in a cluster");
    }
}

/// Both founders lose their disks, one after the other. The cluster lives on: it has had a third member for long.
#[test]
fn founders_with_new_disks_found_no_second_cluster_beside_the_one_that_grew() {
    let met = |members: &[usize]| {
        let mut cluster = Cluster::new(vec![config(1, &[1, 2]), config(2, &[1, 2])], 19);
        cluster.start(0);
        let member = |&number: &usize| Member {
            name: name(number),
            identity: raftkv_protocol::NodeId(1000 + number as u64),
            address: address(number),
            http: None,
            voter: true,
        };
        let formed = Introduction {
            formed: Some(FormedIn {
                cluster: ClusterId(77),
                members: members.iter().map(member).collect(),
            }),
            identity: raftkv_protocol::NodeId(1002),
            ..config(2, &[1, 2]).introduction
        };
        cluster.inject(0, PeerMessage::Introduce(formed));
        cluster.run_for(Duration::from_secs(1));
        // Its disk is new, and it says the same as at the very beginning.
        cluster.start(1);
        cluster.run_for(Duration::from_secs(10));
        cluster
    };
    let cluster = met(&[1, 2, 3]);
    assert!(!cluster.is_formed(0) && !cluster.is_formed(1));
    let status = cluster.node(0).status(cluster.now);
    let because = status.not_ready_because.unwrap();
    assert!(
        because.contains("run: kvctl --endpoints 127.0.0.1:7003 member replace node1"),
        "{because}"
    );
    let is_told = |notice: &(usize, Notice)| matches!(notice, (0, Notice::NotAMember { command, .. }) if because.contains(command));
    assert!(cluster.notices.iter().any(is_told));
    // Who started it again said so that the other cluster is gone.
    let mut cluster = cluster;
    cluster.kill(0);
    cluster.start(0);
    cluster.run_until("both are formed", Cluster::all_ready);
    // Of a cluster of the two alone nothing is left.
    let mut cluster = met(&[1, 2]);
    cluster.run_until("both are formed", Cluster::all_ready);
}

#[test]
fn who_founds_no_second_cluster_is_let_into_the_first() {
    let mut cluster = Cluster::new(vec![config(1, &[1, 2]), config(2, &[1, 2]), config(3, &[])], 20);
    cluster.start(2);
    cluster.run_until("the third is formed", |cluster| cluster.is_formed(2));
    let membership = cluster.membership(2).unwrap();
    cluster.start(0);
    // Of a founder that is in its cluster, and nowhere any more.
    let formed = Introduction {
        formed: Some(FormedIn {
            cluster: membership.cluster,
            members: membership.members,
        }),
        identity: raftkv_protocol::NodeId(1002),
        ..config(2, &[1, 2]).introduction
    };
    cluster.inject(0, PeerMessage::Introduce(formed));
    cluster.start(1);
    cluster.run_for(Duration::from_secs(2));
    let added = cluster.call(2, add(name(1)));
    assert!(added.outcome.is_ok(), "it has knocked: {added:?}");
    cluster.run_until("it is let in", |cluster| cluster.is_formed(0));
    let cluster_of = |machine| cluster.membership(machine).unwrap().cluster;
    assert_eq!(cluster_of(0), cluster_of(2));
}

#[test]
fn peer_that_does_not_hear_us_is_waited_for() {
    let mut cluster = Cluster::new(vec![config(1, &[1, 2]), config(2, &[1, 2])], 18);
    cluster.start(0);
    for _ in 0..50 {
        cluster.inject(0, PeerMessage::Introduce(config(2, &[1, 2]).introduction));
        cluster.run_for(Duration::from_millis(100));
    }
    assert!(!cluster.is_formed(0));
    let peers = vec![(name(2), address(2))];
    assert!(cluster.notices.contains(&(0, Notice::WaitingFor { peers })));
}

#[test]
fn node_whose_name_is_unknown_to_the_cluster_is_told_to_join() {
    let mut configs: Vec<_> = (1..=3).map(|number| config(number, &[1, 2, 3])).collect();
    configs.push(config(4, &[1, 2, 3, 4]));
    let mut cluster = Cluster::new(configs, 7);
    (0..3).for_each(|machine| cluster.start(machine));
    cluster.run_until("three are formed", |cluster| {
        (0..3).all(|machine| cluster.is_formed(machine))
    });
    cluster.start(3);
    cluster.run_for(Duration::from_secs(2));
    let is_told = |notice: &(usize, Notice)| matches!(notice, (3, Notice::NotAMember { command, .. }) if command.contains("--join"));
    assert!(cluster.notices.iter().any(is_told));
}

#[test]
fn log_lost_under_the_same_identity_does_not_come_back() {
    let mut cluster = Cluster::ready(8);
    cluster.lose_log(2);
    cluster.start(2);
    cluster.run_for(Duration::from_secs(5));
    assert!(
        !cluster.is_formed(2),
        "its votes and acknowledgements are lost: a new identity is needed"
    );
}

#[test]
fn founder_that_dies_before_its_log_is_durable_founds_anew() {
    let mut cluster = three_unformed(9);
    cluster.hold_creation(0, true);
    (0..3).for_each(|machine| cluster.start(machine));
    cluster.run_for(Duration::from_secs(2));
    assert!(
        (0..3).all(|machine| !cluster.is_formed(machine)),
        "nothing is said before the log is durable"
    );
    cluster.kill(0);
    cluster.hold_creation(0, false);
    cluster.start(0);
    cluster.run_until("all are ready", Cluster::all_ready);
}

#[test]
fn founder_that_dies_between_its_log_and_found_still_founds() {
    let mut cluster = three_unformed(10);
    (0..3).for_each(|machine| cluster.start(machine));
    // Its words no longer leave; the log is made all the same.
    cluster.run_until("the log is made", |cluster| cluster.membership(0).is_some());
    cluster.isolate(0);
    cluster.run_for(Duration::from_secs(1));
    cluster.kill(0);
    cluster.run_for(Duration::from_secs(5));
    assert!(
        !cluster.is_formed(1) && !cluster.is_formed(2),
        "the others wait for it"
    );
    cluster.rejoin(0);
    cluster.start(0);
    cluster.run_until("all are ready", Cluster::all_ready);
}

#[test]
fn node_that_dies_while_its_log_is_made_is_found_again() {
    let mut cluster = three_unformed(11);
    cluster.hold_creation(2, true);
    (0..3).for_each(|machine| cluster.start(machine));
    cluster.run_until("two are formed", |cluster| {
        cluster.is_formed(0) && cluster.is_formed(1)
    });
    cluster.run_for(Duration::from_secs(1));
    cluster.kill(2);
    cluster.hold_creation(2, false);
    cluster.start(2);
    cluster.run_until("all are ready", Cluster::all_ready);
    assert_eq!(cluster.membership(2), cluster.membership(0));
}

#[test]
fn clusters_of_two_nodes_formed_alone_stay_apart_and_say_so() {
    let mut cluster = Cluster::new(vec![config(1, &[]), config(2, &[])], 12);
    (0..2).for_each(|machine| cluster.start(machine));
    cluster.run_until("both are formed", Cluster::all_ready);
    for machine in 0..2 {
        cluster.kill(machine);
        cluster.reconfigure(machine, config(machine + 1, &[1, 2]));
        cluster.start(machine);
    }
    cluster.run_for(Duration::from_secs(12));
    for machine in 0..2 {
        let other = cluster.membership(1 - machine).unwrap().cluster;
        let is_foreign = |notice: &(usize, Notice)| matches!(notice, (m, Notice::ForeignPeer { cluster, .. }) if *m == machine && *cluster == other);
        assert!(cluster.notices.iter().any(is_foreign));
        let is_ignored = |notice: &(usize, Notice)| matches!(notice, (m, Notice::FlagsIgnored { stored, .. }) if *m == machine && stored.len() == 1);
        assert!(cluster.notices.iter().any(is_ignored));
        assert_eq!(cluster.node(machine).status(cluster.now).members.len(), 1);
    }
}

#[test]
fn founding_that_does_not_fit_is_refused() {
    let cluster = Cluster::ready(13);
    let membership = cluster.membership(0).unwrap();
    let payload = |membership: &Membership| membership.encode().to_vec();
    let good = Founding {
        to: config(3, &[]).introduction.identity,
        cluster: membership.cluster,
        configuration: payload(&membership),
    };
    let another_identity = Membership {
        members: membership
            .members
            .iter()
            .filter(|member| member.name != name(3))
            .cloned()
            .collect(),
        ..membership.clone()
    };
    let to_accept = good.clone();
    let changed = |change: fn(&mut Vec<Member>)| {
        let mut membership = membership.clone();
        change(&mut membership.members);
        Founding {
            configuration: payload(&membership),
            ..good.clone()
        }
    };
    let wrong = [
        changed(|members| members.iter_mut().for_each(|member| member.voter = false)),
        changed(|members| members[0].voter = false),
        changed(|members| members[0].identity = members[1].identity),
        Founding {
            to: raftkv_protocol::NodeId(1),
            ..good.clone()
        },
        Founding {
            cluster: ClusterId(1),
            ..good.clone()
        },
        Founding {
            configuration: vec![255; 40],
            ..good.clone()
        },
        Founding {
            configuration: payload(&another_identity),
            ..good.clone()
        },
    ];
    let mut other = Cluster::new(vec![config(1, &[1]), config(2, &[2]), config(3, &[1, 2, 3])], 14);
    other.start(2);
    for founding in wrong {
        other.inject(2, PeerMessage::Found(founding));
        other.run_for(Duration::from_millis(10));
        assert!(!other.is_formed(2));
    }
    other.inject(2, PeerMessage::Found(to_accept));
    other.run_for(Duration::from_millis(10));
    assert!(other.is_formed(2));
}

#[test]
fn founding_of_another_list_than_ours_is_refused() {
    let cluster = Cluster::ready(15);
    let membership = cluster.membership(0).unwrap();
    let founding = Founding {
        to: config(3, &[]).introduction.identity,
        cluster: membership.cluster,
        configuration: membership.encode().to_vec(),
    };
    let mut other = Cluster::new(vec![config(1, &[1]), config(2, &[2]), config(3, &[2, 3])], 16);
    other.start(2);
    other.inject(2, PeerMessage::Found(founding));
    other.run_for(Duration::from_millis(10));
    assert!(!other.is_formed(2));
}

#[test]
fn settings_that_can_not_work_are_refused_at_the_start() {
    let mut config = config(1, &[]);
    config.raft.heartbeat_interval = Duration::ZERO;
    assert!(Node::new(config, None, 1, raftkv_raft::Time(0)).is_err());
}

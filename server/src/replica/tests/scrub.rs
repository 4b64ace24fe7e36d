//! The scrub: what a replica has lost or changed on its disk is found, and nothing else ever is.

use std::time::Duration;

use raftkv_protocol::{Answer, Command, Consistency, ErrorCode, Request, Response, ScrubCommand, ScrubState};

use super::cluster::{Cluster, Rot, address, code, config, found, get, name, put};
use super::divergence::quarantined;
use super::drains::{tiny, write_many};
use super::members::{add, is_ready, joiner, replace, transfer};
use super::snapshots::{hashes_agree, installs};
use crate::cold_files::FilesChecked;
use crate::replica::{NodeConfig, Notice, ScrubConfig};

/// Passes in quick succession, of pieces of three keys.
const HASTY: ScrubConfig = ScrubConfig {
    interval: Some(Duration::from_millis(40)),
    first: Duration::from_millis(10),
    pace: Duration::from_millis(10),
    piece_keys: 3,
    piece_bytes: 1 << 20,
};

fn scrubbing(config: NodeConfig, scrub: ScrubConfig) -> NodeConfig {
    NodeConfig { scrub, ..config }
}

fn ready(configs: Vec<NodeConfig>, seed: u64) -> Cluster {
    let count = configs.len();
    let mut cluster = Cluster::new(configs, seed);
    (0..count).for_each(|machine| cluster.start(machine));
    cluster.run_until("all nodes are ready", Cluster::all_ready);
    cluster
}

/// Everything is drained at once, and compared again and again.
fn hasty(seed: u64) -> Cluster {
    ready(
        (1..=3).map(|number| scrubbing(tiny(number), HASTY)).collect(),
        seed,
    )
}

fn is_scrub(command: &Command<'_>) -> bool {
    matches!(command, Command::Scrub { .. })
}

/// Where the pieces began that a machine was asked to hash.
fn pieces(cluster: &Cluster, machine: usize) -> Vec<String> {
    let of_machine = cluster.scrubs.iter().filter(|(at, _)| *at == machine);
    of_machine
        .map(|(_, from)| String::from_utf8_lossy(from).into_owned())
        .collect()
}

fn passes(cluster: &Cluster, machine: usize) -> usize {
    let is_end =
        |(at, notice): &&(usize, Notice)| *at == machine && matches!(notice, Notice::RecordsScrubbed { .. });
    cluster.notices.iter().filter(is_end).count()
}

fn alarms(cluster: &Cluster) -> Vec<&Notice> {
    let is_alarm =
        |notice: &&Notice| matches!(notice, Notice::StatesDiffer { .. } | Notice::Quarantined { .. });
    cluster
        .notices
        .iter()
        .map(|(_, notice)| notice)
        .filter(is_alarm)
        .collect()
}

#[test]
fn a_pass_goes_over_all_keys_in_paced_pieces_and_rests_until_the_next() {
    let scrub = ScrubConfig {
        interval: Some(Duration::from_secs(60)),
        first: Duration::from_secs(1),
        pace: Duration::from_secs(1),
        piece_keys: 4,
        piece_bytes: 1 << 20,
    };
    let configs = (1..=3).map(|number| scrubbing(config(number, &[1, 2, 3]), scrub));
    let mut cluster = ready(configs.collect(), 3);
    write_many(&mut cluster, &[0, 1, 2], 10);
    cluster.run_for(Duration::from_millis(1_500));
    assert!(pieces(&cluster, 0).len() <= 2, "paced");
    cluster.run_for(Duration::from_secs(20));
    for machine in 0..3 {
        assert_eq!(pieces(&cluster, machine), ["", "key4", "key8"]);
        let complete = cluster.node(machine).scrub().unwrap().complete;
        assert_eq!(complete.expect("a pass").keys, 10);
    }
    cluster.run_for(Duration::from_secs(60));
    assert_eq!(pieces(&cluster, 0).len(), 6);
    assert!(alarms(&cluster).is_empty());
}

/// Three nodes that compare at the pace of the default.
fn leisurely(seed: u64) -> Cluster {
    let configs = (1..=3).map(|number| scrubbing(config(number, &[1, 2, 3]), ScrubConfig::default()));
    ready(configs.collect(), seed)
}

#[test]
fn the_first_pass_of_a_new_cluster_lets_it_be_filled_first() {
    let mut cluster = leisurely(11);
    cluster.run_for(Duration::from_secs(900));
    assert!(cluster.scrubs.is_empty(), "there is nothing to compare");
    write_many(&mut cluster, &[0, 1, 2], 1);
    cluster.run_for(Duration::from_secs(60));
    assert!(cluster.scrubs.is_empty(), "it has only just begun to be filled");
    write_many(&mut cluster, &[0, 1, 2], 10);
    cluster.run_for(Duration::from_secs(600));
    for machine in 0..3 {
        let complete = cluster.node(machine).scrub().unwrap().complete;
        assert_eq!(complete.expect("a pass").keys, 10);
    }
}

fn scrub_state(response: &Response) -> &ScrubState {
    match &response.outcome {
        Ok(Answer::Scrub(state)) => state,
        other => panic!("expected how the scrub stands, got {other:?}"),
    }
}

const START: Request = Request::Scrub(ScrubCommand::Start);
const STATUS: Request = Request::Scrub(ScrubCommand::Status);

#[test]
fn an_operator_begins_a_pass_at_any_node_and_each_tells_what_it_saw() {
    for is_off in [false, true] {
        let scrub = ScrubConfig {
            interval: (!is_off).then_some(Duration::from_secs(86_400)),
            piece_keys: 4,
            ..ScrubConfig::default()
        };
        let configs = (1..=3).map(|number| scrubbing(config(number, &[1, 2, 3]), scrub));
        let mut cluster = ready(configs.collect(), 12);
        write_many(&mut cluster, &[0, 1, 2], 10);
        let (leader, follower) = (cluster.leader().expect("a leader"), cluster.follower());
        assert_eq!(scrub_state(&cluster.call(follower, STATUS)).pass, None);
        assert!(cluster.call(follower, START).outcome.is_ok());
        let has_ended = |cluster: &Cluster| {
            (0..3).all(|machine| cluster.node(machine).scrub().unwrap().complete.is_some())
        };
        cluster.run_until("a pass", |cluster| {
            has_ended(cluster) && cluster.scrubs.len() == 9
        });
        cluster.run_for(Duration::from_millis(100));
        for machine in 0..3 {
            let told = cluster.call(machine, STATUS);
            let state = scrub_state(&told);
            let pass = state.pass.as_ref().expect("a pass");
            assert_eq!((pass.pieces, pass.left_out, pass.keys), (3, 0, 10));
            assert!(pass.ended_ms_ago.is_some() && pass.first_index < pass.last_index);
            let compared = if machine == leader { 2 } else { 1 };
            assert_eq!(pass.agreed.len(), compared, "at {machine}: {:?}", pass.agreed);
            assert!(pass.agreed.iter().all(|(_, pieces)| *pieces == 3));
            assert!(state.differing.is_empty() && state.quarantine.is_none());
        }
        cluster.run_for(Duration::from_secs(60));
        assert_eq!(cluster.scrubs.len(), 9, "one pass was asked for");
    }
}

#[test]
fn a_pass_that_can_not_be_is_refused_with_the_reason() {
    let mut alone = ready(vec![scrubbing(config(1, &[1]), HASTY)], 5);
    write_many(&mut alone, &[0], 10);
    assert_eq!(code(&alone.call(0, START)), Some(ErrorCode::BadRequest));
    let mut empty = leisurely(5);
    assert_eq!(code(&empty.call(0, START)), Some(ErrorCode::BadRequest));
    let follower = empty.follower();
    let token = empty.ask_last_hop(follower, START);
    assert_eq!(code(&empty.wait(token)), Some(ErrorCode::NotLeader));
    write_many(&mut empty, &[0, 1, 2], 1);
    empty.refuses_forwards = true;
    assert_eq!(code(&empty.call(follower, START)), Some(ErrorCode::NoLeader));
    empty.refuses_forwards = false;
    let leader = empty.leader().expect("a leader");
    let token = empty.ask(follower, START);
    empty.kill(leader);
    assert_eq!(code(&empty.wait(token)), Some(ErrorCode::OutcomeUnknown));
}

#[test]
fn r47_each_pass_has_a_node_read_its_own_files_and_it_tells_of_damage_and_serves_on() {
    let mut cluster = leisurely(13);
    write_many(&mut cluster, &[0, 1, 2], 10);
    let follower = cluster.follower();
    let files = |response: &Response| scrub_state(response).files.clone();
    assert_eq!(files(&cluster.call(follower, STATUS)), None);
    let rotten = FilesChecked {
        bytes: 5000,
        damage: vec!["the third segment".to_owned()],
    };
    cluster.cold_files_hold(follower, rotten.clone());
    assert!(cluster.call(follower, START).outcome.is_ok());
    let told = |cluster: &Cluster| {
        let damaged = cluster
            .notices
            .iter()
            .filter(|(_, notice)| matches!(notice, Notice::ColdFileDamaged { .. }));
        damaged.map(|(machine, _)| *machine).collect::<Vec<_>>()
    };
    cluster.run_until("damage is told", |cluster| !told(cluster).is_empty());
    cluster.run_for(Duration::from_secs(30));
    assert_eq!(told(&cluster), [follower], "once, by the node that has it");
    let checked = files(&cluster.call(follower, STATUS)).expect("a look");
    assert_eq!((checked.bytes, checked.damage), (rotten.bytes, rotten.damage));
    assert!(checked.ms_ago >= 29_000, "{}", checked.ms_ago);
    let read = cluster.call(follower, get("key0", Consistency::Linearizable));
    assert!(found(&read).is_some(), "it serves on");
}

/// A cluster one of which has found that it differs.
fn with_one_in_quarantine() -> (Cluster, usize) {
    let mut cluster = hasty(7);
    write_many(&mut cluster, &[0, 1, 2], 30);
    let rotten = cluster.follower();
    cluster.rot(rotten, "key0", Rot::Changed);
    let good = (rotten + 1) % 3;
    for number in 0..100 {
        let _ = cluster.call(good, put(&format!("other{}", number % 7), "v"));
    }
    cluster.run_until("it is found", |cluster| !quarantined(cluster).is_empty());
    (cluster, rotten)
}

pub(super) fn a_restart_does_not_end_a_quarantine() {
    let (mut cluster, rotten) = with_one_in_quarantine();
    let because = |cluster: &Cluster| cluster.node(rotten).status(cluster.now).not_ready_because;
    let before = because(&cluster);
    for _ in 0..2 {
        cluster.kill(rotten);
        cluster.start(rotten);
        let refused = cluster.call(rotten, get("key0", Consistency::Stale));
        assert_eq!(code(&refused), Some(ErrorCode::NoLeader));
        assert_eq!(because(&cluster), before, "it says the same");
        cluster.run_for(Duration::from_secs(2));
        assert_eq!(because(&cluster), before);
    }
    assert_eq!(
        quarantined(&cluster),
        [rotten; 3],
        "each process says so at its start"
    );
    let told = cluster.call(rotten, STATUS);
    assert_eq!(scrub_state(&told).quarantine, before);
    let leader = cluster.leader().expect("a leader");
    let told = cluster.call(leader, STATUS);
    let pass = scrub_state(&told).pass.as_ref().expect("a pass");
    let is_counted_once = |(_, pieces): &(_, u64)| *pieces <= pass.pieces + pass.left_out;
    assert!(pass.agreed.iter().all(is_counted_once), "{pass:?}");
    assert_eq!(&*scrub_state(&told).differing[0].name.0, &*name(rotten + 1).0);
}

#[test]
fn d10_a_restart_does_not_end_a_quarantine() {
    a_restart_does_not_end_a_quarantine();
}

#[test]
fn d10_a_snapshot_does_not_end_a_quarantine_and_a_wiped_directory_does() {
    let (mut cluster, rotten) = with_one_in_quarantine();
    let good = [(rotten + 1) % 3, (rotten + 2) % 3];
    cluster.kill(rotten);
    write_many(&mut cluster, &good, 200);
    cluster.start(rotten);
    cluster.run_until("it gets a snapshot", |cluster| installs(cluster, rotten) > 0);
    cluster.run_for(Duration::from_secs(1));
    for _ in 0..2 {
        let refused = cluster.call(rotten, get("key0", Consistency::Stale));
        assert_eq!(code(&refused), Some(ErrorCode::NoLeader));
        cluster.kill(rotten);
        cluster.start(rotten);
    }
    cluster.wipe(rotten);
    let mut config = cluster.settings(rotten).clone();
    config.join = Some(address(good[0] + 1));
    cluster.reconfigure(rotten, config);
    cluster.start(rotten);
    cluster.run_until("it knocks", |cluster| {
        cluster
            .notices
            .iter()
            .any(|(at, notice)| *at == rotten && matches!(notice, Notice::WaitingForAdmission { .. }))
    });
    let replaced = cluster.call(good[0], replace(name(rotten + 1)));
    assert!(replaced.outcome.is_ok(), "{:?}", replaced.outcome);
    cluster.run_until("all are ready", Cluster::all_ready);
    write_many(&mut cluster, &[0, 1, 2], 10);
}

#[test]
fn a_piece_is_asked_for_once_while_it_is_not_decided() {
    let mut cluster = hasty(4);
    write_many(&mut cluster, &[0, 1, 2], 10);
    let leader = cluster.leader().expect("a leader");
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    others.iter().for_each(|other| cluster.stall_disk(*other));
    cluster.run_for(Duration::from_millis(100));
    let before = cluster.logged(leader, is_scrub);
    cluster.run_for(Duration::from_millis(300));
    assert_eq!(cluster.logged(leader, is_scrub), before);
    others.iter().for_each(|other| cluster.resume_disk(*other));
    let seen = cluster.scrubs.len();
    cluster.run_until("it goes on", |cluster| cluster.scrubs.len() > seen + 6);
}

#[test]
fn nobody_scrubs_alone_or_an_empty_store_or_when_it_is_off() {
    let mut empty = hasty(9);
    empty.run_for(Duration::from_secs(1));
    assert_eq!(empty.logged(0, is_scrub), 0);
    let mut alone = ready(vec![scrubbing(config(1, &[1]), HASTY)], 5);
    write_many(&mut alone, &[0], 10);
    alone.run_for(Duration::from_secs(1));
    assert_eq!(alone.logged(0, is_scrub), 0);
    let off = ScrubConfig {
        interval: None,
        ..HASTY
    };
    let configs = (1..=3).map(|number| scrubbing(config(number, &[1, 2, 3]), off));
    let mut cluster = ready(configs.collect(), 6);
    write_many(&mut cluster, &[0], 10);
    cluster.run_for(Duration::from_secs(1));
    assert_eq!(cluster.logged(0, is_scrub), 0);
}

/// One of three has lost or changed a record that nobody reads or writes.
fn check_the_rotten_one(rotten_is_leader: bool, rot: Rot) {
    let mut cluster = hasty(7);
    write_many(&mut cluster, &[0, 1, 2], 30);
    cluster.run_until("passes go by", |cluster| passes(cluster, 0) > 3);
    assert!(alarms(&cluster).is_empty(), "healthy replicas agree");
    let leader = cluster.leader().expect("a leader");
    let rotten = if rotten_is_leader {
        leader
    } else {
        (leader + 1) % 3
    };
    let good = [(rotten + 1) % 3, (rotten + 2) % 3];
    cluster.rot(rotten, "key0", rot);
    // Until memory has let go of it.
    for number in 0..100 {
        // It may be found meanwhile, and leadership change hands.
        let _ = cluster.call(good[0], put(&format!("other{}", number % 7), "v"));
    }
    cluster.run_until("it is found", |cluster| !quarantined(cluster).is_empty());
    assert_eq!(quarantined(&cluster), [rotten]);
    let refused = cluster.call(rotten, get("key0", Consistency::Stale));
    assert_eq!(code(&refused), Some(ErrorCode::NoLeader));
    let because = cluster.node(rotten).status(cluster.now).not_ready_because;
    let because = because.expect("not ready");
    assert!(because.contains("from the first one to below \"key"), "{because}");
    cluster.run_until("a good node leads", |cluster| {
        cluster.leader().is_some_and(|leader| leader != rotten)
    });
    write_many(&mut cluster, &good, 20);
    let answer = cluster.call(good[1], get("key0", Consistency::Linearizable));
    assert_eq!(found(&answer).expect("there").value[..], b"value10"[..]);
    let before = passes(&cluster, good[0]);
    cluster.run_until("the others scrub on", |cluster| {
        passes(cluster, good[0]) > before + 2
    });
    assert_eq!(quarantined(&cluster), [rotten], "once, and nobody else");
}

#[test]
fn d10_a_follower_that_lost_a_record_is_found_and_the_others_go_on() {
    check_the_rotten_one(false, Rot::Lost);
}

#[test]
fn d10_a_follower_with_a_changed_record_is_found_and_the_others_go_on() {
    check_the_rotten_one(false, Rot::Changed);
}

#[test]
fn d10_a_leader_that_lost_a_record_hands_over_and_stops_serving() {
    check_the_rotten_one(true, Rot::Lost);
}

#[test]
fn d10_a_leader_with_a_changed_record_hands_over_and_stops_serving() {
    check_the_rotten_one(true, Rot::Changed);
}

#[test]
fn two_nodes_with_different_records_say_so_and_go_on() {
    let two = |number| NodeConfig {
        introduction: config(number, &[1, 2]).introduction,
        ..scrubbing(tiny(number), HASTY)
    };
    let mut cluster = ready((1..=2).map(two).collect(), 8);
    write_many(&mut cluster, &[0, 1], 60);
    cluster.run_until("passes go by", |cluster| passes(cluster, 0) > 1);
    cluster.rot(0, "key0", Rot::Changed);
    cluster.run_until("it is said", |cluster| !alarms(cluster).is_empty());
    cluster.run_for(Duration::from_secs(1));
    assert!(quarantined(&cluster).is_empty(), "nobody can know who is wrong");
    write_many(&mut cluster, &[0, 1], 4);
}

#[test]
fn no_false_alarm_across_drains_restarts_snapshots_and_changes_of_leaders_and_members() {
    for seed in 0..6 {
        let configs = (1..=3).map(|number| scrubbing(tiny(number), HASTY));
        let newcomer = NodeConfig {
            introduction: joiner(4, 1).introduction,
            join: joiner(4, 1).join,
            ..scrubbing(tiny(4), HASTY)
        };
        let mut cluster = Cluster::new(configs.chain([newcomer]).collect(), 30 + seed);
        (0..3).for_each(|machine| cluster.start(machine));
        let three_are_ready = |cluster: &Cluster| (0..3).all(|machine| is_ready(cluster, machine));
        cluster.run_until("three are ready", three_are_ready);
        write_many(&mut cluster, &[0, 1, 2], 40);
        let behind = cluster.follower();
        cluster.kill(behind);
        write_many(&mut cluster, &[(behind + 1) % 3, (behind + 2) % 3], 100);
        cluster.start(behind);
        cluster.run_until("three are ready", three_are_ready);
        assert!(installs(&cluster, behind) > 0, "seed {seed}: it got a snapshot");
        let _ = cluster.call(0, transfer(None));
        write_many(&mut cluster, &[0, 1, 2], 40);
        cluster.loss = 0.1;
        let leader = cluster.leader().expect("a leader");
        cluster.kill(leader);
        write_many(&mut cluster, &[(leader + 1) % 3], 20);
        cluster.start(leader);
        cluster.run_for(Duration::from_secs(1));
        cluster.loss = 0.0;
        cluster.run_until("three are ready", three_are_ready);
        cluster.start(3);
        cluster.run_until("a candidate knocks", |cluster| {
            cluster
                .notices
                .iter()
                .any(|(at, notice)| *at == 3 && matches!(notice, Notice::WaitingForAdmission { .. }))
        });
        let added = cluster.call(0, add(name(4)));
        assert!(added.outcome.is_ok(), "{:?}", added.outcome);
        cluster.run_until("four are ready", Cluster::all_ready);
        write_many(&mut cluster, &[0, 1, 2, 3], 40);
        let before: Vec<_> = (0..4).map(|machine| passes(&cluster, machine)).collect();
        cluster.run_until("all go on", |cluster| {
            (0..4).all(|machine| passes(cluster, machine) > before[machine] + 1)
        });
        assert!(alarms(&cluster).is_empty(), "seed {seed}: {:?}", alarms(&cluster));
        cluster.run_until("all nodes have the same state", hashes_agree);
    }
}

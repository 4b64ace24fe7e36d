//! Transactions over ranges: every node does the same, whatever it has drained, and however it got its state.

use std::time::Duration;

use raftkv_protocol::{
    Answer, Command, Compare, Keys, Op, OpResult, Previous, Relation, Request, Shape, Test, Txn,
};

use super::cluster::{Cluster, config, put};
use super::drains::{tiny, write_many};
use super::snapshots::{hashes_agree, installs};
use super::tenure::write;

const KEYS: Keys<'_> = Keys::Range {
    from: b"key",
    to: Some(b"kez"),
};

/// Deletes all keys when they are of one version, else those of a part; and counts what is left.
fn delete_some(version: u64) -> Request {
    let delete = |keys| Op::Delete {
        keys,
        previous: Previous::Wanted,
    };
    let count = Op::Get {
        keys: KEYS,
        shape: Shape::CountOnly,
        limit: None,
    };
    let part = Keys::Range {
        from: b"key3",
        to: Some(b"key6"),
    };
    write(&Command::Txn(Txn {
        compare: vec![Compare {
            keys: KEYS,
            test: Test::Version(Relation::Equal, version),
        }],
        then: vec![delete(KEYS), count.clone()],
        otherwise: vec![delete(part), count],
    }))
}

/// One node keeps everything in memory, the others as little as they can.
fn ready(seed: u64) -> Cluster {
    let configs = vec![tiny(1), config(2, &[1, 2, 3]), tiny(3)];
    let mut cluster = Cluster::new(configs, seed);
    (0..3).for_each(|machine| cluster.start(machine));
    cluster.run_until("all nodes are ready", Cluster::all_ready);
    cluster
}

/// Puts and transactions in one batch, some of them behind each other in the log and none waiting for another's answer.
fn ask_many(cluster: &mut Cluster, machine: usize, rounds: usize) {
    let mut tokens = Vec::new();
    for round in 0..rounds {
        for number in 0..10 {
            tokens.push(cluster.ask(machine, put(&format!("key{number}"), &format!("value{round}"))));
        }
        tokens.push(cluster.ask(machine, delete_some(1 + round as u64 % 3)));
    }
    for token in tokens {
        let answer = cluster.wait(token).outcome.expect("it is applied");
        if let Answer::Txn(result) = answer {
            let [
                OpResult::Deleted { count, previous },
                OpResult::Got { count: left, .. },
            ] = &result.results[..]
            else {
                panic!("{result:?}");
            };
            assert_eq!(*count, previous.len() as u64);
            assert_eq!(count + left, 10, "the batch was applied in order");
        }
    }
}

#[test]
fn every_node_does_the_same_whatever_it_has_drained() {
    for seed in 0..4 {
        let mut cluster = ready(60 + seed);
        for machine in 0..3 {
            ask_many(&mut cluster, machine, 4);
            cluster.run_for(Duration::from_millis(300));
        }
        cluster.run_until("all nodes have the same state", hashes_agree);
        // The log is applied again, over another base than before.
        for machine in 0..3 {
            cluster.kill(machine);
            cluster.start(machine);
            cluster.run_until("all nodes are ready", Cluster::all_ready);
            ask_many(&mut cluster, machine, 1);
        }
        cluster.run_until("all nodes have the same state", hashes_agree);
    }
}

#[test]
fn a_node_that_got_a_snapshot_does_the_same_as_the_others() {
    let mut cluster = ready(70);
    let leader = cluster.leader().expect("a leader");
    let behind = (0..3).find(|machine| *machine != leader && *machine != 1);
    let behind = behind.expect("another one that drains");
    let others = [(behind + 1) % 3, (behind + 2) % 3];
    cluster.kill(behind);
    for machine in others {
        ask_many(&mut cluster, machine, 6);
    }
    write_many(&mut cluster, &others, 100);
    cluster.run_for(Duration::from_secs(1));
    cluster.start(behind);
    ask_many(&mut cluster, others[0], 3);
    cluster.run_until("all nodes are ready", Cluster::all_ready);
    ask_many(&mut cluster, behind, 3);
    assert!(installs(&cluster, behind) > 0, "it was behind the log");
    cluster.run_until("all nodes have the same state", hashes_agree);
}

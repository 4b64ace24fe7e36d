//! Real processes, real faults: clients record what they are told while nodes die, stand still, and lose each other;
//! afterwards there must be an order that explains all of it.
//!
//! `FAULT_ROUNDS` says how many faults of a kind each test makes (3 by default).

use std::time::Duration;

use raftkv_tests::harness::{Cluster, Deadline, wait_for};
use raftkv_tests::workload::{Keys, Mix, Plan, Workload, assert_linearizable, doors};

/// Short, so that clients of a node that stands still soon ask another.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
const PROGRESS_SECONDS: u64 = 60;

fn rounds() -> usize {
    let rounds = std::env::var("FAULT_ROUNDS").ok();
    rounds.map_or(3, |rounds| rounds.parse().expect("FAULT_ROUNDS is a number"))
}

/// A cluster behind proxies, under a load of everything on few keys.
struct Scene {
    cluster: Cluster,
    load: Workload,
}

impl Scene {
    fn start(seed: u64) -> Scene {
        let cluster = Cluster::start_behind_proxies(3);
        let plan = Plan {
            clients: 6,
            keys: Keys::Shared(4),
            mix: Mix::EVERYTHING,
            seed,
        };
        let load = Workload::start(plan, |client| doors(&cluster, client, REQUEST_TIMEOUT));
        let scene = Scene { cluster, load };
        scene.wait_for_progress();
        scene
    }

    #[track_caller]
    fn leader(&self) -> usize {
        self.cluster.wait_for_leader(Deadline::seconds(PROGRESS_SECONDS))
    }

    /// Waits until the cluster has answered another batch of requests.
    #[track_caller]
    fn wait_for_progress(&self) {
        self.load
            .wait_for_answers(200, Deadline::seconds(PROGRESS_SECONDS));
    }

    /// Waits until others than `node` have a leader among them.
    #[track_caller]
    fn wait_for_other_leader(&self, node: usize) {
        wait_for(
            "another leader",
            Deadline::seconds(PROGRESS_SECONDS),
            || match self.cluster.leader() {
                Ok(leader) if leader != node => Ok(()),
                Ok(_) => Err("still the same".to_owned()),
                Err(seen) => Err(seen),
            },
        );
    }

    /// Mends everything, waits until the nodes agree, and judges the history.
    #[track_caller]
    fn end(mut self) {
        self.cluster.network().heal();
        self.cluster.start_all();
        self.wait_for_progress();
        let recorder = self.load.finish();
        self.cluster.wait_until_ready();
        self.cluster.wait_until_caught_up();
        assert_linearizable(&recorder.history());
    }
}

#[test]
fn killed_leaders_leave_a_linearizable_history() {
    let mut scene = Scene::start(1);
    for _ in 0..rounds() {
        let leader = scene.leader();
        scene.cluster.node_mut(leader).kill9();
        scene.wait_for_other_leader(leader);
        scene.wait_for_progress();
        scene.cluster.start_all();
        scene.cluster.wait_until_ready();
    }
    scene.end();
}

#[test]
fn paused_leaders_leave_a_linearizable_history() {
    let scene = Scene::start(2);
    for _ in 0..rounds() {
        let leader = scene.leader();
        scene.cluster.node(leader).pause();
        scene.wait_for_other_leader(leader);
        scene.wait_for_progress();
        // It wakes up in the belief that it leads.
        scene.cluster.node(leader).resume();
        scene.wait_for_progress();
    }
    scene.end();
}

#[test]
fn isolated_leaders_leave_a_linearizable_history() {
    let scene = Scene::start(3);
    for _ in 0..rounds() {
        let leader = scene.leader();
        scene.cluster.network().isolate(leader);
        scene.wait_for_other_leader(leader);
        scene.wait_for_progress();
        scene.cluster.network().heal();
        scene.wait_for_progress();
    }
    scene.end();
}

#[test]
fn leaders_that_can_not_be_heard_leave_a_linearizable_history() {
    let scene = Scene::start(4);
    for _ in 0..rounds() {
        let leader = scene.leader();
        for other in (0..3).filter(|&node| node != leader) {
            scene.cluster.network().cut(leader, other);
        }
        scene.wait_for_other_leader(leader);
        scene.wait_for_progress();
        scene.cluster.network().heal();
        scene.wait_for_progress();
    }
    scene.end();
}

#[test]
fn leaders_that_can_not_hear_leave_a_linearizable_history() {
    let scene = Scene::start(5);
    for _ in 0..rounds() {
        let leader = scene.leader();
        for other in (0..3).filter(|&node| node != leader) {
            scene.cluster.network().cut(other, leader);
        }
        // Its heartbeats go on arriving; without answers it must step down by itself (check-quorum).
        scene.wait_for_other_leader(leader);
        scene.wait_for_progress();
        scene.cluster.network().heal();
        scene.wait_for_progress();
    }
    scene.end();
}

#[test]
fn node_that_only_the_leader_can_not_reach_does_not_stop_the_cluster() {
    let scene = Scene::start(6);
    for _ in 0..rounds() {
        let leader = scene.leader();
        let other = (leader + 1) % 3;
        scene.cluster.network().cut(leader, other);
        scene.wait_for_progress();
        scene.cluster.network().heal();
        scene.wait_for_progress();
    }
    scene.end();
}

#[test]
fn slow_and_reset_connections_leave_a_linearizable_history() {
    let scene = Scene::start(7);
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..rounds() {
        for (from, to) in [(0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2)] {
            scene
                .cluster
                .network()
                .delay(from, to, Duration::from_millis(rng.u64(0..60)));
        }
        scene.wait_for_progress();
        let (from, step) = (rng.usize(0..3), rng.usize(1..3));
        scene.cluster.network().reset(from, (from + step) % 3);
        scene.wait_for_progress();
        scene.cluster.network().heal();
    }
    scene.end();
}

#[test]
fn mixed_faults_leave_a_linearizable_history() {
    let mut scene = Scene::start(8);
    let mut rng = fastrand::Rng::with_seed(8);
    for _ in 0..2 * rounds() {
        let node = rng.usize(0..3);
        let other = (node + rng.usize(1..3)) % 3;
        match rng.u32(0..5) {
            0 => scene.cluster.node_mut(node).kill9(),
            1 => scene.cluster.network().isolate(node),
            2 => scene.cluster.network().cut(node, other),
            3 => scene
                .cluster
                .network()
                .delay(node, other, Duration::from_millis(rng.u64(1..400))),
            _ => {
                scene.cluster.node(node).pause();
                scene.wait_for_progress();
                scene.cluster.node(node).resume();
            }
        }
        scene.wait_for_progress();
        // At most one node at a time is away, so that there is always a majority.
        scene.cluster.network().heal();
        scene.cluster.start_all();
        scene.cluster.wait_until_ready();
    }
    scene.end();
}

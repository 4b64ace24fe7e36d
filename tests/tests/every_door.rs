//! The same operations over the native protocol, over HTTP and on the state machine itself come to the same.
//!
//! `DOOR_SEEDS` says how many sequences are run (4 by default), `DOOR_SEED` which one alone.

use std::time::Duration;

use raftkv_tests::every_door::{Ask, Door, Drawing, EmbeddedDoor, HttpDoor, NativeDoor, Told};
use raftkv_tests::harness::Cluster;

const OPERATIONS: usize = 400;

/// Far beyond what an answer takes, so that a busy machine makes no difference.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Of the operations before the one that differs, so many are shown.
const SHOWN: usize = 12;

fn seeds() -> Vec<u64> {
    let number = |name: &str| -> Option<u64> {
        let text = std::env::var(name).ok()?;
        Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
    };
    match number("DOOR_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("DOOR_SEEDS").unwrap_or(4)).collect(),
    }
}

fn lines(asked: &[(Ask, Told)]) -> String {
    let line = |(ask, told): &(Ask, Told)| format!("{ask:?} -> {told:?}");
    asked.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn assert_same(seed: u64, told: &[(&str, Told)], asked: &[(Ask, Told)], ask: &Ask) {
    let (_, expected) = &told[0];
    for (door, other) in told {
        assert!(
            other == expected,
            "seed {seed}, operation {}, {ask:?}\n{}: {expected:?}\n{door}: {other:?}\nbefore it:\n{}",
            asked.len(),
            told[0].0,
            lines(&asked[asked.len().saturating_sub(SHOWN)..]),
        );
    }
}

#[test]
fn the_same_operations_come_to_the_same_through_every_door() {
    for seed in seeds() {
        let clusters = [Cluster::start(1), Cluster::start(1)];
        let mut doors: [Box<dyn Door>; 3] = [
            Box::new(EmbeddedDoor::default()),
            Box::new(NativeDoor::new(clusters[0].node(0).native_port(), TIMEOUT)),
            Box::new(HttpDoor::new(clusters[1].node(0).http_port(), TIMEOUT)),
        ];
        let mut drawing = Drawing::new(seed);
        let mut asked: Vec<(Ask, Told)> = Vec::new();
        for _ in 0..OPERATIONS {
            let ask = drawing.next_ask();
            let told: Vec<(&str, Told)> = doors
                .iter_mut()
                .map(|door| (door.name(), door.ask(&ask)))
                .collect();
            assert_same(seed, &told, &asked, &ask);
            let (_, told) = told.into_iter().next().expect("there are doors");
            drawing.note(&ask, &told);
            asked.push((ask, told));
        }
        let refused = asked.iter().filter(|(_, told)| matches!(told, Told::Refused(_)));
        println!(
            "seed {seed}: {OPERATIONS} operations, {} refused",
            refused.count()
        );
    }
}

//! The tables of a comparison that was made up.

use std::time::Duration;

use super::*;
use crate::compare::arguments::Plan;
use crate::compare::figures::Outcome;
use crate::compare::store::StoreName;
use crate::machine::Machine;

fn load(rate: f64, p50_us: f64) -> Outcome {
    Outcome::Load(LoadFigures {
        rate,
        p50_us,
        p99_us: p50_us * 2.0,
        server_cpu_us: 7.0,
        client_cpu_us: 0.5,
        failures: 0,
    })
}

fn results(store: StoreName, outcomes: Vec<Option<Outcome>>) -> StoreResults {
    let figures = |outcome: Option<Outcome>| {
        let mut figures = Figures::default();
        outcome.into_iter().for_each(|outcome| figures.add(outcome));
        figures
    };
    StoreResults {
        store,
        version: "1.0".to_owned(),
        cells: outcomes.into_iter().map(figures).collect(),
    }
}

fn comparison() -> Comparison {
    let gaps = Outcome::Gaps(vec![Duration::from_millis(200), Duration::from_millis(190)]);
    let cells = ["put:256", "open:6500", "open:100000", "failover:2"];
    Comparison {
        plan: Plan {
            cells: cells.iter().map(|text| text.parse().unwrap()).collect(),
            rounds: 1,
            duration: Duration::from_secs(10),
            warmup: Duration::from_secs(2),
            connections: 16,
            keys: 100,
            value_bytes: 256,
            stores: Vec::new(),
            directory: ".".into(),
        },
        machine: Machine {
            cores: Some(2),
            cpu: None,
            kernel: None,
            memory_mib: None,
        },
        results: vec![
            results(
                StoreName::Raftkv,
                vec![
                    Some(load(216_940.0, 1_000.0)),
                    Some(load(6_500.0, 500.0)),
                    Some(load(1e5, 900.0)),
                    Some(gaps),
                ],
            ),
            results(
                StoreName::Etcd,
                vec![
                    Some(load(10_847.0, 2e4)),
                    Some(load(6_490.0, 1e4)),
                    Some(load(12_000.0, 1e6)),
                    None,
                ],
            ),
        ],
    }
}

#[test]
fn ratios_say_how_much_better_the_first_is_and_nothing_where_nothing_can_be_compared() {
    let markdown = comparison().markdown();
    for row in [
        "| load | raftkv 1.0 | etcd 1.0 | raftkv 1.0 : etcd 1.0 |",
        "| put, 256 clients | 216,940/s | 10,847/s | 20 |",
        "| open loop, 6500 puts/s | p50 500 µs, p99 1 ms | p50 10 ms, p99 20 ms | 20 |",
        "| open loop, 100000 puts/s | p50 900 µs, p99 1.8 ms | out of reach (12,000/s) | – |",
        "| fail-over | 190 ms, at most 200 | – | – |",
        "| put, 256 clients | 1 ms · 2 ms · 7.0 · 0.5 · 0 | 20 ms · 40 ms · 7.0 · 0.5 · 0 |",
    ] {
        assert!(markdown.contains(row), "{row}\n{markdown}");
    }
}

#[test]
fn a_cell_that_failed_is_told_with_its_reason() {
    let mut comparison = comparison();
    comparison.results[1].cells[0] = Figures::default();
    comparison.results[1].cells[0].add(Outcome::Failed("no space".to_owned()));
    let markdown = comparison.markdown();
    assert!(
        markdown.contains("| put, 256 clients | 216,940/s | failed | – |"),
        "{markdown}"
    );
    assert!(
        markdown.contains("etcd, put, 256 clients: no space"),
        "{markdown}"
    );
}

#[test]
fn only_rates_that_are_free_are_plotted() {
    let svg = comparison().plot().svg().unwrap();
    assert!(svg.contains("put, 256 clients") && !svg.contains("open loop") && !svg.contains("fail-over"));
}

#[test]
fn thousands_stand_apart() {
    assert_eq!(thousands(1_234_567.4), "1,234,567");
    assert_eq!(thousands(999.0), "999");
}

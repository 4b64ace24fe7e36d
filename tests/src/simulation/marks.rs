//! Situations that must occur now and then, or the simulator does not test what it seems to.

use std::collections::BTreeMap;

use raftkv_raft::simulation as core;

/// Marks that can not be reached yet, and the part that they wait for.
pub const WAITING: &[(&str, &str)] = &[
    ("truncated a configuration entry", "membership changes"),
    ("reply of another session dropped", "membership changes"),
];

/// All marks that the default seeds must reach.
#[must_use]
pub fn all() -> Vec<&'static str> {
    let lists = [core::MARKS, raftkv_server::replica::MARKS];
    let mut all: Vec<_> = lists.into_iter().flatten().copied().collect();
    all.retain(|mark| !WAITING.iter().any(|(waiting, _)| waiting == mark));
    all
}

/// Which of them were never reached.
#[must_use]
pub fn missing(reached: &BTreeMap<&'static str, u64>) -> Vec<&'static str> {
    all()
        .into_iter()
        .filter(|mark| !reached.contains_key(mark))
        .collect()
}

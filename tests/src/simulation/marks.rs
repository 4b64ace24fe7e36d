//! Situations that must occur now and then, or the simulator does not test what it seems to.

use std::collections::BTreeMap;

use raftkv_raft::simulation as core;

/// Marks that can not be reached yet, and the part that they wait for.
pub const WAITING: &[(&str, &str)] = &[
    (
        "change refused before the term's first commit",
        "nothing: the replica asks before it proposes, so it shows in the core's own tests",
    ),
    (
        "leader outside its configuration stepped down",
        "nothing: a leader hands over before it is removed; once in 2500 seeds",
    ),
    (
        "early hand-over ignored",
        "a hand-over that overtakes all else of its term: not met in 2500 seeds",
    ),
    (
        "hand-over to a node that does not vote ignored",
        "a hand-over to who is removed meanwhile: not met in 2500 seeds",
    ),
    (
        "lease dropped, the clock jumped",
        "a shell that tells of such jumps: this one does not",
    ),
    (
        "lease read refused by the second check",
        "nothing: it occurs four times in 2500 seeds",
    ),
    (
        "snapshot refused as garbage",
        "peers that are broken: correct ones never send it",
    ),
    (
        "snapshot report of another session dropped",
        "nothing: it occurs seven times in 2500 seeds",
    ),
    (
        "ack beyond the log dropped",
        "peers that are broken: correct ones never send it",
    ),
    (
        "fetch that was not open dropped",
        "nothing: only for who is removed meanwhile, three times in 2500 seeds",
    ),
    (
        "malformed append dropped",
        "peers that are broken: correct ones never send it",
    ),
    (
        "message for another node or garbage dropped",
        "messages for another node in the core: the replica drops them before",
    ),
    (
        "malformed consensus message dropped",
        "peers that are broken: correct ones never send it",
    ),
    ("foreign cluster met", "two clusters in one world"),
    (
        "founding refused",
        "nothing: a machine starts anew while it is founded with, five times in 2500 seeds",
    ),
    (
        "introduction with our own identity ignored",
        "a copied data directory",
    ),
    (
        "log created twice",
        "a driver that is broken: this one never does it",
    ),
    ("peer lists differ", "operators who mistype"),
    (
        "expiry backlog",
        "a thousand keys with one deadline; the store's own tests have them",
    ),
    (
        "leaving a joint configuration that is not the latest one was put off",
        "a change between two events of one poll: not met in 2500 seeds",
    ),
    (
        "our own identity spoke to us from another process",
        "a copied data directory; without one it occurs once in 2500 seeds",
    ),
    ("presence of another cluster ignored", "two clusters in one world"),
    (
        "scrub asked for",
        "operators who ask for a pass; the replica's own tests have them",
    ),
    (
        "scrub asked for, outcome unknown",
        "operators who ask for a pass; the replica's own tests have them",
    ),
    (
        "snapshot refused in quarantine",
        "a leader in quarantine that nobody can take over from while somebody lacks what its log has cut",
    ),
    (
        "snapshot: damaged part dropped",
        "a sender that is broken: frames have checksums, files are verified before they are sent",
    ),
    (
        "snapshot: damaged file refused",
        "a sender that is broken: frames have checksums, files are verified before they are sent",
    ),
    ("log: foreign segment refused", "swapped disks"),
    (
        "watch: page of a snapshot put off",
        "connections with several watches; the hub's own tests have them",
    ),
];

/// Those of the simulator itself: what only somebody who sees all nodes can tell.
const OWN: &[&str] = &[
    "operators: a cluster was recovered that had lost what was decided",
    "operators: a cluster was recovered whose log held what nobody had decided",
    "operators: one that was left behind by a recovery ran beside the new cluster",
    "operators: a machine joined a recovered cluster",
    "operators: a removal was forced though no majority of the others ran",
    "tenants: a lease ended under another leader than the one that granted it",
    "tenants: a retry was answered by a later leader",
    "tenants: a retry was answered by who had the first answer from a snapshot",
    "tenants: a retry was answered by who started again meanwhile",
];

/// All marks that the default seeds must reach.
#[must_use]
pub fn all() -> Vec<&'static str> {
    let lists = [
        core::MARKS,
        raftkv_server::replica::MARKS,
        raftkv_server::log::simulation::MARKS,
        raftkv_server::store::history::simulation::MARKS,
        raftkv_server::watch::MARKS,
        OWN,
    ];
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

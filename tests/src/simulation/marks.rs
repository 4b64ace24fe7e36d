//! Situations that must occur now and then, or the simulator does not test what it seems to.

use std::collections::BTreeMap;

use raftkv_raft::simulation as core;

/// Marks that can not be reached yet, and the part that they wait for.
pub const WAITING: &[(&str, &str)] = &[
    ("truncated a configuration entry", "membership changes"),
    (
        "change refused before the term's first commit",
        "membership changes",
    ),
    ("change refused while another is under way", "membership changes"),
    (
        "change refused, a new voter has not caught up",
        "membership changes",
    ),
    ("change refused, no majority would be alive", "membership changes"),
    ("joint configuration of another leader left", "membership changes"),
    (
        "leader outside its configuration stepped down",
        "membership changes",
    ),
    ("early hand-over ignored", "transfer of leadership"),
    ("late hand-over ignored", "transfer of leadership"),
    (
        "hand-over to a node that does not vote ignored",
        "transfer of leadership",
    ),
    ("lease given up for a transfer", "transfer of leadership"),
    ("proposal refused during a transfer", "transfer of leadership"),
    ("transfer aborted", "transfer of leadership"),
    (
        "transfer refused, the target does not vote",
        "transfer of leadership",
    ),
    ("transfer waits for its target", "transfer of leadership"),
    (
        "lease dropped, the clock jumped",
        "a shell that tells of such jumps: this one does not",
    ),
    (
        "lease read refused by the second check",
        "nothing: it occurs twice in 2500 seeds",
    ),
    (
        "configuration entries gave way to a snapshot",
        "membership changes",
    ),
    (
        "snapshot refused as garbage",
        "peers that are broken: correct ones never send it",
    ),
    ("snapshot report of another session dropped", "membership changes"),
    (
        "ack beyond the log dropped",
        "peers that are broken: correct ones never send it",
    ),
    (
        "fetch that was not open dropped",
        "a driver that is broken: this one never does it",
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
    (
        "message for another node or of another cluster dropped",
        "two clusters in one world",
    ),
    ("foreign cluster met", "two clusters in one world"),
    (
        "forwarded write answered by another cluster",
        "two clusters in one world",
    ),
    (
        "founding refused",
        "peers that are broken, or two clusters in one world",
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
    ("admission refused", "membership changes"),
    ("change of members proposed", "membership changes"),
    ("change of members refused", "membership changes"),
    (
        "consensus message dropped by a node that takes no part",
        "membership changes",
    ),
    ("joint configuration left", "membership changes"),
    ("leader hands over before it is removed", "membership changes"),
    ("learner promoted", "membership changes"),
    (
        "leaving a joint configuration that is not the latest one was put off",
        "membership changes",
    ),
    ("node let into a running cluster", "membership changes"),
    ("removed identity knocked", "membership changes"),
    (
        "peer of a node that was formed alone let in",
        "membership changes",
    ),
    ("admission ignored by a formed node", "membership changes"),
    ("new address of a member stored", "addresses that change"),
    ("node takes part after it asked", "addresses that change"),
    ("node set aside", "a copied data directory"),
    (
        "our own identity spoke to us from another process",
        "a copied data directory",
    ),
    (
        "second process with a member's identity refused",
        "a copied data directory",
    ),
    ("presence of another cluster ignored", "two clusters in one world"),
    (
        "replica quarantined",
        "replicas that differ: correct ones never do",
    ),
    (
        "state hashes differ",
        "replicas that differ: correct ones never do",
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

/// All marks that the default seeds must reach.
#[must_use]
pub fn all() -> Vec<&'static str> {
    let lists = [
        core::MARKS,
        raftkv_server::replica::MARKS,
        raftkv_server::log::simulation::MARKS,
        raftkv_server::store::history::simulation::MARKS,
        raftkv_server::watch::MARKS,
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

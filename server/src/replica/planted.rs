//! The planted bugs and the marks of store and replica, by name. A test compares the lists with the sources.

/// The planted bugs of store and replica, and what each one does; names for
/// [`raftkv_raft::simulation::set_mutant`]. Each must be caught by the simulator.
pub const MUTANTS: &[(&str, &str)] = &[
    (
        "X10_answer_before_commit",
        "a write is answered when it is proposed (R31)",
    ),
    (
        "X26_local_clock_in_apply",
        "deadlines count from a clock of the node's own (R73, R74)",
    ),
    (
        "X30_timeout_reported_as_failure",
        "a proposed write whose time is over is told as never applied (I18)",
    ),
    (
        "read_served_before_applied",
        "a confirmed read does not wait until its index is applied (R69)",
    ),
    (
        "forwarded_write_retried_after_lost",
        "a write whose forwarding connection broke is sent again (R76)",
    ),
    (
        "forming_without_every_peer",
        "a cluster is founded when half of the listed peers agree",
    ),
    (
        "drain_split_in_two",
        "what proves a drain goes into the base before its records",
    ),
    (
        "gathered_record_of_a_key_lost",
        "a record that was looked up for an entry is taken for none",
    ),
    (
        "generation_dropped_before_its_drain",
        "memory lets go of a generation that the base does not hold yet",
    ),
    (
        "log_cut_before_the_drain",
        "the log is cut when a generation is frozen, not when the base holds it (R48)",
    ),
    (
        "old_lookup_believed",
        "a lookup is used though memory has let go of a newer generation since",
    ),
    (
        "scan_mixes_two_states",
        "a scan reads a base that is newer than the memory it began with",
    ),
];

/// Situations in store and replica that must occur now and then, or the simulator does not test what it seems to.
pub const MARKS: &[&str] = &[
    "apply waits for room in the overlay",
    "cluster founded",
    "confirmed read waits for apply",
    "consensus message to an unformed node dropped",
    "deadline of a changed key passed over",
    "deadline passed after proposing",
    "disk nearly full",
    "drained generation released",
    "entry waits for a lookup",
    "event ignored while the log is created",
    "expiry backlog",
    "foreign cluster met",
    "forwarded write answered by another cluster",
    "forwarded write lost",
    "forwarded write reached a node that does not lead",
    "founding ignored by a formed node",
    "founding refused",
    "generation drained",
    "generation frozen",
    "history given up through the log",
    "introduction with our own identity ignored",
    "key expired",
    "lineage resolved for a reader",
    "log created twice",
    "log cut behind the base",
    "lookup for an entry overtaken by a drain",
    "lookup overtaken by a drain",
    "malformed consensus message dropped",
    "member came back without its log",
    "message for another node or of another cluster dropped",
    "part of a former snapshot dropped",
    "part of a snapshot doubled",
    "part of a snapshot repeated",
    "part of a snapshot that is being installed dropped",
    "peer lists differ",
    "proposals refused: overloaded",
    "put refused for want of space",
    "read batch dropped and asked again",
    "read looked up in the base",
    "reply to a snapshot that is not sent dropped",
    "request refused: too many wait",
    "room on the disk again",
    "snapshot arrived at a peer",
    "snapshot did not arrive",
    "snapshot wanted by a peer",
    "snapshot: damaged part dropped",
    "snapshot: part out of turn dropped",
    "snapshot: received whole",
    "tick proposed",
    "trim proposed",
    "unformed node met a formed cluster without it",
    "waiting write cut by our own later election",
    "waiting write displaced by another term",
    "waiting write vanished under a snapshot",
    "writes slowed",
];

//! The planted bugs and the marks of watches, by name. A test compares the lists with the sources.

/// The planted bugs, and what each one does. Each must be caught by the simulator.
pub const MUTANTS: &[(&str, &str)] = &[
    (
        "watch_event_delivered_twice",
        "a watch that joins a window of history in its middle gets what it has already",
    ),
    (
        "watch_event_lost_at_hand_over",
        "a watch joins the live events though it has not read up to them",
    ),
    (
        "watch_event_lost_when_it_falls_behind",
        "a watch without credit goes on behind the event that it could not take",
    ),
    (
        "watch_progress_ahead_of_events",
        "progress tells of a revision that has not come",
    ),
];

/// Situations that must occur now and then, or the simulator does not test what it seems to.
pub const MARKS: &[&str] = &[
    "watch: a held state was given back unread",
    "watch: caught up",
    "watch: dropped, it was slow",
    "watch: fell behind",
    "watch: history was given up while an event waited",
    "watch: jumped over what was not told",
    "watch: page of a snapshot put off",
    "watch: progress told",
    "watch: ran out of credit while it caught up",
    "watch: snapshot told",
    "watch: waits for a revision",
    "watch: what it lacks is not kept any more",
    "watch: window of history read",
];

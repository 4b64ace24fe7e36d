//! What the simulator can ask of history: planted bugs, and situations that must occur.

/// The planted bugs of this module, and what each one does. See [`raftkv_raft::simulation`].
pub const MUTANTS: &[(&str, &str)] = &[
    (
        "before_image_missing",
        "the images of some keys are not written: what they were before the drain is lost",
    ),
    (
        "history_not_synced_before_ingest",
        "events and images are not synced when the ingest commits (R36)",
    ),
    (
        "images_given_up_without_a_word",
        "a start does not know that the images of a generation were given up",
    ),
];

/// The situations this module marks.
pub const MARKS: &[&str] = &[
    "history: generation sealed",
    "history: generations trimmed",
    "history: images finished",
    "history: images given up",
    "history: unfinished file removed",
];

//! The query parameters of all calls: what the parser takes and what the description tells are the same table.

/// One query parameter.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    /// What it means, in a sentence.
    pub(super) about: &'static str,
    pub(super) form: Form,
    pub(super) example: &'static str,
    pub(super) necessity: Necessity,
}

/// Can a call do without it?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Necessity {
    /// No: it is refused.
    Required,
    /// Yes.
    Optional,
}

/// How the value of a parameter is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Any bytes, percent-encoded.
    Bytes,
    /// A whole number.
    Whole,
    /// Seconds, with a fraction if need be.
    Seconds,
    /// `true` or `false`; the name alone means `true`.
    Flag,
    /// A number with its unit: `500ms`, `30s`, `5m`, `1h30m`, `7d`.
    Duration,
    /// The hexadecimal digits of a lease.
    Lease,
    /// One of these words.
    Word(&'static [&'static str]),
    /// What the server gave, as it gave it.
    Opaque,
}

const fn parameter(name: &'static str, form: Form, example: &'static str, about: &'static str) -> Parameter {
    Parameter {
        name,
        about,
        form,
        example,
        necessity: Necessity::Optional,
    }
}

pub(super) static KEY: Parameter = Parameter {
    necessity: Necessity::Required,
    ..parameter(
        "key",
        Form::Bytes,
        "greeting",
        "The key, percent-encoded; '+' is a space.",
    )
};
pub(super) static IF_REVISION: Parameter = parameter(
    "if_revision",
    Form::Whole,
    "7",
    "Only if the key was last changed by this revision; 0: only if it does not exist.",
);
pub(super) static CONSISTENCY: Parameter = parameter(
    "consistency",
    Form::Word(&["linearizable", "leader_lease", "stale"]),
    "linearizable",
    "What is promised: linearizable (the default) sees every write acknowledged before; leader_lease the same as long as \
     clocks are true; stale is the state of the node that is asked.",
);
pub(super) static MAX_STALENESS_MS: Parameter = parameter(
    "max_staleness_ms",
    Form::Whole,
    "500",
    "With consistency=stale: refused unless the node can prove that it lacks nothing acknowledged longer than this ago.",
);
pub(super) static REVISION: Parameter = parameter(
    "revision",
    Form::Whole,
    "7",
    "As it was just after this revision, as long as history is kept.",
);
pub(super) static AGO: Parameter = parameter(
    "ago",
    Form::Duration,
    "5m",
    "As it was so long ago: a number with its unit (ms, s, m, h, d).",
);
pub(super) static PREFIX: Parameter = parameter(
    "prefix",
    Form::Bytes,
    "app/",
    "Keys that begin with this; empty: all keys.",
);
pub(super) static FROM: Parameter = parameter(
    "from",
    Form::Bytes,
    "a",
    "Keys from this one on, itself included.",
);
pub(super) static TO: Parameter = parameter("to", Form::Bytes, "b", "Keys below this one.");
pub(super) static IS_PREFIX: Parameter = parameter(
    "prefix",
    Form::Flag,
    "true",
    "The path names not one key but all that begin with it.",
);
pub(super) static LIMIT: Parameter = parameter(
    "limit",
    Form::Whole,
    "100",
    "At most so many keys, in one page that tells where the next one begins; without limit and cursor all keys are streamed.",
);
pub(super) static CURSOR: Parameter = parameter(
    "cursor",
    Form::Opaque,
    "AQc",
    "Goes on where an earlier page ended, at the same state: the cursor that it told. All else must be as it was then.",
);
pub(super) static REVERSE: Parameter = parameter("reverse", Form::Flag, "true", "From the highest key down.");
pub(super) static KEYS_ONLY: Parameter = parameter("keys_only", Form::Flag, "true", "Without the values.");
pub(super) static COUNT_ONLY: Parameter =
    parameter("count_only", Form::Flag, "true", "Only how many keys there are.");
pub(super) static TTL: Parameter = parameter(
    "ttl",
    Form::Duration,
    "30s",
    "The key is deleted by itself after this time: a number with its unit (ms, s, m, h, d).",
);
pub(super) static TTL_SECONDS: Parameter =
    parameter("ttl_seconds", Form::Seconds, "1.5", "The same, in seconds.");
pub(super) static LEASE: Parameter = parameter(
    "lease",
    Form::Lease,
    "00000000000000ff",
    "The key hangs on this lease, and is deleted when it ends.",
);
pub(super) static PREVIOUS: Parameter = parameter(
    "previous",
    Form::Flag,
    "true",
    "The answer tells what was there before.",
);
pub(super) static FORCE: Parameter = parameter(
    "force",
    Form::Word(&["true", "false"]),
    "true",
    "Although the cluster would be worse off; for members that are lost for good.",
);
pub(super) static START_REVISION: Parameter = parameter(
    "start_revision",
    Form::Whole,
    "8",
    "This revision and all after it; without it from now on.",
);
pub(super) static SNAPSHOT: Parameter = parameter(
    "snapshot",
    Form::Flag,
    "true",
    "First the state as it is, then every change of it.",
);
pub(super) static EPOCH: Parameter = parameter(
    "epoch",
    Form::Whole,
    "1",
    "The history epoch that start_revision is of; another one than the server's ends the watch with compacted.",
);
pub(super) static FILTER: Parameter = parameter(
    "filter",
    Form::Word(&["puts", "deletes"]),
    "puts",
    "Only changes of this kind.",
);
pub(super) static WHEN_SLOW: Parameter = parameter(
    "when_slow",
    Form::Word(&["every", "latest", "drop"]),
    "latest",
    "What a watcher gets that does not keep up: every event from history, each key's latest after a gap mark, or the end.",
);
pub(super) static PROGRESS_MS: Parameter = parameter(
    "progress_ms",
    Form::Whole,
    "60000",
    "After so long without an event the watch is told how far it is.",
);

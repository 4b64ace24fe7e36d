//! What happened, as a hash that two runs can compare and, on demand, as lines for people.

use std::io::Write;

use super::queue::Micros;
use super::random::mix;

/// A kind of traced event; its number goes into the hash, its name into the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Traced {
    Step = 1,
    Send,
    Receive,
    Lose,
    Write,
    Persisted,
    Fetch,
    Fetched,
    CreateLog,
    Answer,
    Forward,
    Forwarded,
    Notice,
    Start,
    Refuse,
    Stop,
    Crash,
    Reset,
    Invoke,
    Complete,
    Settle,
    Rot,
    Store,
    Watch,
    Operator,
    Recover,
}

/// Hashes each event; writes a line for each when asked to. Nothing in it depends on the machine or the wall clock.
pub(crate) struct Trace {
    hash: u64,
    out: Option<Box<dyn Write>>,
}

/// Who an event is about: a node's slot, or nobody.
pub(crate) type Subject = Option<usize>;

impl Trace {
    pub(crate) fn new(out: Option<Box<dyn Write>>) -> Trace {
        Trace { hash: 0, out }
    }

    /// Notes an event: `words` for the hash, `line` for people (made only when somebody reads it).
    pub(crate) fn note(
        &mut self,
        now: Micros,
        subject: Subject,
        what: Traced,
        words: [u64; 2],
        line: impl FnOnce() -> String,
    ) {
        let who = subject.map_or(0xff, |slot| slot as u64);
        self.hash = mix(
            mix(self.hash, now ^ (who << 56) ^ ((what as u64) << 48)),
            mix(words[0], words[1]),
        );
        if let Some(out) = &mut self.out {
            let who = subject.map_or_else(|| "world".to_owned(), |slot| format!("node{}", slot + 1));
            // A reader that hung up (`| head`) is no reason to fail a run.
            let _ = writeln!(
                out,
                "{:>10}.{:03}ms {who:<6} {:<10} {}",
                now / 1000,
                now % 1000,
                format!("{what:?}").to_lowercase(),
                line()
            );
        }
    }

    /// The hash of everything noted so far.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }
}

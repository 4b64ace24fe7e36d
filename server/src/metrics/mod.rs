//! What an operator's monitoring sees of a node, `GET /metrics`. `METRICS.md` beside this crate's manifest names all of it.
//!
//! ```text
//! node thread: counts what passes by (durations.rs, requests.rs, events.rs), without locks
//!       ^ asked once for each look                  v figures.rs: all of it at one moment, as data
//! HTTP thread:                                      exposition.rs, writer.rs: as text; process.rs adds what the system knows
//! ```
//! Nobody pays for figures that nobody asks for, but for the counts themselves.

mod durations;
mod events;
mod exposition;
mod figures;
mod process;
mod requests;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use durations::Durations;
pub(crate) use events::EventCounts;
pub(crate) use exposition::{CONTENT_TYPE, text};
pub(crate) use figures::{Figures, HttpFigures, StoreFigures, WorkFigures};
pub(crate) use requests::{Asking, RequestKind, Requests};

//! Watches: what the applied events of this node mean for who watches it.
//!
//! [`Hub`] decides everything and touches nothing: it is given what was applied, what clients say and what was read, and
//! gives back parts to send, watches that ended, and what it wants to be read. Its thread is beside the node's, so that
//! matching and encoding delay no write; the simulator runs the same code.
//!
//! # A watch is in one of these phases
//! ```text
//!  Snapshot ──(last page)──►  Behind  ──(read up to the head)──►  Live
//!  pages of a held state,     its position, and nothing else;   ◄──  has no credit when
//!  one at a time              reads history while it has credit      an event comes
//! ```
//! - **Live** watches cost nothing until an event matches: an index over their ranges finds those that it concerns. Watches
//!   that want the same of the same range are one *group*, whose part is made once.
//! - **Behind**: one reader goes through history for all of them, in *windows*: it begins at the position of the next watch that
//!   could take something, and takes along everybody whose position lies within. So ten thousand that fell behind together
//!   cost one pass over history, and one of them that is far behind does not hold up the others.
//! - A window is read up to the head as the hub knows it. What was applied meanwhile waits in its queue behind the window's
//!   end, so a watch that has read up to the head joins the live ones without a gap and without anything twice.
//!
//! # What holds
//! - Each watch gets parts with rising `through`, and with them every matching event above its start exactly once, in order;
//!   or, conflated, at least the last one of each key.
//! - All events of one revision are in one part, so no client ever resumes within one.
//! - Nothing that is kept for a watch grows with how far it is behind: a position, credit, and an entry in an index. The
//!   state that a snapshot holds is given back when its watch takes no page of it for [`HubSettings::held_state_idle`].
//! - `through` is never ahead of what was sent: progress is told to live watches alone.
//!
//! # Files
//! ```text
//! hub.rs        Hub: watches come, go, and are given credit      phases.rs   what one watch is doing
//! delivery.rs   events to parts to those who can take them       parts.rs    one group's part: filter, conflation, size
//! catching_up.rs  windows of history, pages of snapshots          groups.rs   watches that want the same
//! index.rs      which ranges hold a key                          slots.rs    a table with stable names
//! reader.rs     records behind events, windows, pages: over history and base
//! ```

mod catching_up;
mod delivery;
mod groups;
mod hub;
mod index;
mod parts;
mod phases;
#[cfg(any(test, feature = "simulation"))]
mod planted;
mod reader;
mod slots;
#[cfg(test)]
mod tests;

pub(crate) use catching_up::compacted;
pub use catching_up::{Page, PageWanted, Window, WindowRead};
pub use hub::{Begin, Effect, Hub, HubSettings, Output, Start};
#[cfg(any(test, feature = "simulation"))]
pub use planted::{MARKS, MUTANTS};
pub use reader::{Reader, Records};

/// Names one watch of this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub u64);

/// Names one connection that has watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

//! One node as a deterministic unit: forming, consensus, log order and store, driven by events.
//!
//! ```text
//! loop of the shell (and of the simulator):
//!     for each event that waits { node.handle(now, event) }
//!     node.poll(now, &mut effects)            // one batch: propose, replicate, apply, answer
//!     carry out every effect, in order
//! ```
//! No clock, no randomness, no I/O in here: time and a seed are arguments, everything else leaves as an [`Effect`].
//!
//! # Phases
//! ```text
//! Forming ──(every listed peer agrees, and this is the smallest name)──► Creating ──(LogCreated)──► Formed
//!    └─────(Found by a formed node whose configuration names this one)──────┘
//!    └─────(Admit: let into a running cluster, after it knocked)────────────┘
//! ```
//! A formed node never becomes unformed. An unformed one has no vote and gives no service.
//!
//! # What requests are promised
//! - A write is answered once it is applied here (R31). `no_leader`, `overloaded` and `not_leader` promise that it was not
//!   applied and never will be; everything else that ends a proposed write is `outcome_unknown` (I18). Displaced by an
//!   entry of another term at its index, a write is known to be lost, and says `no_leader`.
//! - A linearizable read is served by the node that was asked, from its own store, once that has applied the read index
//!   (R68, R69). It changes nothing, so every failure of it may say `no_leader`.
//! - A request waits for a leader at most [`NodeConfig::leader_wait`]; everything waits at most to its deadline.
//! - At most [`NodeConfig::max_pending_requests`] wait; the next one is refused at once.
//!
//! # Map
//! ```text
//! node.rs         Node: the phases, and admission of requests
//! forming.rs      an unformed node: who is there, who agrees       founding.rs   entry 1: made, and checked
//! formed.rs       a formed node: events in, one batch per poll     apply.rs      what a Ready asks for, carried out
//! writes.rs       writes that wait, and those in the log           log_clock.rs  the log time a leader stamps; ticks
//! forwarding.rs   writes passed on to the leader                   reads.rs      linearizable reads, and readiness
//! meeting.rs      nodes that are not (yet) of this cluster         members.rs    configurations in the log
//! translate.rs    consensus messages to and from the wire          status.rs     status, headers, refusals
//! joining.rs      how unformed nodes are let in                presence.rs    who is where, and in which life
//! changes.rs      changes of members, step by step             change_steps.rs what each asks of the configuration
//! follow_ups.rs   changes that follow by themselves          handing_over.rs leadership given away
//! promises.rs     what reads are promised: leases, staleness       ranges.rs     pages of ranges, and reads in the past
//! page_read.rs    a page that is wanted                            kept_states.rs states kept between pages
//! expiry.rs       giving up what waited for too long               outbox.rs     effects on their way out
//! drains.rs       when memory becomes durable, in which order      lookups.rs    records asked of the base
//! throttle.rs     writes slowed while a drain is under way         space.rs      puts refused before the disk is full
//! watches.rs       how a watch begins                              figures.rs     what monitoring is told
//! divergence.rs   have all replicas made the same of the log?     scrub.rs       have they stored the same?
//! cold_files.rs   when files that nobody reads are read again
//! quarantine.rs   what the odd one found, and tells               scrub_requests.rs an operator wants a pass, or how it stands
//! sending.rs      snapshots to followers behind the log            receiving.rs  one that comes in, and takes over
//! ```

mod apply;
mod change_steps;
mod changes;
mod cold_files;
mod config;
mod divergence;
mod drains;
mod event;
mod expiry;
mod figures;
mod follow_ups;
mod formed;
mod forming;
mod forwarding;
mod founding;
mod handing_over;
mod joining;
mod kept_states;
mod log_clock;
mod lookups;
mod meeting;
mod members;
mod node;
mod notice;
mod outbox;
mod page_read;
#[cfg(any(test, feature = "simulation"))]
mod planted;
mod presence;
mod promises;
mod quarantine;
mod ranges;
mod reads;
mod receiving;
mod scrub;
mod scrub_requests;
mod sending;
mod space;
mod status;
#[cfg(test)]
mod tests;
mod throttle;
mod translate;
mod watches;
mod writes;

pub use config::{NodeConfig, Restored, RestoredLog, RestoredState, RetentionConfig};
pub use event::{
    Effect, Event, ForwardOutcome, Hop, LookupNumber, PartTaken, ReceivedState, SnapshotNumber, Token,
};
pub use figures::{DiskFigures, FollowerFigures, FormedFigures, LogFigures, NodeFigures, OverlayFigures};
pub use node::Node;
pub use notice::Notice;
#[cfg(any(test, feature = "simulation"))]
pub use planted::{MARKS, MUTANTS};
pub use quarantine::{Finding, Hashes, Quarantine};
pub use scrub::{CompletePass, ScrubConfig, ScrubStatus};
pub use throttle::{DrainRate, Throttle};
pub use watches::WatchBegin;

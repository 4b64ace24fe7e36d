//! Whole clusters in one thread, every failure replayable from a seed.
//!
//! The real replica (forming, consensus, log format, state machine) runs against a simulated world: clocks that drift,
//! networks that lose, double, delay and cut, disks that forget what was not synced, tear it, fill up, fail and rot,
//! processes that die between any two effects and inside any call to the disk, clients that time out and retry. An
//! observer that shares no code with the system checks the invariants after every event.
//!
//! State machines drain all the time, from a generation in memory that may be absurdly small into a base that outlives
//! the process; history, trims and cuts of the log go with it. The base is the engine's twin: it comes back at the last
//! ingest that returned, and dies inside one when told to. What it holds, what memory holds over it, scans held open across
//! drains and reads in the past are compared with the model's states.
//!
//! ```text
//! seed -> Plan (all options) + Schedule (timed faults and operations, as data) = Scenario
//! Scenario -> World::run -> Outcome { trace hash, violations, marks, statistics }
//! ```
//! The same scenario gives the same trace, byte for byte, on every machine. A failing one is shrunk by dropping steps
//! while the same invariant breaks ([`shrink`]), and saved as a file that outlives the code that drew it.
//!
//! ```text
//! plan.rs swarm.rs fault.rs schedule.rs operators.rs tenants.rs
//!                                         what a run is made of, and how it is drawn from a seed
//! queue.rs clock.rs network.rs            time and the network
//! world/                                  machines, disk executors, forwarding, clients, scans, faults, coming to rest
//! observer/                               the invariants, by name (I1 to I27)
//! run.rs shrink.rs sweep/                 one run; a smaller failure; a crash at every boundary
//! mutants.rs marks.rs speed.rs            is the simulator itself any good?
//! ```
//! Operators hand leadership over, take members out and let machines in again, on empty disks and under new identities;
//! some machines found the cluster, others join it; members move to other addresses, and some changes are forced. Who is a
//! member, and which majorities count, the observer reads off the log.
//!
//! Tenants run transactions over several keys, hold leases, and write within sessions and under idempotency keys: what they
//! may not know they ask again, and old copies of what they asked come again too. A plain model says what each of their
//! commands comes to where the log decided it (`observer/tenure.rs` tells why that is the whole check).
//!
//! In some runs a majority is lost for ever, and one directory is recovered into a new cluster that the others join, while
//! members of the old one are still about (`observer/recovered.rs` tells what may be lost then, and what may not).
//!
//! Not here: the driver (sockets, threads, real disks), which runs only in the tests with real processes; a second process on
//! a copy of a data directory; changes by force after which no majority holds the data; and crashes within a recovery, which
//! are swept beside its code.

mod clock;
mod fault;
pub mod marks;
pub mod mutants;
mod network;
mod observer;
mod operators;
mod plan;
mod queue;
mod random;
mod run;
mod schedule;
mod search;
mod shrink;
pub mod speed;
mod swarm;
pub mod sweep;
mod tenants;
mod trace;
mod world;

pub use fault::FaultKind;
pub use observer::Violation;
pub use operators::{Operation, OperatorPlan, SparesCome};
pub use plan::{
    Boundary, CrashPoint, DiskPlan, Ending, NetworkPlan, Plan, RaftPlan, StorePlan, Swept, WorkloadPlan,
};
pub use run::{Options, Outcome, Statistics, run};
pub use schedule::{Action, Asked, DiskCall, LeaderFault, NodeSet, Remains, Scenario, ScheduleError, Step};
pub use search::{Found, search};
pub use shrink::shrink;
pub use tenants::{Call, TenantPlan};

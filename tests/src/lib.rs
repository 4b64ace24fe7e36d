//! What crosses crates: the simulator, the harness for real processes, the linearizability checker.

pub mod every_door;
pub mod harness;
pub mod ledger;
pub mod linearizability;
pub mod proxy;
pub mod simulation;
pub mod workload;

//! What crosses crates: the simulator, the harness for real processes, the linearizability checker.

pub mod linearizability;

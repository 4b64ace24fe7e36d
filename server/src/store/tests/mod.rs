//! Tests of the store as a whole.

mod commands;
mod given_up;
mod leases;
mod memory;
mod model;
mod pages;
mod ranges;
pub(super) mod rig;
mod rules;
mod world;

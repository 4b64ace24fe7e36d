//! Tests of the store as a whole.

mod commands;
mod model;
mod pages;
pub(super) mod rig;
mod rules;
mod world;

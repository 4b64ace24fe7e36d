//! Tests of the store as a whole.

mod model;
mod pages;
pub(super) mod rig;
mod rules;

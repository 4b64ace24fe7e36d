//! Tests of the store as a whole.

mod model;
pub(super) mod rig;
mod rules;

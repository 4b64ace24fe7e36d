//! Tests of the hub, over a history that is a list.

mod properties;
mod rules;
mod world;

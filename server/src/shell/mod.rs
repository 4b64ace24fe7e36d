//! The threads of one node, and the loop that feeds events in and carries effects out.
#![allow(dead_code)]
mod door;
pub(crate) use door::Door;

//! The raftkv server: deterministic parts ([`log`], [`store`], [`replica`]) and the shell around them.

pub mod disk;
pub mod log;
pub mod membership;
pub mod replica;
pub mod store;

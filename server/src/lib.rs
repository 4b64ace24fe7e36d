//! The raftkv server: deterministic parts ([`log`], [`store`], [`replica`]) and the shell around them.

pub mod config;
pub mod disk;
#[allow(dead_code, unused_imports)]
mod http;
pub mod log;
pub mod membership;
pub mod replica;
mod shell;
pub mod store;

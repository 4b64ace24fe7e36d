//! The raftkv server: deterministic parts ([`log`], [`store`], [`replica`]) and the shell around them.

// They panic when nobody reads; `complain` and `tell` do not.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

pub mod cold_files;
pub mod config;
pub mod disk;
mod http;
pub mod log;
pub mod membership;
mod metrics;
mod native;
pub mod recovery;
pub mod replica;
mod shell;
pub mod store;
mod transport;
pub mod watch;

pub use shell::{
    Listeners, Server, ServerError, ServerHandle, complain, end_process_on_panic, init_logging, run,
    run_command, run_flags,
};

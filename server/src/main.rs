//! The server program: reads the command line, runs, and turns the outcome into an exit status.

use std::process::ExitCode;

use raftkv_server::config::{self, Config, Flags};
use raftkv_server::{ServerError, complain, end_process_on_panic, init_logging, run_command, run_flags};
use tikv_jemallocator::Jemalloc;

/// Threads give back what others have allocated, a generation of the overlay at a time: this allocator gives it back to the system,
/// at no more CPU than others (`bench/README.md`).
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

const USAGE: u8 = 2;

fn main() -> ExitCode {
    end_process_on_panic();
    let flags = config::parse(std::env::args_os()).unwrap_or_else(|error| error.exit());
    init_logging(&flags.log);
    match start(&flags) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            complain(format_args!("server: {error}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            complain(format_args!("server: {error}\nTry: server --help"));
            ExitCode::from(USAGE)
        }
    }
}

fn start(flags: &Flags) -> Result<Result<(), ServerError>, config::ConfigError> {
    if let Some(command) = &flags.command {
        return Ok(run_command(command, flags));
    }
    let config = Config::from_flags(flags)?;
    Ok(run_flags(flags, &config))
}

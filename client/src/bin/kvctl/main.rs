//! `kvctl`: the command line of raftkv.

mod arguments;
mod certificate;
mod completions;
mod delete;
mod each;
mod elect;
mod escape;
mod export;
mod get;
mod guard;
mod import;
mod increment;
mod lease;
mod lock;
mod member;
mod outcome;
mod output;
mod running;
mod scrub;
mod set;
mod span;
mod status;
mod table;
mod txn;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use raftkv_client::command_line::double_dashes;

use crate::arguments::{Arguments, Command};
use crate::outcome::{Outcome, Trouble};

fn main() -> ExitCode {
    let arguments = Arguments::parse_from(double_dashes(Arguments::command(), std::env::args_os()));
    let outcome = run(&arguments);
    if let Err(trouble) = &outcome {
        eprintln!("kvctl: {trouble}");
    }
    outcome::exit_code(&outcome)
}

fn run(arguments: &Arguments) -> Result<Outcome, Trouble> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Trouble::Runtime)?;
    let options = &arguments.options;
    match &arguments.command {
        Command::Get(get) => runtime.block_on(get.run(options)),
        Command::Set(set) => runtime.block_on(set.run(options)),
        Command::Delete(delete) => runtime.block_on(delete.run(options)),
        Command::Member(member) => runtime.block_on(member.run(options)),
        Command::Scrub(scrub) => runtime.block_on(scrub.run(options)),
        Command::Status(status) => runtime.block_on(status.run(options)),
        Command::Watch(watch) => runtime.block_on(watch.run(options)),
        Command::Increment(increment) => runtime.block_on(increment.run(options)),
        Command::Txn(txn) => runtime.block_on(txn.run(options)),
        Command::Lease(lease) => runtime.block_on(lease.run(options)),
        Command::Lock(lock) => runtime.block_on(lock.run(options)),
        Command::Elect(elect) => runtime.block_on(elect.run(options)),
        Command::Export(export) => runtime.block_on(export.run(options)),
        Command::Import(import) => runtime.block_on(import.run(options)),
        Command::Certificate(certificate) => certificate.run(options),
        Command::Completions(completions) => completions.run(),
    }
}

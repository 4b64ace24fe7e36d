//! `kvctl`: the command line of raftkv.

mod arguments;
mod completions;
mod delete;
mod get;
mod member;
mod outcome;
mod output;
mod set;
mod span;
mod status;
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
        Command::Status(status) => runtime.block_on(status.run(options)),
        Command::Watch(watch) => runtime.block_on(watch.run(options)),
        Command::Completions(completions) => completions.run(),
    }
}

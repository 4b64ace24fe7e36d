//! `kvbench`: a load generator for raftkv, and for the stores it is compared with.
//!
//! One thread, one task per connection; each task drives many logical clients as a state machine, because a task and a
//! channel per operation would cost more than the operation, and the load shares the machine with the servers it measures.

mod amount;
mod arguments;
mod compare;
mod cpu;
mod distribution;
mod driver;
mod ledger;
mod load;
mod machine;
mod measured;
mod once;
mod operation;
mod pacer;
mod plot;
mod progress;
mod recorder;
mod report;
mod run;
mod schedule;
mod series;
mod settings;
mod target;
mod trouble;
mod watch;
mod work;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use raftkv_client::command_line::double_dashes;

use crate::arguments::{Arguments, CommandLine, Format};
use crate::compare::CompareArguments;
use crate::settings::WorkloadName;
use crate::trouble::Trouble;
use crate::watch::WatchArguments;

fn main() -> ExitCode {
    let line = double_dashes(CommandLine::command(), std::env::args_os());
    let outcome = match &CommandLine::parse_from(line) {
        CommandLine::Put(arguments) => benchmark(WorkloadName::Put, arguments),
        CommandLine::Get(arguments) => benchmark(WorkloadName::Get, arguments),
        CommandLine::Mixed(arguments) => benchmark(WorkloadName::Mixed, arguments),
        CommandLine::Cas(arguments) => benchmark(WorkloadName::Cas, arguments),
        CommandLine::Txn(arguments) => benchmark(WorkloadName::Txn, arguments),
        CommandLine::Lease(arguments) => benchmark(WorkloadName::Lease, arguments),
        CommandLine::Watch(arguments) => watch(arguments),
        CommandLine::Scan(arguments) => benchmark(WorkloadName::Scan, arguments),
        CommandLine::Compare(arguments) => compare(arguments),
    };
    outcome.unwrap_or_else(|trouble| {
        eprintln!("kvbench: {trouble}");
        trouble.exit_code()
    })
}

fn benchmark(workload: WorkloadName, arguments: &Arguments) -> Result<ExitCode, Trouble> {
    let report = on_one_thread(run::run(arguments.settings(workload)?))?;
    match arguments.output {
        Format::Text => print!("{}", report.text()),
        Format::Json => println!("{}", report.json()),
    }
    if let Some(path) = &arguments.report {
        report::write_file(path, &report.html().map_err(Trouble::Plot)?)?;
    }
    Ok(report.exit_code())
}

fn watch(arguments: &WatchArguments) -> Result<ExitCode, Trouble> {
    print!("{}", on_one_thread(watch::run(arguments))?);
    Ok(ExitCode::SUCCESS)
}

fn compare(arguments: &CompareArguments) -> Result<ExitCode, Trouble> {
    let comparison = on_one_thread(compare::run(arguments))?;
    print!("{}", comparison.markdown());
    if let Some(path) = &arguments.out {
        comparison.write(path)?;
    }
    Ok(comparison.exit_code())
}

fn on_one_thread<T>(work: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Trouble::Runtime)?;
    tokio::task::LocalSet::new().block_on(&runtime, work)
}

//! `kvbench`: a load generator for raftkv, and for the stores it is compared with.
//!
//! One thread, one task per connection; each task drives many logical clients as a state machine, because a task and a
//! channel per operation would cost more than the operation, and the load shares the machine with the servers it measures.

mod arguments;
mod cpu;
mod distribution;
mod driver;
mod ledger;
mod load;
mod machine;
mod measured;
mod once;
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
mod work;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use raftkv_client::command_line::double_dashes;

use crate::arguments::{Arguments, Format};
use crate::report::Report;
use crate::trouble::Trouble;

fn main() -> ExitCode {
    let arguments = Arguments::parse_from(double_dashes(Arguments::command(), std::env::args_os()));
    match benchmark(&arguments).and_then(|report| publish(&arguments, &report)) {
        Ok(exit_code) => exit_code,
        Err(trouble) => {
            eprintln!("kvbench: {trouble}");
            trouble.exit_code()
        }
    }
}

fn benchmark(arguments: &Arguments) -> Result<Report, Trouble> {
    let settings = arguments.settings()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Trouble::Runtime)?;
    tokio::task::LocalSet::new().block_on(&runtime, run::run(settings))
}

fn publish(arguments: &Arguments, report: &Report) -> Result<ExitCode, Trouble> {
    match arguments.output {
        Format::Text => print!("{}", report.text()),
        Format::Json => println!("{}", report.json()),
    }
    if let Some(path) = &arguments.report {
        let page = report.html().map_err(Trouble::Plot)?;
        std::fs::write(path, page).map_err(|source| Trouble::WriteFile {
            path: path.clone(),
            source,
        })?;
    }
    Ok(report.exit_code())
}

//! Stores side by side: each is started, loaded and stopped in turn, so that none works beside another.

mod arguments;
mod cell;
mod disk;
mod fail_over;
mod figures;
mod ports;
mod process;
mod store;
mod table;

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

pub(crate) use arguments::CompareArguments;
use arguments::Plan;
use cell::Cell;
use figures::{Figures, Outcome};
use store::{Running, StoreName};

use crate::machine::Machine;
use crate::run;
use crate::trouble::Trouble;

/// What came of it.
#[derive(Debug)]
pub(crate) struct Comparison {
    plan: Plan,
    machine: Machine,
    /// Per store of the plan: its version, and per cell of the plan what each round brought.
    results: Vec<StoreResults>,
}

#[derive(Debug)]
struct StoreResults {
    store: StoreName,
    version: String,
    cells: Vec<Figures>,
}

impl Comparison {
    pub(crate) fn exit_code(&self) -> ExitCode {
        let mut cells = self.results.iter().flat_map(|results| &results.cells);
        match cells.any(|figures| figures.failure().is_some()) {
            true => ExitCode::from(3),
            false => ExitCode::SUCCESS,
        }
    }
}

/// Runs within a `LocalSet`. However it ends, the stores are stopped and their files removed.
pub(crate) async fn run(arguments: &CompareArguments) -> Result<Comparison, Trouble> {
    let plan = arguments.plan()?;
    let stop = |kind| signal(kind).map_err(Trouble::Runtime);
    let (mut interrupt, mut terminate) = (stop(SignalKind::interrupt())?, stop(SignalKind::terminate())?);
    tokio::select! {
        outcome = rounds(plan) => outcome,
        _ = interrupt.recv() => Err(Trouble::Interrupted),
        _ = terminate.recv() => Err(Trouble::Interrupted),
    }
}

async fn rounds(plan: Plan) -> Result<Comparison, Trouble> {
    let mut results: Vec<StoreResults> = plan
        .stores
        .iter()
        .map(|binary| StoreResults {
            store: binary.store,
            version: String::new(),
            cells: vec![Figures::default(); plan.cells.len()],
        })
        .collect();
    // A whole round passes before a cell is measured again, so that a slow minute does not fall on one cell alone.
    for round in 1..=plan.rounds {
        for (binary, results) in plan.stores.iter().zip(&mut results) {
            eprintln!("round {round} of {}: {}", plan.rounds, binary.store);
            let mut running = Running::start(binary, &plan.directory).await?;
            results.version = run::run(cell::preload(&plan, &running)).await?.server_version;
            for (cell, figures) in plan.cells.iter().zip(&mut results.cells) {
                if cell.is_for(binary.store) {
                    eprintln!("    {cell}");
                    figures.add(measure(cell, &plan, &mut running).await);
                }
            }
        }
    }
    Ok(Comparison {
        plan,
        machine: Machine::here(),
        results,
    })
}

/// A cell that fails is a result too: the other cells go on.
async fn measure(cell: &Cell, plan: &Plan, running: &mut Running) -> Outcome {
    let outcome = match cell {
        Cell::FailOver { trials } => fail_over::gaps(running, *trials).await.map(Outcome::Gaps),
        Cell::Load(load) => {
            let report = run::run(load.settings(plan, running)).await;
            report.map(|report| Outcome::load(&report))
        }
    };
    outcome.unwrap_or_else(|trouble| {
        eprintln!("    failed: {trouble}");
        Outcome::Failed(trouble.to_string())
    })
}

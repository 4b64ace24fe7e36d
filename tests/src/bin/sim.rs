//! The simulator's command line: replays, searches, shrinks, and examines itself.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use raftkv_tests::simulation::{
    Options, Outcome, Scenario, marks, mutants, run, search, shrink, speed, sweep,
};

/// Seeds that CI runs, and `--marks` must reach every mark with.
const DEFAULT_SEEDS: u64 = 2_500;

/// Whole clusters in one thread, every failure replayable from its seed.
#[derive(Parser)]
#[command(name = "sim")]
#[command(group = clap::ArgGroup::new("what").required(true))]
struct Arguments {
    /// Run one seed.
    #[arg(long, group = "what")]
    seed: Option<u64>,
    /// Search these seeds: `A..B`.
    #[arg(long, group = "what", value_parser = seeds)]
    seeds: Option<std::ops::Range<u64>>,
    /// Replay a saved schedule.
    #[arg(long, group = "what", value_name = "FILE")]
    schedule: Option<PathBuf>,
    /// Look for every planted bug; succeeds only if all are found.
    #[arg(long, group = "what")]
    mutants: bool,
    /// Run the default seeds; fails if a situation that must occur never did.
    #[arg(long, group = "what")]
    marks: bool,
    /// Crash at every boundary of the scripted scenarios.
    #[arg(long, group = "what")]
    sweep: bool,
    /// Measure simulated time per CPU time.
    #[arg(long, group = "what")]
    speed: bool,
    /// Print what happens, a line per event, to standard output.
    #[arg(long)]
    trace: bool,
    /// Where to save the shrunk schedule of a failure.
    #[arg(long, value_name = "FILE")]
    save_schedule: Option<PathBuf>,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Switch this planted bug on.
    #[arg(long, value_name = "NAME")]
    mutant: Option<String>,
    /// Most seeds per planted bug.
    #[arg(long, default_value_t = mutants::MOST_SEEDS)]
    most_seeds: u64,
    /// Sweep every so many-th boundary.
    #[arg(long, default_value_t = 1)]
    stride: usize,
}

fn seeds(text: &str) -> Result<std::ops::Range<u64>, String> {
    let parse = |number: &str| {
        number
            .trim()
            .parse()
            .map_err(|error| format!("{number:?}: {error}"))
    };
    let (from, to) = text.split_once("..").ok_or("expected A..B, such as 0..1000")?;
    let range: std::ops::Range<u64> = parse(from)?..parse(to)?;
    (!range.is_empty())
        .then_some(range)
        .ok_or_else(|| "no seed lies between them".to_owned())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mutant = match &arguments.mutant {
        None => None,
        Some(name) => match mutants::known().into_iter().find(|(known, _)| known == name) {
            Some((known, _)) => Some(known),
            None => {
                eprintln!("no planted bug is called {name}; --mutants lists them");
                return ExitCode::from(2);
            }
        },
    };
    let is_fine = if let Some(seed) = arguments.seed {
        replay(&Scenario::from_seed(seed), &arguments, mutant)
    } else if let Some(file) = &arguments.schedule {
        match Scenario::load(file) {
            Ok(scenario) => replay(&scenario, &arguments, mutant),
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::from(2);
            }
        }
    } else if let Some(seeds) = arguments.seeds.clone() {
        search_seeds(seeds, &arguments, mutant)
    } else if arguments.mutants {
        hunt_all(&arguments)
    } else if arguments.marks {
        check_marks(&arguments)
    } else if arguments.sweep {
        sweep_all(&arguments, mutant)
    } else {
        measure_speed()
    };
    if is_fine {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn replay(scenario: &Scenario, arguments: &Arguments, mutant: Option<&'static str>) -> bool {
    let trace: Option<Box<dyn Write>> = arguments
        .trace
        .then(|| Box::new(BufWriter::new(std::io::stdout())) as Box<dyn Write>);
    if arguments.trace {
        println!("{:#?}", scenario.plan);
    }
    let outcome = run(scenario, Options { mutant, trace });
    println!("seed {}: {:?}", scenario.plan.seed, outcome.statistics);
    println!("trace hash {:016x}", outcome.trace_hash);
    for violation in &outcome.violations {
        println!("{violation}");
    }
    if !outcome.violations.is_empty() {
        save_shrunk(scenario, arguments, mutant);
    }
    outcome.violations.is_empty()
}

fn save_shrunk(scenario: &Scenario, arguments: &Arguments, mutant: Option<&'static str>) {
    let Some(file) = &arguments.save_schedule else {
        return;
    };
    let smallest = shrink(scenario, mutant, 1_000);
    let steps = (smallest.steps.len(), scenario.steps.len());
    match smallest.save(file) {
        Ok(()) => println!(
            "shrunk from {} to {} steps, saved as {}",
            steps.1,
            steps.0,
            file.display()
        ),
        Err(error) => eprintln!("{error}"),
    }
}

fn search_seeds(seeds: std::ops::Range<u64>, arguments: &Arguments, mutant: Option<&'static str>) -> bool {
    let bar = progress(seeds.end - seeds.start);
    let found = search(seeds, arguments.jobs, 10, mutant, &|outcome| {
        bar.inc(1);
        if !outcome.violations.is_empty() {
            bar.set_message("failures found");
        }
    });
    bar.finish_and_clear();
    summarize(&found);
    for (seed, outcome) in &found.failures {
        report_failure(*seed, outcome);
    }
    if let Some((seed, _)) = found.failures.first() {
        save_shrunk(&Scenario::from_seed(*seed), arguments, mutant);
    }
    found.failures.is_empty()
}

fn summarize(found: &raftkv_tests::simulation::Found) {
    let total = &found.total;
    println!(
        "{} runs, {:.1} simulated hours in {:.0} CPU seconds; {} elections, {} entries decided",
        found.runs,
        total.simulated_us as f64 / 3.6e9,
        found.cpu_seconds,
        total.elections,
        total.entries,
    );
    println!(
        "operations: {} answered, {} refused without effect, {} of unknown outcome; {} runs lost their majority; {} failing seeds",
        total.answered,
        total.failed,
        total.unknown,
        total.quorums_lost,
        found.failures.len()
    );
}

fn report_failure(seed: u64, outcome: &Outcome) {
    for violation in &outcome.violations {
        println!("seed {seed}: {violation}");
    }
    println!("  replay: cargo run --release -p raftkv-tests --bin sim -- --seed {seed} --trace");
}

fn hunt_all(arguments: &Arguments) -> bool {
    let all = mutants::all();
    println!("{:<48} {:>6} {:>8}  invariant", "planted bug", "seeds", "CPU s");
    let mut found = 0;
    for (name, what) in &all {
        match mutants::hunt(name, arguments.most_seeds, arguments.jobs) {
            Ok(kill) => {
                found += 1;
                println!(
                    "{name:<48} {:>6} {:>8.2}  {} (seed {})",
                    kill.seeds, kill.cpu_seconds, kill.invariant, kill.seed
                );
            }
            Err(cpu) => println!(
                "{name:<48} {:>6} {cpu:>8.2}  NOT FOUND: {what}",
                arguments.most_seeds
            ),
        }
    }
    for (name, test, why) in mutants::ELSEWHERE {
        println!("{name:<48} found by {test}: {why}");
    }
    println!("mutants: {found} of {} found", all.len());
    found == all.len()
}

fn check_marks(arguments: &Arguments) -> bool {
    let bar = progress(DEFAULT_SEEDS);
    let found = search(0..DEFAULT_SEEDS, arguments.jobs, 10, None, &|_| bar.inc(1));
    bar.finish_and_clear();
    summarize(&found);
    for (seed, outcome) in &found.failures {
        report_failure(*seed, outcome);
    }
    for (mark, count) in &found.marks {
        println!("{count:>12}  {mark}");
    }
    let missing = marks::missing(&found.marks);
    for mark in &missing {
        println!("       NEVER  {mark}");
    }
    println!(
        "marks: {} of {} reached",
        marks::all().len() - missing.len(),
        marks::all().len()
    );
    missing.is_empty() && found.failures.is_empty()
}

fn sweep_all(arguments: &Arguments, mutant: Option<&'static str>) -> bool {
    let mut is_fine = true;
    for sweep in sweep::all() {
        let name = sweep.name;
        match sweep.run(arguments.stride, mutant) {
            Ok(crossed) => println!(
                "{name}: crashed at {} effects and in {} calls to disks, nothing broken",
                crossed.effects, crossed.disk_calls
            ),
            Err(failure) => {
                is_fine = false;
                println!("{name}: {:?}", failure.scenario.plan.crash_point);
                println!("  {}", failure.what);
                save_shrunk(&failure.scenario, arguments, mutant);
            }
        }
    }
    is_fine
}

fn measure_speed() -> bool {
    match speed::measure(1_200) {
        Ok(measured) => {
            println!("{measured:?}");
            println!(
                "{:.1} simulated hours per CPU minute",
                measured.hours_per_minute()
            );
            true
        }
        Err(violations) => {
            violations.iter().for_each(|violation| println!("{violation}"));
            false
        }
    }
}

fn progress(length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} runs, {elapsed} gone, {eta} to go {msg}");
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

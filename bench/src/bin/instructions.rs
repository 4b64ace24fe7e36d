//! Repeats one operation, for a program that counts what it costs: `instructions NAME COUNT`. See `instructions.sh`.

use std::process::ExitCode;

use raftkv_bench::COUNTED;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (name, count) = match arguments.as_slice() {
        [name, count] => (name.as_str(), count.parse::<u64>().ok()),
        _ => ("", None),
    };
    let make = COUNTED.iter().find(|(known, _)| *known == name);
    let (Some((_, make)), Some(count)) = (make, count) else {
        let names: Vec<&str> = COUNTED.iter().map(|(name, _)| *name).collect();
        eprintln!(
            "usage: instructions NAME COUNT, where NAME is one of {}",
            names.join(", ")
        );
        return ExitCode::from(2);
    };
    let mut operation = make();
    for _ in 0..count {
        operation();
    }
    ExitCode::SUCCESS
}

//! The log keeps what it synced, and says what it lost.

mod basics;
mod crashes;
mod damage;
mod format;
mod model;
mod threaded;

/// The lists of marks and planted bugs say what the sources hold, no more and no less.
#[cfg(feature = "simulation")]
#[test]
fn the_lists_for_the_simulator_are_complete() {
    use super::simulation::{MARKS, MUTANTS};
    use std::collections::BTreeSet;
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/log");
    let mut used = [BTreeSet::new(), BTreeSet::new()];
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.is_dir() || path.ends_with("simulation.rs") {
            continue;
        }
        let text = std::fs::read_to_string(path).unwrap();
        for (hook, used) in ["mutant(\"", "mark(\""].iter().zip(&mut used) {
            let names = text.split(hook).skip(1).filter_map(|rest| rest.split('"').next());
            used.extend(names.map(str::to_owned));
        }
    }
    let mutants: BTreeSet<String> = MUTANTS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let marks: BTreeSet<String> = MARKS.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(used, [mutants, marks]);
}

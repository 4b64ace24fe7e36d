//! History knows every key at every kept revision, whatever happens.

mod basics;
mod figures;
mod format;
mod layers;
mod lives;
mod world;

use std::path::{Path, PathBuf};

fn sources() -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/history");
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path());
    files
        .filter(|path| !path.is_dir())
        .map(|path| (path.clone(), std::fs::read_to_string(path).unwrap()))
        .collect()
}

/// No threads, clocks, files of its own, or orders that differ between runs.
#[test]
fn history_is_deterministic() {
    for (path, text) in sources() {
        for refused in [
            "HashMap",
            "HashSet",
            "std::fs",
            "std::net",
            "std::thread",
            "Instant",
            "SystemTime",
            "fastrand",
        ] {
            assert!(!text.contains(refused), "{} uses {refused}", path.display());
        }
    }
}

/// The lists of marks and planted bugs say what the sources hold, no more and no less.
#[cfg(feature = "simulation")]
#[test]
fn the_lists_for_the_simulator_are_complete() {
    use super::simulation::{MARKS, MUTANTS};
    use std::collections::BTreeSet;
    let mut used = [BTreeSet::new(), BTreeSet::new()];
    for (path, text) in sources() {
        if path.ends_with("simulation.rs") {
            continue;
        }
        for (hook, used) in ["mutant(\"", "mark(\""].iter().zip(&mut used) {
            let names = text.split(hook).skip(1).filter_map(|rest| rest.split('"').next());
            used.extend(names.map(str::to_owned));
        }
    }
    let mutants: BTreeSet<String> = MUTANTS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let marks: BTreeSet<String> = MARKS.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(used, [mutants, marks]);
}

//! What must stay true of the crate's own text: its dependencies, its sizes, and the names of the simulator's hooks.

#![allow(
    clippy::disallowed_methods,
    reason = "the test reads files; the core does not"
)]

use std::path::{Path, PathBuf};

/// A pure core needs bytes, a seedable generator and a derive for errors; what does I/O can not come in unseen.
#[test]
fn the_core_depends_on_three_small_crates_at_most() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let manifest = std::fs::read_to_string(manifest).expect("the manifest");
    let dependencies: Vec<&str> = manifest
        .lines()
        .skip_while(|line| *line != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split(['.', ' ', '=']).next().filter(|name| !name.is_empty()))
        .collect();
    let allowed = ["bytes", "fastrand", "thiserror"];
    let surplus: Vec<&&str> = dependencies
        .iter()
        .filter(|name| !allowed.contains(name))
        .collect();
    assert!(surplus.is_empty(), "not allowed in the core: {surplus:?}");
    assert!(!dependencies.is_empty(), "the list was found");
}

fn find_sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the crate") {
        let path = entry.expect("a folder entry").path();
        if path.is_dir() {
            find_sources(&path, found);
        } else {
            found.push(path);
        }
    }
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut paths = Vec::new();
    find_sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut paths);
    paths.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a source file");
        (path, text)
    };
    paths.into_iter().map(read).collect()
}

/// Long files become the system: a file is split while it is small.
#[test]
fn no_source_file_is_longer_than_500_lines() {
    for (path, text) in sources() {
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let lines = code.lines().count();
        assert!(lines <= 500, "{} has {lines} lines", path.display());
    }
}

/// A mutant that is planted and not listed never runs; one that is listed and planted nowhere tests nothing.
#[test]
#[cfg(feature = "simulation")]
fn hooks_are_listed_and_used() {
    use raftkv_raft::simulation::{MARKS, MUTANTS};
    use std::collections::BTreeSet;
    let planted = sources()
        .into_iter()
        .filter(|(path, _)| !path.ends_with("simulation.rs"));
    let text: String = planted.map(|(_, text)| text).collect();
    let used = |hook: &str| -> BTreeSet<String> {
        let calls = text.split(hook).skip(1);
        calls
            .filter_map(|rest| rest.split('"').next())
            .map(str::to_owned)
            .collect()
    };
    let listed: BTreeSet<String> = MUTANTS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(used("mutant(\""), listed);
    for mark in MARKS {
        assert!(
            text.contains(&format!("\"{mark}\"")),
            "{mark} is listed and marked nowhere"
        );
    }
    for mark in used("mark(\"") {
        assert!(MARKS.contains(&mark.as_str()), "{mark} is marked and not listed");
    }
}

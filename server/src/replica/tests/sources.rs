//! The deterministic parts name nothing that reaches the world: this reads their sources.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::replica::planted::{MARKS, MUTANTS};
use crate::watch;

/// All Rust files below `folder`, its tests excluded: those may build temporary directories.
fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let is_test = path.file_stem().is_some_and(|stem| stem == "tests");
        if path.is_dir() && !is_test {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test {
            into.push(path);
        }
    }
}

/// The product's part of a file: comments, and a test module at its foot, may name anything.
fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .take_while(|line| *line != "mod tests {")
        .filter(|line| !line.trim_start().starts_with("//"))
}

fn files_of(folder: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    sources(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(folder),
        &mut files,
    );
    assert!(!files.is_empty(), "src/{folder} holds sources");
    files
}

fn offences(folder: &str, banned: &[&str]) -> Vec<String> {
    let mut offences = Vec::new();
    for file in files_of(folder) {
        let text = std::fs::read_to_string(&file).unwrap();
        for line in code_lines(&text) {
            for word in banned.iter().filter(|word| line.contains(**word)) {
                offences.push(format!("{}: {word}: {}", file.display(), line.trim()));
            }
        }
    }
    offences
}

const WORLD: [&str; 9] = [
    "tokio",
    "Instant",
    "SystemTime",
    "std::fs",
    "std::net",
    "thread::",
    "getrandom",
    "RandomState",
    "fastrand::u64",
];

#[test]
fn store_and_replica_reach_no_clock_no_disk_no_network_and_no_hash_order() {
    let mut banned = WORLD.to_vec();
    banned.extend(["HashMap", "HashSet"]);
    assert_eq!(offences("replica", &banned), Vec::<String>::new());
    assert_eq!(offences("watch", &banned), Vec::<String>::new());
    // The engine's library keeps its own files: they are read, and what it leaves behind removed, where they lie. The store
    // itself knows the engine by its trait, and the simulator puts the twin in its place.
    let (engine, others): (Vec<_>, Vec<_>) = offences("store", &banned)
        .into_iter()
        .partition(|offence| offence.contains("/base/lsm/") && offence.contains(".rs: std::fs"));
    assert_eq!(others, Vec::<String>::new());
    assert!(!engine.is_empty(), "the exception is not needed any more");
}

#[test]
fn log_reaches_no_clock_no_network_and_no_file_but_through_its_disk() {
    // The log's thread is a shell around the log, kept beside it: it may have threads, and nothing else of the world.
    let (writer, others): (Vec<_>, Vec<_>) = offences("log", &WORLD)
        .into_iter()
        .partition(|offence| offence.contains("/log/writer.rs: thread::"));
    assert_eq!(others, Vec::<String>::new());
    assert!(!writer.is_empty(), "the exception is not needed any more");
}

/// The first arguments of all calls of `function` in these folders.
fn named_in_calls(function: &str, folders: &[&str]) -> BTreeSet<String> {
    let call = format!("{function}(");
    let mut names = BTreeSet::new();
    let files = folders.iter().copied().flat_map(files_of);
    // History has lists of its own.
    for file in files.filter(|file| !file.components().any(|part| part.as_os_str() == "history")) {
        let text = std::fs::read_to_string(&file).unwrap();
        let calls = text.split(&call).skip(1);
        let arguments = calls.filter_map(|rest| rest.trim_start().strip_prefix('"'));
        names.extend(
            arguments
                .filter_map(|rest| rest.split('"').next())
                .map(str::to_owned),
        );
    }
    names
}

#[test]
fn planted_bugs_and_marks_are_listed_and_the_lists_are_true() {
    let listed = |names: &mut dyn Iterator<Item = &str>| names.map(str::to_owned).collect::<BTreeSet<_>>();
    let store_and_replica = ["store", "replica"];
    assert_eq!(
        named_in_calls("mutant", &store_and_replica),
        listed(&mut MUTANTS.iter().map(|(name, _)| *name))
    );
    assert_eq!(
        named_in_calls("mark", &store_and_replica),
        listed(&mut MARKS.iter().copied())
    );
    assert_eq!(
        named_in_calls("mutant", &["watch"]),
        listed(&mut watch::MUTANTS.iter().map(|(name, _)| *name))
    );
    assert_eq!(
        named_in_calls("mark", &["watch"]),
        listed(&mut watch::MARKS.iter().copied())
    );
}

#[test]
fn the_guard_sees_what_it_forbids() {
    let text = "use std::fs;\n// tokio in a comment\nmod tests {\nuse std::net;";
    assert_eq!(code_lines(text).collect::<Vec<_>>(), ["use std::fs;"]);
}

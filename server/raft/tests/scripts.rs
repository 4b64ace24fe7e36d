//! Runs the scenarios in `tests/scripts/`. `UPDATE=1 cargo test -p raftkv-raft --test scripts` rewrites what they
//! expect; the difference is then to be read.
//!
//! A script opens with what it shows and why; each line that starts with `>` is a command, and the lines below it, to the
//! next blank line, are what it prints.
//!
//! | command | meaning |
//! |---|---|
//! | `config KEY=N..` | settings, before any node |
//! | `voters N..` / `learners N..` / `outgoing N..` | the founding configuration, before any node |
//! | `node N log=T,T.. term=T vote=N commit=I` | starts a node whose disk holds these terms after the founding entry |
//! | `nodes N..` | starts new nodes |
//! | `elect N` | `timeout N`, and then `settle` |
//! | `timeout N` | time passes until N's deadline, and only N's timer fires |
//! | `run MS` | time passes, and everything moves |
//! | `settle` | everything moves until nothing does; no time passes |
//! | `deliver [A B]` | what is under way (from A to B) arrives |
//! | `drop [A B]` / `duplicate A B` / `reverse A B` | what is under way is lost, doubled, turned round |
//! | `hold A B` / `release A B` | messages from A to B stay under way while the rest settles |
//! | `persist N` | N's disk finishes its oldest write |
//! | `stall N` / `resume N` | N's disk finishes nothing while the rest settles |
//! | `cut A B` / `isolate N` / `heal` | links lose everything |
//! | `propose N TEXT..` / `read N` | a client asks |
//! | `restart N` | N crashes, and starts from what is durable |
//! | `change N VOTERS.. / LEARNERS..` | an operator asks N to change the group |
//! | `keep-joint` | nobody proposes to leave a joint configuration; before any node |
//! | `transfer N M` | an operator asks N to hand over to M |
//! | `compact N KEEP` | N's log is cut after a snapshot, but for the last KEEP applied entries |
//! | `hold-snapshots` / `release-snapshots` | snapshots stay under way while the rest settles |
//! | `lose-snapshots` / `duplicate-snapshots` | those under way fail, or arrive twice |
//! | `reset N PEER` | N's connection to PEER is reset |
//! | `status` | what every node is |

#![allow(
    clippy::disallowed_methods,
    reason = "the test reads files; the core does not"
)]

mod harness;

use std::fmt::Write as _;
use std::path::Path;

use harness::script::Script;

fn run_script(path: &Path) {
    let text = std::fs::read_to_string(path).expect("a script");
    let mut script = Script::new();
    let mut actual = String::new();
    let mut is_output = false;
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            writeln!(actual, "{line}").expect("a string takes all");
            actual.push_str(&script.execute(command));
            is_output = true;
        } else if line.is_empty() || line.starts_with('#') {
            is_output = false;
            writeln!(actual, "{line}").expect("a string takes all");
        } else {
            assert!(
                is_output,
                "{}: neither command, comment nor output: {line}",
                path.display()
            );
        }
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, actual).expect("the script is rewritten");
    } else {
        let differs = text
            .lines()
            .zip(actual.lines())
            .find(|(expected, actual)| expected != actual);
        assert!(
            text == actual,
            "{} prints something else, first {differs:?}; all of it:\n{actual}",
            path.display()
        );
    }
}

#[test]
fn scripts_print_what_they_expect() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let entries = std::fs::read_dir(folder).expect("the folder of scripts");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("a folder entry").path())
        .collect();
    paths.sort();
    assert!(paths.len() >= 20, "the scenarios are there: {}", paths.len());
    for path in paths {
        run_script(&path);
    }
}

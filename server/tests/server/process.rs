//! The program itself: what it says, and with which status it ends.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Output, Stdio};

fn server(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_server"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn ended(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = server(arguments).output().expect("runs");
    (status.code(), String::from_utf8(stderr).expect("text"))
}

/// Waits for a line of the log.
fn wait_for_line(child: &mut Child, text: &str) {
    let log = child.stderr.as_mut().expect("piped");
    let found = BufReader::new(log)
        .lines()
        .map_while(Result::ok)
        .any(|line| line.contains(text));
    assert!(found, "the log ended without {text:?}");
}

#[test]
fn a_wrong_command_line_is_one_sentence_and_status_2() {
    for (arguments, expected) in [
        (&["--http", ":0"][..], "--id is missing"),
        (&["-id", "alpha"][..], "add --listen"),
        (&["-id", "node1", "-peers", "beta"][..], "write beta=HOST:PORT"),
        (&["-id", "node1", "-http", "nonsense"][..], "HOST:PORT"),
        (&["-id", "node1", "--no-such-flag"][..], "--no-such-flag"),
    ] {
        let (code, said) = ended(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}

#[test]
fn help_has_examples_and_ends_well() {
    let output = server(&["-help"]).output().expect("runs");
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8(output.stdout).expect("text");
    assert!(
        help.contains("server --id node1 --http :8080 --peers node2,node3"),
        "{help}"
    );
}

#[test]
fn a_taken_port_is_one_sentence_and_status_1() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = taken.local_addr().expect("bound").to_string();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().to_str().expect("text");
    let (code, said) = ended(&["-id", "n1", "-listen", &address, "-data-dir", dir]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&address) && said.contains("--listen"), "{said}");
}

#[test]
fn a_locked_directory_is_one_sentence_and_status_1() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().to_str().expect("text");
    let arguments = ["-id", "n1", "-listen", "127.0.0.1:0", "-data-dir", dir];
    let mut first = server(&arguments).stderr(Stdio::piped()).spawn().expect("runs");
    wait_for_line(&mut first, "leads");
    let (code, said) = ended(&arguments);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(dir), "{said}");
    first.kill().expect("was running");
    first.wait().expect("ends");
}

#[test]
fn the_end_of_its_input_stops_a_child_gracefully() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().to_str().expect("text");
    let arguments = [
        "-id",
        "n1",
        "-listen",
        "127.0.0.1:0",
        "-data-dir",
        dir,
        "--stop-with-input",
    ];
    let mut child = server(&arguments)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("runs");
    wait_for_line(&mut child, "leads");
    drop(child.stdin.take());
    assert_eq!(child.wait().expect("ends").code(), Some(0));
}

#[test]
fn sigterm_stops_gracefully_with_status_0() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().to_str().expect("text");
    let arguments = ["-id", "n1", "-listen", "127.0.0.1:0", "-data-dir", dir];
    let mut child = server(&arguments).stderr(Stdio::piped()).spawn().expect("runs");
    wait_for_line(&mut child, "leads");
    terminate(&child);
    assert_eq!(child.wait().expect("ends").code(), Some(0));
}

fn terminate(child: &Child) {
    let killed = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status()
        .expect("kill runs");
    assert!(killed.success());
}

#[test]
fn a_log_that_nobody_reads_any_more_stops_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().to_str().expect("text");
    for format in ["text", "json"] {
        let arguments = ["-id", "n1", "-listen", "127.0.0.1:0", "-data-dir", dir];
        let mut child = server(&arguments)
            .args(["-log-format", format])
            .stderr(Stdio::piped())
            .spawn()
            .expect("runs");
        wait_for_line(&mut child, "leads");
        drop(child.stderr.take());
        // From here on it logs into a pipe without a reader: that it stops, and that it has stopped.
        terminate(&child);
        assert_eq!(child.wait().expect("ends").code(), Some(0), "{format}");
    }
}

const PANICS: &str = "RAFTKV_TEST_PANICS";

/// What `main` sets up, in a process of its own: the server has no panic that could be asked for from outside.
#[test]
fn a_panic_of_any_thread_ends_the_process() {
    if std::env::var_os(PANICS).is_some() {
        raftkv_server::end_process_on_panic();
        let panicked = std::thread::spawn(|| panic!("a planted panic")).join();
        // Reached only where a panic ends its thread alone.
        std::process::exit(i32::from(panicked.is_ok()));
    }
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args([
            "--exact",
            "process::a_panic_of_any_thread_ends_the_process",
            "--nocapture",
        ])
        .env(PANICS, "1")
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.signal().is_some(), "{}: {said}", output.status);
    assert!(
        said.contains("a planted panic") && said.contains("start it again"),
        "{said}"
    );
}

//! A server process that ends with its owner.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::trouble::Trouble;

/// Lines of output that are shown of a server that failed.
const SHOWN_LINES: usize = 20;

/// How a server is started, as often as it takes.
#[derive(Clone, Debug)]
pub(super) struct Start {
    pub(super) name: String,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    /// Where its output goes.
    pub(super) log: PathBuf,
}

/// A running server; killed when dropped.
#[derive(Debug)]
pub(super) struct Process {
    start: Start,
    child: Child,
}

impl Process {
    pub(super) fn start(start: Start) -> Result<Process, Trouble> {
        let child = open(&start.log).and_then(|(out, err)| {
            Command::new(&start.program)
                .args(&start.arguments)
                .stdin(Stdio::null())
                .stdout(out)
                .stderr(err)
                .spawn()
        });
        let child = child.map_err(|source| Trouble::Prepare {
            what: start.name.clone(),
            source,
        })?;
        Ok(Process { start, child })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// kill -9, and gone on return.
    pub(super) fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it anew, in the place of one that was killed.
    pub(super) fn restart(&mut self) -> Result<(), Trouble> {
        self.kill();
        *self = Process::start(self.start.clone())?;
        Ok(())
    }

    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// That it can not be used, with its last words.
    pub(super) fn not_ready(&self) -> Trouble {
        Trouble::NotReady {
            name: self.start.name.clone(),
            output: last_lines(&self.start.log),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn open(log: &Path) -> io::Result<(File, File)> {
    let file = OpenOptions::new().create(true).append(true).open(log)?;
    Ok((file.try_clone()?, file))
}

fn last_lines(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(directory: &Path, script: &str) -> Start {
        Start {
            name: "shell".to_owned(),
            program: "sh".into(),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            log: directory.join("shell.log"),
        }
    }

    #[test]
    fn a_process_is_gone_with_its_owner() {
        let directory = tempfile::tempdir().expect("a directory");
        let process = Process::start(start(directory.path(), "sleep 100")).expect("there is a shell");
        let path = PathBuf::from(format!("/proc/{}", process.id()));
        drop(process);
        assert!(!path.exists());
    }

    #[test]
    fn one_that_ended_is_quoted() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut process =
            Process::start(start(directory.path(), "echo no such flag; exit 1")).expect("a shell");
        while !process.has_ended() {
            std::thread::yield_now();
        }
        assert!(process.not_ready().to_string().ends_with("no such flag"));
    }
}

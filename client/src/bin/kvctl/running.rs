//! A command that runs while a lock is held, and no longer.

use std::io::{self, IsTerminal};
use std::process::ExitStatus;
use std::time::Duration;

use raftkv_client::LockGuard;
use tokio::process::{Child, Command};

use crate::guard::{KEY_VARIABLE, TOKEN_VARIABLE};
use crate::outcome::Trouble;
use crate::output;
use crate::running::signals::{Asked, Signals};

pub(crate) mod signals;

/// How a command ended.
#[derive(Debug)]
pub(crate) enum End {
    /// By itself.
    Exited(ExitStatus),
    /// It was ended, because the lock was lost.
    LockLost,
}

/// Runs the command, with what it holds in its environment. `notice`: so long before the lock may be another one's it is asked
/// to end; what still runs then is killed.
pub(crate) async fn run_while_held(
    command: Command,
    guard: &LockGuard,
    notice: Duration,
    signals: &mut Signals,
) -> Result<End, Trouble> {
    let mut running = Running::start(command, guard)?;
    loop {
        tokio::select! {
            ended = running.child.wait() => return ended.map(End::Exited).map_err(Trouble::Runtime),
            () = guard.lost_within(notice) => break,
            asked = signals.next() => running.pass_on(asked),
        }
    }
    running.pass_on(Asked::Terminate);
    tokio::select! {
        _ended = running.child.wait() => {}
        () = guard.lost() => {}
    }
    // What it started may go on without it.
    running.pass_on(Asked::Kill);
    running.child.wait().await.map_err(Trouble::Runtime)?;
    Ok(End::LockLost)
}

struct Running {
    child: Child,
    /// Does it have a process group of its own, which signals reach as a whole? Not where a person sits before it: it could not
    /// read from the terminal then.
    has_group: bool,
    pid: Option<u32>,
}

impl Running {
    fn start(mut command: Command, guard: &LockGuard) -> Result<Running, Trouble> {
        let has_group = !io::stdin().is_terminal();
        let token = guard.token();
        command
            .env(KEY_VARIABLE, output::as_argument(token.key()))
            .env(TOKEN_VARIABLE, token.revision().to_string())
            .kill_on_drop(true);
        #[cfg(unix)]
        if has_group {
            command.process_group(0);
        }
        let child = command.spawn().map_err(|source| Trouble::Command {
            command: command.as_std().get_program().to_owned(),
            source,
        })?;
        let pid = child.id();
        Ok(Running {
            child,
            has_group,
            pid,
        })
    }

    /// A command that has just ended does not hear it.
    fn pass_on(&mut self, asked: Asked) {
        signals::send(self.pid, self.has_group, asked, &mut self.child);
    }
}

//! Signals, on systems that have them; elsewhere an interrupt ends the waiting, and a command is killed.

use std::io;

use tokio::process::Child;

/// What is asked of this program, or of the command that it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Interrupt,
    HangUp,
    Terminate,
    Kill,
}

#[cfg(unix)]
pub(crate) use unix::{Signals, send};

#[cfg(unix)]
mod unix {
    use rustix::process::{Pid, Signal, kill_process, kill_process_group};
    use tokio::signal::unix::{self, SignalKind};

    use super::{Asked, Child, io};

    /// Those that would end this program, which has to leave first.
    pub(crate) struct Signals {
        interrupt: unix::Signal,
        hang_up: unix::Signal,
        terminate: unix::Signal,
    }

    impl Signals {
        pub(crate) fn listen() -> io::Result<Signals> {
            Ok(Signals {
                interrupt: unix::signal(SignalKind::interrupt())?,
                hang_up: unix::signal(SignalKind::hangup())?,
                terminate: unix::signal(SignalKind::terminate())?,
            })
        }

        pub(crate) async fn next(&mut self) -> Asked {
            tokio::select! {
                _ = self.interrupt.recv() => Asked::Interrupt,
                _ = self.hang_up.recv() => Asked::HangUp,
                _ = self.terminate.recv() => Asked::Terminate,
            }
        }
    }

    /// Asks it of a child that was not waited for to its end, and of its group.
    pub(crate) fn send(pid: Option<u32>, has_group: bool, asked: Asked, child: &mut Child) {
        let signal = match asked {
            Asked::Interrupt => Signal::INT,
            Asked::HangUp => Signal::HUP,
            Asked::Terminate => Signal::TERM,
            Asked::Kill => Signal::KILL,
        };
        let Some(pid) = pid.and_then(|pid| Pid::from_raw(pid.cast_signed())) else {
            return;
        };
        // Who is gone already does not need it.
        let _ = match has_group {
            true => kill_process_group(pid, signal),
            // The terminal told the whole group of an interrupt.
            false if asked == Asked::Interrupt => Ok(()),
            false if child.id().is_some() => kill_process(pid, signal),
            false => Ok(()),
        };
    }
}

#[cfg(not(unix))]
pub(crate) use elsewhere::{Signals, send};

#[cfg(not(unix))]
mod elsewhere {
    use super::{Asked, Child, io};

    pub(crate) struct Signals;

    impl Signals {
        pub(crate) fn listen() -> io::Result<Signals> {
            Ok(Signals)
        }

        pub(crate) async fn next(&mut self) -> Asked {
            // One that can not be heard never comes.
            match tokio::signal::ctrl_c().await {
                Ok(()) => Asked::Interrupt,
                Err(_) => std::future::pending().await,
            }
        }
    }

    pub(crate) fn send(_pid: Option<u32>, _has_group: bool, _asked: Asked, child: &mut Child) {
        let _ = child.start_kill();
    }
}

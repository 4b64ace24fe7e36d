//! `kvctl lock`

use std::ffi::OsString;
use std::process::ExitStatus;
use std::time::Duration;

use clap::Args;
use raftkv_client::command_line::{ENDPOINTS_VARIABLE, parse_duration};
use raftkv_client::{Error, LockGuard};
use tokio::process::Command;

use crate::arguments::Options;
use crate::outcome::{Outcome, Trouble};
use crate::output;
use crate::running::signals::{Asked, Signals};
use crate::running::{End, run_while_held};

/// Asked to end this part of the time to live before the lock is lost, a command has time to clean up. Less than is left between
/// two renewals in normal times.
const NOTICE_PART: u32 = 4;

/// Holds a lock while a command runs, and passes on its exit code; those who wait come in the order in which they asked
///
/// The command finds RAFTKV_LOCK_KEY and RAFTKV_LOCK_TOKEN in its environment: the key that it holds the lock by, and the fencing
/// token, which grows from holder to holder. With --guarded its kvctl set, increment and txn are refused once the lock is lost.
/// When the lock can not be renewed in time, the command is asked to end (SIGTERM) and is killed before another one may hold the
/// lock; when somebody revokes its lease, it is killed at once. A command that goes on though this program was killed is not
/// ended by anybody: what it writes with --guarded is refused all the same. Interrupts and SIGTERM are passed on to the command.
/// Nothing of this program's own is printed on standard output.
#[derive(Args, Debug)]
pub(crate) struct Lock {
    /// The lock's name; its keys are NAME/ and the ids of leases
    pub(crate) name: OsString,
    /// How long the lock stays held when this program dies or can not reach the cluster
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "10s")]
    pub(crate) ttl: Duration,
    /// Waits no longer than this for it; else for ever
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) wait: Option<Duration>,
    /// Does not wait for it
    #[arg(long, conflicts_with = "wait")]
    pub(crate) no_wait: bool,
    /// The command, and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

impl Lock {
    pub(crate) async fn run(&self, options: &Options) -> Result<Outcome, Trouble> {
        let mut signals = Signals::listen().map_err(Trouble::Runtime)?;
        let guard = match self.acquire(options, &mut signals).await? {
            Ok(guard) => guard,
            Err(asked) => return Ok(Outcome::CommandEnded(code_of_signal(asked))),
        };
        let notice = self.ttl / NOTICE_PART;
        match run_while_held(self.command(options), &guard, notice, &mut signals).await {
            Ok(End::Exited(status)) => {
                if let Err(error) = guard.release().await {
                    eprintln!("kvctl: the lock is held until its time to live is over: {error}");
                }
                Ok(Outcome::CommandEnded(code(status)))
            }
            Ok(End::LockLost) => Err(Trouble::LockLost),
            Err(trouble) => {
                // What went wrong before is what there is to say.
                let _ = guard.release().await;
                Err(trouble)
            }
        }
    }

    /// It talks to the same servers, if it is kvctl.
    fn command(&self, options: &Options) -> Command {
        let (program, arguments) = self.command.split_first().expect("the command line asks for one");
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env(ENDPOINTS_VARIABLE, options.endpoints.join(","))
            .envs(options.tls.environment());
        command
    }

    /// The lock, or what this program was asked while it waited for it.
    async fn acquire(
        &self,
        options: &Options,
        signals: &mut Signals,
    ) -> Result<Result<LockGuard, Asked>, Trouble> {
        let client = match self.no_wait {
            true => options.client()?,
            false => options.lasting_client()?,
        };
        let owner = format!("pid {}", std::process::id());
        let lock = client
            .lock(output::argument_bytes(&self.name))
            .ttl(self.ttl)
            .owner(owner);
        if self.no_wait {
            let nobody_waits = Error::NotAcquired {
                after: Duration::ZERO,
            };
            return Ok(Ok(lock.try_acquire().await?.ok_or(nobody_waits)?));
        }
        let mut asked = None;
        let given_up = async {
            tokio::select! {
                heard = signals.next() => asked = Some(heard),
                () = patience(self.wait) => {}
            }
        };
        match (lock.acquire_unless(given_up).await?, asked) {
            (Some(guard), _) => Ok(Ok(guard)),
            (None, Some(asked)) => Ok(Err(asked)),
            (None, None) => {
                let after = self.wait.unwrap_or_default();
                Err(Error::NotAcquired { after }.into())
            }
        }
    }
}

async fn patience(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

/// As a shell tells how a program was ended by a signal.
fn code_of_signal(asked: Asked) -> u8 {
    match asked {
        Asked::HangUp => 129,
        Asked::Interrupt => 130,
        Asked::Kill => 137,
        Asked::Terminate => 143,
    }
}

fn code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| signal(status).map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

#[cfg(unix)]
fn signal(status: ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

#[cfg(not(unix))]
fn signal(_status: ExitStatus) -> Option<i32> {
    None
}

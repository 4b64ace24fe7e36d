//! The CPU time of processes, from /proc.

use std::io;
use std::time::{Duration, Instant};

use tokio::time::sleep_until;

use crate::trouble::Trouble;

/// Linux counts in hundredths of a second here, whatever its own tick.
const TICK: Duration = Duration::from_millis(10);

/// CPU time, in kernel and out of it, since the process began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CpuTime {
    /// Of all the servers together.
    pub(crate) servers: Duration,
    /// Of this process.
    pub(crate) client: Duration,
}

impl CpuTime {
    fn read(server_pids: &[u32]) -> Result<CpuTime, Trouble> {
        let mut servers = Duration::ZERO;
        for pid in server_pids {
            servers += of_process(*pid).map_err(|source| Trouble::Cpu { pid: *pid, source })?;
        }
        // Where there is no /proc, our own time is unknown, and nobody asked for it.
        let client = of_process(std::process::id()).unwrap_or_default();
        Ok(CpuTime { servers, client })
    }
}

/// What was spent from `begin` on, until `end`, or until `finished` if there is none.
pub(crate) struct Meter {
    begin: CpuTime,
    end: Option<CpuTime>,
    pids: Vec<u32>,
}

impl Meter {
    /// Looks at both times.
    pub(crate) async fn run(pids: Vec<u32>, begin: Instant, end: Option<Instant>) -> Result<Meter, Trouble> {
        // Said before the run, not after it.
        CpuTime::read(&pids)?;
        sleep_until(begin.into()).await;
        let mut meter = Meter {
            begin: CpuTime::read(&pids)?,
            end: None,
            pids,
        };
        if let Some(end) = end {
            sleep_until(end.into()).await;
            meter.end = Some(CpuTime::read(&meter.pids)?);
        }
        Ok(meter)
    }

    pub(crate) fn spent(self) -> Result<CpuTime, Trouble> {
        let end = self.end.map_or_else(|| CpuTime::read(&self.pids), Ok)?;
        Ok(CpuTime {
            servers: end.servers.saturating_sub(self.begin.servers),
            client: end.client.saturating_sub(self.begin.client),
        })
    }
}

/// The CPU time that a process has spent.
pub(crate) fn cpu_of(pid: u32) -> io::Result<Duration> {
    of_process(pid)
}

fn of_process(pid: u32) -> io::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    ticks(&stat)
        .and_then(|ticks| TICK.checked_mul(u32::try_from(ticks).ok()?))
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("/proc/{pid}/stat is not as expected"),
            )
        })
}

/// utime and stime: the 14th and 15th field. The second is the program's name in parentheses, which may itself hold spaces
/// and parentheses.
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_system_time_are_found_behind_any_program_name() {
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194304 100 0 0 0 17 25 0 0 20 0 1 0 100 0 0";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks("42 (short) S 1"), None);
        assert_eq!(ticks(""), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn our_own_time_can_be_read_and_that_of_nobody_can_not() {
        assert!(of_process(std::process::id()).is_ok());
        // Beyond the kernel's largest process id.
        assert!(of_process(u32::MAX).is_err());
    }
}

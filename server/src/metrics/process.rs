//! What the system knows of this process, under the names that monitoring expects of every process.

use std::fs;
use std::time::Duration;

/// What the system says; what it does not say is not told.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Process {
    pub(super) cpu: Duration,
    pub(super) resident_bytes: Option<u64>,
    pub(super) threads: Option<u64>,
    pub(super) open_files: Option<u64>,
    pub(super) most_open_files: Option<u64>,
    /// Seconds since 1970.
    pub(super) started_s: Option<f64>,
}

impl Process {
    /// As it is now.
    pub(super) fn look() -> Process {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        Process {
            cpu: cpu_time(),
            resident_bytes: field(&status, "VmRSS:").map(|kib| kib * 1024),
            threads: field(&status, "Threads:"),
            open_files: fs::read_dir("/proc/self/fd")
                .ok()
                .map(|files| files.count() as u64),
            most_open_files: limit.current,
            started_s: started_s(),
        }
    }
}

/// The kernel tells it in ticks since the machine began.
fn started_s() -> Option<f64> {
    let machine = fs::read_to_string("/proc/stat").ok()?;
    let process = fs::read_to_string("/proc/self/stat").ok()?;
    let began: u64 = field(&machine, "btime ")?;
    // Behind the program's name, which may hold anything, stand the third field and those that follow.
    let (_, fields) = process.rsplit_once(')')?;
    let ticks: u64 = fields.split_whitespace().nth(22 - 3)?.parse().ok()?;
    Some(began as f64 + ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// The number of the line that begins so.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn the_system_knows_this_process() {
        let before = Process::look();
        let kept: Vec<_> = (0..3)
            .map(|_| fs::File::open("/proc/self/status").expect("a file"))
            .collect();
        let mut sum = 0_u64;
        while Process::look().cpu < before.cpu + Duration::from_millis(10) {
            sum = (0..100_000).fold(sum, |sum, next| sum.wrapping_mul(31).wrapping_add(next));
        }
        let after = Process::look();
        assert!(
            after.resident_bytes.is_some_and(|bytes| bytes > 1 << 20),
            "{after:?}"
        );
        assert!(after.threads.is_some_and(|threads| threads >= 1));
        assert!(
            after
                .most_open_files
                .is_none_or(|most| most >= 3 + kept.len() as u64)
        );
        assert!(
            after.open_files.is_some_and(|open| open >= 3 + kept.len() as u64),
            "{sum}"
        );
        let age_s = SystemTime::UNIX_EPOCH.elapsed().expect("a clock").as_secs_f64()
            - after.started_s.expect("a start");
        assert!((-2.0..86_400.0).contains(&age_s), "{age_s}");
    }

    #[test]
    fn a_field_is_found_by_its_name() {
        let status = "Name:\tserver\nVmRSS:\t  1234 kB\nThreads:\t7\n";
        assert_eq!(field(status, "VmRSS:"), Some(1234));
        assert_eq!(field(status, "Threads:"), Some(7));
        assert_eq!(field(status, "VmSwap:"), None);
    }
}

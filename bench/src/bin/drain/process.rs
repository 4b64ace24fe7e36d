//! What the kernel says of this process.

use std::fs;
use std::time::{Duration, Instant};

/// Ticks of `/proc/self/stat` per second, fixed in Linux's interface.
const TICKS_PER_S: u64 = 100;
const PAGE_KIB: u64 = 4;

/// A moment; two of them make a measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    at: Instant,
    cpu: Duration,
    written_bytes: u64,
    machine_busy_ms: u64,
    machine_ms: u64,
}

/// What happened between two moments.
pub(crate) struct Spent {
    pub(crate) elapsed: Duration,
    /// Of this process.
    pub(crate) cpu: Duration,
    pub(crate) written_bytes: u64,
    /// The share of all CPUs that other processes took: above a few percent, latencies say little.
    pub(crate) foreign_percent: f64,
}

impl Moment {
    pub(crate) fn since(&self, before: &Moment) -> Spent {
        let cpu = self.cpu - before.cpu;
        let busy_ms = self.machine_busy_ms - before.machine_busy_ms;
        let foreign_ms = busy_ms.saturating_sub(cpu.as_millis() as u64);
        let all_ms = (self.machine_ms - before.machine_ms).max(1);
        Spent {
            elapsed: self.at - before.at,
            cpu,
            written_bytes: self.written_bytes - before.written_bytes,
            foreign_percent: foreign_ms as f64 * 100.0 / all_ms as f64,
        }
    }
}

/// The number after `name` in a file of lines "name: number".
fn field(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.trim_matches(|c: char| !c.is_ascii_digit()).parse().ok())
        .unwrap_or(0)
}

pub(crate) fn now() -> Moment {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The program's name, in parentheses, may hold spaces; user and system time are fields 14 and 15 of all.
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks = |at: usize| {
        fields
            .get(at)
            .and_then(|ticks| ticks.parse::<u64>().ok())
            .unwrap_or(0)
    };
    let (machine_busy_ms, machine_ms) = machine_cpu_ms();
    Moment {
        machine_busy_ms,
        machine_ms,
        at: Instant::now(),
        cpu: Duration::from_millis((ticks(11) + ticks(12)) * 1000 / TICKS_PER_S),
        written_bytes: field("/proc/self/io", "write_bytes:"),
    }
}

pub(crate) fn resident_mib() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * PAGE_KIB / 1024
}

pub(crate) fn peak_resident_mib() -> u64 {
    field("/proc/self/status", "VmHWM:") / 1024
}

/// CPU time of the whole machine in ms: in use, and in all.
fn machine_cpu_ms() -> (u64, u64) {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line
        .split_whitespace()
        .filter_map(|ticks| ticks.parse().ok())
        .collect();
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    // What comes after these eight is counted in them already.
    let all: u64 = ticks.iter().take(8).sum();
    ((all - idle) * 1000 / TICKS_PER_S, all * 1000 / TICKS_PER_S)
}

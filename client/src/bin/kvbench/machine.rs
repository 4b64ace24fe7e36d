//! On what it was measured.

use std::fmt;
use std::fs;

/// The machine that runs the load. Where there is no /proc, what is not known stays out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    /// That this process may use.
    pub(crate) cores: Option<usize>,
    pub(crate) cpu: Option<String>,
    pub(crate) kernel: Option<String>,
    pub(crate) memory_mib: Option<u64>,
}

impl Machine {
    pub(crate) fn here() -> Machine {
        let read = |path| fs::read_to_string(path).ok();
        Machine {
            cores: std::thread::available_parallelism().ok().map(usize::from),
            cpu: read("/proc/cpuinfo").and_then(|text| cpu_model(&text)),
            kernel: read("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()),
            memory_mib: read("/proc/meminfo").and_then(|text| memory_mib(&text)),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            self.cores.map(|cores| format!("{cores} cores")),
            self.cpu.clone(),
            self.memory_mib.map(|mib| format!("{mib} MiB of memory")),
            self.kernel.as_ref().map(|kernel| format!("kernel {kernel}")),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

fn cpu_model(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, model)| model.trim().to_owned())
}

fn memory_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_and_memory_are_found_in_what_linux_tells() {
        let cpuinfo = "processor\t: 0\nmodel\t\t: 1\nmodel name\t: AMD EPYC\nmodel name\t: other\n";
        assert_eq!(cpu_model(cpuinfo).as_deref(), Some("AMD EPYC"));
        assert_eq!(
            memory_mib("MemTotal:       24594412 kB\nMemFree: 1 kB\n"),
            Some(24_017)
        );
        assert_eq!((cpu_model(""), memory_mib("MemTotal: much")), (None, None));
    }

    #[test]
    fn what_is_not_known_stays_out() {
        let machine = Machine {
            cores: Some(2),
            cpu: None,
            kernel: Some("6.18".to_owned()),
            memory_mib: None,
        };
        assert_eq!(machine.to_string(), "2 cores, kernel 6.18");
    }
}

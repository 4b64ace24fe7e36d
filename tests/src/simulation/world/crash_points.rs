//! The boundaries that a crash-point sweep counts, and the one at which it crashes.

use super::machine::ArmedCrash;
use super::{Happening, World};
use crate::simulation::plan::{Boundary, CrashPoint};

/// Boundaries crossed within the time that is swept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Crossed {
    /// Effects of all nodes.
    pub(crate) effects: u64,
    /// Calls to each node's disk.
    pub(crate) disk_calls: Vec<u64>,
}

impl World {
    pub(super) fn arrange_sweep(&mut self) {
        if let Some(swept) = &self.scenario.plan.swept {
            self.queue.push(swept.from_us, Happening::SweepBegins);
            self.queue.push(swept.until_us, Happening::SweepEnds);
        }
    }

    pub(super) fn sweep_begins(&mut self) {
        let disks = self.machines.iter().map(|machine| machine.disk.operations());
        self.crossed.disk_calls = disks.collect();
        let Some(CrashPoint { at, remains, down_us }) = self.scenario.plan.crash_point else {
            return;
        };
        if let Boundary::DiskCall { node, call } = at {
            let machine = &mut self.machines[node];
            machine.crash_in_disk = Some(ArmedCrash {
                effects: 0,
                remains,
                down_us,
            });
            machine.disk.crash_after(call - 1);
        }
    }

    pub(super) fn sweep_ends(&mut self) {
        for (calls, machine) in self.crossed.disk_calls.iter_mut().zip(&self.machines) {
            *calls = machine.disk.operations() - *calls;
        }
    }

    /// Counts an effect; the point, if this is where it is to crash. Without a time that is swept, all of them count.
    pub(super) fn crosses_effect(&mut self) -> Option<CrashPoint> {
        let plan = &self.scenario.plan;
        let is_swept = plan
            .swept
            .as_ref()
            .is_none_or(|swept| (swept.from_us..swept.until_us).contains(&self.now));
        self.crossed.effects += u64::from(is_swept);
        let point = plan.crash_point.filter(|_| is_swept)?;
        (point.at == Boundary::Effect(self.crossed.effects)).then_some(point)
    }
}

//! Crash-point sweeps: a scripted scenario runs once to count its boundaries, then once per boundary with a crash there,
//! of both kinds. Boundaries are the effects of all nodes, and every call to the disks that matter.

mod membership;
mod snapshots;
mod writes;

use super::plan::{Boundary, CrashPoint, Ending, Plan, Swept};
use super::run::{Options, Outcome, run};
use super::schedule::{Action, Asked, NodeSet, Remains, Scenario, Step};

/// How long a process that was killed at a boundary stays down.
const DOWN_US: u64 = 50_000;

/// A scripted scenario, and what a sweep of it is worth.
pub struct Sweep {
    /// What happens.
    pub name: &'static str,
    /// As data.
    pub scenario: Scenario,
    /// The nodes whose every call to the disk is a boundary, too.
    pub disks: &'static [usize],
    /// What must occur when nothing crashes, or it is not the scenario that it says it is.
    pub marks: &'static [&'static str],
    /// A planted bug that this sweep finds, and the scenario without a crash does not.
    pub finds: &'static str,
}

/// What a sweep crossed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crossed {
    /// Effects that were crashed at, each twice.
    pub effects: u64,
    /// Calls to a disk that were crashed in, each twice.
    pub disk_calls: u64,
}

/// Why a sweep ended early.
pub struct Failure {
    /// The scenario as it ran last.
    pub scenario: Scenario,
    /// How that ended.
    pub outcome: Outcome,
    /// What was wrong with it.
    pub what: String,
}

/// All scenarios that are swept.
#[must_use]
pub fn all() -> Vec<Sweep> {
    [writes::sweeps(), snapshots::sweeps(), membership::sweeps()]
        .into_iter()
        .flatten()
        .collect()
}

impl Sweep {
    /// Crashes at every `stride`-th boundary; the first failure ends it.
    ///
    /// # Errors
    /// The failing scenario and its outcome.
    pub fn run(&self, stride: usize, mutant: Option<&'static str>) -> Result<Crossed, Box<Failure>> {
        let whole = self.run_one(self.scenario.clone(), mutant)?;
        if let Some(mark) = self.marks.iter().find(|mark| !whole.marks.contains_key(*mark)) {
            let what = format!("is not what it says: never {mark:?}");
            return Err(Box::new(Failure {
                scenario: self.scenario.clone(),
                outcome: whole,
                what,
            }));
        }
        let mut crossed = Crossed::default();
        for effect in (1..=whole.statistics.swept_effects).step_by(stride) {
            self.crash_at(Boundary::Effect(effect), mutant)?;
            crossed.effects += 1;
        }
        for &node in self.disks {
            for call in (1..=whole.swept_disk_calls[node]).step_by(stride) {
                self.crash_at(Boundary::DiskCall { node, call }, mutant)?;
                crossed.disk_calls += 1;
            }
        }
        Ok(crossed)
    }

    fn crash_at(&self, at: Boundary, mutant: Option<&'static str>) -> Result<(), Box<Failure>> {
        for remains in [Remains::PageCache, Remains::Synced] {
            let mut crashing = self.scenario.clone();
            crashing.plan.crash_point = Some(CrashPoint {
                at,
                remains,
                down_us: DOWN_US,
            });
            self.run_one(crashing, mutant)?;
        }
        Ok(())
    }

    fn run_one(&self, scenario: Scenario, mutant: Option<&'static str>) -> Result<Outcome, Box<Failure>> {
        let outcome = run(&scenario, Options { mutant, trace: None });
        match outcome.violations.first() {
            None => Ok(outcome),
            Some(violation) => {
                let what = violation.to_string();
                Err(Box::new(Failure {
                    scenario,
                    outcome,
                    what,
                }))
            }
        }
    }
}

fn scripted_plan(nodes: usize, length_us: u64) -> Plan {
    let mut plan = Plan::healthy(1);
    plan.nodes = nodes;
    plan.length_us = length_us;
    plan.ending = Ending::Settled;
    plan.disk.segment_size_bytes = 4096;
    plan
}

/// Boundaries count within this time, and these machines vote in the end.
fn swept_plan(nodes: usize, length_us: u64, (from_us, until_us): (u64, u64), voters: &[usize]) -> Plan {
    let mut plan = scripted_plan(nodes, length_us);
    plan.ending = Ending::Whole;
    plan.swept = Some(Swept {
        from_us,
        until_us,
        voters: NodeSet::of(voters),
    });
    plan
}

fn operations(from_us: u64, count: u64, nodes: usize) -> Vec<Step> {
    let kinds = [
        Asked::Put,
        Asked::Get,
        Asked::PutIf,
        Asked::Delete,
        Asked::PutTtl { ttl_ms: 100 },
        Asked::Put,
    ];
    (0..count)
        .map(|number| Step {
            at_us: from_us + number * 20_000,
            action: Action::Ask {
                client: number as usize % 3,
                asked: kinds[number as usize % kinds.len()],
                key: (number % 2) as u8,
                via: number as usize % nodes,
            },
        })
        .collect()
}

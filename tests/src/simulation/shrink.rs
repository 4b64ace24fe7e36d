//! Makes a failure small: the shortest prefix and the fewest steps that still break the same invariant.

use super::plan::{Ending, Plan};
use super::run::{Options, Outcome, run};
use super::schedule::{Action, Scenario};

/// Shrinks a failing scenario; returns the smallest one found within `runs` runs. `mutant` must be what it failed with.
#[must_use]
pub fn shrink(scenario: &Scenario, mutant: Option<&'static str>, runs: usize) -> Scenario {
    let mut shrinking = Shrinking {
        smallest: scenario.clone(),
        invariant: None,
        mutant,
        runs,
    };
    let Some(first) = shrinking.try_out(scenario) else {
        return scenario.clone();
    };
    shrinking.invariant = first.broken();
    shrinking.cut_end(&first);
    shrinking.simplify_plan();
    shrinking.drop_steps(|action| !action.is_asked());
    shrinking.drop_steps(Action::is_asked);
    shrinking.smallest
}

struct Shrinking {
    smallest: Scenario,
    /// What must break again; `None`: anything.
    invariant: Option<&'static str>,
    mutant: Option<&'static str>,
    runs: usize,
}

impl Shrinking {
    /// The outcome, if the invariant broke again.
    fn try_out(&mut self, scenario: &Scenario) -> Option<Outcome> {
        self.runs = self.runs.checked_sub(1)?;
        let options = Options {
            mutant: self.mutant,
            trace: None,
        };
        let outcome = run(scenario, options);
        let broken = outcome.broken()?;
        self.invariant
            .is_none_or(|invariant| invariant == broken)
            .then_some(outcome)
    }

    fn keep_if_failing(&mut self, candidate: Scenario) -> bool {
        let is_failing = self.try_out(&candidate).is_some();
        if is_failing {
            self.smallest = candidate;
        }
        is_failing
    }

    /// What is scheduled after the violation has no part in it.
    fn cut_end(&mut self, outcome: &Outcome) {
        let Some(violation) = outcome.violations.first() else {
            return;
        };
        let mut candidate = self.smallest.clone();
        candidate.steps.retain(|step| step.at_us <= violation.at_us);
        if violation.at_us < candidate.plan.length_us {
            candidate.plan.length_us = violation.at_us + 1_000;
            candidate.plan.ending = Ending::Abrupt;
        }
        self.keep_if_failing(candidate);
    }

    /// Takes away random faults one by one.
    fn simplify_plan(&mut self) {
        let simpler: [fn(&mut Plan); 9] = [
            |plan| plan.buggify = false,
            |plan| plan.network.lost_ppm = 0,
            |plan| plan.network.doubled_ppm = 0,
            |plan| plan.network.reordered_ppm = 0,
            |plan| plan.network.replayed_ppm = 0,
            |plan| plan.network.corrupted_ppm = 0,
            |plan| plan.network.client_lost_ppm = 0,
            |plan| plan.network.encoded = false,
            |plan| plan.clock_drift_ppm = 0,
        ];
        for simplify in simpler {
            let mut candidate = self.smallest.clone();
            simplify(&mut candidate.plan);
            if candidate != self.smallest {
                self.keep_if_failing(candidate);
            }
        }
    }

    /// Delta debugging over the steps that `belongs` names: drops ever smaller runs of them.
    fn drop_steps(&mut self, belongs: fn(&Action) -> bool) {
        let mut size = self.count(belongs).div_ceil(2);
        while size > 0 {
            let mut at = 0;
            while at < self.count(belongs) && self.runs > 0 {
                let candidate = self.without(belongs, at, size);
                if !self.keep_if_failing(candidate) {
                    at += size;
                }
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
    }

    fn count(&self, belongs: fn(&Action) -> bool) -> usize {
        self.smallest
            .steps
            .iter()
            .filter(|step| belongs(&step.action))
            .count()
    }

    fn without(&self, belongs: fn(&Action) -> bool, at: usize, size: usize) -> Scenario {
        let mut candidate = self.smallest.clone();
        let mut number = 0;
        candidate.steps.retain(|step| {
            if !belongs(&step.action) {
                return true;
            }
            number += 1;
            !(at..at + size).contains(&(number - 1))
        });
        candidate
    }
}

//! Hooks for the simulator: planted bugs (mutants), marks for situations that must occur, and forced rare behaviour.
//!
//! Without the feature `simulation` every hook is a constant that the compiler removes: a product build can not
//! contain a mutant, and CI proves it on the built binary.
//!
//! Call sites name what they mean: `if mutant("X02_vote_before_sync") { .. }`, `mark("truncated configuration")`,
//! `if buggify("one entry per append") { .. }`. The names are listed in the tests crate, which fails on an unknown one.

#[cfg(feature = "simulation")]
mod active {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    #[derive(Default)]
    struct Hooks {
        mutant: Option<&'static str>,
        marks: BTreeMap<&'static str, u64>,
        buggify: Option<(fastrand::Rng, BTreeMap<&'static str, f64>)>,
    }

    thread_local! {
        static HOOKS: RefCell<Hooks> = RefCell::new(Hooks::default());
    }

    /// Is the planted bug `name` switched on in this thread?
    #[must_use]
    pub fn mutant(name: &'static str) -> bool {
        HOOKS.with_borrow(|hooks| hooks.mutant == Some(name))
    }

    /// Switches one planted bug on, or all off, for this thread.
    pub fn set_mutant(name: Option<&'static str>) {
        HOOKS.with_borrow_mut(|hooks| hooks.mutant = name);
    }

    /// Counts that the situation `name` occurred.
    pub fn mark(name: &'static str) {
        HOOKS.with_borrow_mut(|hooks| *hooks.marks.entry(name).or_default() += 1);
    }

    /// All marks counted in this thread since the last call.
    #[must_use]
    pub fn take_marks() -> BTreeMap<&'static str, u64> {
        HOOKS.with_borrow_mut(|hooks| std::mem::take(&mut hooks.marks))
    }

    /// Should the rare but legal behaviour `name` happen now? Each name has a probability of its own, drawn once a run.
    #[must_use]
    pub fn buggify(name: &'static str) -> bool {
        HOOKS.with_borrow_mut(|hooks| {
            let Some((rng, rates)) = &mut hooks.buggify else {
                return false;
            };
            let rate = *rates
                .entry(name)
                .or_insert_with(|| if rng.f64() < 0.5 { 0.0 } else { rng.f64() * 0.2 });
            rate > 0.0 && rng.f64() < rate
        })
    }

    /// Turns forced rare behaviour on with a seed, or off, for this thread.
    pub fn set_buggify(seed: Option<u64>) {
        HOOKS.with_borrow_mut(|hooks| {
            hooks.buggify = seed.map(|seed| (fastrand::Rng::with_seed(seed), BTreeMap::new()));
        });
    }
}

#[cfg(feature = "simulation")]
pub use active::{buggify, mark, mutant, set_buggify, set_mutant, take_marks};

/// Is the planted bug `name` switched on? Never, in a product build.
#[cfg(not(feature = "simulation"))]
#[inline(always)]
#[must_use]
pub const fn mutant(_name: &'static str) -> bool {
    false
}

/// Counts that a situation occurred; nothing in a product build.
#[cfg(not(feature = "simulation"))]
#[inline(always)]
pub const fn mark(_name: &'static str) {}

/// Forces rare legal behaviour; never in a product build.
#[cfg(not(feature = "simulation"))]
#[inline(always)]
#[must_use]
pub const fn buggify(_name: &'static str) -> bool {
    false
}

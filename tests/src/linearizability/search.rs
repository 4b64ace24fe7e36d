//! The search for an order that explains all answers of one key.
//!
//! Invocations and returns stand in one list, by time. Whatever is invoked before the first return in the list may
//! come next in the order; a return that is reached means that its operation should have come already, so the search
//! steps back. Operations that are in the order are lifted out of the list. A configuration (set of operations in
//! the order, register) that was tried once is never tried again.
//!
//! Four rules keep it near one step per operation where clients are few and revisions known:
//! - changes whose revisions are known come in the order of their revisions;
//! - an operation that fits and changes nothing comes at once: it would fit as well in any order that has it later;
//! - unanswered writes are tried last;
//! - of unanswered writes that ask the same the one that was invoked first comes first: they can be exchanged.

use std::collections::{HashMap, HashSet};

use super::StepLimit;
use super::history::Operation;
use super::register::{Interner, Register, Step};

/// What the search came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// An order.
    Order,
    /// That there is none.
    NoOrder,
    /// Nothing, within the limit.
    LimitReached,
}

/// Looks for an order of `operations` (of one key, sorted by invocation) from `start`. Also returns the steps tried.
pub(super) fn search(operations: &[Operation], start: Register, limit: StepLimit) -> (Found, u64) {
    let mut search = Search::new(operations, start);
    let found = search.run(limit);
    (found, search.steps)
}

/// Operations in the order so far, one bit each.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Placed(Box<[u64]>);

impl Placed {
    fn none_of(operations: usize) -> Placed {
        Placed(vec![0; operations.div_ceil(64)].into())
    }

    fn contains(&self, operation: usize) -> bool {
        self.0[operation / 64] & (1 << (operation % 64)) != 0
    }

    fn flip(&mut self, operation: usize) {
        self.0[operation / 64] ^= 1 << (operation % 64);
    }
}

/// A node of the list; node 0 is the head.
#[derive(Clone, Copy)]
struct Node {
    previous: usize,
    next: usize,
    what: Event,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Event {
    Head,
    Invocation(usize),
    Return,
}

/// The place past the last node.
const END: usize = usize::MAX;

/// What the search knows of an operation beside its step.
struct Candidate {
    step: Step,
    invocation: usize,
    /// `None`: unanswered.
    answered: Option<usize>,
    /// Place among the changes whose revisions are known.
    rank: Option<usize>,
    /// Unanswered, and this unanswered one before it asks the same.
    twin: Option<usize>,
}

/// Operations that are answered, or whose revision is known, are tried before the others.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    Answered,
    Unanswered,
}

/// One operation of the order, and how to take it back.
struct Frame {
    operation: usize,
    before: Register,
    /// It changed nothing, so nothing else needs to be tried in its place.
    forced: bool,
}

struct Search {
    candidates: Vec<Candidate>,
    nodes: Vec<Node>,
    register: Register,
    placed: Placed,
    order: Vec<Frame>,
    ranked_placed: usize,
    answered_left: usize,
    tried: HashSet<(Placed, Register)>,
    steps: u64,
}

impl Search {
    fn new(operations: &[Operation], start: Register) -> Search {
        let interner = Interner::of(operations);
        let steps: Vec<Step> = operations
            .iter()
            .map(|operation| interner.step(operation))
            .collect();
        let (ranks, twins) = (ranks(&steps), twins(operations, &steps));
        let mut candidates: Vec<Candidate> = steps
            .into_iter()
            .zip(ranks)
            .zip(twins)
            .map(|((step, rank), twin)| Candidate {
                step,
                invocation: END,
                answered: None,
                rank,
                twin,
            })
            .collect();
        let nodes = list(operations, &mut candidates);
        Search {
            answered_left: operations
                .iter()
                .filter(|operation| operation.returned().is_some())
                .count(),
            placed: Placed::none_of(operations.len()),
            candidates,
            nodes,
            register: start,
            order: Vec::new(),
            ranked_placed: 0,
            tried: HashSet::new(),
            steps: 0,
        }
    }

    fn run(&mut self, limit: StepLimit) -> Found {
        let mut pass = Pass::Answered;
        let mut cursor = self.nodes[0].next;
        while self.answered_left > 0 {
            if self.steps >= limit.0 {
                return Found::LimitReached;
            }
            match self.event(cursor) {
                Some(Event::Invocation(operation)) => {
                    if self.pass_of(operation) == pass && self.place(operation) {
                        (pass, cursor) = (Pass::Answered, self.nodes[0].next);
                    } else {
                        cursor = self.nodes[cursor].next;
                    }
                }
                Some(Event::Return | Event::Head) | None if pass == Pass::Answered => {
                    (pass, cursor) = (Pass::Unanswered, self.nodes[0].next);
                }
                Some(Event::Return | Event::Head) | None => match self.step_back() {
                    Some(operation) => {
                        pass = self.pass_of(operation);
                        cursor = self.nodes[self.candidates[operation].invocation].next;
                    }
                    None => return Found::NoOrder,
                },
            }
        }
        Found::Order
    }

    fn event(&self, node: usize) -> Option<Event> {
        self.nodes.get(node).map(|node| node.what)
    }

    fn pass_of(&self, operation: usize) -> Pass {
        let candidate = &self.candidates[operation];
        match candidate.answered.or(candidate.rank) {
            Some(_) => Pass::Answered,
            None => Pass::Unanswered,
        }
    }

    /// Puts the operation next in the order, if it fits and leads to something that was not tried yet.
    fn place(&mut self, operation: usize) -> bool {
        let candidate = &self.candidates[operation];
        let is_early = candidate.rank.is_some_and(|rank| rank != self.ranked_placed)
            || candidate.twin.is_some_and(|twin| !self.placed.contains(twin));
        if is_early {
            return false;
        }
        let Some(after) = self.register.after(&candidate.step) else {
            return false;
        };
        self.steps += 1;
        self.placed.flip(operation);
        if !self.tried.insert((self.placed.clone(), after)) {
            self.placed.flip(operation);
            return false;
        }
        let (is_ranked, is_answered) = (candidate.rank.is_some(), candidate.answered.is_some());
        self.order.push(Frame {
            operation,
            before: self.register,
            forced: is_answered && after == self.register,
        });
        self.register = after;
        self.ranked_placed += usize::from(is_ranked);
        self.answered_left -= usize::from(is_answered);
        self.lift(operation);
        true
    }

    /// Takes the last operation out of the order that leaves something else to try, and returns it.
    fn step_back(&mut self) -> Option<usize> {
        loop {
            let frame = self.order.pop()?;
            let candidate = &self.candidates[frame.operation];
            self.ranked_placed -= usize::from(candidate.rank.is_some());
            self.answered_left += usize::from(candidate.answered.is_some());
            self.register = frame.before;
            self.placed.flip(frame.operation);
            self.unlift(frame.operation);
            if !frame.forced {
                return Some(frame.operation);
            }
        }
    }

    fn lift(&mut self, operation: usize) {
        let Candidate {
            invocation, answered, ..
        } = self.candidates[operation];
        for node in std::iter::once(invocation).chain(answered) {
            let Node { previous, next, .. } = self.nodes[node];
            self.nodes[previous].next = next;
            if let Some(next) = self.nodes.get_mut(next) {
                next.previous = previous;
            }
        }
    }

    /// Undoes [`Search::lift`]; only in the reverse order of the lifts do the links still hold.
    fn unlift(&mut self, operation: usize) {
        let Candidate {
            invocation, answered, ..
        } = self.candidates[operation];
        for node in answered.into_iter().chain(std::iter::once(invocation)) {
            let Node { previous, next, .. } = self.nodes[node];
            self.nodes[previous].next = node;
            if let Some(next) = self.nodes.get_mut(next) {
                next.previous = node;
            }
        }
    }
}

/// The place of each step among the changes with a known revision.
fn ranks(steps: &[Step]) -> Vec<Option<usize>> {
    let mut changes: Vec<usize> = (0..steps.len())
        .filter(|&step| steps[step].change().is_some())
        .collect();
    changes.sort_by_key(|&step| steps[step].change());
    let mut ranks = vec![None; steps.len()];
    for (rank, step) in changes.into_iter().enumerate() {
        ranks[step] = Some(rank);
    }
    ranks
}

/// For each unanswered operation the last one before it that asks the same.
fn twins(operations: &[Operation], steps: &[Step]) -> Vec<Option<usize>> {
    let mut last: HashMap<Step, usize> = HashMap::new();
    let with_index = operations.iter().zip(steps).enumerate();
    with_index
        .map(|(index, (operation, step))| match operation.returned() {
            Some(_) => None,
            None => last.insert(*step, index),
        })
        .collect()
}

/// Builds the list, and tells each candidate its nodes.
fn list(operations: &[Operation], candidates: &mut [Candidate]) -> Vec<Node> {
    // At equal times invocations stand before returns: such operations count as concurrent.
    let mut events = Vec::with_capacity(operations.len() * 2);
    for (index, operation) in operations.iter().enumerate() {
        events.push((operation.invoked, 0, index));
        events.extend(
            operation
                .returned()
                .map(|at| (at.max(operation.invoked), 1, index)),
        );
    }
    events.sort_unstable();
    let mut nodes = vec![Node {
        previous: 0,
        next: 1,
        what: Event::Head,
    }];
    for (_, kind, index) in events {
        let node = nodes.len();
        let what = if kind == 0 {
            candidates[index].invocation = node;
            Event::Invocation(index)
        } else {
            candidates[index].answered = Some(node);
            Event::Return
        };
        nodes.push(Node {
            previous: node - 1,
            next: node + 1,
            what,
        });
    }
    if let Some(last) = nodes.last_mut() {
        last.next = END;
    }
    nodes
}

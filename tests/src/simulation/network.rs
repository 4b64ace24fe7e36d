//! The network between nodes: per directed link a delay, losses, and what faults do to it.

use fastrand::Rng;

use super::plan::{NetworkPlan, Plan};
use super::queue::Micros;
use super::random::{Stream, chance_ppm, exponential, stream};
use super::schedule::NodeSet;

/// How long a message that is replayed is kept at most.
const REPLAY_WITHIN_US: u64 = 10_000_000;

/// One way from one node to another.
struct Link {
    rng: Rng,
    /// Faults under way that cut it.
    cuts: u32,
    /// Added to each delay.
    slower_us: u64,
    /// Messages sent from now on arrive at the end of these; each entry is an end.
    clogged_until: Micros,
    /// Nothing overtakes on a link, as on a TCP connection, unless reordering says so.
    last_arrival: Micros,
    /// No random faults any more.
    is_healed: bool,
}

/// When copies of a message arrive, and in what state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// As it was sent.
    Whole(Micros),
    /// With a flipped bit.
    Corrupted(Micros),
}

/// All links.
pub(crate) struct Network {
    plan: NetworkPlan,
    /// The same without random faults, for healed links.
    healed: NetworkPlan,
    links: Vec<Link>,
    nodes: usize,
}

impl Network {
    pub(crate) fn new(plan: &Plan) -> Network {
        let links = (0..plan.nodes * plan.nodes)
            .map(|link| Link {
                rng: stream(plan.seed, Stream::Link, link as u64),
                cuts: 0,
                slower_us: 0,
                clogged_until: 0,
                last_arrival: 0,
                is_healed: false,
            })
            .collect();
        Network {
            plan: plan.network,
            healed: NetworkPlan {
                lost_ppm: 0,
                doubled_ppm: 0,
                reordered_ppm: 0,
                replayed_ppm: 0,
                corrupted_ppm: 0,
                ..plan.network
            },
            links,
            nodes: plan.nodes,
        }
    }

    fn link(&mut self, from: usize, to: usize) -> &mut Link {
        &mut self.links[from * self.nodes + to]
    }

    /// Does anything sent now arrive?
    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.links[from * self.nodes + to].cuts > 0
    }

    /// Sends a message: when its copies arrive. Empty: it is lost.
    pub(crate) fn send(&mut self, now: Micros, from: usize, to: usize, arrivals: &mut Vec<Arrival>) {
        let link = &mut self.links[from * self.nodes + to];
        let plan = if link.is_healed { &self.healed } else { &self.plan };
        if link.cuts > 0 || chance_ppm(&mut link.rng, plan.lost_ppm) {
            return;
        }
        let at = link.arrival(now, plan);
        let at = if chance_ppm(&mut link.rng, plan.reordered_ppm) {
            at + link.rng.u64(..=plan.reorder_us)
        } else {
            link.last_arrival = link.last_arrival.max(at);
            link.last_arrival
        };
        if chance_ppm(&mut link.rng, plan.corrupted_ppm) {
            arrivals.push(Arrival::Corrupted(at));
        } else {
            arrivals.push(Arrival::Whole(at));
        }
        if chance_ppm(&mut link.rng, plan.doubled_ppm) {
            let again = at + exponential(&mut link.rng, 2 * plan.jitter_us);
            arrivals.push(Arrival::Whole(again));
        }
        if chance_ppm(&mut link.rng, plan.replayed_ppm) {
            arrivals.push(Arrival::Whole(at + link.rng.u64(..REPLAY_WITHIN_US)));
        }
    }

    /// When something that is neither lost nor doubled arrives: answers on forwarding connections, resets.
    pub(crate) fn delay(&mut self, now: Micros, from: usize, to: usize) -> Micros {
        let plan = self.plan;
        self.link(from, to).arrival(now, &plan)
    }

    /// Applies `change` to every link from `from` to `to`.
    fn each(&mut self, from: NodeSet, to: NodeSet, mut change: impl FnMut(&mut Link)) {
        for source in 0..self.nodes {
            for target in 0..self.nodes {
                if source != target && from.contains(source) && to.contains(target) {
                    change(self.link(source, target));
                }
            }
        }
    }

    pub(crate) fn cut(&mut self, from: NodeSet, to: NodeSet) {
        self.each(from, to, |link| link.cuts += 1);
    }

    pub(crate) fn mend(&mut self, from: NodeSet, to: NodeSet) {
        self.each(from, to, |link| link.cuts = link.cuts.saturating_sub(1));
    }

    pub(crate) fn slow(&mut self, from: NodeSet, to: NodeSet, by_us: u64) {
        self.each(from, to, |link| link.slower_us += by_us);
    }

    pub(crate) fn speed_up(&mut self, from: NodeSet, to: NodeSet, by_us: u64) {
        self.each(from, to, |link| {
            link.slower_us = link.slower_us.saturating_sub(by_us)
        });
    }

    pub(crate) fn clog(&mut self, from: NodeSet, to: NodeSet, until: Micros) {
        self.each(from, to, |link| {
            link.clogged_until = link.clogged_until.max(until)
        });
    }

    /// Frees the links among these nodes from every fault; all other links stay as they are.
    pub(crate) fn heal(&mut self, core: NodeSet) {
        self.each(core, core, |link| {
            link.cuts = 0;
            link.slower_us = 0;
            link.clogged_until = 0;
            link.last_arrival = 0;
            link.is_healed = true;
        });
    }
}

impl Link {
    fn arrival(&mut self, now: Micros, plan: &NetworkPlan) -> Micros {
        let at = now + plan.delay_us + self.slower_us + exponential(&mut self.rng, plan.jitter_us);
        if now < self.clogged_until {
            // What piled up is freed in random order.
            return self.clogged_until + self.rng.u64(..2_000);
        }
        at
    }
}

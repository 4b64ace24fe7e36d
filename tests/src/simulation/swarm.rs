//! Draws a scenario from a seed: which kinds of faults exist, how often they happen, and limits down to absurdly small.

use fastrand::Rng;

use super::fault::FaultKind;
use super::operators;
use super::plan::{Accusation, Ending, Plan, StorePlan};
use super::random::{Stream, chance, exponential, log_uniform, stream};
use super::schedule::{Action, Asked, Scenario, Step};
use super::tenants;

impl Scenario {
    /// The scenario of a seed.
    #[must_use]
    pub fn from_seed(seed: u64) -> Scenario {
        let plan = draw_plan(seed);
        let steps = draw_steps(&plan);
        Scenario { plan, steps }
    }

    /// A healthy cluster under load, for so many seconds of virtual time.
    #[must_use]
    pub fn healthy(seed: u64, seconds: u64) -> Scenario {
        let mut plan = Plan::healthy(seed);
        plan.length_us = seconds * 1_000_000;
        let steps = draw_steps(&plan);
        Scenario { plan, steps }
    }
}

/// What a run is about.
enum Style {
    /// No faults at all.
    Calm,
    /// One kind of fault, often.
    OneKind,
    /// Several kinds, each at its own rate.
    Mix,
}

fn draw_plan(seed: u64) -> Plan {
    let rng = &mut stream(seed, Stream::Plan, 0);
    let mut plan = Plan::healthy(seed);
    plan.nodes = [1, 2, 3, 3, 3, 3, 4, 5, 5, 5, 6, 7][rng.usize(..12)];
    plan.length_us = log_uniform(rng, 3_000_000, 40_000_000);
    let style = match rng.u32(..20) {
        0..2 => Style::Calm,
        2..7 => Style::OneKind,
        _ => Style::Mix,
    };
    plan.kinds = match style {
        Style::Calm => Vec::new(),
        Style::OneKind => vec![FaultKind::ALL[rng.usize(..FaultKind::ALL.len())]],
        Style::Mix => {
            let density = [0.1, 0.25, 0.5][rng.usize(..3)];
            FaultKind::ALL
                .into_iter()
                .filter(|_| chance(rng, density))
                .collect()
        }
    };
    draw_limits(&mut plan, rng);
    draw_speeds(&mut plan, rng);
    draw_store(&mut plan, rng);
    draw_timeouts(&mut plan, rng, &style);
    for kind in plan.kinds.clone() {
        kind.tune(&mut plan, rng);
    }
    draw_leases(&mut plan, rng);
    draw_watches(&mut plan);
    draw_scrub(&mut plan);
    plan.ending = match style {
        Style::Calm => Ending::Calm,
        _ if rng.u32(..4) == 0 => Ending::Abrupt,
        _ => Ending::Settled,
    };
    draw_accusation(&mut plan);
    plan.buggify = !matches!(style, Style::Calm) && rng.bool();
    operators::draw_operators(&mut plan);
    tenants::draw_tenants(&mut plan);
    plan
}

/// Leases promise something only while no clock runs beyond the bound.
fn draw_leases(plan: &mut Plan, rng: &mut Rng) {
    let bound = plan.clock_bound_ppm();
    if rng.bool() {
        plan.raft.lease_drift_ppm = bound.and_then(|ppm| u32::try_from(ppm).ok());
    }
}

/// From a stream of its own, so that the rest of a seed's plan is what it was before anybody watched.
fn draw_watches(plan: &mut Plan) {
    let rng = &mut stream(plan.seed, Stream::Watch, u64::MAX);
    let watches = &mut plan.watches;
    watches.watchers = [0, 0, 1, 3, 8][rng.usize(..5)];
    watches.stay_us = log_uniform(rng, 50_000, 60_000_000);
    watches.think_us = log_uniform(rng, 10, 500_000);
    watches.credit_bytes = log_uniform(rng, 1, 20_000) as u32;
    watches.order_us = log_uniform(rng, 1, 50_000);
    watches.queue = log_uniform(rng, 1, 200) as usize;
    watches.read_us = log_uniform(rng, 10, 50_000);
    watches.part_bytes = log_uniform(rng, 1, 20_000);
    watches.max_queued_bytes = log_uniform(rng, 100, 50_000);
    watches.window_revisions = log_uniform(rng, 1, 500);
    watches.conflate_after = log_uniform(rng, 1, 100);
    watches.held_state_idle_us = log_uniform(rng, 10_000, 10_000_000);
    watches.max_matches = log_uniform(rng, 1, 1000) as usize;
}

/// Passes that follow each other at once, pieces of a key or of all. From a stream of its own, as watches.
fn draw_scrub(plan: &mut Plan) {
    let rng = &mut stream(plan.seed, Stream::Scrub, 0);
    let (network, disk) = (&plan.network, &plan.disk);
    let spread_us = network.delay_us + 3 * network.jitter_us + plan.gather_us;
    let applied_us = spread_us + disk.sync_us + 3 * disk.jitter_us + plan.store.lookup_us;
    // What a leader keeps of the log for followers, in entries of a usual size. The smaller it is the fewer may come while one
    // takes a snapshot in, which at its slowest takes seconds: else it needs one after the other for ever.
    let tail_entries = plan.store.log_tail_entries.min(plan.store.log_tail_bytes / 100);
    let caught_up_us = 4_000_000 / tail_entries.max(1);
    let scrub = &mut plan.scrub;
    scrub.interval_us = Some(log_uniform(rng, 10_000, 5_000_000));
    // A cluster at rest has applied one entry everywhere before the next one comes, most of the time.
    let least_pace_us = caught_up_us.max(20 * applied_us);
    scrub.pace_us = log_uniform(rng, 20_000, 500_000).max(least_pace_us);
    scrub.piece_keys = log_uniform(rng, 1, 100) as u32;
    scrub.piece_bytes = log_uniform(rng, 1, 10_000) as u32;
    scrub.read_us = log_uniform(rng, 10, 200_000);
}

/// One run of several has a node that is told that it is the odd one.
fn draw_accusation(plan: &mut Plan) {
    let rng = &mut stream(plan.seed, Stream::Quarantine, 0);
    // In a calm run nothing happens to anybody.
    if rng.u32(..8) == 0 && plan.ending != Ending::Calm {
        plan.scrub.accused = Some(Accusation {
            node: rng.usize(..plan.nodes),
            at_us: rng.u64(..plan.length_us.max(1)),
        });
    }
}

fn draw_limits(plan: &mut Plan, rng: &mut Rng) {
    let raft = &mut plan.raft;
    if rng.bool() {
        raft.max_append_entries = log_uniform(rng, 1, 64) as usize;
        raft.max_append_bytes = log_uniform(rng, 1, 4096) as usize;
        raft.max_inflight_appends = log_uniform(rng, 1, 8) as usize;
        raft.max_inflight_bytes = log_uniform(rng, 1, 16_384) as usize;
    }
    if rng.bool() {
        raft.tail_bytes = log_uniform(rng, 1, 4096) as usize;
        raft.max_apply_bytes = log_uniform(rng, 1, 4096) as usize;
    }
    if rng.u32(..4) == 0 {
        raft.max_uncommitted_bytes = log_uniform(rng, 200, 8192) as usize;
        raft.max_pending_reads = log_uniform(rng, 1, 16) as usize;
        plan.max_pending_requests = log_uniform(rng, 2, 64) as usize;
    }
    plan.disk.segment_size_bytes = 4096 * log_uniform(rng, 1, 16);
    plan.disk.spare_segments = rng.usize(..3);
}

/// Memory so small that nearly every batch drains, or so large that none does; disks that are quick or slow about it.
fn draw_store(plan: &mut Plan, rng: &mut Rng) {
    let store = &mut plan.store;
    let slowest_us = match rng.u32(..10) {
        0 => {
            *store = StorePlan::default();
            return;
        }
        1..6 => {
            store.overlay_bytes = log_uniform(rng, 16, 4_000);
            store.cache_bytes = log_uniform(rng, 1, 2_000);
            50_000
        }
        _ => {
            store.overlay_bytes = log_uniform(rng, 4_000, 100_000);
            store.cache_bytes = log_uniform(rng, 1, 20_000);
            500_000
        }
    };
    if rng.bool() {
        store.freeze_log_bytes = log_uniform(rng, 1, 20_000);
    }
    if rng.bool() {
        store.freeze_age_us = log_uniform(rng, 5_000, 5_000_000);
    }
    store.log_tail_bytes = log_uniform(rng, 1, 50_000);
    store.log_tail_entries = log_uniform(rng, 1, 500);
    // Many small generations are slow to look through.
    store.history_events = log_uniform(rng, 1, 300);
    if rng.u32(..4) == 0 {
        store.history_bytes = log_uniform(rng, 1, 50_000);
    }
    if rng.u32(..4) == 0 {
        store.history_age_us = log_uniform(rng, 1_000, 10_000_000);
    }
    store.seal_us = log_uniform(rng, 20, 20_000);
    store.drain_us = log_uniform(rng, 20, slowest_us);
    store.lookup_us = log_uniform(rng, 20, 50_000);
    store.scan_pause_us = log_uniform(rng, 100_000, 3_000_000);
    store.scan_us = log_uniform(rng, 20, 2 * slowest_us);
}

fn draw_speeds(plan: &mut Plan, rng: &mut Rng) {
    plan.network.delay_us = log_uniform(rng, 20, 5_000);
    plan.network.jitter_us = log_uniform(rng, 20, 10_000);
    plan.network.encoded = rng.u32(..4) == 0;
    plan.network.resets_told = rng.u32(..4) != 0;
    plan.disk.sync_us = log_uniform(rng, 20, 5_000);
    plan.disk.jitter_us = log_uniform(rng, 20, 5_000);
    plan.gather_us = log_uniform(rng, 1, 3_000);
    let load = &mut plan.workload;
    load.clients = log_uniform(rng, 1, 40) as usize;
    load.comes_in_bursts = rng.bool();
    load.keys = log_uniform(rng, 1, 40) as u8;
    load.operations_per_second = log_uniform(rng, 5, 200);
    load.value_bytes = log_uniform(rng, 1, 600) as usize;
    load.timeout_us = log_uniform(rng, 200_000, 4_000_000);
}

/// Time-outs down to little more than what the network and the disks need: elections collide then.
fn draw_timeouts(plan: &mut Plan, rng: &mut Rng, style: &Style) {
    let (network, disk) = (&plan.network, &plan.disk);
    let round_us =
        2 * (network.delay_us + 2 * network.jitter_us + plan.gather_us) + disk.sync_us + 2 * disk.jitter_us;
    let raft = &mut plan.raft;
    if !matches!(style, Style::Calm) && rng.bool() {
        raft.heartbeat_interval_us = log_uniform(rng, 10_000, 100_000);
        raft.election_timeout_us = raft.heartbeat_interval_us * rng.u64(3..8);
        raft.reset_campaign_jitter_us = log_uniform(rng, 100, 50_000);
    }
    raft.election_timeout_us = raft.election_timeout_us.max(5 * round_us);
}

/// Draws all steps of a plan, ascending by time.
pub(crate) fn draw_steps(plan: &Plan) -> Vec<Step> {
    let mut steps = draw_operations(plan);
    steps.extend(operators::draw_operations(plan));
    steps.extend(operators::draw_recovery(plan));
    steps.extend(tenants::draw_calls(plan));
    for (number, kind) in plan.kinds.iter().enumerate() {
        let rng = &mut stream(plan.seed, Stream::Faults, *kind as u64);
        let Some((least, most)) = kind.per_minute() else {
            continue;
        };
        let rate = match plan.kinds.len() {
            1 => most,
            _ => log_uniform(rng, least, most),
        };
        let mean_us = 60_000_000 / rate.max(1);
        // A cluster that never forms shows little: most runs leave it a moment of peace for that.
        let peace = if (plan.seed + number as u64).is_multiple_of(8) {
            0
        } else {
            400_000
        };
        let mut at_us = peace + exponential(rng, mean_us);
        while at_us < plan.length_us {
            steps.extend(kind.draw(rng, plan.nodes).map(|action| Step { at_us, action }));
            at_us += exponential(rng, mean_us).max(1);
        }
    }
    steps.sort_by_key(|step| step.at_us);
    steps
}

fn draw_operations(plan: &Plan) -> Vec<Step> {
    let load = &plan.workload;
    let rng = &mut stream(plan.seed, Stream::Clients, 0);
    let mean_us = 1_000_000 / load.operations_per_second.max(1);
    let mut steps = Vec::new();
    let mut at_us = exponential(rng, mean_us);
    let mut burst_ends = at_us;
    while at_us < plan.length_us {
        if load.comes_in_bursts && at_us > burst_ends {
            at_us += log_uniform(rng, 100_000, 3_000_000);
            burst_ends = at_us + log_uniform(rng, 50_000, 1_000_000);
        }
        let action = Action::Ask {
            client: rng.usize(..load.clients),
            asked: draw_asked(rng),
            key: rng.u8(..load.keys),
            via: rng.usize(..plan.nodes),
        };
        steps.push(Step { at_us, action });
        at_us += exponential(rng, mean_us).max(1);
    }
    steps
}

/// Somewhat beyond the latest revision, too.
fn draw_listing(rng: &mut Rng) -> Asked {
    let permille = rng.u16(..1050);
    match rng.u32(..10) {
        0..4 => Asked::List,
        4 => Asked::LeaseList,
        5 => Asked::StaleList,
        6 => Asked::ListCount,
        7 => Asked::ListPast { permille },
        8 => Asked::ListAgo {
            ago_ms: log_uniform(rng, 1, 20_000) - 1,
        },
        _ => Asked::GetPast { permille },
    }
}

fn draw_asked(rng: &mut Rng) -> Asked {
    match rng.u32(..100) {
        0..29 => Asked::Put,
        29..39 => Asked::Get,
        39..49 => Asked::LeaseGet,
        49..54 => draw_listing(rng),
        54..64 => Asked::PutIf,
        64..69 => Asked::PutAbsent,
        69..77 => Asked::Delete,
        77..82 => Asked::DeleteIf,
        82..86 => Asked::StaleGet,
        86..93 => Asked::PutTtl {
            ttl_ms: log_uniform(rng, 1, 5_000),
        },
        93..95 => Asked::PutOverTtl,
        95..97 => Asked::DeleteTtl,
        _ => Asked::GetTtl,
    }
}

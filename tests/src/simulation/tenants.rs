//! What tenants do: they run transactions, hold leases and hang keys on them, and write within sessions and under
//! idempotency keys. From a random stream of their own, so that the rest of a seed's scenario is what it was before there
//! were tenants.

use fastrand::Rng;
use serde::{Deserialize, Serialize};

use super::plan::Plan;
use super::random::{Stream, exponential, log_uniform, stream};
use super::schedule::{Action, Step};

/// How busy tenants are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantPlan {
    /// How many; 0: none.
    pub tenants: usize,
    /// What they ask for a second, all together.
    pub calls_per_second: u64,
    /// Keys that they share.
    pub keys: u8,
    /// A tenant waits so long for an answer before it asks again, or gives up.
    pub timeout_us: u64,
    /// So many times it asks, where that can do no harm.
    pub attempts: u32,
    /// Longest time to live of a lease.
    pub lease_ttl_ms: u64,
    /// Longest time to live of a session.
    pub session_ttl_ms: u64,
    /// So many of a hundred calls are about leases alone.
    pub lease_percent: u32,
    /// In this run everything that has a time must have come to its end when the cluster rests.
    pub must_end: bool,
}

/// What a tenant asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Call {
    /// A transaction; what it holds is drawn from this.
    Transact {
        draw: u32,
    },
    /// A transaction of one increment.
    Increment {
        key: u8,
    },
    Put {
        key: u8,
    },
    Delete {
        key: u8,
    },
    /// A linearizable read.
    Get {
        key: u8,
    },
    /// An increment under an idempotency key that others use too.
    Named {
        name: u8,
        key: u8,
    },
    /// A put on the latest lease that it was granted.
    Hang {
        key: u8,
    },
    /// A lease; `None`: the server chooses its id.
    Grant {
        ttl_ms: u64,
        id: Option<u8>,
    },
    /// All leases that it was granted lately.
    Renew,
    Revoke,
    /// It reads about a lease.
    Look,
    /// It knows of no lease any more: nobody renews them.
    Leave,
    /// From now on its writes are those of a session.
    OpenSession {
        ttl_ms: u64,
    },
    KeepSession,
    CloseSession,
    /// A copy of an earlier request comes again, as a network may have kept it.
    Again {
        back: u8,
    },
}

/// Two of three runs have tenants.
pub(super) fn draw_tenants(plan: &mut Plan) {
    let rng = &mut stream(plan.seed, Stream::Tenants, u64::MAX);
    if rng.u32(..3) == 0 {
        return;
    }
    plan.tenants = TenantPlan {
        tenants: log_uniform(rng, 1, 12) as usize,
        calls_per_second: log_uniform(rng, 3, 60),
        keys: log_uniform(rng, 1, 12) as u8,
        timeout_us: log_uniform(rng, 20_000, 2_000_000),
        attempts: log_uniform(rng, 1, 20) as u32,
        lease_ttl_ms: log_uniform(rng, 50, 5_000),
        session_ttl_ms: log_uniform(rng, 100, 20_000),
        lease_percent: rng.u32(..60),
        must_end: rng.u32(..4) == 0,
    };
    if plan.tenants.must_end {
        plan.tenants.session_ttl_ms = plan.tenants.session_ttl_ms.min(3_000);
    }
}

pub(super) fn draw_calls(plan: &Plan) -> Vec<Step> {
    let tenants = &plan.tenants;
    let mut steps = Vec::new();
    if tenants.tenants == 0 {
        return steps;
    }
    let rng = &mut stream(plan.seed, Stream::Tenants, 0);
    let mean_us = 1_000_000 / tenants.calls_per_second.max(1);
    let mut at_us = exponential(rng, mean_us);
    while at_us < plan.length_us {
        let action = Action::Call {
            tenant: rng.usize(..tenants.tenants),
            call: draw_call(tenants, rng),
            via: rng.usize(..plan.nodes),
        };
        steps.push(Step { at_us, action });
        at_us += exponential(rng, mean_us).max(1);
    }
    steps
}

fn draw_call(plan: &TenantPlan, rng: &mut Rng) -> Call {
    let key = rng.u8(..plan.keys);
    if rng.u32(..100) < plan.lease_percent {
        return match rng.u32(..20) {
            0..4 => Call::Grant {
                ttl_ms: log_uniform(rng, 1, plan.lease_ttl_ms),
                id: rng.bool().then(|| rng.u8(1..4)),
            },
            4..10 => Call::Hang { key },
            10..15 => Call::Renew,
            15 => Call::Revoke,
            16..19 => Call::Look,
            _ => Call::Leave,
        };
    }
    match rng.u32(..40) {
        0..12 => Call::Transact { draw: rng.u32(..) },
        12..20 => Call::Increment { key },
        20..23 => Call::Put { key },
        23..25 => Call::Delete { key },
        25..28 => Call::Get { key },
        28..31 => Call::Named {
            name: rng.u8(..40),
            key: key % 2,
        },
        31..34 => Call::Again { back: rng.u8(..4) },
        34..37 => Call::OpenSession {
            ttl_ms: log_uniform(rng, 50, plan.session_ttl_ms),
        },
        37 | 38 => Call::KeepSession,
        _ => Call::CloseSession,
    }
}

//! Tenants: clients that run transactions, hold leases, and write within sessions and under idempotency keys.
//!
//! A call whose outcome is unknown is sent again, to another node, where that can do no harm: within a session and under an
//! idempotency key. Several calls of a tenant may be under way at once, so the writes of its session come in any order. A
//! call that is given up is acknowledged with the next write; its copies may still be on their way.

mod commands;
mod drawing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use fastrand::Rng;
use raftkv_protocol::{Answer, ErrorCode, LeaseId, LeaseQuery, Once, Request, Response, SessionId};
use raftkv_raft::Stamp;

use super::clients::Reply;
use super::machine::Waiting;
use super::{Attempt, Happening, Micros, World};
use crate::simulation::observer::{Floor, Invocation, ProposalId, is_outcome};
use crate::simulation::plan::Plan;
use crate::simulation::random::{Stream, chance_ppm, exponential, stream};
use crate::simulation::schedule::Asked;
use crate::simulation::tenants::{Call, TenantPlan};
use crate::simulation::trace::Traced;

/// Attempts of tenants are numbered from here on: no other client's.
const FIRST_ATTEMPT: u64 = 1 << 40;
/// Most calls of a tenant that are under way.
const MOST_ONGOING: usize = 4;
/// Requests that may come again.
const REMEMBERED: usize = 4;
/// Leases that a tenant keeps.
const MOST_LEASES: usize = 3;

/// One copy of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CallName {
    tenant: usize,
    call: u64,
    copy: u32,
}

/// What can happen about tenants.
#[derive(Debug)]
pub(super) enum TenantStep {
    /// A request arrives at a machine.
    Arrives {
        name: CallName,
        to: usize,
        sent: Box<Sent>,
    },
    /// A tenant hears.
    Hears(CallName, Box<Reply>),
    /// Its patience ends.
    TimesOut(CallName),
    /// It asks again.
    Retries(CallName),
}

impl TenantStep {
    /// The machine whose process must run for it.
    pub(super) fn needs_running(&self) -> Option<usize> {
        match self {
            TenantStep::Arrives { to, .. } => Some(*to),
            TenantStep::Hears(..) | TenantStep::TimesOut(_) | TenantStep::Retries(_) => None,
        }
    }
}

/// What was asked of a node.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    request: Request,
    call: Call,
    attempt: Attempt,
    floor: Floor,
}

impl Sent {
    fn proposal(&self) -> Option<ProposalId> {
        let Request::Write(command) = &self.request else {
            return None;
        };
        let once = command.once();
        let stamp = Stamp {
            session: once.map_or(0, |once| once.session.0),
            sequence: once.map_or(0, |once| once.sequence),
            ..Stamp::default()
        };
        Some(ProposalId::of(command.encoded(), &stamp))
    }

    /// Does it do no harm to send it twice?
    fn may_be_repeated(&self) -> bool {
        match (&self.request, self.call) {
            (_, Call::Named { .. }) => true,
            (Request::Write(command), _) => command.once().is_some(),
            _ => true,
        }
    }
}

struct Ongoing {
    sent: Sent,
    copies: u32,
    via: usize,
}

struct Session {
    id: SessionId,
    next: u64,
    outstanding: BTreeSet<u64>,
}

#[derive(Default)]
struct Tenant {
    session: Option<Session>,
    /// The latest last.
    leases: Vec<LeaseId>,
    ongoing: BTreeMap<u64, Ongoing>,
    past: VecDeque<Sent>,
}

/// See the module.
pub(super) struct Tenants {
    tenants: Vec<Tenant>,
    plan: TenantPlan,
    padding: usize,
    rng: Rng,
    lost_ppm: u32,
    delay_us: u64,
    attempts: u64,
    calls: u64,
    /// What was sent and may still be answered.
    open: BTreeMap<CallName, Sent>,
}

impl Tenants {
    pub(super) fn new(plan: &Plan) -> Tenants {
        Tenants {
            tenants: (0..plan.tenants.tenants).map(|_| Tenant::default()).collect(),
            plan: plan.tenants.clone(),
            padding: plan.workload.value_bytes,
            rng: stream(plan.seed, Stream::Tenants, 1),
            lost_ppm: plan.network.client_lost_ppm,
            delay_us: plan.network.delay_us + plan.network.jitter_us,
            attempts: FIRST_ATTEMPT,
            calls: 0,
            open: BTreeMap::new(),
        }
    }

    /// What they wait for is answered by nobody any more; what they held may be lost.
    pub(super) fn begin_anew(&mut self) {
        self.tenants.fill_with(Tenant::default);
        self.open.clear();
    }

    /// From now on they lose nothing.
    pub(super) fn heal(&mut self) {
        self.lost_ppm = 0;
    }

    fn arrival(&mut self, now: Micros) -> Option<Micros> {
        let at = now + 50 + exponential(&mut self.rng, self.delay_us);
        (!chance_ppm(&mut self.rng, self.lost_ppm)).then_some(at)
    }
}

impl World {
    /// A tenant begins a call.
    pub(super) fn call(&mut self, tenant: usize, call: Call, via: usize) {
        let tenants = &mut self.tenants;
        let Some(this) = tenants.tenants.get_mut(tenant) else {
            return;
        };
        match call {
            Call::Leave => {
                this.leases.clear();
                return;
            }
            Call::Again { back } => {
                let count = this.past.len();
                if let Some(sent) = count
                    .checked_sub(1 + usize::from(back))
                    .map(|at| this.past[at].clone())
                {
                    tenants.calls += 1;
                    let name = CallName {
                        tenant,
                        call: tenants.calls,
                        copy: 0,
                    };
                    self.send_call(name, sent, via);
                }
                return;
            }
            _ if this.ongoing.len() >= MOST_ONGOING => return,
            _ => {}
        }
        tenants.calls += 1;
        let number = tenants.calls;
        if let Some(sent) = self.draw_up(tenant, call) {
            let ongoing = Ongoing { sent, copies: 0, via };
            self.tenants.tenants[tenant].ongoing.insert(number, ongoing);
            self.send_next_copy(tenant, number);
        }
    }

    fn send_next_copy(&mut self, tenant: usize, call: u64) {
        let nodes = &self.clients.turn_to;
        let this = &mut self.tenants.tenants[tenant];
        let Some(ongoing) = this.ongoing.get_mut(&call) else {
            return;
        };
        ongoing.copies += 1;
        let to = nodes[(ongoing.via + ongoing.copies as usize) % nodes.len()];
        let name = CallName {
            tenant,
            call,
            copy: ongoing.copies,
        };
        let mut sent = ongoing.sent.clone();
        // What the tenant wants to know of earlier writes may be less than when the first copy was sent.
        if let Request::Write(command) = &mut sent.request
            && let Some(once) = command.once()
            && let Some(session) = this.session.as_ref().filter(|session| session.id == once.session)
        {
            let first = session.outstanding.first().copied();
            let first_unacknowledged = first.unwrap_or(session.next).min(once.sequence);
            *command = command.clone().within(Once {
                first_unacknowledged,
                ..once
            });
        }
        self.send_call(name, sent, to);
        let until = self.now + self.tenants.plan.timeout_us;
        self.queue
            .push(until, Happening::Tenant(TenantStep::TimesOut(name)));
    }

    fn send_call(&mut self, name: CallName, sent: Sent, to: usize) {
        let words = [name.tenant as u64, name.call << 16 | u64::from(name.copy)];
        self.trace.note(self.now, None, Traced::Invoke, words, || {
            format!("{name:?} via node{}: {sent:?}", to + 1)
        });
        if let Some(proposal) = sent.proposal() {
            self.observer.proposal_sent(proposal);
        }
        self.tenants.open.insert(name, sent.clone());
        if let Some(at) = self.tenants.arrival(self.now) {
            let sent = Box::new(sent);
            let arrives = TenantStep::Arrives { name, to, sent };
            self.queue.push(at, Happening::Tenant(arrives));
        }
    }

    pub(super) fn tenant_step(&mut self, step: TenantStep) {
        match step {
            TenantStep::Arrives { name, to, sent } => {
                let patience_us = self.tenants.plan.timeout_us;
                let waiting = Waiting::Tenant(name);
                if self.hand(to, waiting, sent.request, patience_us).is_none() {
                    self.tell_tenant(name, Reply::Unreachable);
                }
            }
            TenantStep::Hears(name, reply) => self.tenant_hears(name, *reply),
            TenantStep::TimesOut(name) => self.call_unknown(name),
            TenantStep::Retries(name) => {
                if self.is_latest(name) {
                    self.send_next_copy(name.tenant, name.call);
                }
            }
        }
    }

    /// Sends a reply to a tenant.
    pub(super) fn tell_tenant(&mut self, name: CallName, reply: Reply) {
        if let Some(at) = self.tenants.arrival(self.now) {
            let hears = TenantStep::Hears(name, Box::new(reply));
            self.queue.push(at, Happening::Tenant(hears));
        }
    }

    fn is_latest(&self, name: CallName) -> bool {
        let ongoing = self.tenants.tenants[name.tenant].ongoing.get(&name.call);
        ongoing.is_some_and(|ongoing| ongoing.copies == name.copy)
    }

    /// Whatever is told is checked, though the tenant may have given up; a late answer to an earlier copy is an answer.
    fn tenant_hears(&mut self, name: CallName, reply: Reply) {
        let Some(sent) = self.tenants.open.remove(&name) else {
            return;
        };
        let words = reply.words();
        self.trace.note(self.now, None, Traced::Complete, words, || {
            format!("{name:?} {reply:?}")
        });
        match reply {
            Reply::Answered { by, response } => match &response.outcome {
                Err(failure) if failure.code == ErrorCode::OutcomeUnknown => self.call_unknown(name),
                Err(failure) if !is_outcome(failure.code) => self.call_failed(name, &sent),
                Ok(_) | Err(_) => {
                    self.check_call(by, &sent, &response);
                    self.call_over(name, &sent, &response);
                }
            },
            Reply::Unreachable => self.call_failed(name, &sent),
            Reply::Lost => self.call_unknown(name),
        }
    }

    fn check_call(&mut self, by: usize, sent: &Sent, response: &Response) {
        match (&sent.request, sent.proposal()) {
            (_, Some(proposal)) => self
                .observer
                .proposal_answered(by, proposal, sent.floor, response),
            (Request::Lease(LeaseQuery::One(id)), None) => {
                self.observer.lease_told(by, *id, sent.floor, response);
            }
            (Request::Get { key, .. }, None) => {
                let invocation = Invocation {
                    asked: Asked::Get,
                    key: key.clone(),
                    condition: raftkv_protocol::Condition::Always,
                    listing: None,
                    floor: sent.floor.revision,
                };
                self.observer.answered(by, &invocation, sent.attempt, response);
            }
            _ => {}
        }
    }

    /// The call has its answer.
    fn call_over(&mut self, name: CallName, sent: &Sent, response: &Response) {
        let this = &mut self.tenants.tenants[name.tenant];
        if this.ongoing.remove(&name.call).is_none() {
            return;
        }
        this.done_with(sent);
        match (&response.outcome, sent.call) {
            (Ok(Answer::LeaseGranted { id, .. }), _) => {
                this.leases.push(*id);
                if this.leases.len() > MOST_LEASES {
                    this.leases.remove(0);
                }
            }
            (Ok(Answer::SessionOpened { session, .. }), _) => {
                this.session = Some(Session {
                    id: *session,
                    next: 1,
                    outstanding: BTreeSet::new(),
                });
            }
            (Ok(Answer::SessionDone), Call::CloseSession) => this.session = None,
            (Err(failure), _) if failure.code == ErrorCode::SessionExpired => this.session = None,
            _ => {}
        }
    }

    /// This copy was not proposed, and never will be: another one may be.
    fn call_failed(&mut self, name: CallName, sent: &Sent) {
        if let Some(proposal) = sent.proposal() {
            self.observer.proposal_failed(proposal);
        }
        self.ask_again(name);
    }

    fn call_unknown(&mut self, name: CallName) {
        let ongoing = self.tenants.tenants[name.tenant].ongoing.get(&name.call);
        if ongoing.is_some_and(|ongoing| ongoing.sent.may_be_repeated()) {
            self.ask_again(name);
        } else if self.is_latest(name) {
            self.give_up(name);
        }
    }

    fn ask_again(&mut self, name: CallName) {
        if !self.is_latest(name) {
            return;
        }
        if name.copy >= self.tenants.plan.attempts {
            self.give_up(name);
            return;
        }
        let pause = 1_000 + exponential(&mut self.tenants.rng, 20_000);
        let retries = TenantStep::Retries(name);
        self.queue.push(self.now + pause, Happening::Tenant(retries));
    }

    fn give_up(&mut self, name: CallName) {
        let this = &mut self.tenants.tenants[name.tenant];
        if let Some(ongoing) = this.ongoing.remove(&name.call) {
            this.done_with(&ongoing.sent);
        }
    }
}

impl Tenant {
    /// It wants no answer to this any more.
    fn done_with(&mut self, sent: &Sent) {
        let Request::Write(command) = &sent.request else {
            return;
        };
        if let Some(once) = command.once()
            && let Some(session) = &mut self.session
            && session.id == once.session
        {
            session.outstanding.remove(&once.sequence);
        }
        if sent.may_be_repeated() {
            self.past.push_back(sent.clone());
        }
        if self.past.len() > REMEMBERED {
            self.past.pop_front();
        }
    }
}

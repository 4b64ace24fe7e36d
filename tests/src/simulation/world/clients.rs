//! Clients: one operation at a time each, with time-outs, retries where the outcome is known, and a recorded history.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use fastrand::Rng;
use raftkv_protocol::{
    Answer, CheckedCommand, Command, Condition, Consistency, ErrorCode, Limits, Request, Response, Revision,
};

use super::machine::Waiting;
use super::wire::answer_words;
use super::{Attempt, Happening, Micros, World};
use crate::linearizability::{Action as Recorded, ClientId, Moment, OperationId, Outcome, Recorder};
use crate::simulation::observer::Invocation;
use crate::simulation::plan::{Plan, WorkloadPlan};
use crate::simulation::random::{Stream, chance_ppm, exponential, stream};
use crate::simulation::schedule::Asked;
use crate::simulation::trace::Traced;

/// Attempts of one operation, as long as each is known to have had no effect.
const ATTEMPTS: u32 = 8;
/// Operations that wait at a busy client; more are dropped.
const WAITING: usize = 4;

/// What a client hears.
#[derive(Debug)]
pub(super) enum Reply {
    /// The node answered.
    Answered { by: usize, response: Response },
    /// There was nobody to connect to: certainly not executed.
    Unreachable,
    /// The connection broke after sending.
    Lost,
}

impl Reply {
    /// What a trace's hash takes in of it.
    pub(super) fn words(&self) -> [u64; 2] {
        match self {
            Reply::Answered { response, .. } => answer_words(response),
            Reply::Unreachable => [100, 0],
            Reply::Lost => [101, 0],
        }
    }
}

/// How operations ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// With an answer.
    pub(crate) answered: u64,
    /// Certainly without effect.
    pub(crate) failed: u64,
    /// With or without effect.
    pub(crate) unknown: u64,
}

pub(super) struct Ongoing {
    pub(super) invocation: Invocation,
    pub(super) attempt: Attempt,
    pub(super) attempts: u32,
    pub(super) via: usize,
    recorded: Option<OperationId>,
}

#[derive(Default)]
struct Client {
    ongoing: Option<Ongoing>,
    waiting: VecDeque<(Asked, u8, usize)>,
    /// The mod_revision this client last saw of each key.
    seen: BTreeMap<Bytes, Option<Revision>>,
}

/// All clients.
pub(super) struct Clients {
    clients: Vec<Client>,
    pub(super) rng: Rng,
    plan: WorkloadPlan,
    lost_ppm: u32,
    delay_us: u64,
    attempts: u64,
    pub(super) counts: Counts,
    pub(super) recorder: Recorder,
    /// Where clients turn to: all nodes, or the healed ones.
    pub(super) turn_to: Vec<usize>,
}

impl Clients {
    pub(super) fn new(plan: &Plan) -> Clients {
        Clients {
            // One more than the plan's: it asks only when the cluster must have come to rest.
            clients: (0..=plan.workload.clients).map(|_| Client::default()).collect(),
            rng: stream(plan.seed, Stream::ClientLink, 0),
            plan: plan.workload.clone(),
            lost_ppm: plan.network.client_lost_ppm,
            delay_us: plan.network.delay_us + plan.network.jitter_us,
            attempts: 0,
            counts: Counts::default(),
            recorder: Recorder::default(),
            turn_to: (0..plan.nodes).collect(),
        }
    }

    /// When something sent now arrives; `None`: lost, with its connection.
    fn arrival(&mut self, now: Micros) -> Option<Micros> {
        let at = now + 50 + exponential(&mut self.rng, self.delay_us);
        (!chance_ppm(&mut self.rng, self.lost_ppm)).then_some(at)
    }

    pub(super) fn ongoing(&mut self, client: usize) -> Option<&mut Ongoing> {
        self.clients[client].ongoing.as_mut()
    }

    pub(super) fn next_attempt(&mut self) -> Attempt {
        self.attempts += 1;
        Attempt(self.attempts)
    }

    /// What they wait for is answered by nobody any more, and what they saw may be lost.
    pub(super) fn begin_anew(&mut self) {
        for client in &mut self.clients {
            self.counts.unknown += u64::from(client.ongoing.is_some());
            *client = Client::default();
        }
    }

    /// The client that checks whether the cluster has come to rest.
    pub(super) fn checker(&self) -> usize {
        self.clients.len() - 1
    }

    pub(super) fn is_idle(&self, client: usize) -> bool {
        self.clients[client].ongoing.is_none() && self.clients[client].waiting.is_empty()
    }

    /// From now on clients lose nothing and turn to these nodes.
    pub(super) fn heal(&mut self, core: Vec<usize>) {
        self.lost_ppm = 0;
        self.turn_to = core;
    }
}

impl World {
    pub(super) fn ask(&mut self, client: usize, asked: Asked, key: u8, via: usize) {
        let Some(this) = self.clients.clients.get_mut(client) else {
            return;
        };
        if this.waiting.len() < WAITING {
            this.waiting.push_back((asked, key, via));
        }
        self.next_operation(client);
    }

    fn next_operation(&mut self, client: usize) {
        let this = &mut self.clients.clients[client];
        if this.ongoing.is_some() {
            return;
        }
        let Some((asked, key, via)) = this.waiting.pop_front() else {
            return;
        };
        let expires = matches!(
            asked,
            Asked::PutTtl { .. } | Asked::GetTtl | Asked::PutOverTtl | Asked::DeleteTtl
        );
        let key = Bytes::from(format!("{}{key}", if expires { "ttl" } else { "key" }));
        let condition = match asked {
            Asked::PutAbsent => Condition::Absent,
            Asked::PutIf | Asked::DeleteIf => match this.seen.get(&key) {
                Some(Some(revision)) => Condition::ModRevision(*revision),
                Some(None) | None => Condition::Absent,
            },
            Asked::Get
            | Asked::LeaseGet
            | Asked::StaleGet
            | Asked::Put
            | Asked::Delete
            | Asked::PutTtl { .. }
            | Asked::GetTtl
            | Asked::PutOverTtl
            | Asked::DeleteTtl
            | Asked::List
            | Asked::LeaseList
            | Asked::StaleList
            | Asked::ListCount
            | Asked::ListPast { .. }
            | Asked::ListAgo { .. }
            | Asked::GetPast { .. } => Condition::Always,
        };
        let floor = self.observer.shown_revision();
        let listing = self.draw_listing(asked, &key, floor);
        let invocation = Invocation {
            asked,
            key,
            condition,
            listing,
            floor,
        };
        let attempt = self.clients.next_attempt();
        let recorded = self.record(client, &invocation, attempt);
        self.clients.clients[client].ongoing = Some(Ongoing {
            invocation,
            attempt,
            attempts: 0,
            via,
            recorded,
        });
        self.attempt(client);
    }

    fn record(&mut self, client: usize, invocation: &Invocation, attempt: Attempt) -> Option<OperationId> {
        let condition = invocation.condition;
        let action = match invocation.asked {
            Asked::Get | Asked::LeaseGet => Recorded::Get,
            Asked::Put | Asked::PutIf | Asked::PutAbsent => {
                let value = attempt.value(self.clients.plan.value_bytes);
                Recorded::Put { value, condition }
            }
            Asked::Delete | Asked::DeleteIf => Recorded::Delete { condition },
            Asked::StaleGet
            | Asked::PutTtl { .. }
            | Asked::GetTtl
            | Asked::PutOverTtl
            | Asked::DeleteTtl
            | Asked::List
            | Asked::LeaseList
            | Asked::StaleList
            | Asked::ListCount
            | Asked::ListPast { .. }
            | Asked::ListAgo { .. }
            | Asked::GetPast { .. } => {
                return None;
            }
        };
        let client = ClientId(u32::try_from(client).expect("few clients"));
        Some(
            self.clients
                .recorder
                .invoke(client, invocation.key.clone(), action, Moment(self.now)),
        )
    }

    /// Sends the ongoing operation's present attempt.
    fn attempt(&mut self, client: usize) {
        let timeout_us = self.clients.plan.timeout_us;
        let turn_to = &self.clients.turn_to;
        let Some(ongoing) = &mut self.clients.clients[client].ongoing else {
            return;
        };
        ongoing.attempts += 1;
        let to = turn_to[(ongoing.via + ongoing.attempts as usize) % turn_to.len()];
        let attempt = ongoing.attempt;
        let words = [client as u64, attempt.0];
        self.trace.note(self.now, None, Traced::Invoke, words, || {
            format!(
                "client{client} {attempt:?} via node{}: {:?}",
                to + 1,
                ongoing.invocation
            )
        });
        if let Some(at) = self.clients.arrival(self.now) {
            self.queue.push(at, Happening::Request { to, client, attempt });
        }
        self.queue.push(
            self.now + timeout_us,
            Happening::ClientTimeout { client, attempt },
        );
    }

    pub(super) fn request_arrives(&mut self, to: usize, client: usize, attempt: Attempt) {
        let Some(request) = self.request_of(client, attempt) else {
            return;
        };
        let patience_us = self.clients.plan.timeout_us;
        let waiting = Waiting::Client { client, attempt };
        if self.hand(to, waiting, request, patience_us).is_none() {
            self.reply(to, client, attempt, Reply::Unreachable);
        }
    }

    /// The request as it is sent; `None` if the client has given the attempt up (its connection is closed).
    fn request_of(&self, client: usize, attempt: Attempt) -> Option<Request> {
        let ongoing = self.clients.clients[client].ongoing.as_ref()?;
        if ongoing.attempt != attempt {
            return None;
        }
        let Invocation {
            asked,
            key,
            condition,
            listing,
            ..
        } = &ongoing.invocation;
        if let Some(listing) = listing {
            return Some(Request::Range(listing.request.clone()));
        }
        let condition = *condition;
        let value = attempt.value(self.clients.plan.value_bytes);
        let command = match *asked {
            Asked::Get | Asked::GetTtl => {
                return Some(Request::Get {
                    key: key.clone(),
                    consistency: Consistency::Linearizable,
                });
            }
            Asked::LeaseGet => {
                return Some(Request::Get {
                    key: key.clone(),
                    consistency: Consistency::LeaderLease,
                });
            }
            Asked::StaleGet => {
                return Some(Request::Get {
                    key: key.clone(),
                    consistency: Consistency::Stale,
                });
            }
            Asked::Put | Asked::PutIf | Asked::PutAbsent | Asked::PutOverTtl => Command::Put {
                key,
                value: &value,
                condition,
                ttl_ms: None,
            },
            Asked::PutTtl { ttl_ms } => Command::Put {
                key,
                value: &value,
                condition,
                ttl_ms: Some(ttl_ms),
            },
            Asked::Delete | Asked::DeleteIf | Asked::DeleteTtl => Command::Delete { key, condition },
            Asked::List
            | Asked::LeaseList
            | Asked::StaleList
            | Asked::ListCount
            | Asked::ListPast { .. }
            | Asked::ListAgo { .. }
            | Asked::GetPast { .. } => unreachable!("a listing has its request"),
        };
        let checked = CheckedCommand::new(&command, &Limits::default()).expect("drawn within the limits");
        Some(Request::Write(checked))
    }

    /// Sends a reply to a client.
    pub(super) fn reply(&mut self, _from: usize, client: usize, attempt: Attempt, reply: Reply) {
        if let Some(at) = self.clients.arrival(self.now) {
            let reply = Box::new(reply);
            self.queue.push(
                at,
                Happening::Reply {
                    client,
                    attempt,
                    reply,
                },
            );
        }
    }

    pub(super) fn reply_arrives(&mut self, client: usize, attempt: Attempt, reply: Reply) {
        let Some(ongoing) = &self.clients.clients[client].ongoing else {
            return;
        };
        if ongoing.attempt != attempt {
            return;
        }
        let words = reply.words();
        self.trace.note(self.now, None, Traced::Complete, words, || {
            format!("client{client} {attempt:?} {reply:?}")
        });
        match reply {
            Reply::Answered { by, response } => match &response.outcome {
                Ok(answer) => {
                    let invocation = ongoing.invocation.clone();
                    self.observer.answered(by, &invocation, attempt, &response);
                    match answer {
                        Answer::Range(page) => self.page_arrived(client, page),
                        answer => self.succeeded(client, answer),
                    }
                }
                Err(failure) if failure.code == ErrorCode::OutcomeUnknown => self.unknown(client),
                Err(failure) => {
                    let asked = ongoing.invocation.asked;
                    if failure.code == ErrorCode::NoSpace {
                        self.refused_for_space(by, asked);
                    }
                    if !self.page_refused(by, client, failure) {
                        self.failed(client);
                    }
                }
            },
            Reply::Unreachable => self.failed(client),
            Reply::Lost => self.unknown(client),
        }
    }

    /// Only what needs room is refused for want of it, and only when some disk had little.
    fn refused_for_space(&mut self, by: usize, asked: Asked) {
        let is_put = matches!(
            asked,
            Asked::Put | Asked::PutIf | Asked::PutAbsent | Asked::PutTtl { .. } | Asked::PutOverTtl
        );
        if !is_put || !self.was_space_low {
            let what = format!("{asked:?} was refused for want of space");
            self.observer.violate("I20", Some(by), what);
        }
    }

    fn succeeded(&mut self, client: usize, answer: &Answer) {
        let this = &mut self.clients.clients[client];
        let Some(ongoing) = this.ongoing.take() else {
            return;
        };
        let seen = match answer {
            Answer::Found(record)
            | Answer::Read {
                record: Some(record), ..
            } => Some(Some(record.mod_revision)),
            Answer::Put { revision } => Some(Some(*revision)),
            Answer::NotFound | Answer::Read { record: None, .. } | Answer::Deleted { .. } => Some(None),
            Answer::ConditionFailed { current } => Some(*current),
            _ => None,
        };
        if let Some(seen) = seen {
            this.seen.insert(ongoing.invocation.key, seen);
        }
        if let (Some(recorded), Some(outcome)) = (ongoing.recorded, Outcome::from_answer(answer)) {
            self.clients
                .recorder
                .answered(recorded, outcome, Moment(self.now));
        }
        self.clients.counts.answered += 1;
        self.next_operation(client);
    }

    /// The last page of a listing came, or a refusal that stays.
    pub(super) fn listing_over(&mut self, client: usize) {
        self.clients.clients[client].ongoing = None;
        self.clients.counts.answered += 1;
        self.next_operation(client);
    }

    /// The attempt certainly had no effect, and never will have: another one may follow.
    fn failed(&mut self, client: usize) {
        let Some(ongoing) = &self.clients.clients[client].ongoing else {
            return;
        };
        self.observer.attempt_failed(ongoing.attempt);
        if let Some(recorded) = ongoing.recorded {
            self.clients.recorder.failed(recorded);
        }
        let has_more = ongoing.attempts < ATTEMPTS || client == self.clients.checker();
        if !has_more {
            self.clients.clients[client].ongoing = None;
            self.clients.counts.failed += 1;
            self.next_operation(client);
            return;
        }
        // Each attempt writes a value of its own, so that one that was wrongly called failed shows (I18).
        let invocation = ongoing.invocation.clone();
        let attempt = self.clients.next_attempt();
        let recorded = self.record(client, &invocation, attempt);
        if let Some(ongoing) = &mut self.clients.clients[client].ongoing {
            ongoing.attempt = attempt;
            ongoing.recorded = recorded;
        }
        let pause = 5_000 + exponential(&mut self.clients.rng, 30_000);
        self.queue
            .push(self.now + pause, Happening::ClientRetry { client, attempt });
    }

    /// A write may have happened, or may yet; the client goes on to something else. A read is simply gone.
    fn unknown(&mut self, client: usize) {
        self.clients.clients[client].ongoing = None;
        self.clients.counts.unknown += 1;
        self.next_operation(client);
    }

    pub(super) fn client_times_out(&mut self, client: usize, attempt: Attempt) {
        let ongoing = self.clients.clients[client].ongoing.as_ref();
        if ongoing.is_some_and(|ongoing| ongoing.attempt == attempt) {
            let words = [client as u64, attempt.0];
            self.trace.note(self.now, None, Traced::Complete, words, || {
                format!("client{client} {attempt:?} timed out")
            });
            self.unknown(client);
        }
    }

    pub(super) fn client_retries(&mut self, client: usize, attempt: Attempt) {
        let ongoing = self.clients.clients[client].ongoing.as_ref();
        if ongoing.is_some_and(|ongoing| ongoing.attempt == attempt) {
            self.attempt(client);
        }
    }
}

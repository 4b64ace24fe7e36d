//! Polls: one batch of effects, carried out in order; between any two the process may be killed.

use raftkv_protocol::{PeerMessage, Response};
use raftkv_server::replica::{Effect, Notice, Token};

use super::clients::Reply;
use super::machine::Waiting;
use super::watch_threads::Order;
use super::watchers::Told;
use super::wire::{answer_words, fingerprint};
use super::{Arrival, Happening, LogRequest, ProcessId, World};
use crate::simulation::random::mix_bytes;
use crate::simulation::trace::Traced;

impl World {
    pub(super) fn poll(&mut self, id: ProcessId) {
        let machine = &mut self.machines[id.slot];
        let local = machine.clock.local(self.now);
        let Some(process) = machine.process_of(id.life) else {
            return;
        };
        process.is_poll_arranged = false;
        let mut effects = std::mem::take(&mut self.effects_buffer);
        process.node.poll(local, &mut effects);
        process.note_batch(&effects);
        // All that was decided is looked at before anything of it is visible: a crash half way then changes nothing.
        self.observer.polled(id.slot, &process.node, &effects);
        if process.timer_wrongly_restarted(&effects) {
            let what = "a request it did not vote for restarted its election timer".to_owned();
            self.observer.violate("I20", Some(id.slot), what);
        }
        self.check_quarantine(id, &effects);
        self.check_queues(id, &effects);
        for effect in effects.drain(..) {
            if self.is_killed_here(id) {
                break;
            }
            self.carry_out(id, effect);
        }
        effects.clear();
        self.effects_buffer = effects;
        self.arrange_timer(id);
    }

    /// Everything that waits at a node has a limit (I19).
    fn check_queues(&mut self, id: ProcessId, effects: &[Effect]) {
        let Some(process) = self.machines[id.slot].process_of(id.life) else {
            return;
        };
        // Reads and forwarded requests wait beside the writes. Whoever is answered now, as too many are that came while the
        // process did not run, waits no more.
        let answers = effects
            .iter()
            .filter(|effect| matches!(effect, Effect::Answer { .. }));
        let (waiting, limit) = (
            process.waiting.len().saturating_sub(answers.count()),
            3 * self.scenario.plan.max_pending_requests + 64,
        );
        if waiting > limit {
            let what = format!("{waiting} requests wait, the limit is {limit}");
            self.observer.violate("I19", Some(id.slot), what);
        }
        let (held, limit) = (process.overlay_bytes(), self.scenario.plan.store.overlay_bytes);
        let batch = process.largest_batch;
        // The generation that is written to and the one that drains may each have ended with one.
        if held > limit + 2 * batch {
            let what = format!(
                "the overlay holds {held} bytes, its limit is {limit}, the largest batch was {batch}"
            );
            self.observer.violate("I19", Some(id.slot), what);
        }
    }

    /// Counts an effect boundary; kills the process if this is the one.
    pub(super) fn is_killed_here(&mut self, id: ProcessId) -> bool {
        self.effects += 1;
        if let Some(point) = self.crosses_effect() {
            self.kill(id.slot, point.remains, point.down_us);
            return true;
        }
        let machine = &mut self.machines[id.slot];
        let Some(armed) = &mut machine.crash_at_effect else {
            return false;
        };
        armed.effects -= 1;
        if armed.effects > 0 {
            return false;
        }
        let armed = *armed;
        machine.crash_at_effect = None;
        self.kill(id.slot, armed.remains, armed.down_us);
        true
    }

    fn carry_out(&mut self, id: ProcessId, effect: Effect) {
        match effect {
            Effect::Send { to, message } => {
                if let Some(to) = self.slot_of(&to) {
                    self.send(id.slot, to, message);
                }
            }
            Effect::Write(write) => {
                let words = [
                    write.number.0,
                    write.hard_state.term.0 << 32 | write.entries.len() as u64,
                ];
                self.trace
                    .note(self.now, Some(id.slot), Traced::Write, words, || {
                        format!("{write:?}")
                    });
                if let Some(process) = self.machines[id.slot].process_of(id.life) {
                    process.writes.push_back(write);
                }
                self.write_next(id);
            }
            Effect::Fetch(fetch) => {
                let words = [fetch.from.get(), fetch.to.get()];
                self.trace
                    .note(self.now, Some(id.slot), Traced::Fetch, words, || {
                        format!("{fetch:?}")
                    });
                self.arrange_read(id, fetch);
            }
            Effect::CreateLog {
                membership,
                founding,
                hard_state,
            } => {
                let words = [membership.cluster.0, membership.members.len() as u64];
                self.trace
                    .note(self.now, Some(id.slot), Traced::CreateLog, words, || {
                        format!("{membership:?}")
                    });
                self.observer.log_asked(&founding);
                let request = LogRequest {
                    membership,
                    founding,
                    hard_state,
                };
                self.arrange_making(id, request);
            }
            Effect::Answer { token, response } => self.answer(id, token, response),
            Effect::BeginWatch(begin) => self.begin_watch(id, *begin),
            Effect::EndWatches(failure) => self.order(id, Order::EndAll(failure)),
            Effect::Forward {
                token,
                to,
                request,
                deadline,
            } => self.forward(id, token, &to, request, deadline),
            Effect::Lookup { .. }
            | Effect::ReadPage { .. }
            | Effect::Scrub { .. }
            | Effect::CheckFiles
            | Effect::ReleaseState(_)
            | Effect::Record(_)
            | Effect::Seal { .. }
            | Effect::Drain { .. }
            | Effect::TrimHistory { .. }
            | Effect::CutLog { .. }
            | Effect::Discard(_) => self.carry_out_for_store(id, effect),
            Effect::SendBulk { to, message } => {
                if let Some(to) = self.slot_of(&to) {
                    self.send(id.slot, to, message);
                }
            }
            Effect::OpenSnapshot(_)
            | Effect::CloseSnapshot(_)
            | Effect::ReadPart { .. }
            | Effect::TakePart { .. }
            | Effect::AbandonSnapshot
            | Effect::Install { .. } => self.carry_out_for_snapshot(id, effect),
            Effect::Quarantine(quarantine) => self.arrange_quarantine(id, quarantine),
            Effect::Notice(notice) => {
                if let Notice::MembersChanged(membership) = &notice {
                    self.note_members(id.slot, membership);
                }
                let text = format!("{notice:?}");
                let words = [mix_bytes(0, text.as_bytes()), 0];
                self.trace
                    .note(self.now, Some(id.slot), Traced::Notice, words, || text);
            }
        }
    }

    pub(super) fn send(&mut self, from: usize, to: usize, message: PeerMessage) {
        if let PeerMessage::Raft(raft) = &message {
            self.observer.sends(from, raft);
        }
        let words = fingerprint(&message);
        self.trace.note(self.now, Some(from), Traced::Send, words, || {
            format!("to node{}: {message:?}", to + 1)
        });
        let mut arrivals = std::mem::take(&mut self.arrivals);
        self.network.send(self.now, from, to, &mut arrivals);
        if arrivals.is_empty() {
            self.trace.note(self.now, Some(from), Traced::Lose, words, || {
                format!("to node{}", to + 1)
            });
        }
        let last = arrivals.pop();
        for arrival in arrivals.drain(..) {
            self.arrange_arrival((from, to), arrival, message.clone());
        }
        if let Some(arrival) = last {
            self.arrange_arrival((from, to), arrival, message);
        }
        self.arrivals = arrivals;
    }

    fn arrange_arrival(&mut self, (from, to): (usize, usize), arrival: Arrival, message: PeerMessage) {
        let (at, message) = match arrival {
            Arrival::Whole(at) if self.scenario.plan.network.encoded => {
                (at, self.over_the_wire(from, &message))
            }
            Arrival::Whole(at) => (at, Some(message)),
            Arrival::Corrupted(at) => (at, self.over_a_bad_wire(from, &message)),
        };
        if let Some(message) = message {
            let message = Box::new(message);
            self.queue.push(at, Happening::Message { to, message });
        }
    }

    fn answer(&mut self, id: ProcessId, token: Token, response: Response) {
        self.trace.note(
            self.now,
            Some(id.slot),
            Traced::Answer,
            answer_words(&response),
            || format!("{token:?} {:?}", response.outcome),
        );
        let Some(process) = self.machines[id.slot].process_of(id.life) else {
            return;
        };
        match process.waiting.remove(&token) {
            Some(Waiting::Client { client, attempt }) => {
                self.reply(
                    id.slot,
                    client,
                    attempt,
                    Reply::Answered {
                        by: id.slot,
                        response,
                    },
                );
            }
            Some(Waiting::Tenant(name)) => {
                let by = id.slot;
                self.tell_tenant(name, Reply::Answered { by, response });
            }
            Some(Waiting::Watcher(name)) => {
                let by = id;
                let charged = 0;
                self.watcher_hears(
                    id,
                    name,
                    Told {
                        by,
                        response,
                        charged,
                    },
                );
            }
            Some(Waiting::Operator(operation)) => self.operator_hears(id.slot, operation, &response),
            Some(Waiting::Node { origin, token }) => self.answer_forwarded(id.slot, origin, token, response),
            None => {
                let what = format!("answered {token:?}, which does not wait (twice?)");
                self.observer.violate("I19", Some(id.slot), what);
            }
        }
    }
}

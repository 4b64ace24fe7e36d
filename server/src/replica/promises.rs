//! What reads are promised, and how the answer says what it rests on.
//!
//! - *Linearizable*: see `reads`.
//! - *Leader lease*: served at once while this node leads and holds a lease (thesis 6.4.1). The state is read in one batch,
//!   and the lease checked again with the time of the next: a pause in between would make the answer stale (R70). Whatever
//!   stands in the way (leases off, no lease, not the leader, members that were told different bounds), a majority is asked
//!   instead, and the answer says so.
//! - *Stale*: the state as it is.
//! - *Stale within a bound*: the state as it is, if this node has proof that it holds all that was acknowledged up to so long
//!   ago: a read index that was asked for then, and is applied. Without the proof it is asked for now.

use std::time::Duration;

use bytes::Bytes;
use raftkv_protocol::{Answer, Consistency, Header, NodeId, ReadBasis, Record, Response};
use raftkv_raft::simulation::mark;
use raftkv_raft::{LeaderLease, RoleName, Time};

use super::Token;
use super::formed::Formed;
use super::outbox::Outbox;
use super::presence::lease_drift_ppm;
use super::reads::{PendingRead, Wanted};

/// The lease of what was read is checked with a time later than the read's.
const CHECK_AFTER: Duration = Duration::from_micros(1);

/// A read as it was asked for.
#[derive(Debug)]
pub(super) struct AskedRead {
    pub(super) token: Token,
    pub(super) key: Bytes,
    pub(super) consistency: Consistency,
    pub(super) deadline: Time,
    pub(super) leader_deadline: Time,
}

/// What a read's answer rests on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Promise {
    /// A read index, as by default.
    Linearizable,
    /// The same, which the answer is to say.
    ByReadIndex,
    /// The local state, with the age of the last contact with a leader.
    Local { leader_contact_ms: Option<u64> },
    /// A lease that held when the read began.
    Leased(LeaderLease),
}

/// A record that was read by lease, and is given out once the lease was checked again.
#[derive(Debug)]
pub(super) struct Leased {
    read: PendingRead,
    lease: LeaderLease,
    header: Header,
    record: Option<Record>,
    check_at: Time,
}

impl Formed {
    /// Takes a read.
    pub(super) fn take_read(&mut self, now: Time, asked: AskedRead, out: &mut Outbox) {
        out.take_request();
        let promise = self.promise(now, asked.consistency);
        let read = PendingRead {
            token: asked.token,
            wanted: Wanted::Record(asked.key),
            deadline: asked.deadline,
            leader_deadline: asked.leader_deadline,
            promise,
        };
        match promise {
            Promise::Linearizable | Promise::ByReadIndex => self.reads.push(read),
            Promise::Local { .. } | Promise::Leased(_) => self.answer_read(now, read, out),
        }
    }

    /// How a read can be served now.
    pub(super) fn promise(&self, now: Time, consistency: Consistency) -> Promise {
        let contact = self.raft.leader_contact(now);
        let local = Promise::Local {
            leader_contact_ms: contact.map(milliseconds),
        };
        match consistency {
            Consistency::Linearizable => Promise::Linearizable,
            Consistency::Stale => local,
            Consistency::StaleWithin { max_staleness_ms } => {
                let age = self.reads.age(now);
                match age.is_some_and(|age| age <= Duration::from_millis(max_staleness_ms)) {
                    true => local,
                    false => Promise::ByReadIndex,
                }
            }
            Consistency::LeaderLease => self
                .lease_for_reads(now)
                .map_or(Promise::ByReadIndex, Promise::Leased),
        }
    }

    /// A lease by which the present state may be read.
    fn lease_for_reads(&self, now: Time) -> Option<LeaderLease> {
        if self.raft.role() != RoleName::Leader {
            return None;
        }
        let lease = self.raft.lease(now)?;
        let others = self.raft.configuration().members();
        let others = others.into_iter().filter(|member| *member != self.raft.id());
        let ours = lease_drift_ppm(self.config.raft.leader_leases);
        let agree = self
            .presences
            .leases_agree(ours, others.map(|member| NodeId(member.0)));
        (agree && lease.index <= self.applied()).then_some(lease)
    }

    /// Answers a read with what was found.
    pub(super) fn found_for(
        &mut self,
        now: Time,
        read: PendingRead,
        record: Option<Record>,
        out: &mut Outbox,
    ) {
        let answer = match read.promise {
            Promise::Linearizable => record.map_or(Answer::NotFound, Answer::Found),
            Promise::ByReadIndex => Answer::Read {
                record,
                basis: ReadBasis::ReadIndex,
            },
            Promise::Local { leader_contact_ms } => Answer::Read {
                record,
                basis: ReadBasis::Local {
                    applied_index: self.applied().get(),
                    leader_contact_ms,
                },
            },
            Promise::Leased(lease) => {
                // The revision that the answer tells is that of the state which was read.
                self.reads.leased.push(Leased {
                    read,
                    lease,
                    header: self.header(),
                    record,
                    check_at: now.after(CHECK_AFTER),
                });
                return;
            }
        };
        let header = self.header();
        let outcome = Ok(answer);
        out.finish(read.token, Response { header, outcome });
    }

    /// Gives out what was read by lease, if the lease has held all the while.
    pub(super) fn check_leases(&mut self, now: Time, out: &mut Outbox) {
        if self.next_lease_check() > now {
            return;
        }
        for leased in std::mem::take(&mut self.reads.leased) {
            let Leased {
                read,
                lease,
                header,
                record,
                ..
            } = leased;
            if self.raft.still_holds(now, lease) {
                mark("read served by leader lease");
                let outcome = Ok(Answer::Read {
                    record,
                    basis: ReadBasis::LeaderLease,
                });
                out.finish(read.token, Response { header, outcome });
            } else {
                self.reads.push(PendingRead {
                    promise: Promise::ByReadIndex,
                    ..read
                });
            }
        }
    }

    pub(super) fn next_lease_check(&self) -> Time {
        let checks = self.reads.leased.iter().map(|leased| leased.check_at);
        checks.max().unwrap_or(Time::NEVER)
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

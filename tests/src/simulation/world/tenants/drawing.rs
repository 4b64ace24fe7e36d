//! What a tenant asks when it makes a call: drawn up once, so that its copies are alike.

use raftkv_protocol::{CheckedCommand, Command, Consistency, LeaseId, LeaseQuery, Once, Request};

use super::commands::{Material, checked, number_key, text_key};
use super::{Attempt, Call, Sent, World};

impl World {
    /// What a call asks; `None`: there is nothing to ask about.
    pub(super) fn draw_up(&mut self, tenant: usize, call: Call) -> Option<Sent> {
        let floor = self.observer.floor();
        self.tenants.attempts += 1;
        let attempt = Attempt(self.tenants.attempts);
        let this = &self.tenants.tenants[tenant];
        let lease = this.leases.last().copied();
        let material = Material {
            attempt,
            keys: self.tenants.plan.keys,
            padding: self.tenants.padding,
            lease,
            revision: floor.revision,
            leases: &this.leases,
        };
        let session = this.session.as_ref().map(|session| session.id);
        let command = match call {
            Call::Transact { draw } => material.transact(draw),
            Call::Increment { key } => material.increment(key),
            Call::Put { key } => material.put(key),
            Call::Delete { key } => material.delete(key),
            Call::Named { name, key } => material.named(name, key),
            Call::Hang { key } => material.hang(key)?,
            Call::Grant { ttl_ms, id } => checked(&Command::GrantLease {
                id: id.map(|id| LeaseId(u64::from(id))),
                ttl_ms,
            }),
            Call::Renew => material.renew()?,
            Call::Revoke => checked(&Command::RevokeLease { id: lease? }),
            Call::OpenSession { ttl_ms } => checked(&Command::OpenSession { ttl_ms }),
            Call::KeepSession => checked(&Command::RenewSession { session: session? }),
            Call::CloseSession => checked(&Command::CloseSession { session: session? }),
            Call::Get { key } => {
                let key = [text_key(key), number_key(key)][(attempt.0 & 1) as usize].clone();
                let consistency = Consistency::Linearizable;
                return Some(Sent {
                    request: Request::Get { key, consistency },
                    call,
                    attempt,
                    floor,
                });
            }
            Call::Look => {
                return Some(Sent {
                    request: Request::Lease(LeaseQuery::One(lease?)),
                    call,
                    attempt,
                    floor,
                });
            }
            Call::Leave | Call::Again { .. } => unreachable!("they ask nothing new"),
        };
        Some(Sent {
            request: Request::Write(self.within_session(tenant, call, command)),
            call,
            attempt,
            floor,
        })
    }

    /// A write of a tenant that has a session is one of that session.
    fn within_session(&mut self, tenant: usize, call: Call, command: CheckedCommand) -> CheckedCommand {
        let is_about_sessions = matches!(
            call,
            Call::OpenSession { .. } | Call::KeepSession | Call::CloseSession
        );
        let Some(session) = &mut self.tenants.tenants[tenant].session else {
            return command;
        };
        if is_about_sessions {
            return command;
        }
        let sequence = session.next;
        session.next += 1;
        session.outstanding.insert(sequence);
        command.within(Once {
            session: session.id,
            sequence,
            first_unacknowledged: 1,
        })
    }
}

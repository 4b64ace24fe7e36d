//! How requests reach a node, whoever sends them: clients, tenants, watchers, operators, other nodes.

use std::time::Duration;

use raftkv_protocol::Request;
use raftkv_server::replica::{Event, Hop};

use super::machine::Waiting;
use super::{Micros, World};

impl World {
    /// Hands a request to the process of a machine, which may take so long over it; `None`: there is none.
    pub(super) fn hand(
        &mut self,
        to: usize,
        waiting: Waiting,
        request: Request,
        patience_us: Micros,
    ) -> Option<()> {
        if self.machines[to].is_left_behind {
            return None;
        }
        let hop = match waiting {
            Waiting::Client { .. } | Waiting::Tenant(_) | Waiting::Watcher(_) | Waiting::Operator(_) => {
                Hop::First
            }
            Waiting::Node { .. } => Hop::Last,
        };
        let local = self.machines[to].clock.local(self.now);
        let deadline = local.after(Duration::from_micros(patience_us));
        let id = self.machines[to].process_id()?;
        let token = self.machines[to].process_of(id.life)?.token(waiting);
        let event = Event::Request {
            token,
            request,
            hop,
            deadline,
        };
        self.handle(id, event);
        Some(())
    }
}

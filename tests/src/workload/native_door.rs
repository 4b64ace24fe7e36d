//! The way in through the native client library.

use std::time::Duration;

use bytes::Bytes;
use raftkv_client::{Applied, Client, Error};
use raftkv_protocol::Condition;
use tokio::runtime::Runtime;

use super::door::{Door, Ended};
use crate::linearizability::{Action, Outcome};

/// A client of the whole cluster: it finds the leader by itself, and tries again where that is safe.
#[derive(Debug)]
pub struct NativeDoor {
    client: Client,
    runtime: Runtime,
}

impl NativeDoor {
    /// A client that knows these native ports of 127.0.0.1.
    ///
    /// # Panics
    /// When the system refuses what a runtime needs.
    #[must_use]
    pub fn new(native_ports: &[u16], timeout: Duration) -> NativeDoor {
        let endpoints = native_ports.iter().map(|port| format!("127.0.0.1:{port}"));
        let client = Client::builder().endpoints(endpoints).timeout(timeout).build();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        NativeDoor {
            client: client.expect("addresses of this form are valid"),
            runtime: runtime.expect("a runtime for a client"),
        }
    }
}

impl Door for NativeDoor {
    fn execute(&mut self, key: &Bytes, action: &Action) -> Ended {
        match self.runtime.block_on(ask(&self.client, key.clone(), action)) {
            Ok(outcome) => Ended::Answered(outcome),
            Err(Error::ConditionFailed { current }) => Ended::Answered(Outcome::ConditionFailed { current }),
            Err(error) => match error.applied() {
                Applied::No => Ended::Failed,
                Applied::Unknown => Ended::Unknown,
            },
        }
    }
}

async fn ask(client: &Client, key: Bytes, action: &Action) -> Result<Outcome, Error> {
    Ok(match action {
        Action::Get => match client.get(key).await? {
            Some(record) => Outcome::Found {
                value: record.value,
                mod_revision: record.mod_revision,
            },
            None => Outcome::NotFound,
        },
        Action::Put { value, condition } => {
            let set = client.set(key, value.clone());
            let set = match condition {
                Condition::Always => set,
                Condition::Absent => set.if_absent(),
                Condition::ModRevision(revision) => set.if_revision(*revision),
            };
            Outcome::Put { revision: set.await? }
        }
        Action::Delete { .. } => {
            let deleted = client.delete(key).await?;
            Outcome::Deleted {
                existed: deleted.existed,
                revision: deleted.revision,
            }
        }
    })
}

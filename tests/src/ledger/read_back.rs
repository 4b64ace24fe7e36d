//! Every key of a ledger read back from running nodes.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use raftkv_client::{Client, Consistency};
use raftkv_protocol::{Record, Revision};

use super::Ledger;
use crate::harness::Node;

/// Reads under way at the same time.
const AT_ONCE: usize = 256;
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// What this node itself holds of these keys, now.
///
/// # Panics
/// When it does not tell.
#[track_caller]
pub fn read_stale(node: &Node, keys: impl IntoIterator<Item = Bytes>) -> BTreeMap<Bytes, Record> {
    let client = Client::builder()
        .endpoints([format!("127.0.0.1:{}", node.native_port())])
        .timeout(READ_TIMEOUT)
        .build()
        .expect("addresses of this form are valid");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime for a client");
    runtime.block_on(async {
        let mut reads = tokio::task::JoinSet::new();
        let mut found = BTreeMap::new();
        let mut keys = keys.into_iter();
        loop {
            while reads.len() < AT_ONCE
                && let Some(key) = keys.next()
            {
                let client = client.clone();
                reads.spawn(async move {
                    let record = client.get(key.clone()).consistency(Consistency::Stale).await;
                    (key, record)
                });
            }
            let Some(read) = reads.join_next().await else {
                return found;
            };
            let (key, record) = read.expect("a read that does not panic");
            let record = record.unwrap_or_else(|error| panic!("reading {key:?} at {}: {error}", node.name()));
            found.extend(record.map(|record| (key, record)));
        }
    })
}

/// Compares every key of the ledger with what this node holds.
///
/// # Panics
/// At the first difference.
#[track_caller]
pub fn assert_all_keys(node: &Node, ledger: &Ledger) {
    let found = read_stale(node, ledger.keys().cloned());
    if let Err(what) = ledger.check(&found, Revision(u64::MAX)) {
        panic!(
            "{} holds something else than was acknowledged: {what}",
            node.name()
        );
    }
    println!(
        "{}: {} keys are there, as {} acknowledged writes made them ({} of unknown outcome)",
        node.name(),
        found.len(),
        ledger.acknowledged(),
        ledger.unknown()
    );
}

//! One test for each rule of the protocol that one node can keep or break by itself, named after the rule. The rules that
//! are about pure parts (terms along a log, quorums, progress) have theirs beside the code.

#[path = "../harness/mod.rs"]
mod harness;

mod elections;
mod leases;
mod membership;
mod persistence;
mod reads;
mod replication;
mod snapshots;
mod transfers;

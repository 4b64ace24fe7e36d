//! Whole servers over real sockets and disks: in this process where that is enough, as processes where exit codes and
//! signals matter.

mod client;
mod http_input;
mod kv_http;
mod locks;
mod members;
mod metrics;
mod native_input;
mod probes;
mod process;
mod recover;
mod rig;
mod serving;
mod txn_http;
mod watch;
mod watch_http;

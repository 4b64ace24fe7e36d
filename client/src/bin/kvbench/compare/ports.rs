//! Ports that nobody uses.

use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// Loopback addresses that were free a moment ago: the system chose them, all at once so that they differ.
pub(super) fn free_addresses(count: usize) -> io::Result<Vec<String>> {
    let listeners = (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let listeners = listeners.collect::<io::Result<Vec<_>>>()?;
    listeners
        .iter()
        .map(|listener| Ok(listener.local_addr()?.to_string()))
        .collect()
}

//! A small TCP proxy between nodes, so that partitions between real processes are real.
//!
//! Each node listens on a port of its own and advertises the port of its proxy; so whoever connects to it passes the
//! proxy, which learns from the first frame (the handshake names the node that speaks) whose link it is. Each
//! direction between two nodes can then be cut, delayed and reset alone.
//!
//! A cut link is what a network makes of lost packets: bytes stand still, the end of a connection does not get
//! through, new connections are not answered, and when the link is whole again all goes on where it stood. What
//! clients send is not held up, nor are nodes that were not [introduced](Network::introduce) yet.

mod connection;
mod rules;
mod speaker;

use std::io;
use std::net::{Ipv4Addr, TcpListener as StdListener};
use std::thread::JoinHandle;
use std::time::Duration;

use raftkv_protocol::NodeId;
use tokio::net::TcpListener;
use tokio::sync::watch;

pub use rules::{Flow, Link};

use rules::{Direction, Rules};

/// The proxies in front of all nodes of a cluster. They end when this is dropped.
#[derive(Debug)]
pub struct Network {
    ports: Vec<u16>,
    /// `None` only while dropping.
    rules: Option<watch::Sender<Rules>>,
    thread: Option<JoinHandle<()>>,
}

impl Network {
    /// Starts a proxy for each of these ports of 127.0.0.1, where the nodes listen.
    ///
    /// # Errors
    /// When the system refuses sockets or a thread.
    pub fn start(destinations: &[u16]) -> io::Result<Network> {
        let listeners: Vec<StdListener> = destinations
            .iter()
            .map(|_| StdListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .collect::<Result<_, _>>()?;
        let ports = listeners.iter().map(|listener| Ok(listener.local_addr()?.port()));
        let ports: Vec<u16> = ports.collect::<io::Result<_>>()?;
        for listener in &listeners {
            listener.set_nonblocking(true)?;
        }
        let (rules, watched) = watch::channel(Rules::default());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let proxies: Vec<(StdListener, u16)> =
            listeners.into_iter().zip(destinations.iter().copied()).collect();
        let run = move || runtime.block_on(serve(proxies, watched));
        let thread = std::thread::Builder::new().name("proxy".into()).spawn(run)?;
        Ok(Network {
            ports,
            rules: Some(rules),
            thread: Some(thread),
        })
    }

    /// The port that this node (counted from 0) is to advertise.
    #[must_use]
    pub fn port(&self, node: usize) -> u16 {
        self.ports[node]
    }

    /// This identity is that node.
    pub fn introduce(&self, identity: NodeId, node: usize) {
        self.change(|rules| rules.introduce(identity, node));
    }

    /// Cuts one direction.
    pub fn cut(&self, from: usize, to: usize) {
        self.change(|rules| rules.link_mut(Direction { from, to }).flow = Flow::Cut);
    }

    /// Cuts both directions between this node and all others.
    pub fn isolate(&self, node: usize) {
        self.separate(&[node]);
    }

    /// Cuts both directions between these nodes and all others.
    pub fn separate(&self, group: &[usize]) {
        let all = 0..self.ports.len();
        for from in all.clone() {
            for to in all
                .clone()
                .filter(|to| group.contains(&from) != group.contains(to))
            {
                self.cut(from, to);
            }
        }
    }

    /// Lets everything on this direction arrive later.
    pub fn delay(&self, from: usize, to: usize, delay: Duration) {
        self.change(|rules| rules.link_mut(Direction { from, to }).delay = delay);
    }

    /// Resets all connections that carry this direction; new ones are not hindered.
    pub fn reset(&self, from: usize, to: usize) {
        self.change(|rules| rules.link_mut(Direction { from, to }).resets += 1);
    }

    /// Makes all links whole and fast.
    pub fn heal(&self) {
        self.change(Rules::heal);
    }

    fn change(&self, change: impl FnOnce(&mut Rules)) {
        if let Some(rules) = &self.rules {
            rules.send_modify(change);
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Without a sender the thread's main task ends, and with the runtime all connections.
        drop(self.rules.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the proxy shows as connections that ended; there is nothing more to tell here.
            let _ = thread.join();
        }
    }
}

async fn serve(proxies: Vec<(StdListener, u16)>, mut rules: watch::Receiver<Rules>) {
    for (node, (listener, port)) in proxies.into_iter().enumerate() {
        let Ok(listener) = TcpListener::from_std(listener) else {
            return;
        };
        tokio::spawn(accept(
            listener,
            connection::Destination { node, port },
            rules.clone(),
        ));
    }
    while rules.changed().await.is_ok() {}
}

async fn accept(listener: TcpListener, destination: connection::Destination, rules: watch::Receiver<Rules>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(connection::carry(stream, destination, rules.clone()));
    }
}

#[cfg(test)]
mod tests;

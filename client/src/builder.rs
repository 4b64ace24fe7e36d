//! How a client is described.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use raftkv_protocol::Address;
use raftkv_tls::{ClientTls, TlsFiles};

use crate::client::Client;
use crate::endpoints::Dialling;
use crate::error::Error;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// So that "for ever" does not overflow a clock.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(86_400);

/// More connections bring no more, and each costs the server a read and a write per batch.
const DEFAULT_CONNECTIONS: NonZeroUsize = NonZeroUsize::MIN;

/// Describes a [`Client`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ClientBuilder {
    endpoints: Vec<String>,
    timeout: Duration,
    connections: NonZeroUsize,
    attempts: Option<NonZeroUsize>,
    writes: Writes,
    tls: Option<TlsFiles>,
}

/// What becomes of a write whose answer was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Writes {
    /// It is not tried again: [`crate::Error::OutcomeUnknown`]. Needs no session: for programs that start, write once and end,
    /// in numbers.
    AtMostOnce,
    /// It is sent again in its session, and applied once, until the time-out. Only if that passes is the outcome unknown.
    #[default]
    ExactlyOnce,
}

impl ClientBuilder {
    pub(crate) fn new() -> ClientBuilder {
        ClientBuilder {
            endpoints: Vec::new(),
            timeout: DEFAULT_TIMEOUT,
            connections: DEFAULT_CONNECTIONS,
            attempts: None,
            writes: Writes::default(),
            tls: None,
        }
    }

    /// Servers to begin with, as `host:port`. One is enough, the others are learnt from it; naming more helps when that
    /// one is down.
    pub fn endpoints<S: Into<String>>(mut self, endpoints: impl IntoIterator<Item = S>) -> ClientBuilder {
        self.endpoints.extend(endpoints.into_iter().map(Into::into));
        self
    }

    /// How long a request may take in all, its further attempts included. 5 s unless said, a day at most.
    pub fn timeout(mut self, timeout: Duration) -> ClientBuilder {
        self.timeout = timeout.min(LONGEST_TIMEOUT);
        self
    }

    /// Connections to each server that is used, which take turns. 1 unless said: thousands of tasks share it well.
    pub fn connections(mut self, connections: NonZeroUsize) -> ClientBuilder {
        self.connections = connections;
        self
    }

    /// How often a request may be tried in all, where trying again is safe. As often as there is time for, unless said.
    pub fn attempts(mut self, attempts: NonZeroUsize) -> ClientBuilder {
        self.attempts = Some(attempts);
        self
    }

    /// What becomes of a write whose answer was lost; exactly once, unless said. The client and its clones share one session: it
    /// is opened with the first write, which waits for it (one more entry of the log), and expires a minute (or two time-outs, if
    /// that is longer) after the last one. The cluster keeps the answer of each write until the client has it, and at most
    /// 100,000 sessions: share a client rather than making one for each task.
    pub fn writes(mut self, writes: Writes) -> ClientBuilder {
        self.writes = writes;
        self
    }

    /// Connects within TLS alone: trusts servers whose certificates these authorities have signed for the host dialled, and
    /// presents its own certificate, if there is one. Files that change are read again. Connections are plain unless said.
    pub fn tls(mut self, files: TlsFiles) -> ClientBuilder {
        self.tls = Some(files);
        self
    }

    /// Makes the client. It connects when it is first used.
    ///
    /// # Errors
    /// If no endpoint was given, or one is not `host:port`; if a certificate file can not be used.
    pub fn build(self) -> Result<Client, Error> {
        let endpoints = self
            .endpoints
            .iter()
            .map(|text| address(text))
            .collect::<Result<Vec<_>, _>>()?;
        if endpoints.is_empty() {
            return Err(Error::NoEndpoints);
        }
        let tls = self.tls.map(ClientTls::new).transpose();
        let tls = tls.map_err(|error| Error::Tls(Arc::new(error)))?.map(Arc::new);
        Ok(Client::new(
            &endpoints,
            Dialling {
                connections: self.connections,
                tls,
            },
            self.attempts,
            self.timeout,
            self.writes,
        ))
    }
}

fn address(text: &str) -> Result<Address, Error> {
    let is_valid = text
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0));
    match is_valid {
        true => Ok(Address::from(text)),
        false => Err(Error::InvalidEndpoint {
            endpoint: text.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_host_and_port() {
        for valid in ["127.0.0.1:7001", "node1.example:1", "[::1]:7001"] {
            assert!(address(valid).is_ok(), "{valid}");
        }
        for invalid in [
            "",
            "7001",
            ":7001",
            "host",
            "host:",
            "host:0",
            "host:65536",
            "http://host:80/",
        ] {
            assert!(
                matches!(address(invalid), Err(Error::InvalidEndpoint { .. })),
                "{invalid}"
            );
        }
    }

    #[test]
    fn a_client_needs_an_endpoint() {
        let outcome = ClientBuilder::new().build();
        assert!(matches!(outcome, Err(Error::NoEndpoints)));
    }
}

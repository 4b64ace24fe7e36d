//! `host:port`, as people type it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use raftkv_protocol::Address;
use thiserror::Error;

use super::ConfigError;

/// A host (a name, or an IP address without brackets) and a port. An empty host is what `:8080` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Name or IP address; empty: not said.
    pub host: String,
    /// The port; 0: the system chooses one.
    pub port: u16,
}

/// Not `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not an address: write HOST:PORT, such as 10.0.0.1:7000, or :8080 for this machine only")]
pub struct InvalidAddress(pub String);

impl HostPort {
    /// 127.0.0.1 with this port.
    #[must_use]
    pub fn loopback(port: u16) -> HostPort {
        HostPort {
            host: "127.0.0.1".into(),
            port,
        }
    }

    /// Where no host was said, this one is meant.
    #[must_use]
    pub fn or(self, host: &str) -> HostPort {
        if self.host.is_empty() {
            HostPort {
                host: host.into(),
                ..self
            }
        } else {
            self
        }
    }

    /// Is it reachable from this machine alone?
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.ip().is_some_and(|ip| ip.is_loopback())
    }

    /// "All interfaces": one can listen there, but nobody can be told to connect there.
    #[must_use]
    pub fn is_unspecified(&self) -> bool {
        self.ip().is_some_and(|ip| ip.is_unspecified())
    }

    fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl std::str::FromStr for HostPort {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<HostPort, InvalidAddress> {
        let invalid = || InvalidAddress(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
        let port = port.parse().map_err(|_| invalid())?;
        let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) if inner.parse::<std::net::Ipv6Addr>().is_ok() => inner,
            Some(_) => return Err(invalid()),
            None => host,
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let is_ipv6 = host.contains(':') && text.starts_with('[');
        if is_ipv6 || host.chars().all(plain) {
            Ok(HostPort {
                host: host.to_owned(),
                port,
            })
        } else {
            Err(invalid())
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl From<&HostPort> for Address {
    fn from(address: &HostPort) -> Address {
        Address::from(address.to_string().as_str())
    }
}

impl From<SocketAddr> for HostPort {
    fn from(address: SocketAddr) -> HostPort {
        HostPort {
            host: address.ip().to_string(),
            port: address.port(),
        }
    }
}

pub(super) fn parse(flag: &'static str, text: &str) -> Result<HostPort, ConfigError> {
    text.parse()
        .map_err(|source| ConfigError::Address { flag, source })
}

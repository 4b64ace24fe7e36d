//! The ports of a server, bound before anything else is done.

use std::io;
use std::net::{SocketAddr, TcpListener};

use raftkv_tls::ClientCertificates;

use super::ServerError;
use crate::config::{Config, HostPort};

/// Bound sockets. An embedding program may bring its own.
#[derive(Debug)]
pub struct Listeners {
    /// For peers and native clients.
    pub native: TcpListener,
    /// For the HTTP API, if it is served.
    pub http: Option<TcpListener>,
    /// For probes and monitoring alone, without TLS; if it is served.
    pub probes: Option<TcpListener>,
}

impl Listeners {
    /// Binds what the configuration names.
    ///
    /// # Errors
    /// When a port is taken, or an address is not this machine's.
    pub fn bind(config: &Config) -> Result<Listeners, ServerError> {
        let perhaps = |flag, address: &Option<HostPort>| {
            let address = address.as_ref();
            address.map(|address| bind(flag, address)).transpose()
        };
        Ok(Listeners {
            native: bind("--listen", &config.listen)?,
            http: perhaps("--http", &config.http)?,
            probes: perhaps("--probes", &config.probes)?,
        })
    }

    pub(super) fn native_address(&self) -> Result<SocketAddr, ServerError> {
        self.native.local_addr().map_err(ServerError::Threads)
    }

    pub(super) fn http_address(&self) -> Result<Option<SocketAddr>, ServerError> {
        address_of(self.http.as_ref())
    }

    pub(super) fn probes_address(&self) -> Result<Option<SocketAddr>, ServerError> {
        address_of(self.probes.as_ref())
    }
}

fn address_of(listener: Option<&TcpListener>) -> Result<Option<SocketAddr>, ServerError> {
    let address = listener.map(TcpListener::local_addr).transpose();
    address.map_err(ServerError::Threads)
}

fn bind(flag: &'static str, address: &HostPort) -> Result<TcpListener, ServerError> {
    TcpListener::bind((address.host.as_str(), address.port)).map_err(|source| {
        let address = address.clone();
        match source.kind() {
            io::ErrorKind::AddrInUse => ServerError::PortTaken { flag, address },
            _ => ServerError::Listen {
                flag,
                address,
                source,
            },
        }
    })
}

/// Says who can reach the server, where that may surprise.
pub(super) fn announce(
    config: &Config,
    native: SocketAddr,
    http: Option<SocketAddr>,
    probes: Option<SocketAddr>,
) {
    match http {
        Some(http) => {
            tracing::info!(id = %config.name, listen = %native, %http, data = %config.data_dir.display(), "starting")
        }
        None => {
            tracing::info!(id = %config.name, listen = %native, data = %config.data_dir.display(), "starting")
        }
    }
    if let Some(probes) = probes {
        tracing::info!(%probes, "probes and metrics are answered there, without TLS, to whoever can reach it");
    }
    let addresses = [("--listen", Some(native)), ("--http", http)];
    let protection = match &config.tls {
        None => "and neither TLS nor a password protects this server: keep it inside a trusted network",
        Some(tls) if tls.clients == ClientCertificates::Optional => {
            "within TLS, and no certificate is asked of clients: keep it inside a trusted network, or see --tls-ca"
        }
        Some(_) => {
            tracing::info!(
                "connections are within TLS, and only those with a certificate of the authority connect"
            );
            return;
        }
    };
    let open = addresses
        .into_iter()
        .filter_map(|(flag, address)| Some((flag, address?)));
    let wide: Vec<_> = open.filter(|(_, address)| !address.ip().is_loopback()).collect();
    if wide.is_empty() {
        tracing::info!(
            "only this machine can connect; to serve others, name an address: --http 0.0.0.0:8080 --listen HOST:PORT"
        );
    } else {
        let list: Vec<_> = wide
            .iter()
            .map(|(flag, address)| format!("{flag} {address}"))
            .collect();
        tracing::warn!(
            addresses = list.join(", "),
            "other machines can connect, {protection}"
        );
    }
}

//! TLS around the connections of this node, whichever port they come to.

use raftkv_tls::{ClientCertificates, Reload, ServerTls, TlsError, TlsFiles};

/// Where certificates are, and who must have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// This node's certificate and key, and the authorities it trusts.
    pub files: TlsFiles,
    /// Must clients have one? Other nodes must in any case.
    pub clients: ClientCertificates,
}

/// How this node accepts and dials.
#[derive(Debug)]
pub(crate) struct Tls(ServerTls);

impl Tls {
    /// # Errors
    /// When a file can not be used.
    pub(crate) fn new(config: &TlsConfig) -> Result<Tls, TlsError> {
        ServerTls::new(config.files.clone(), config.clients).map(Tls)
    }

    /// For a new connection: with what the certificate files hold now.
    pub(crate) fn renewed(&self) -> &ServerTls {
        match self.0.look() {
            Reload::Same => {}
            Reload::Renewed => {
                tracing::info!("the certificate files have changed: new connections use what they hold now")
            }
            Reload::Failed(error) => tracing::error!(
                %error,
                "the certificate files have changed and can not be used: new connections use what they held before"
            ),
        }
        &self.0
    }

    /// Is the other side of this connection a node?
    pub(crate) fn is_node(&self, stream: &raftkv_tls::Stream) -> bool {
        self.0.is_node(stream)
    }
}

//! How connections are accepted and made.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;

use crate::files::{Identity, Material};
use crate::reload::{Reload, Reloading};
use crate::{HandshakeError, Stream, TlsError, TlsFiles};

/// Must those who connect prove who they are?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// Nobody connects without a certificate of the authorities.
    Required,
    /// Whoever presents none is a client like any other; other nodes present one in any case.
    Optional,
}

/// A node's side: accepts, and dials other nodes, with the same certificate. Read again when the files change.
#[derive(Debug)]
pub struct ServerTls {
    reloading: Reloading<Node>,
}

#[derive(Debug)]
struct Node {
    accept: Arc<ServerConfig>,
    /// `None`: without authorities no node can be trusted.
    dial: Option<Arc<ClientConfig>>,
    authorities: Option<Arc<RootCertStore>>,
    /// Judges who connects; `None`: nobody is asked.
    judge: Option<Arc<dyn ClientCertVerifier>>,
    certificate: CertificateDer<'static>,
    expires: SystemTime,
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// When one can not be used, the certificate is missing, or certificates are required of clients and no authority is named.
    pub fn new(files: TlsFiles, clients: ClientCertificates) -> Result<ServerTls, TlsError> {
        if clients == ClientCertificates::Required && files.authorities.is_none() {
            return Err(TlsError::NoAuthority);
        }
        Ok(ServerTls {
            reloading: Reloading::new(files, move |files, read| node(files, read, clients))?,
        })
    }

    /// Looks whether the files have changed, at most once a second.
    pub fn look(&self) -> Reload {
        self.reloading.look(Instant::now())
    }

    /// Does this node's certificate name the host of `address` (`host:port`), so that who dials that accepts it?
    #[must_use]
    pub fn names(&self, address: &str) -> bool {
        let node = self.reloading.current();
        let leaf = ParsedCertificate::try_from(&node.certificate);
        leaf.is_ok_and(|leaf| host_of(address).is_ok_and(|host| verify_server_name(&leaf, &host).is_ok()))
    }

    /// When this node's certificate expires, or one between it and its authority does.
    #[must_use]
    pub fn expires(&self) -> SystemTime {
        self.reloading.current().expires
    }

    /// How connections are accepted now.
    #[must_use]
    pub fn acceptor(&self) -> Arc<ServerConfig> {
        self.reloading.current().accept.clone()
    }

    /// Accepts: both sides agree on keys, and the other side's certificate is judged.
    ///
    /// # Errors
    /// When the other side is not accepted, accepts us not, or does not speak TLS.
    pub async fn accept(&self, tcp: TcpStream) -> Result<Stream, HandshakeError> {
        Stream::accept(tcp, self.acceptor()).await
    }

    /// Dials another node at `address` (`host:port`).
    ///
    /// # Errors
    /// When its certificate is not one of the authorities for that host, or it does not accept ours.
    pub async fn dial(&self, tcp: TcpStream, address: &str) -> Result<Stream, HandshakeError> {
        let node = self.reloading.current();
        let no_authority = || HandshakeError::Io(std::io::Error::other(TlsError::NoAuthority));
        let dial = node.dial.clone().ok_or_else(no_authority)?;
        Stream::connect(tcp, dial, host_of(address)?).await
    }

    /// Is the other side of this connection a node: did it present a certificate that a node may present?
    #[must_use]
    pub fn is_node(&self, stream: &Stream) -> bool {
        let node = self.reloading.current();
        let (Some(roots), Some(chain)) = (&node.authorities, stream.peer_certificates()) else {
            return false;
        };
        // The handshake has judged the chain for clients; a node's holds for servers, too.
        judge_server(roots, &chain).is_ok()
    }

    /// Would who has presented this be accepted now: signed by the authorities, not revoked, its time not over?
    #[must_use]
    pub fn still_accepts(&self, chain: &[CertificateDer<'static>]) -> bool {
        match &self.reloading.current().judge {
            None => true,
            Some(judge) => judge_client(&**judge, chain).is_ok(),
        }
    }
}

/// The holder's own certificate, and those between it and its authority.
fn leaf_and_between<'a>(
    chain: &'a [CertificateDer<'static>],
) -> Result<(&'a CertificateDer<'static>, &'a [CertificateDer<'static>]), rustls::Error> {
    chain.split_first().ok_or(rustls::Error::NoCertificatesPresented)
}

/// Judges a chain as those will who dial its holder; not by its name.
pub(crate) fn judge_server(
    roots: &RootCertStore,
    chain: &[CertificateDer<'static>],
) -> Result<(), rustls::Error> {
    let (leaf, between) = leaf_and_between(chain)?;
    let algorithms = ring::default_provider().signature_verification_algorithms.all;
    let leaf = ParsedCertificate::try_from(leaf)?;
    verify_server_cert_signed_by_trust_anchor(&leaf, roots, between, UnixTime::now(), algorithms)
}

/// Judges a chain as those do whom its holder dials.
fn judge_client(
    judge: &dyn ClientCertVerifier,
    chain: &[CertificateDer<'static>],
) -> Result<(), rustls::Error> {
    let (leaf, between) = leaf_and_between(chain)?;
    judge.verify_client_cert(leaf, between, UnixTime::now()).map(drop)
}

/// Judges a node's own certificate as other nodes will: better at its start than at each of their connections. Not its
/// time: a clock may be wrong for a moment, and what has expired can be renewed.
fn judge_own(
    files: &TlsFiles,
    identity: &Identity,
    roots: &RootCertStore,
    clients: &dyn ClientCertVerifier,
) -> Result<(), TlsError> {
    use rustls::CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    let as_server = judge_server(roots, &identity.chain);
    match as_server.and_then(|()| judge_client(clients, &identity.chain)) {
        Ok(())
        | Err(rustls::Error::InvalidCertificate(
            Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. },
        )) => Ok(()),
        Err(source) => Err(TlsError::Unfit {
            certificate: files.certificate.clone().unwrap_or_default(),
            source,
        }),
    }
}

/// A client's side. Read again when the files change.
#[derive(Debug)]
pub struct ClientTls {
    reloading: Reloading<ClientConfig>,
}

impl ClientTls {
    /// Reads the files. Without a certificate the client is nobody in particular.
    ///
    /// # Errors
    /// When one can not be used, or no authority is named.
    pub fn new(files: TlsFiles) -> Result<ClientTls, TlsError> {
        Ok(ClientTls {
            reloading: Reloading::new(files, client)?,
        })
    }

    /// Dials the server at `address` (`host:port`).
    ///
    /// # Errors
    /// When its certificate is not one of the authorities for that host, or it does not accept ours.
    pub async fn dial(&self, tcp: TcpStream, address: &str) -> Result<Stream, HandshakeError> {
        // What can not be used now is read again with the next connection; until then what was read before serves.
        drop(self.reloading.look(Instant::now()));
        Stream::connect(tcp, self.reloading.current(), host_of(address)?).await
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn node(files: &TlsFiles, read: &Material, clients: ClientCertificates) -> Result<Node, TlsError> {
    let Some(identity) = &read.identity else {
        return Err(TlsError::HalfIdentity);
    };
    let roots = read.authorities.as_ref();
    let judge = roots.map(|roots| judge_of_clients(files, read, roots, clients));
    let judge = judge.transpose()?;
    if let (Some(roots), Some(judge)) = (roots, &judge) {
        judge_own(files, identity, roots, &**judge)?;
    }
    let dial = roots.map(|roots| dialler(files, read, Some(identity), roots));
    Ok(Node {
        accept: acceptor(files, identity, judge.clone())?,
        dial: dial.transpose()?.map(Arc::new),
        authorities: read.authorities.clone(),
        judge,
        certificate: identity.chain[0].clone(),
        expires: identity.expires,
    })
}

/// Holders' certificates alone are looked for in the lists: an authority between them and ours is given up by ours.
fn judge_of_clients(
    files: &TlsFiles,
    read: &Material,
    roots: &Arc<RootCertStore>,
    clients: ClientCertificates,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let judge = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider())
        .with_crls(read.revoked.iter().cloned())
        .only_check_end_entity_revocation();
    let judge = match clients {
        ClientCertificates::Required => judge,
        ClientCertificates::Optional => judge.allow_unauthenticated(),
    };
    judge.build().map_err(|error| files.no_judge(&error))
}

fn acceptor(
    files: &TlsFiles,
    identity: &Identity,
    judge: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| files.unusable(error))?;
    let builder = match judge {
        None => builder.with_no_client_auth(),
        Some(judge) => builder.with_client_cert_verifier(judge),
    };
    let mut config = builder
        .with_single_cert(identity.chain.clone(), identity.key.clone_key())
        .map_err(|error| files.unusable(error))?;
    // A session that is resumed is one whose certificate nobody looks at again, even when it has expired.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn client(files: &TlsFiles, read: &Material) -> Result<ClientConfig, TlsError> {
    let roots = read.authorities.as_ref().ok_or(TlsError::NoAuthority)?;
    dialler(files, read, read.identity.as_ref(), roots)
}

fn dialler(
    files: &TlsFiles,
    read: &Material,
    identity: Option<&Identity>,
    roots: &Arc<RootCertStore>,
) -> Result<ClientConfig, TlsError> {
    let judge = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider())
        .with_crls(read.revoked.iter().cloned())
        .only_check_end_entity_revocation()
        .build()
        .map_err(|error| files.no_judge(&error))?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| files.unusable(error))?
        .with_webpki_verifier(judge);
    match identity {
        None => Ok(builder.with_no_client_auth()),
        Some(identity) => builder
            .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
            .map_err(|error| files.unusable(error)),
    }
}

/// The name that the certificate of who listens at `address` must hold.
fn host_of(address: &str) -> Result<ServerName<'static>, HandshakeError> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(host.to_owned()).map_err(|_| HandshakeError::Name(host.to_owned()))
}

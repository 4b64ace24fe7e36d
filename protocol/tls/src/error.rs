//! What can be wrong with certificates, and with a connection.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why certificate files can not be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file can not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file holds nothing of what it should, or something damaged.
    #[error("{} holds no {wanted} in PEM form: {reason}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What was looked for.
        wanted: &'static str,
        /// Why it was not found.
        reason: String,
    },
    /// The certificate can not be presented: its key is another one's, or of a kind that is not known here.
    #[error("the certificate {} and the key {} can not be used together: {source}", certificate.display(), key.display())]
    Identity {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// The reason.
        source: rustls::Error,
    },
    /// Other nodes will not accept the certificate.
    #[error("other nodes will not accept the certificate {}: {}", certificate.display(), explain(.source))]
    Unfit {
        /// Its file.
        certificate: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
    /// An authority's certificate is none that others can be judged by.
    #[error("{} holds a certificate that is of no use as an authority: {reason}", path.display())]
    Authority {
        /// Which file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A list of revoked certificates can not be used.
    #[error("{} holds a list of revoked certificates that can not be used: {reason}", path.display())]
    Revoked {
        /// Its file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A certificate was given without its key, or the other way round.
    #[error("a certificate and its key go together: name both files, or none")]
    HalfIdentity,
    /// Who dials must know whom to trust.
    #[error("no authority is named whose certificates are trusted")]
    NoAuthority,
}

/// Why a connection did not come to be within TLS.
#[derive(Debug, Error)]
pub enum HandshakeError {
    /// The connection failed, or was closed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The host of an address is no name that a certificate could hold.
    #[error("{0:?} is no host name or IP address that a certificate could name")]
    Name(String),
    /// What the other side presents is not accepted here, or what it speaks is not TLS.
    #[error("{}", explain(.0))]
    Tls(#[from] rustls::Error),
}

/// The library's reason, and what an operator should look at.
pub(crate) fn explain(error: &rustls::Error) -> String {
    use rustls::{AlertDescription as Alert, CertificateError as Bad, Error};
    let advice = match error {
        Error::InvalidMessage(_) => "does the other side speak TLS at all?",
        Error::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => {
            "its certificate is not signed by the authority given here"
        }
        Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            "its certificate must name the host or IP address that was dialled (subject alternative name)"
        }
        Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            "its certificate has expired: renew it"
        }
        Error::InvalidCertificate(Bad::InvalidPurpose | Bad::InvalidPurposeContext { .. }) => {
            "its certificate does not allow this use (extended key usage)"
        }
        Error::InvalidCertificate(Bad::Revoked) => "its certificate has been revoked",
        Error::InvalidCertificate(Bad::UnknownRevocationStatus) => {
            "of its certificate's authority there is no list of revoked certificates, and it must have one"
        }
        Error::InvalidCertRevocationList(_) => {
            "the list of revoked certificates must be signed by the authority of the certificate"
        }
        Error::AlertReceived(Alert::CertificateRevoked) => "the certificate given here has been revoked",
        Error::NoCertificatesPresented | Error::AlertReceived(Alert::CertificateRequired) => {
            "a certificate is asked of those who connect: give one, with its key"
        }
        Error::AlertReceived(Alert::UnknownCA) => {
            "the other side does not trust the authority of the certificate given here"
        }
        Error::AlertReceived(Alert::CertificateExpired) => "the certificate given here has expired: renew it",
        _ => return format!("TLS failed: {error}"),
    };
    format!("TLS failed: {error}; {advice}")
}

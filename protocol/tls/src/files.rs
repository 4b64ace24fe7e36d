//! Certificates, keys and authorities on disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::client::VerifierBuilderError;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use x509_cert::der::{self, Decode};

use crate::TlsError;

/// PEM files of one side. What is named is read again when it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate that is presented, the ones between it and its authority behind it.
    pub certificate: Option<PathBuf>,
    /// Its key (PKCS #8, SEC 1 or PKCS #1).
    pub key: Option<PathBuf>,
    /// The authorities whose certificates are trusted.
    pub authorities: Option<PathBuf>,
    /// Lists of certificates that are trusted no more, one of each authority (RFC 5280, section 5).
    pub revoked: Option<PathBuf>,
}

/// What the files held.
#[derive(Debug)]
pub(crate) struct Material {
    pub(crate) identity: Option<Identity>,
    pub(crate) authorities: Option<Arc<RootCertStore>>,
    pub(crate) revoked: Vec<CertificateRevocationListDer<'static>>,
}

/// What this side presents.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    /// When the first of the chain expires.
    pub(crate) expires: SystemTime,
}

/// How files looked when they were read: different means that they are to be read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(Vec<Option<(SystemTime, u64)>>);

impl TlsFiles {
    pub(crate) fn read(&self) -> Result<Material, TlsError> {
        let identity = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                let chain = certificates(certificate)?;
                Some(Identity {
                    expires: expiry(certificate, &chain)?,
                    chain,
                    key: private_key(key)?,
                })
            }
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return Err(TlsError::HalfIdentity),
        };
        let authorities = self.authorities.as_deref().map(authorities).transpose()?;
        let revoked = self.revoked.as_deref().map(revocation_lists).transpose()?;
        Ok(Material {
            identity,
            authorities: authorities.map(Arc::new),
            revoked: revoked.unwrap_or_default(),
        })
    }

    pub(crate) fn stamp(&self) -> Stamp {
        let files = [&self.certificate, &self.key, &self.authorities, &self.revoked];
        let look = |path: &PathBuf| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        };
        Stamp(files.into_iter().flatten().map(look).collect())
    }

    /// The error of authorities and lists that nobody can be judged by.
    pub(crate) fn no_judge(&self, error: &VerifierBuilderError) -> TlsError {
        let reason = error.to_string();
        match error {
            VerifierBuilderError::InvalidCrl(_) => TlsError::Revoked {
                path: self.revoked.clone().unwrap_or_default(),
                reason,
            },
            _ => TlsError::Authority {
                path: self.authorities.clone().unwrap_or_default(),
                reason,
            },
        }
    }

    /// The error of an identity that can not be presented.
    pub(crate) fn unusable(&self, source: rustls::Error) -> TlsError {
        TlsError::Identity {
            certificate: self.certificate.clone().unwrap_or_default(),
            key: self.key.clone().unwrap_or_default(),
            source,
        }
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    all_of(path, "certificate")
}

fn revocation_lists(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    all_of(path, "list of revoked certificates")
}

/// All items of one kind in a file; at least one.
fn all_of<T: PemObject>(path: &Path, wanted: &'static str) -> Result<Vec<T>, TlsError> {
    let found = T::pem_file_iter(path).map_err(|error| unread(path, wanted, error))?;
    let items: Result<Vec<_>, _> = found.collect();
    let items = items.map_err(|error| unread(path, wanted, error))?;
    if items.is_empty() {
        return Err(unread(path, wanted, pem::Error::NoItemsFound));
    }
    Ok(items)
}

fn expiry(path: &Path, chain: &[CertificateDer<'static>]) -> Result<SystemTime, TlsError> {
    let expiry = |certificate: &CertificateDer<'_>| {
        let read = x509_cert::Certificate::from_der(certificate)?;
        let validity = read.tbs_certificate().validity();
        Ok(SystemTime::UNIX_EPOCH + validity.not_after.to_unix_duration())
    };
    let expiries: Result<Vec<_>, _> = chain.iter().map(expiry).collect();
    let expiries = expiries.map_err(|error: der::Error| TlsError::Content {
        path: path.to_owned(),
        wanted: "certificate",
        reason: error.to_string(),
    })?;
    // A chain is never empty.
    Ok(expiries.into_iter().min().unwrap_or(SystemTime::UNIX_EPOCH))
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| unread(path, "private key", error))
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    roots(certificates(path)?).map_err(|error| TlsError::Authority {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// What these authorities sign is trusted.
pub(crate) fn roots(
    authorities: impl IntoIterator<Item = CertificateDer<'static>>,
) -> Result<RootCertStore, rustls::Error> {
    let mut roots = RootCertStore::empty();
    authorities
        .into_iter()
        .try_for_each(|certificate| roots.add(certificate))?;
    Ok(roots)
}

fn unread(path: &Path, wanted: &'static str, error: pem::Error) -> TlsError {
    let path = path.to_owned();
    match error {
        pem::Error::Io(source) => TlsError::Read { path, source },
        other => TlsError::Content {
            path,
            wanted,
            reason: other.to_string(),
        },
    }
}

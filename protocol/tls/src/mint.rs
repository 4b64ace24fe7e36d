//! Makes certificates: an authority of one's own, and what it signs.

use std::time::{Duration, SystemTime};

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use thiserror::Error;
use x509_cert::Certificate;
use x509_cert::certificate::Rfc5280;
use x509_cert::crl::CertificateList;
use x509_cert::der::{self, Decode};

use crate::files::roots;
use crate::settings::judge_server;

/// Authorities live for so long: to change one means to touch every machine.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(20 * 365 * 86_400);

/// Clocks of other machines may be behind by so much.
const CLOCK_ALLOWANCE: Duration = Duration::from_secs(3600);

/// Why a certificate can not be made.
#[derive(Debug, Error)]
#[error("cannot make this certificate: {0}")]
pub struct MintError(String);

impl From<rcgen::Error> for MintError {
    fn from(error: rcgen::Error) -> MintError {
        MintError(error.to_string())
    }
}

/// A certificate and its key, as PEM. The key is a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Minted {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: String,
}

impl std::fmt::Debug for Minted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Minted")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// Whom a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A node, reached by these host names and IP addresses. Other nodes take its word for the cluster's.
    Node {
        /// As they stand in other nodes' and clients' addresses.
        hosts: Vec<String>,
    },
    /// A client.
    Client,
}

/// What signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

impl Authority {
    /// Makes a new authority; its own certificate is what others trust, its key what signs.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn create() -> Result<(Authority, Minted), MintError> {
        let key = KeyPair::generate()?;
        let now = SystemTime::now();
        let mut params = authority_params(&key);
        lives(&mut params, now, AUTHORITY_LIFETIME);
        let minted = Minted {
            certificate: params.self_signed(&key)?.pem(),
            key: key.serialize_pem(),
        };
        let issuer = Issuer::new(authority_params(&key), key);
        Ok((Authority { issuer }, minted))
    }

    /// The authority that [`Authority::create`] made once.
    ///
    /// # Errors
    /// When it is another one's: what it signs would not be trusted by who trusts this certificate.
    pub fn open(minted: &Minted) -> Result<Authority, MintError> {
        let key = KeyPair::from_pem(&minted.key)?;
        let issuer = Issuer::new(authority_params(&key), key);
        let authority = Authority { issuer };
        let sample = Holder::Node {
            hosts: vec!["localhost".to_owned()],
        };
        let sample = authority.issue("sample", &sample, CLOCK_ALLOWANCE)?;
        let trusted = roots(parse(&minted.certificate)?).map_err(|error| MintError(error.to_string()))?;
        match judge_server(&trusted, &parse(&sample.certificate)?) {
            Ok(()) => Ok(authority),
            Err(_) => Err(MintError(
                "the authority's certificate and key do not belong together, or were not made here"
                    .to_owned(),
            )),
        }
    }

    /// Signs a new certificate.
    ///
    /// # Errors
    /// When a host is no name that a certificate can hold.
    pub fn issue(&self, name: &str, holder: &Holder, lifetime: Duration) -> Result<Minted, MintError> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        if let Holder::Node { hosts } = holder {
            params
                .extended_key_usages
                .push(ExtendedKeyUsagePurpose::ServerAuth);
            params.subject_alt_names = hosts
                .iter()
                .map(|host| host_name(host))
                .collect::<Result<_, _>>()?;
        }
        lives(&mut params, SystemTime::now(), lifetime);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Minted {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

impl Authority {
    /// The list of the certificates that it has revoked: none yet.
    ///
    /// # Errors
    /// When it can not be signed.
    pub fn revoke_none(&self) -> Result<String, MintError> {
        self.sign_list(Vec::new())
    }

    /// Adds a certificate to the list of those that it has revoked. All of it is PEM.
    ///
    /// # Errors
    /// When the certificate is another authority's, or one of both can not be read.
    pub fn revoke(&self, list: &str, certificate: &str) -> Result<String, MintError> {
        let certificate = read(certificate)?;
        // What it signs says whose it is.
        let sample = self.issue("sample", &Holder::Client, CLOCK_ALLOWANCE)?;
        let sample = read(&sample.certificate)?;
        if certificate.tbs_certificate().issuer() != sample.tbs_certificate().issuer() {
            return Err(MintError(
                "this certificate was signed by another authority".to_owned(),
            ));
        }
        let list = CertificateRevocationListDer::from_pem_slice(list.as_bytes())
            .map_err(|error| MintError(error.to_string()))?;
        let list = CertificateList::<Rfc5280>::from_der(&list).map_err(unreadable)?;
        let before = list.tbs_cert_list.revoked_certificates.unwrap_or_default();
        let mut revoked: Vec<_> = before
            .into_iter()
            .map(|one| {
                revoked(
                    one.serial_number.as_bytes(),
                    SystemTime::UNIX_EPOCH + one.revocation_date.to_unix_duration(),
                )
            })
            .collect();
        let serial = certificate.tbs_certificate().serial_number().as_bytes();
        if !revoked.iter().any(|one| one.serial_number.as_ref() == serial) {
            revoked.push(self::revoked(serial, SystemTime::now()));
        }
        self.sign_list(revoked)
    }

    fn sign_list(&self, revoked_certs: Vec<RevokedCertParams>) -> Result<String, MintError> {
        let now = SystemTime::now();
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let list = CertificateRevocationListParams {
            this_update: (now - CLOCK_ALLOWANCE).into(),
            // A list holds until there is a newer one.
            next_update: (now + AUTHORITY_LIFETIME).into(),
            crl_number: SerialNumber::from(since.as_secs()),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&self.issuer)?.pem()?)
    }
}

fn revoked(serial: &[u8], at: SystemTime) -> RevokedCertParams {
    RevokedCertParams {
        serial_number: SerialNumber::from_slice(serial),
        revocation_time: at.into(),
        reason_code: None,
        invalidity_date: None,
    }
}

/// The holder's own certificate, taken apart.
fn read(certificate: &str) -> Result<Certificate, MintError> {
    let leaf = parse(certificate)?.into_iter().next();
    let leaf = leaf.ok_or_else(|| MintError("there is no certificate".to_owned()))?;
    Certificate::from_der(&leaf).map_err(unreadable)
}

fn unreadable(error: der::Error) -> MintError {
    MintError(error.to_string())
}

fn parse(certificate: &str) -> Result<Vec<CertificateDer<'static>>, MintError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect();
    found.map_err(|error| MintError(error.to_string()))
}

/// What an authority's certificate says follows from its key alone, so that the key is enough to go on signing. Each has a
/// name of its own: two of the same name would be taken for one whose signatures are wrong.
fn authority_params(key: &KeyPair) -> CertificateParams {
    let mut params = CertificateParams::default();
    let public = key.public_key_raw();
    let end = &public[public.len().saturating_sub(8)..];
    let number: String = end.iter().map(|byte| format!("{byte:02x}")).collect();
    let name = format!("raftkv authority {number}");
    params.distinguished_name.push(DnType::CommonName, name);
    // It signs certificates of holders, none of further authorities.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn lives(params: &mut CertificateParams, now: SystemTime, lifetime: Duration) {
    params.not_before = (now - CLOCK_ALLOWANCE).into();
    params.not_after = (now + lifetime).into();
}

fn host_name(host: &str) -> Result<SanType, MintError> {
    if let Ok(address) = host.parse() {
        return Ok(SanType::IpAddress(address));
    }
    let name = Ia5String::try_from(host)?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '*');
    if host.is_empty() || !host.chars().all(is_plain) {
        return Err(MintError(format!("{host:?} is no host name or IP address")));
    }
    Ok(SanType::DnsName(name))
}

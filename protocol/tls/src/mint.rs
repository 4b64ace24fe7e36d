//! Makes certificates: an authority of one's own, and what it signs.

use std::time::{Duration, SystemTime};

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use thiserror::Error;

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

//! `kvctl certificate`

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use raftkv_tls::mint::{Authority, Holder, Minted};
use serde_json::json;

use crate::arguments::{Format, Options};
use crate::outcome::{Outcome, Trouble};
use crate::output;

/// Makes certificates for TLS, signed by an authority of your own
///
/// The authority is made with the first certificate: ca.pem, which every node and client trusts (--tls-ca), ca.crl, which lists what
/// is revoked (--tls-crl of the nodes), and ca.key, which signs. Keep ca.key where certificates are made, and off the nodes: who
/// has it is a node, if they want.
#[derive(Args, Debug)]
pub(crate) struct CertificateArguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// For a node: for its --tls-cert and --tls-key
    Node {
        /// The node's name; the files are called by it
        name: String,
        /// The hosts and IP addresses at which others reach it, as they stand in --listen, --advertise and --endpoints
        #[arg(
            long = "host",
            value_name = "HOST,...",
            value_delimiter = ',',
            required = true
        )]
        hosts: Vec<String>,
        #[command(flatten)]
        place: Place,
    },
    /// For a client: for the --tls-cert and --tls-key of kvctl, curl or a program
    Client {
        /// Whose it is; the files are called by it
        name: String,
        #[command(flatten)]
        place: Place,
    },
    /// Trust a certificate no more: adds it to the list ca.crl, which servers started with --tls-crl read by themselves
    ///
    /// Give the nodes the new list in the place of the old one. What is revoked is the certificate in NAME.pem: revoke it before a
    /// new one takes its place (--renew).
    Revoke {
        /// Whose it is
        name: String,
        #[command(flatten)]
        directory: Directory,
    },
}

#[derive(Args, Debug)]
struct Directory {
    /// Where the files are
    #[arg(long = "directory", value_name = "DIR", default_value = "certificates")]
    path: PathBuf,
}

#[derive(Args, Debug)]
struct Place {
    #[command(flatten)]
    directory: Directory,
    /// How long it is valid
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=7300))]
    days: u32,
    /// Make a new one in the place of the one that is there; servers and clients that use it read it by themselves
    #[arg(long)]
    renew: bool,
}

impl CertificateArguments {
    pub(crate) fn run(&self, options: &Options) -> Result<Outcome, Trouble> {
        let (name, holder, place) = match &self.action {
            Action::Node { name, hosts, place } => {
                let hosts = hosts.clone();
                (name, Holder::Node { hosts }, place)
            }
            Action::Client { name, place } => (name, Holder::Client, place),
            Action::Revoke { name, directory } => return revoke(options, name, &directory.path),
        };
        check_holder(name)?;
        let directory = &place.directory.path;
        let files = Files::of(directory, name);
        if files.certificate.exists() && !place.renew {
            return Err(Trouble::CertificateThere {
                path: files.certificate,
            });
        }
        std::fs::create_dir_all(directory).map_err(|source| Trouble::WriteFile {
            path: directory.clone(),
            source,
        })?;
        let authority = authority(directory)?;
        let lifetime = Duration::from_secs(u64::from(place.days) * 86_400);
        files.write(&authority.issue(name, &holder, lifetime)?)?;
        let (certificate, key) = (files.certificate.display(), files.key.display());
        let ca = Files::of(directory, AUTHORITY).certificate;
        output::write_change(&match options.output {
            Format::Text | Format::Table => format!(
                "--tls-ca {} --tls-cert {certificate} --tls-key {key}\n",
                ca.display()
            )
            .into_bytes(),
            Format::Json => output::document(&json!({
                "authority": ca.display().to_string(),
                "certificate": certificate.to_string(),
                "key": key.to_string(),
                "days": place.days,
            })),
        })?;
        Ok(Outcome::Done)
    }
}

fn revoke(options: &Options, name: &str, directory: &Path) -> Result<Outcome, Trouble> {
    check_holder(name)?;
    let certificate = Files::of(directory, name).certificate;
    let list = directory.join(LIST);
    let text = read(&certificate)?;
    let authority = authority(directory)?;
    replace(
        &list,
        &authority.revoke(&read(&list)?, &text)?,
        Readers::Everybody,
    )?;
    output::write_change(&match options.output {
        Format::Text | Format::Table => format!("--tls-crl {}\n", list.display()).into_bytes(),
        Format::Json => output::document(&json!({
            "revoked": certificate.display().to_string(),
            "list": list.display().to_string(),
        })),
    })?;
    Ok(Outcome::Done)
}

/// The name of the authority's own files.
const AUTHORITY: &str = "ca";

/// What it has revoked.
const LIST: &str = "ca.crl";

fn check_holder(name: &str) -> Result<(), Trouble> {
    match name != AUTHORITY && is_file_name(name) {
        true => Ok(()),
        false => Err(Trouble::HolderName {
            name: name.to_owned(),
        }),
    }
}

fn is_file_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
    name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(is_plain)
}

/// The one whose files are in this directory, or a new one.
fn authority(directory: &Path) -> Result<Authority, Trouble> {
    let files = Files::of(directory, AUTHORITY);
    let list = directory.join(LIST);
    // A list beside no authority is one that nobody signs any more.
    let has_list = files.certificate.exists() && list.exists();
    let authority = match (files.certificate.exists(), files.key.exists()) {
        (true, true) => Authority::open(&files.read()?)?,
        (true, false) => {
            return Err(Trouble::NoAuthorityKey {
                key: files.key,
                certificate: files.certificate,
            });
        }
        (false, _) => {
            let (authority, minted) = Authority::create()?;
            files.write(&minted)?;
            authority
        }
    };
    if !has_list {
        replace(&list, &authority.revoke_none()?, Readers::Everybody)?;
    }
    Ok(authority)
}

/// A certificate's file and its key's.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn of(directory: &Path, name: &str) -> Files {
        Files {
            certificate: directory.join(format!("{name}.pem")),
            key: directory.join(format!("{name}.key")),
        }
    }

    fn read(&self) -> Result<Minted, Trouble> {
        Ok(Minted {
            certificate: read(&self.certificate)?,
            key: read(&self.key)?,
        })
    }

    /// The key first: with it alone nobody takes the old certificate for the new one.
    fn write(&self, minted: &Minted) -> Result<(), Trouble> {
        replace(&self.key, &minted.key, Readers::Owner)?;
        replace(&self.certificate, &minted.certificate, Readers::Everybody)
    }
}

fn read(path: &Path) -> Result<String, Trouble> {
    std::fs::read_to_string(path).map_err(|source| Trouble::ReadLines {
        path: path.to_owned(),
        source,
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Readers {
    Owner,
    Everybody,
}

/// At once: whoever reads it meanwhile sees the old file or the new one.
fn replace(path: &Path, text: &str, readers: Readers) -> Result<(), Trouble> {
    let write = || -> io::Result<()> {
        let directory = path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(text.as_bytes())?;
        #[cfg(unix)]
        if readers == Readers::Everybody {
            use std::os::unix::fs::PermissionsExt;
            let permissions = std::fs::Permissions::from_mode(0o644);
            file.as_file().set_permissions(permissions)?;
        }
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|source| Trouble::WriteFile {
        path: path.to_owned(),
        source,
    })
}

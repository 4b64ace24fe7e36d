//! What the command-line programs of this crate have in common. Not part of the library.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use raftkv_tls::{ClientTls, TlsError, TlsFiles};

use crate::ClientBuilder;

/// Where `kvctl` and `kvbench` look when nothing else is said: node1 of the local convention.
pub const DEFAULT_ENDPOINT: &str = "127.0.0.1:7001";

/// The environment variable that takes the place of `--endpoints`.
pub const ENDPOINTS_VARIABLE: &str = "KVCTL_ENDPOINTS";

/// The environment variables that take the place of the flags for TLS.
const TLS_CA_VARIABLE: &str = "KVCTL_TLS_CA";
const TLS_CERT_VARIABLE: &str = "KVCTL_TLS_CERT";
const TLS_KEY_VARIABLE: &str = "KVCTL_TLS_KEY";

/// How servers are connected to, as the programs' users say it.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "TLS")]
pub struct TlsOptions {
    /// The authorities that signed the servers' certificates (PEM): connects within TLS
    #[arg(long, global = true, value_name = "FILE", env = TLS_CA_VARIABLE)]
    pub tls_ca: Option<PathBuf>,
    /// The certificate to present (PEM), where servers ask for one
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = TLS_CERT_VARIABLE,
        requires = "tls_ca",
        requires = "tls_key"
    )]
    pub tls_cert: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = TLS_KEY_VARIABLE,
        requires = "tls_cert"
    )]
    pub tls_key: Option<PathBuf>,
}

impl TlsOptions {
    /// What was named; `None`: connections are plain.
    fn files(&self) -> Option<TlsFiles> {
        self.tls_ca.as_ref().map(|authorities| TlsFiles {
            certificate: self.tls_cert.clone(),
            key: self.tls_key.clone(),
            authorities: Some(authorities.clone()),
            revoked: None,
        })
    }

    /// For connections that no [`Client`](crate::Client) makes; `None`: they are plain.
    ///
    /// # Errors
    /// When a file can not be used.
    pub fn dialler(&self) -> Result<Option<ClientTls>, TlsError> {
        self.files().map(ClientTls::new).transpose()
    }

    /// The same as environment variables: for a program that is run and talks to the same servers.
    pub fn environment(&self) -> impl Iterator<Item = (&'static str, &PathBuf)> {
        let variables = [
            (TLS_CA_VARIABLE, &self.tls_ca),
            (TLS_CERT_VARIABLE, &self.tls_cert),
            (TLS_KEY_VARIABLE, &self.tls_key),
        ];
        variables
            .into_iter()
            .filter_map(|(name, path)| Some((name, path.as_ref()?)))
    }

    /// The client that they describe, which connects as they say.
    pub fn apply(&self, builder: ClientBuilder) -> ClientBuilder {
        match self.files() {
            None => builder,
            Some(files) => builder.tls(files),
        }
    }
}

/// Flags may be written with one dash or two: turns `-name` and `-name=x` into `--name` and `--name=x` for the long flags
/// of `program` and its commands, never in the place of a flag's value or behind `--`.
pub fn double_dashes(
    mut program: clap::Command,
    arguments: impl IntoIterator<Item = OsString>,
) -> Vec<OsString> {
    program.build();
    let find = |name: &str| find_flag(&program, name);
    let mut is_value = true; // the program's name stays as it is
    let mut is_verbatim = false;
    let mut turned = Vec::new();
    for argument in arguments {
        let is_literal = std::mem::take(&mut is_value) || is_verbatim;
        let text = argument.to_str().filter(|_| !is_literal).unwrap_or_default();
        is_verbatim |= text == "--";
        let bare = text.strip_prefix("--").or_else(|| text.strip_prefix('-'));
        let (name, value) = bare.map_or(("", None), |bare| match bare.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (bare, None),
        });
        match (find(name), bare) {
            (Some(flag), Some(bare)) => {
                is_value = flag.get_action().takes_values() && value.is_none();
                turned.push(format!("--{bare}").into());
            }
            _ => turned.push(argument),
        }
    }
    turned
}

/// The long flag of this name, of a command or of those within it.
fn find_flag<'a>(command: &'a clap::Command, name: &str) -> Option<&'a clap::Arg> {
    let own = command.get_arguments().find(|flag| flag.get_long() == Some(name));
    own.or_else(|| {
        command
            .get_subcommands()
            .find_map(|within| find_flag(within, name))
    })
}

/// Reads a duration such as `500ms`, `2s`, `1.5s`, `10m` or `1h`.
///
/// # Errors
/// A sentence for the user, if it is none, or has no unit.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let refused =
        || format!("{text:?} is not a duration: give a number and a unit, such as 500ms, 2s, 10m or 1h");
    let unit_at = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .ok_or_else(refused)?;
    let (number, unit) = text.split_at(unit_at);
    let seconds_per_unit = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(refused()),
    };
    let number: f64 = number.parse().map_err(|_| refused())?;
    Duration::try_from_secs_f64(number * seconds_per_unit).map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_dash_or_two_mean_the_same_and_values_stay_as_they_are() {
        let program = clap::Command::new("p")
            .arg(clap::Arg::new("list").long("list").global(true))
            .subcommand(clap::Command::new("get").arg(clap::Arg::new("raw").long("raw").num_args(0)));
        for (line, expected) in [
            ("p -list a get -raw k", "p --list a get --raw k"),
            ("p --list=a get -list=-raw", "p --list=a get --list=-raw"),
            ("p -list -raw get -other -5 -h", "p --list -raw get -other -5 -h"),
            ("p get -- -raw -list", "p get -- -raw -list"),
            ("-list p", "-list p"),
        ] {
            let turned = double_dashes(program.clone(), line.split(' ').map(Into::into));
            let expected: Vec<OsString> = expected.split(' ').map(Into::into).collect();
            assert_eq!(turned, expected, "{line}");
        }
    }

    #[test]
    fn durations_have_a_number_and_a_unit() {
        let valid = [
            ("500ms", 500),
            ("2s", 2_000),
            ("1.5s", 1_500),
            ("10m", 600_000),
            ("1h", 3_600_000),
        ];
        for (text, milliseconds) in valid {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        for text in [
            "",
            "2",
            "s",
            "-1s",
            "2 s",
            "2d",
            "1.2.3s",
            "9999999999999999999999h",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}

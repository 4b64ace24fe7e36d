//! What was typed.

use std::num::NonZeroUsize;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use raftkv_client::command_line::{DEFAULT_ENDPOINT, ENDPOINTS_VARIABLE, TlsOptions, parse_duration};
use raftkv_client::{Client, ClientBuilder, Consistency, Error, Writes};

use crate::certificate::CertificateArguments;
use crate::completions::Completions;
use crate::delete::Delete;
use crate::elect::Elect;
use crate::export::Export;
use crate::get::Get;
use crate::import::Import;
use crate::increment::Increment;
use crate::lease::LeaseArguments;
use crate::lock::Lock;
use crate::member::MemberArguments;
use crate::scrub::ScrubArguments;
use crate::set::Set;
use crate::status::Status;
use crate::txn::Txn;
use crate::watch::Watch;

const AFTER_HELP: &str = "\
Exit codes:
  0  done
  1  the key does not exist
  2  the command line or the request is wrong
  3  the cluster can not be reached, has no leader or is overloaded; nothing was changed
  4  the condition (--if-revision, --if-absent, --guarded, the conditions of a txn) does not hold, the lock was not to be had
     in time, or a change of members was refused; nothing was changed, but by the else branch of a txn
  5  the outcome of the write is unknown: read the key (look at the members) before asking again; or the lock was lost while
     the command ran
  With lock the exit code is that of its command, if that ran to its end.";

/// Talks to a raftkv cluster.
#[derive(Debug, Parser)]
#[command(name = "kvctl", version, after_help = AFTER_HELP, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) options: Options,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command, before or after its name.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Servers to begin with, separated by commas; one is enough, the others are learnt from it
    #[arg(
        long,
        global = true,
        value_name = "HOST:PORT,...",
        env = ENDPOINTS_VARIABLE,
        value_delimiter = ',',
        default_value = DEFAULT_ENDPOINT
    )]
    pub(crate) endpoints: Vec<String>,
    /// How answers are printed
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,
    /// How long a request may take in all
    #[arg(long, global = true, value_name = "DURATION", value_parser = parse_duration, default_value = "5s")]
    pub(crate) timeout: Duration,
    /// What reads promise: stale ones are answered by the first endpoint from its own state, possibly old
    #[arg(long, global = true, value_enum, default_value_t = Promise::Linearizable)]
    pub(crate) consistency: Promise,
    #[command(flatten)]
    pub(crate) tls: TlsOptions,
}

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people and simple scripts
    Text,
    /// One JSON document
    Json,
    /// For people: columns under a header, where there is something to list
    Table,
}

/// What reads promise, as it is spelt here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Promise {
    /// Sees every write acknowledged before
    Linearizable,
    /// The same without asking a majority while the leader holds a lease, if the cluster keeps leases
    LeaderLease,
    /// Possibly old
    Stale,
}

impl From<Promise> for Consistency {
    fn from(promise: Promise) -> Consistency {
        match promise {
            Promise::Linearizable => Consistency::Linearizable,
            Promise::LeaderLease => Consistency::LeaderLease,
            Promise::Stale => Consistency::Stale,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Get(Get),
    // Other stores' names for the same: hands know them.
    #[command(visible_alias = "put")]
    Set(Set),
    #[command(visible_alias = "del")]
    Delete(Delete),
    Watch(Watch),
    Increment(Increment),
    Txn(Txn),
    Lease(LeaseArguments),
    Lock(Lock),
    Elect(Elect),
    Export(Export),
    Import(Import),
    Member(MemberArguments),
    Scrub(ScrubArguments),
    Status(Status),
    Certificate(CertificateArguments),
    Completions(Completions),
}

impl Options {
    /// A client for one command. A person waits: so it looks at every endpoint and a little longer, but does not wait for
    /// servers that are not there. It writes once and ends: a session for that would be a second write, and would count for a
    /// minute more.
    pub(crate) fn client(&self) -> Result<Client, Error> {
        let attempts = NonZeroUsize::MIN.saturating_add(self.endpoints.len() + 2);
        self.builder()
            .attempts(attempts)
            .writes(Writes::AtMostOnce)
            .build()
    }

    /// A client for what goes on over failures: it asks again until the time-out, and sends a write whose answer was lost again.
    pub(crate) fn lasting_client(&self) -> Result<Client, Error> {
        self.builder().build()
    }

    fn builder(&self) -> ClientBuilder {
        let endpoints = self.endpoints.iter().map(String::as_str);
        let builder = Client::builder().endpoints(endpoints).timeout(self.timeout);
        self.tls.apply(builder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(std::iter::once(&"kvctl").chain(line))
    }

    #[test]
    fn the_definition_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn options_stand_before_or_after_the_command() {
        let before = parse(&[
            "--endpoints",
            "a:1,b:2",
            "--output",
            "json",
            "--consistency",
            "stale",
            "get",
            "k",
        ]);
        let after = parse(&[
            "get",
            "k",
            "--endpoints",
            "a:1,b:2",
            "--output",
            "json",
            "--consistency",
            "stale",
        ]);
        for arguments in [before.unwrap(), after.unwrap()] {
            assert_eq!(arguments.options.endpoints, ["a:1", "b:2"]);
            assert_eq!(arguments.options.output, Format::Json);
            assert_eq!(arguments.options.consistency, Promise::Stale);
        }
    }

    #[test]
    fn what_contradicts_itself_or_is_not_complete_is_refused() {
        let wrong: [&[&str]; 38] = [
            &["increment", "k", "much"],
            &["lock", "l"],
            &["lock", "l", "command"],
            &["lock", "l", "--wait", "1s", "--no-wait", "--", "command"],
            &["lease", "grant"],
            &["lease", "get", "not hexadecimal"],
            &["txn", "a", "b"],
            &["export", "a", "--output", "yaml"],
            &["set", "k", "v", "--ttl", "1s", "--lease", "7"],
            &["get"],
            &["get", "k", "--prefix", "k"],
            &["get", "k", "--limit", "1"],
            &["get", "k", "--keys-only"],
            &["get", "--limit", "1"],
            &["get", "--prefix", "k", "--from", "k"],
            &["get", "--prefix", "k", "--limit", "0"],
            &["get", "--prefix", "k", "--limit", "many"],
            &["get", "--prefix", "k", "--keys-only", "--count-only"],
            &["get", "--prefix", "k", "--at-revision", "0"],
            &["watch"],
            &["watch", "k", "--prefix", "k"],
            &["watch", "k", "--from-revision", "0"],
            &["watch", "k", "--from-revision", "3", "--snapshot"],
            &["watch", "k", "l"],
            &["watch", "k", "--reverse"],
            &["get", "k", "--timeout", "5"],
            &["get", "k", "--consistency", "eventual"],
            &["set"],
            &["set", "k", "v", "--file", "f"],
            &["set", "k", "v", "--if-absent", "--if-revision", "3"],
            &["set", "k", "v", "--if-revision", "three"],
            &["delete"],
            &["delete", "k", "--ttl", "2s"],
            &["delete", "k", "--prefix", "k"],
            &["delete", "k", "--to", "l"],
            &["delete", "--prefix", "k", "--from", "k"],
            &["delete", "--prefix", "k", "--if-revision", "3"],
            &["frobnicate"],
        ];
        for line in wrong {
            let error = parse(line).expect_err(&line.join(" "));
            assert_eq!(error.exit_code(), 2, "{line:?}");
        }
    }

    #[test]
    fn a_locks_command_may_have_flags_of_its_own() {
        let line = ["lock", "l", "--output", "json", "--", "env", "--output", "-x"];
        let Command::Lock(lock) = parse(&line).expect("a command line").command else {
            panic!("expected lock")
        };
        assert_eq!(lock.command, ["env", "--output", "-x"]);
    }

    #[test]
    fn the_help_documents_the_exit_codes() {
        let help = Arguments::command().render_help().to_string();
        assert!(help.contains("5  the outcome of the write is unknown"), "{help}");
    }

    #[test]
    fn the_names_of_other_stores_do_the_same() {
        let command = |line: &[&str]| Arguments::try_parse_from(line).unwrap().command;
        assert!(matches!(command(&["kvctl", "put", "k", "v"]), Command::Set(_)));
        assert!(matches!(command(&["kvctl", "del", "k"]), Command::Delete(_)));
    }

    #[cfg(unix)]
    #[test]
    fn keys_and_values_are_bytes() {
        use std::ffi::OsString;
        use std::os::unix::ffi::OsStringExt;

        let raw = || OsString::from_vec(vec![b'k', 0xff]);
        let line = ["kvctl".into(), "set".into(), raw(), raw()];
        let Command::Set(set) = Arguments::try_parse_from(line).unwrap().command else {
            panic!("expected set")
        };
        assert_eq!((set.key, set.value), (raw(), Some(raw())));
    }
}

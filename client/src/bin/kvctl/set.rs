//! `kvctl set`

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use raftkv_client::Revision;
use raftkv_client::command_line::parse_duration;

use crate::arguments::Options;
use crate::outcome::{Outcome, Trouble};
use crate::output;

/// Sets a key: prints the revision it made
#[derive(Args, Debug)]
pub(crate) struct Set {
    /// The key; after -- if it begins with a dash
    #[arg(allow_negative_numbers = true)]
    pub(crate) key: OsString,
    /// The value; - or nothing takes all of standard input, as it is
    #[arg(allow_negative_numbers = true)]
    pub(crate) value: Option<OsString>,
    /// Takes the value from this file, as it is
    #[arg(long, value_name = "PATH", conflicts_with = "value")]
    pub(crate) file: Option<PathBuf>,
    /// Deletes the key by itself after so long, such as 500ms or 2s
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) ttl: Option<Duration>,
    /// Only if this revision changed the key last; 0: only if it does not exist
    #[arg(long, value_name = "REVISION", conflicts_with = "if_absent")]
    pub(crate) if_revision: Option<u64>,
    /// Only if the key does not exist
    #[arg(long)]
    pub(crate) if_absent: bool,
}

impl Set {
    pub(crate) async fn run(&self, options: &Options) -> Result<Outcome, Trouble> {
        let (key, value) = (output::argument_bytes(&self.key), self.read_value()?);
        let client = options.client()?;
        let mut set = client.set(key.clone(), value);
        set = match (self.if_absent, self.if_revision) {
            (true, _) | (false, Some(0)) => set.if_absent(),
            (false, Some(revision)) => set.if_revision(Revision(revision)),
            (false, None) => set,
        };
        if let Some(ttl) = self.ttl {
            set = set.ttl(ttl);
        }
        let revision = set.await?;
        output::write_change(&output::written(options.output, &key, revision))?;
        Ok(Outcome::Done)
    }

    fn read_value(&self) -> Result<Bytes, Trouble> {
        if let Some(path) = &self.file {
            let read = std::fs::read(path);
            return read.map(Bytes::from).map_err(|source| Trouble::ReadFile {
                path: path.clone(),
                source,
            });
        }
        let mut input = io::stdin();
        match self.value.as_deref() {
            Some(value) if value != OsStr::new("-") => Ok(output::argument_bytes(value)),
            // Someone who forgot the value should not face a program that silently waits.
            None if input.is_terminal() => Err(Trouble::NoValue),
            Some(_) | None => {
                let mut value = Vec::new();
                input.read_to_end(&mut value).map_err(Trouble::ReadInput)?;
                Ok(value.into())
            }
        }
    }
}

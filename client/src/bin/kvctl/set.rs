//! `kvctl set`

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use raftkv_client::command_line::parse_duration;
use raftkv_client::{Check, Client, Error, LeaseId, Operation, Relation, Revision, Shape, Transaction};

use crate::arguments::Options;
use crate::guard::Guard;
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
    /// Deletes the key when this lease ends
    #[arg(long, value_name = "ID", conflicts_with = "ttl")]
    pub(crate) lease: Option<LeaseId>,
    #[command(flatten)]
    pub(crate) guard: Guard,
}

/// What must hold of the key.
enum Condition {
    None,
    Absent,
    Revision(Revision),
}

impl Set {
    pub(crate) async fn run(&self, options: &Options) -> Result<Outcome, Trouble> {
        let (key, value) = (output::argument_bytes(&self.key), self.read_value()?);
        let client = options.client()?;
        let revision = match self.is_plain() {
            true => self.set(&client, key.clone(), value).await?,
            false => self.transact(&client, key.clone(), value).await?,
        };
        output::write_change(&output::written(options.output, &key, revision))?;
        Ok(Outcome::Done)
    }

    fn is_plain(&self) -> bool {
        self.lease.is_none() && !self.guard.guarded
    }

    fn condition(&self) -> Condition {
        match (self.if_absent, self.if_revision) {
            (true, _) | (false, Some(0)) => Condition::Absent,
            (false, Some(revision)) => Condition::Revision(Revision(revision)),
            (false, None) => Condition::None,
        }
    }

    async fn set(&self, client: &Client, key: Bytes, value: Bytes) -> Result<Revision, Error> {
        let mut set = client.set(key, value);
        set = match self.condition() {
            Condition::None => set,
            Condition::Absent => set.if_absent(),
            Condition::Revision(revision) => set.if_revision(revision),
        };
        if let Some(ttl) = self.ttl {
            set = set.ttl(ttl);
        }
        set.await
    }

    /// What a plain set can not do.
    async fn transact(&self, client: &Client, key: Bytes, value: Bytes) -> Result<Revision, Trouble> {
        let mut put = Operation::put(key.clone(), value);
        put = match (self.ttl, self.lease) {
            (Some(ttl), _) => put.ttl(ttl),
            (None, Some(lease)) => put.lease(lease),
            (None, None) => put,
        };
        let check = match self.condition() {
            Condition::None => None,
            Condition::Absent => Some(Check::absent(key.clone())),
            Condition::Revision(revision) => {
                Some(Check::mod_revision(key.clone(), Relation::Equal, revision))
            }
        };
        let look = Operation::get(key).shape(Shape::KeysOnly);
        let set = Transaction::new().when(check).then([put]).otherwise([look]);
        let done = client.transact(self.guard.put_on(set)?).await?;
        match done.succeeded() {
            true => Ok(done.revision),
            false => Err(Trouble::Client(Error::ConditionFailed {
                current: done.read(0).first().map(|kv| kv.record.mod_revision),
            })),
        }
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

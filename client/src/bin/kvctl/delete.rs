//! `kvctl delete`

use std::ffi::OsString;

use clap::{ArgGroup, Args};
use raftkv_client::{Client, KeySpan, Revision};

use crate::arguments::{Format, Options};
use crate::outcome::{Outcome, Trouble};
use crate::output;
use crate::span::SpanArguments;

/// Deletes a key: prints the revision it made. With --prefix, --from or --to it deletes all keys of the range at once
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("what").args(["key", "prefix", "from", "to"]).required(true).multiple(true)))]
pub(crate) struct Delete {
    /// The key; after -- if it begins with a dash
    #[arg(allow_negative_numbers = true, conflicts_with_all = ["prefix", "from", "to"])]
    pub(crate) key: Option<OsString>,
    /// Only if this revision changed the key last
    #[arg(
        long,
        value_name = "REVISION",
        conflicts_with_all = ["prefix", "from", "to"],
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    pub(crate) if_revision: Option<u64>,
    #[command(flatten)]
    pub(crate) span: SpanArguments,
}

impl Delete {
    pub(crate) async fn run(&self, options: &Options) -> Result<Outcome, Trouble> {
        let client = || options.client();
        match &self.key {
            Some(key) => self.delete_key(key, &client()?, options.output).await,
            None => {
                let span = self.span.span()?;
                delete_range(span, &client()?, options.output).await
            }
        }
    }

    async fn delete_key(
        &self,
        typed: &OsString,
        client: &Client,
        format: Format,
    ) -> Result<Outcome, Trouble> {
        let key = output::argument_bytes(typed);
        let mut delete = client.delete(key.clone());
        if let Some(revision) = self.if_revision {
            delete = delete.if_revision(Revision(revision));
        }
        let deleted = delete.await?;
        output::write_change(&output::deleted(format, &key, deleted))?;
        if deleted.existed {
            return Ok(Outcome::Done);
        }
        if format != Format::Json {
            eprintln!("kvctl: the key {typed:?} does not exist; nothing was deleted");
        }
        Ok(Outcome::NotFound)
    }
}

async fn delete_range(span: KeySpan, client: &Client, format: Format) -> Result<Outcome, Trouble> {
    let deleted = client.delete_range(span).await?;
    output::write_change(&output::deleted_range(format, &deleted))?;
    if deleted.count > 0 {
        return Ok(Outcome::Done);
    }
    if format != Format::Json {
        eprintln!("kvctl: there is no key in that range; nothing was deleted");
    }
    Ok(Outcome::NotFound)
}

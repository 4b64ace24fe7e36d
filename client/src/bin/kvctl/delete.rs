//! `kvctl delete`

use std::ffi::OsString;

use clap::Args;
use raftkv_client::Revision;

use crate::arguments::{Format, Options};
use crate::outcome::{Outcome, Trouble};
use crate::output;

/// Deletes a key: prints the revision it made
#[derive(Args, Debug)]
pub(crate) struct Delete {
    /// The key; after -- if it begins with a dash
    #[arg(allow_negative_numbers = true)]
    pub(crate) key: OsString,
    /// Only if this revision changed the key last
    #[arg(long, value_name = "REVISION", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) if_revision: Option<u64>,
}

impl Delete {
    pub(crate) async fn run(&self, options: &Options) -> Result<Outcome, Trouble> {
        let key = output::argument_bytes(&self.key);
        let client = options.client()?;
        let mut delete = client.delete(key.clone());
        if let Some(revision) = self.if_revision {
            delete = delete.if_revision(Revision(revision));
        }
        let deleted = delete.await?;
        output::write_change(&output::deleted(options.output, &key, deleted))?;
        if deleted.existed {
            return Ok(Outcome::Done);
        }
        if options.output != Format::Json {
            eprintln!(
                "kvctl: the key {:?} does not exist; nothing was deleted",
                self.key
            );
        }
        Ok(Outcome::NotFound)
    }
}

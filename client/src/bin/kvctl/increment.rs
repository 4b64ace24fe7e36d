//! `kvctl increment`

use std::ffi::OsString;

use clap::Args;
use raftkv_client::{OpResult, Operation, Revision, Transaction};
use serde_json::Map;

use crate::arguments::{Format, Options};
use crate::guard::Guard;
use crate::outcome::{Outcome, Trouble};
use crate::output;

/// Adds to the number that a key's value is, and prints the sum; a key that does not exist counts as 0
#[derive(Args, Debug)]
pub(crate) struct Increment {
    /// The key; after -- if it begins with a dash
    #[arg(allow_negative_numbers = true)]
    pub(crate) key: OsString,
    /// What is added; may be negative
    #[arg(allow_negative_numbers = true, default_value_t = 1)]
    pub(crate) by: i64,
    #[command(flatten)]
    pub(crate) guard: Guard,
}

impl Increment {
    pub(crate) async fn run(&self, options: &Options) -> Result<Outcome, Trouble> {
        let key = output::argument_bytes(&self.key);
        let increment = Transaction::new().then([Operation::increment(key.clone(), self.by)]);
        let done = options.client()?.transact(self.guard.put_on(increment)?).await?;
        if let Some(OpResult::Incremented { value }) = done.results.first() {
            output::write_change(&printed(options.output, &key, *value, done.revision))?;
        }
        Ok(Outcome::Done)
    }
}

fn printed(format: Format, key: &[u8], sum: i64, revision: Revision) -> Vec<u8> {
    match format {
        Format::Text | Format::Table => format!("{sum}\n").into_bytes(),
        Format::Json => {
            let mut object = Map::new();
            output::insert_bytes(&mut object, "key", key);
            object.insert("value".to_owned(), sum.into());
            object.insert("revision".to_owned(), revision.0.into());
            output::document(&object.into())
        }
    }
}

//! `kvctl get`

use std::ffi::OsString;

use clap::Args;

use crate::arguments::{Format, Options};
use crate::outcome::{Outcome, Trouble};
use crate::output;

/// Reads a key: prints its value and a newline
#[derive(Args, Debug)]
pub(crate) struct Get {
    /// The key; after -- if it begins with a dash
    #[arg(allow_negative_numbers = true)]
    pub(crate) key: OsString,
}

impl Get {
    pub(crate) async fn run(&self, options: &Options) -> Result<Outcome, Trouble> {
        let key = output::argument_bytes(&self.key);
        let record = options
            .client()?
            .get(key.clone())
            .consistency(options.consistency.into())
            .await?;
        output::write(&output::record(options.output, &key, record.as_ref()))?;
        if record.is_some() {
            return Ok(Outcome::Done);
        }
        if options.output == Format::Text {
            eprintln!("kvctl: the key {:?} does not exist", self.key);
        }
        Ok(Outcome::NotFound)
    }
}

//! `kvctl get`

use std::ffi::OsString;

use clap::{ArgGroup, Args};
use raftkv_client::{Order, Range, Revision, Shape};

use crate::arguments::{Format, Options};
use crate::outcome::{Outcome, Trouble};
use crate::output::{self, Printed, Reader};
use crate::span::SpanArguments;
use crate::table::Table;

/// Reads a key: prints its value and a newline. With --prefix, --from or --to it lists: a line per key, a tab before its value
///
/// The value of one key is printed byte for byte. In listings a tab, a newline and a backslash in a key or value are printed as
/// \\t, \\n and \\\\, other control characters and bytes that are not UTF-8 as \\xNN.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("which").args(["key", "prefix", "from", "to"]).required(true).multiple(true)))]
pub(crate) struct Get {
    /// The key; after -- if it begins with a dash
    #[arg(
        allow_negative_numbers = true,
        conflicts_with_all = ["prefix", "from", "to", "limit", "keys_only", "count_only", "reverse"]
    )]
    pub(crate) key: Option<OsString>,
    #[command(flatten)]
    pub(crate) span: SpanArguments,
    /// Lists so many keys at most
    #[arg(long, value_name = "KEYS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    /// Lists without values
    #[arg(long)]
    pub(crate) keys_only: bool,
    /// Prints how many keys there are
    #[arg(long, conflicts_with_all = ["keys_only", "reverse"])]
    pub(crate) count_only: bool,
    /// Lists from the last key to the first
    #[arg(long)]
    pub(crate) reverse: bool,
    /// As it was just after this revision, if that is still kept
    #[arg(long, value_name = "REVISION", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) at_revision: Option<u64>,
}

impl Get {
    pub(crate) async fn run(&self, options: &Options) -> Result<Outcome, Trouble> {
        match &self.key {
            Some(key) => self.read(key, options).await,
            None => self.list(options).await,
        }
    }

    async fn read(&self, typed: &OsString, options: &Options) -> Result<Outcome, Trouble> {
        let key = output::argument_bytes(typed);
        let client = options.client()?;
        let mut get = client.get(key.clone()).consistency(options.consistency.into());
        if let Some(revision) = self.at_revision {
            get = get.at_revision(Revision(revision));
        }
        let record = get.await?;
        output::write(&output::record(options.output, &key, record.as_ref()))?;
        if record.is_some() {
            return Ok(Outcome::Done);
        }
        if options.output != Format::Json {
            match self.at_revision {
                Some(revision) => eprintln!("kvctl: the key {typed:?} did not exist at revision {revision}"),
                None => eprintln!("kvctl: the key {typed:?} does not exist"),
            }
        }
        Ok(Outcome::NotFound)
    }

    async fn list(&self, options: &Options) -> Result<Outcome, Trouble> {
        let span = self.span.span()?;
        let client = options.client()?;
        let range = client.range(span).consistency(options.consistency.into());
        let range = self.described(range);
        if self.count_only {
            output::write(&output::count(options.output, range.count().await?))?;
            return Ok(Outcome::Done);
        }
        let mut listing = range.stream();
        let mut printed = Printed::default();
        let mut table = Table::new(&output::record_header(self.shape()));
        let mut is_first = true;
        while let Some(kv) = listing.next().await {
            let kv = match kv {
                Ok(kv) => kv,
                Err(error) => {
                    if options.output == Format::Table {
                        printed.push(&table.take_rows());
                    }
                    printed.write()?;
                    return Err(error.into());
                }
            };
            match options.output {
                Format::Text => printed.push(&output::line(&kv, self.shape())),
                Format::Json => printed.push(&output::list_item(&kv, self.shape(), is_first)),
                Format::Table => {
                    table.push(output::record_row(&kv.key, &kv.record, self.shape()));
                    printed.push(&table.take_full());
                }
            }
            is_first = false;
            if printed.write_full()? == Reader::Gone {
                return Ok(Outcome::Done);
            }
        }
        match options.output {
            Format::Text => {}
            Format::Table => printed.push(&table.take()),
            Format::Json => printed.push(&output::list_end(listing.at(), is_first)),
        }
        printed.write()?;
        Ok(Outcome::Done)
    }

    fn described<'a>(&self, range: Range<'a>) -> Range<'a> {
        let mut range = range.shape(self.shape());
        if self.reverse {
            range = range.order(Order::Descending);
        }
        if let Some(limit) = self.limit {
            range = range.limit(limit);
        }
        match self.at_revision {
            Some(revision) => range.at_revision(Revision(revision)),
            None => range,
        }
    }

    fn shape(&self) -> Shape {
        match self.keys_only {
            true => Shape::KeysOnly,
            false => Shape::Records,
        }
    }
}

//! `kvctl export`

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use raftkv_client::{Client, KeySpan, KeyValue, Range, Revision};

use crate::arguments::Options;
use crate::outcome::{Outcome, Trouble};
use crate::output::{self, Reader};

/// Writes keys and values as lines of JSON, all of one state, for import
///
/// Each line is {"key":K,"value":V}; bytes that are not UTF-8 stand as base64, in key_base64 and value_base64. Keys that hang on
/// a lease are left out: they are about programs that run now. A time to live of a key's own is not part of it.
#[derive(Args, Debug)]
pub(crate) struct Export {
    /// The file; - or nothing writes to standard output
    pub(crate) file: Option<PathBuf>,
    /// Only keys that begin with this
    #[arg(long, value_name = "PREFIX", default_value = "")]
    pub(crate) prefix: OsString,
    /// As it was just after this revision, if that is still kept
    #[arg(long, value_name = "REVISION", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) at_revision: Option<u64>,
}

impl Export {
    pub(crate) async fn run(&self, options: &Options) -> Result<Outcome, Trouble> {
        let client = options.client()?;
        // Counting costs the cluster a scan: only for somebody who looks.
        let count = match io::stderr().is_terminal() {
            true => Some(self.range(&client, options).count().await?),
            false => None,
        };
        let bar = progress(count);
        let mut listing = self.range(&client, options).stream();
        let mut lines = self.open()?;
        let mut exported = 0_u64;
        while let Some(kv) = listing.next().await {
            let kv = kv?;
            bar.inc(1);
            if kv.record.lease.is_some() {
                continue;
            }
            exported += 1;
            if lines.push(&line(&kv))? == Reader::Gone {
                return Ok(Outcome::Done);
            }
        }
        lines.end()?;
        bar.finish_and_clear();
        let at = listing.at().unwrap_or_default();
        eprintln!("kvctl: exported {exported} keys as of revision {at}");
        Ok(Outcome::Done)
    }

    fn range<'a>(&self, client: &'a Client, options: &Options) -> Range<'a> {
        let span = KeySpan::prefix(&output::argument_bytes(&self.prefix));
        let range = client.range(span).consistency(options.consistency.into());
        match self.at_revision {
            Some(revision) => range.at_revision(Revision(revision)),
            None => range,
        }
    }

    fn open(&self) -> Result<Lines, Trouble> {
        match &self.file {
            Some(path) if path.as_os_str() != "-" => {
                let file = File::create(path).map_err(|source| write_trouble(path, source))?;
                Ok(Lines::File(path.clone(), BufWriter::new(file)))
            }
            Some(_) | None => Ok(Lines::Output(output::Printed::default())),
        }
    }
}

/// Where lines go.
enum Lines {
    Output(output::Printed),
    File(PathBuf, BufWriter<File>),
}

impl Lines {
    fn push(&mut self, line: &[u8]) -> Result<Reader, Trouble> {
        match self {
            Lines::Output(printed) => {
                printed.push(line);
                printed.write_full()
            }
            Lines::File(path, file) => {
                let written = file.write_all(line);
                written.map_err(|source| write_trouble(path, source))?;
                Ok(Reader::Reads)
            }
        }
    }

    fn end(self) -> Result<(), Trouble> {
        match self {
            Lines::Output(mut printed) => printed.write().map(drop),
            Lines::File(path, file) => {
                let synced = file.into_inner().map_err(io::IntoInnerError::into_error);
                let synced = synced.and_then(|file| file.sync_all());
                synced.map_err(|source| write_trouble(&path, source))
            }
        }
    }
}

fn write_trouble(path: &std::path::Path, source: io::Error) -> Trouble {
    Trouble::WriteFile {
        path: path.to_owned(),
        source,
    }
}

fn line(kv: &KeyValue) -> Vec<u8> {
    let mut object = serde_json::Map::new();
    output::insert_bytes(&mut object, "key", &kv.key);
    output::insert_bytes(&mut object, "value", &kv.record.value);
    output::document(&object.into())
}

/// A bar on standard error while it works; nothing, if that is no terminal.
pub(crate) fn progress(keys: Option<u64>) -> ProgressBar {
    let (bar, template) = match keys {
        Some(keys) => (
            ProgressBar::new(keys),
            "{bar:40} {human_pos}/{human_len} keys  {per_sec}  {eta} left",
        ),
        None => (
            ProgressBar::new_spinner(),
            "{spinner} {human_pos} keys  {per_sec}",
        ),
    };
    bar.with_style(ProgressStyle::with_template(template).expect("the template is valid"))
}

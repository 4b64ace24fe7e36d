//! `kvctl watch`

use std::ffi::OsString;

use clap::{ArgGroup, Args};
use raftkv_client::{KeySpan, Revision, WatchItem};

use crate::arguments::Options;
use crate::outcome::{Outcome, Trouble};
use crate::output::{self, Printed, Reader};

/// Prints every change of a key, or of all that begin with a prefix, a line each, until it is interrupted
///
/// As text: what happened (put, delete), the revision, the key and the value, with tabs between. With --output json each line
/// is a document. It goes on over failures of nodes, without a gap and without a duplicate.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("which").args(["key", "prefix"]).required(true)))]
pub(crate) struct Watch {
    /// The key; after -- if it begins with a dash
    #[arg(allow_negative_numbers = true)]
    pub(crate) key: Option<OsString>,
    /// All keys that begin with this; "" is all there are
    #[arg(long, value_name = "PREFIX")]
    pub(crate) prefix: Option<OsString>,
    /// This revision and all after it, if they are still kept; else from now on
    #[arg(long, value_name = "REVISION", conflicts_with = "snapshot", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) from_revision: Option<u64>,
    /// First the state as it is, as puts between snapshot_begin and snapshot_end; if it begins anew, forget what it told
    #[arg(long)]
    pub(crate) snapshot: bool,
}

impl Watch {
    pub(crate) async fn run(&self, options: &Options) -> Result<Outcome, Trouble> {
        let mut watch = options.client()?.watch(self.span()?);
        if let Some(revision) = self.from_revision {
            watch = watch.from_revision(Revision(revision));
        }
        if self.snapshot {
            watch = watch.from_snapshot();
        }
        let mut watch = watch.stream();
        let interrupted = tokio::signal::ctrl_c();
        tokio::pin!(interrupted);
        let mut printed = Printed::default();
        loop {
            let reader = tokio::select! {
                biased;
                heard = &mut interrupted => {
                    printed.write()?;
                    return heard.map(|()| Outcome::Done).map_err(Trouble::Runtime);
                }
                item = watch.next() => match item {
                    Some(Ok(item)) => {
                        printed.push(&told(options, item));
                        printed.write_full()?
                    }
                    Some(Err(error)) => {
                        printed.write()?;
                        return Err(error.into());
                    }
                    None => return Ok(Outcome::Done),
                },
                // Nothing more is there at the moment: what was told is not kept back.
                () = std::future::ready(()), if !printed.is_empty() => printed.write()?,
            };
            if reader == Reader::Gone {
                return Ok(Outcome::Done);
            }
        }
    }

    fn span(&self) -> Result<KeySpan, Trouble> {
        match (&self.key, &self.prefix) {
            (Some(key), _) if key.is_empty() => Err(Trouble::EmptyKey),
            (Some(key), _) => Ok(KeySpan::one(&output::argument_bytes(key))),
            (None, prefix) => {
                let prefix = prefix.as_ref().map(|typed| output::argument_bytes(typed));
                Ok(KeySpan::prefix(&prefix.unwrap_or_default()))
            }
        }
    }
}

fn told(options: &Options, item: WatchItem) -> Vec<u8> {
    match item {
        WatchItem::SnapshotBegin => output::watch_mark(options.output, "snapshot_begin", None),
        WatchItem::SnapshotEnd(revision) => {
            output::watch_mark(options.output, "snapshot_end", Some(revision))
        }
        WatchItem::Current(kv) => output::watch_put(options.output, &kv),
        WatchItem::Change(event) => output::watch_event(options.output, &event),
        WatchItem::Gap | WatchItem::Progress(_) => unreachable!("neither was asked for"),
    }
}

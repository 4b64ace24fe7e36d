//! `kvctl import`

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal};
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::Args;
use raftkv_client::{Branch, Check, Client, Error, OpResult, Operation, Transaction};
use serde_json::{Map, Value, json};

use crate::arguments::{Format, Options};
use crate::export::progress;
use crate::outcome::{Outcome, Trouble};
use crate::output;

/// One transaction puts so many keys, and so many bytes, at most: enough that its cost is that of the keys.
const BATCH_KEYS: usize = 500;
const BATCH_BYTES: usize = 1 << 20;

/// Sets keys from lines of JSON, as export writes them
///
/// Keys are set in the order of the lines, many at once in a transaction. When it fails, the keys of the lines before the one
/// that is named were set; it may be run again.
#[derive(Args, Debug)]
pub(crate) struct Import {
    /// The file; - or nothing reads standard input
    pub(crate) file: Option<PathBuf>,
    /// Leaves keys as they are that exist
    #[arg(long)]
    pub(crate) if_absent: bool,
}

/// Puts that wait to be sent together.
#[derive(Default)]
struct Batch {
    /// Of its first line.
    line: u64,
    keys: BTreeSet<Bytes>,
    puts: Vec<Operation>,
    bytes: usize,
}

impl Import {
    pub(crate) async fn run(&self, options: &Options) -> Result<Outcome, Trouble> {
        let client = options.lasting_client()?;
        let bar = progress(None);
        let mut batch = Batch::default();
        let (mut imported, mut skipped) = (0, 0);
        let mut number = 0;
        for line in self.open()?.split(b'\n') {
            number += 1;
            let line = line.map_err(|source| self.read_trouble(source))?;
            if line.trim_ascii().is_empty() {
                continue;
            }
            let (key, value) = match parse(&line) {
                Ok(read) => read,
                Err(reason) => {
                    self.send(&client, &mut batch, &mut imported, &mut skipped)
                        .await?;
                    return Err(Trouble::NotAKey {
                        line: number,
                        reason,
                        imported,
                    });
                }
            };
            if !batch.takes(&key) {
                self.send(&client, &mut batch, &mut imported, &mut skipped)
                    .await?;
                bar.set_position(imported + skipped);
            }
            batch.push(number, self.operation(&key, value.clone()), key, value.len());
        }
        self.send(&client, &mut batch, &mut imported, &mut skipped)
            .await?;
        bar.finish_and_clear();
        output::write_change(&printed(options.output, imported, skipped))?;
        Ok(Outcome::Done)
    }

    fn operation(&self, key: &Bytes, value: Bytes) -> Operation {
        let put = Operation::put(key.clone(), value);
        match self.if_absent {
            false => put,
            true => {
                let absent = Transaction::new().when([Check::absent(key.clone())]);
                Operation::nested(&absent.then([put]))
            }
        }
    }

    async fn send(
        &self,
        client: &Client,
        batch: &mut Batch,
        imported: &mut u64,
        skipped: &mut u64,
    ) -> Result<(), Trouble> {
        let batch = std::mem::take(batch);
        if batch.puts.is_empty() {
            return Ok(());
        }
        let failed = |source: Error| Trouble::Import {
            line: batch.line,
            imported: *imported,
            source,
        };
        let done = client
            .transact(Transaction::new().then(batch.puts))
            .await
            .map_err(failed)?;
        for result in &done.results {
            match result {
                OpResult::Txn {
                    branch: Branch::Otherwise,
                    ..
                } => *skipped += 1,
                _ => *imported += 1,
            }
        }
        Ok(())
    }

    fn open(&self) -> Result<Box<dyn BufRead>, Trouble> {
        match &self.file {
            Some(path) if path.as_os_str() != "-" => {
                let file = File::open(path).map_err(|source| self.read_trouble(source))?;
                Ok(Box::new(BufReader::new(file)))
            }
            None if io::stdin().is_terminal() => Err(Trouble::NoLines),
            Some(_) | None => Ok(Box::new(io::stdin().lock())),
        }
    }

    fn read_trouble(&self, source: io::Error) -> Trouble {
        match &self.file {
            Some(path) => Trouble::ReadLines {
                path: path.clone(),
                source,
            },
            None => Trouble::ReadInput(source),
        }
    }
}

impl Batch {
    /// A key is put once in a transaction.
    fn takes(&self, key: &Bytes) -> bool {
        self.puts.len() < BATCH_KEYS && self.bytes < BATCH_BYTES && !self.keys.contains(key)
    }

    fn push(&mut self, line: u64, put: Operation, key: Bytes, value_bytes: usize) {
        if self.puts.is_empty() {
            self.line = line;
        }
        self.bytes += key.len() + value_bytes;
        self.keys.insert(key);
        self.puts.push(put);
    }
}

fn parse(line: &[u8]) -> Result<(Bytes, Bytes), String> {
    let object: Map<String, Value> = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let key = bytes(&object, "key")?;
    match key.is_empty() {
        true => Err("the key is empty".to_owned()),
        false => Ok((key, bytes(&object, "value")?)),
    }
}

/// A field that is text, or base64 under another name.
fn bytes(object: &Map<String, Value>, name: &str) -> Result<Bytes, String> {
    let base64_name = format!("{name}_base64");
    match (object.get(name), object.get(&base64_name)) {
        (Some(Value::String(text)), None) => Ok(text.clone().into()),
        (None, Some(Value::String(text))) => {
            let decoded = STANDARD.decode(text).map(Bytes::from);
            decoded.map_err(|error| format!("{base64_name} is not base64: {error}"))
        }
        (None, None) => Err(format!("it has neither {name} nor {base64_name}")),
        (Some(_), Some(_)) => Err(format!("it has both {name} and {base64_name}")),
        (Some(_), None) | (None, Some(_)) => Err(format!("its {name} is not a string")),
    }
}

fn printed(format: Format, imported: u64, skipped: u64) -> Vec<u8> {
    match format {
        Format::Text | Format::Table if skipped > 0 => {
            format!("imported {imported} keys, {skipped} existed\n").into_bytes()
        }
        Format::Text | Format::Table => format!("imported {imported} keys\n").into_bytes(),
        Format::Json => output::document(&json!({ "imported": imported, "skipped": skipped })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_keys_with_values_as_text_or_base64() {
        let read = |line: &str| parse(line.as_bytes());
        assert_eq!(
            read(r#"{"key":"k","value":"a\nb"}"#),
            Ok(("k".into(), "a\nb".into()))
        );
        assert_eq!(
            read(r#"{"key_base64":"/w==","value_base64":"AA==","version":3}"#),
            Ok((Bytes::from_static(b"\xff"), Bytes::from_static(b"\0")))
        );
        for (line, expected) in [
            ("not JSON", "expected"),
            ("[]", "map"),
            (r#"{"value":"v"}"#, "neither key"),
            (r#"{"key":"k"}"#, "neither value"),
            (r#"{"key":"","value":"v"}"#, "empty"),
            (r#"{"key":1,"value":"v"}"#, "not a string"),
            (r#"{"key":"k","key_base64":"aw==","value":"v"}"#, "both"),
            (r#"{"key":"k","value_base64":"?"}"#, "base64"),
        ] {
            let reason = read(line).expect_err(line);
            assert!(reason.contains(expected), "{line}: {reason}");
        }
    }

    #[test]
    fn a_batch_holds_a_key_once() {
        let mut batch = Batch::default();
        let key = Bytes::from("k");
        assert!(batch.takes(&key));
        batch.push(7, Operation::put("k", "v"), key.clone(), 1);
        assert!(!batch.takes(&key) && batch.takes(&Bytes::from("l")));
        assert_eq!(batch.line, 7);
        batch.bytes = BATCH_BYTES;
        assert!(!batch.takes(&Bytes::from("l")));
    }
}

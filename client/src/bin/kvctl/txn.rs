//! `kvctl txn`

mod grammar;
mod tokens;

use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;

use clap::Args;
use raftkv_client::{KeyValue, OpResult, Revision, Shape, TxnResult};
use serde_json::{Map, Value, json};

use crate::arguments::{Format, Options};
use crate::escape::escaped;
use crate::guard::Guard;
use crate::outcome::{Outcome, Trouble};
use crate::output;

pub(crate) use tokens::SyntaxError;

const GRAMMAR: &str = "\
The text is a line per condition or operation, under headers that each stand on a line of their own:
  if          conditions, all of which must hold; may be left out
  then        what happens if they hold; the header may be left out where nothing stands before it
  else        what happens if not; may be left out

Conditions:
  exists TARGET
  absent TARGET
  value TARGET RELATION VALUE
  version TARGET RELATION NUMBER
  create_revision TARGET RELATION REVISION
  mod_revision TARGET RELATION REVISION
  lease TARGET RELATION ID                        hexadecimal, or none
Operations:
  put KEY VALUE [ttl DURATION | lease ID | keep-lifetime] [previous]
  increment KEY [BY]
  delete TARGET [previous]
  get TARGET [keys-only | count-only] [limit NUMBER]
TARGET is KEY, or prefix PREFIX, or range FROM TO. RELATION is one of = != < > with spaces around it.
previous prints the record that was there before.

Keys and values are words, or stand between quotes: \"two words\", with \\n \\t \\r \\0 \\\\ \\\" and \\xNN for a byte. A word that
is quoted is never taken for prefix or range. # begins a comment.

  if
    absent seat/12
    value sold < \"9\"
  then
    put seat/12 \"Alice B.\" ttl 10m
    increment sold
  else
    get seat/12

The first line that is printed says whether the conditions held, and the revision; then comes a line for each operation, a get
with a line per key. Exit code 4: they did not hold.";

/// Runs a transaction: conditions, and what happens if they hold or not, all at one revision
#[derive(Args, Debug)]
#[command(after_help = GRAMMAR)]
pub(crate) struct Txn {
    /// The file with its text; - or nothing takes standard input
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) guard: Guard,
}

impl Txn {
    pub(crate) async fn run(&self, options: &Options) -> Result<Outcome, Trouble> {
        let parsed = grammar::parse(&self.read_text()?)?;
        let transaction = self.guard.put_on(parsed.transaction)?;
        let done = options.client()?.transact(transaction).await?;
        let shapes = match done.succeeded() {
            true => &parsed.then,
            false => &parsed.otherwise,
        };
        output::write_change(&printed(options.output, &done, shapes))?;
        match done.succeeded() {
            true => Ok(Outcome::Done),
            false => Ok(Outcome::ConditionFailed),
        }
    }

    fn read_text(&self) -> Result<Vec<u8>, Trouble> {
        match &self.file {
            Some(path) if path.as_os_str() != "-" => {
                let read = std::fs::read(path);
                read.map_err(|source| Trouble::ReadLines {
                    path: path.clone(),
                    source,
                })
            }
            None if io::stdin().is_terminal() => Err(Trouble::NoTransaction),
            Some(_) | None => {
                let mut text = Vec::new();
                io::stdin().read_to_end(&mut text).map_err(Trouble::ReadInput)?;
                Ok(text)
            }
        }
    }
}

/// `shapes`: of the operations that ran.
fn printed(format: Format, done: &TxnResult, shapes: &[Shape]) -> Vec<u8> {
    let told = done.results.iter().zip(shapes.iter().copied());
    match format {
        Format::Text | Format::Table => {
            let mut text = headline(done.succeeded(), done.revision);
            told.for_each(|(result, shape)| push_lines(&mut text, result, shape));
            text.into_bytes()
        }
        Format::Json => {
            let results: Vec<Value> = told.map(|(result, shape)| document(result, shape)).collect();
            output::document(&json!({
                "succeeded": done.succeeded(),
                "revision": done.revision.0,
                "results": results,
            }))
        }
    }
}

fn headline(succeeded: bool, revision: Revision) -> String {
    match succeeded {
        true => format!("the conditions hold, revision {revision}\n"),
        false => format!("the conditions do not hold, revision {revision}\n"),
    }
}

fn push_lines(text: &mut String, result: &OpResult, shape: Shape) {
    let line = |name: &str, kv: &KeyValue| {
        let (key, value) = (escaped(&kv.key), escaped(&kv.record.value));
        match shape {
            Shape::Records => format!("{name}\t{key}\t{value}\n"),
            Shape::KeysOnly | Shape::CountOnly => format!("{name}\t{key}\n"),
        }
    };
    let lines = |name, kvs: &[KeyValue]| kvs.iter().map(|kv| line(name, kv)).collect::<String>();
    text.push_str(&match result {
        OpResult::Put { previous } => format!("put\n{}", lines("previous", previous.as_slice())),
        OpResult::Incremented { value } => format!("increment\t{value}\n"),
        OpResult::Deleted { count, previous } => format!("delete\t{count}\n{}", lines("previous", previous)),
        OpResult::Got { count, .. } if shape == Shape::CountOnly => format!("get\t{count}\n"),
        OpResult::Got { kvs, .. } => lines("get", kvs),
        OpResult::Txn { .. } => "txn\n".to_owned(),
    });
}

/// As `POST /v1/txn` answers.
fn document(result: &OpResult, shape: Shape) -> Value {
    let record = |kv: &KeyValue| output::kv_json(kv, Shape::Records);
    let mut told = Map::new();
    let name = match result {
        OpResult::Put { previous } => {
            if let Some(previous) = previous {
                told.insert("previous".to_owned(), record(previous));
            }
            "put"
        }
        OpResult::Incremented { value } => {
            told.insert("value".to_owned(), (*value).into());
            "increment"
        }
        OpResult::Deleted { count, previous } => {
            told.insert("deleted".to_owned(), (*count).into());
            if !previous.is_empty() {
                let previous: Vec<Value> = previous.iter().map(record).collect();
                told.insert("previous".to_owned(), previous.into());
            }
            "delete"
        }
        OpResult::Got { kvs, count } => {
            let kvs: Vec<Value> = kvs.iter().map(|kv| output::kv_json(kv, shape)).collect();
            told.insert("kvs".to_owned(), kvs.into());
            told.insert("count".to_owned(), (*count).into());
            "get"
        }
        OpResult::Txn { .. } => "txn",
    };
    json!({ name: told })
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv_client::{Branch, Record};

    #[test]
    fn results_are_a_line_each_or_one_document() {
        let kv = KeyValue {
            key: "k".into(),
            record: Record {
                value: "a\tb".into(),
                create_revision: Revision(2),
                mod_revision: Revision(3),
                version: 2,
                lease: None,
            },
        };
        let got = |kvs| OpResult::Got { kvs, count: 5 };
        let results = [
            (
                OpResult::Put {
                    previous: Some(kv.clone()),
                },
                Shape::Records,
            ),
            (OpResult::Incremented { value: -4 }, Shape::Records),
            (
                OpResult::Deleted {
                    count: 1,
                    previous: vec![],
                },
                Shape::Records,
            ),
            (got(vec![kv.clone()]), Shape::Records),
            (got(vec![kv]), Shape::KeysOnly),
            (got(vec![]), Shape::CountOnly),
        ];
        let (results, shapes): (Vec<_>, Vec<_>) = results.into_iter().unzip();
        let done = TxnResult {
            revision: Revision(7),
            branch: Branch::Then,
            results,
        };
        let text = String::from_utf8(printed(Format::Text, &done, &shapes)).expect("text");
        assert_eq!(
            text,
            "the conditions hold, revision 7\nput\nprevious\tk\ta\\tb\nincrement\t-4\ndelete\t1\nget\tk\ta\\tb\nget\tk\nget\t5\n"
        );
        let document: Value =
            serde_json::from_slice(&printed(Format::Json, &done, &shapes)).expect("a document");
        assert_eq!(document["results"][1], json!({"increment": {"value": -4}}));
        assert_eq!(document["results"][3]["get"]["kvs"][0]["value"], "a\tb");
        assert_eq!(document["results"][4]["get"]["kvs"][0].get("value"), None);
    }
}

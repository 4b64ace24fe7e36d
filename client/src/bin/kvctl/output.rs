//! How answers look on standard output.

use std::ffi::OsStr;
use std::io::{self, ErrorKind, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use raftkv_client::{Deleted, Record, Revision};
use serde_json::{Map, Value, json};

use crate::arguments::Format;
use crate::outcome::Trouble;

/// The bytes that were typed as an argument.
pub(crate) fn argument_bytes(argument: &OsStr) -> Bytes {
    Bytes::copy_from_slice(argument.as_encoded_bytes())
}

/// Writes one answer. A reader that went away has seen enough: that is no trouble.
pub(crate) fn write(bytes: &[u8]) -> Result<(), Trouble> {
    write_to(&mut io::stdout().lock(), bytes).map_err(Trouble::Write)
}

/// Writes the answer to a write.
pub(crate) fn write_change(bytes: &[u8]) -> Result<(), Trouble> {
    write_to(&mut io::stdout().lock(), bytes).map_err(Trouble::WriteAfterChange)
}

fn write_to(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

/// A JSON document on a line of its own.
pub(crate) fn document(value: &Value) -> Vec<u8> {
    format!("{value}\n").into_bytes()
}

/// The answer to `get`: as text the value's bytes and a newline, nothing else.
pub(crate) fn record(format: Format, key: &[u8], record: Option<&Record>) -> Vec<u8> {
    match (format, record) {
        (Format::Text, None) => Vec::new(),
        (Format::Text, Some(record)) => [&record.value[..], b"\n"].concat(),
        (Format::Json, record) => {
            let kvs: Vec<Value> = record
                .map(|record| record_json(key, record))
                .into_iter()
                .collect();
            document(&json!({ "kvs": kvs }))
        }
    }
}

fn record_json(key: &[u8], record: &Record) -> Value {
    let mut object = Map::new();
    insert_bytes(&mut object, "key", key);
    insert_bytes(&mut object, "value", &record.value);
    object.insert("create_revision".to_owned(), record.create_revision.0.into());
    object.insert("mod_revision".to_owned(), record.mod_revision.0.into());
    object.insert("version".to_owned(), record.version.into());
    Value::Object(object)
}

/// The answer to `set`.
pub(crate) fn written(format: Format, key: &[u8], revision: Revision) -> Vec<u8> {
    match format {
        Format::Text => format!("revision {revision}\n").into_bytes(),
        Format::Json => {
            let mut object = Map::new();
            insert_bytes(&mut object, "key", key);
            object.insert("revision".to_owned(), revision.0.into());
            document(&Value::Object(object))
        }
    }
}

/// The answer to `delete`.
pub(crate) fn deleted(format: Format, key: &[u8], deleted: Deleted) -> Vec<u8> {
    match format {
        Format::Text if deleted.existed => format!("deleted, revision {}\n", deleted.revision).into_bytes(),
        Format::Text => Vec::new(),
        Format::Json => {
            let mut object = Map::new();
            insert_bytes(&mut object, "key", key);
            object.insert("deleted".to_owned(), deleted.existed.into());
            object.insert("revision".to_owned(), deleted.revision.0.into());
            document(&Value::Object(object))
        }
    }
}

/// Bytes that are UTF-8 stand as they are, others as base64 under another name.
fn insert_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), text.into()),
        Err(_) => object.insert(format!("{name}_base64"), STANDARD.encode(bytes).into()),
    };
}

/// Columns as wide as their widest cell, two spaces between them, one line per row.
pub(crate) fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell: &String| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..count).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(value: &'static [u8]) -> Record {
        Record {
            value: Bytes::from_static(value),
            create_revision: Revision(2),
            mod_revision: Revision(3),
            version: 2,
            lease: None,
        }
    }

    #[test]
    fn text_is_the_value_and_a_newline_only() {
        assert_eq!(record(Format::Text, b"k", Some(&some(b"\xff\0"))), b"\xff\0\n");
        assert_eq!(record(Format::Text, b"k", None), b"");
    }

    #[test]
    fn json_is_one_document_and_tells_bytes_from_text() {
        let parse = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes).unwrap();
        assert_eq!(
            parse(record(Format::Json, b"k", Some(&some(b"v")))),
            json!({"kvs": [{"key": "k", "value": "v", "create_revision": 2, "mod_revision": 3, "version": 2}]})
        );
        assert_eq!(
            parse(record(Format::Json, b"\xfe", Some(&some(b"\xff")))),
            json!({"kvs": [{"key_base64": "/g==", "value_base64": "/w==", "create_revision": 2, "mod_revision": 3, "version": 2}]})
        );
        assert_eq!(parse(record(Format::Json, b"k", None)), json!({"kvs": []}));
        let nothing = Deleted {
            existed: false,
            revision: Revision(3),
        };
        assert_eq!(
            parse(deleted(Format::Json, b"k", nothing)),
            json!({"key": "k", "deleted": false, "revision": 3})
        );
    }

    #[test]
    fn a_reader_that_went_away_is_no_trouble() {
        struct Gone(ErrorKind);
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        assert!(write_to(&mut Gone(ErrorKind::BrokenPipe), b"value").is_ok());
        assert!(write_to(&mut Gone(ErrorKind::StorageFull), b"value").is_err());
    }

    #[test]
    fn columns_line_up_and_end_without_spaces() {
        let rows = [
            vec!["a".to_owned(), "long".to_owned()],
            vec!["bcd".to_owned(), "e".to_owned()],
        ];
        assert_eq!(columns(&rows), "a    long\nbcd  e\n");
    }
}

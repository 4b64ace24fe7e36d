//! How answers look on standard output.

use std::ffi::OsStr;
use std::io::{self, ErrorKind, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use raftkv_client::{Deleted, DeletedRange, KeyValue, Record, Revision, Shape, WatchEvent};
use serde_json::{Map, Value, json};

use crate::arguments::Format;
use crate::escape::escaped;
use crate::outcome::Trouble;
use crate::table::Table;

/// The bytes that were typed as an argument.
pub(crate) fn argument_bytes(argument: &OsStr) -> Bytes {
    Bytes::copy_from_slice(argument.as_encoded_bytes())
}

/// Bytes as another program's argument.
#[cfg(unix)]
pub(crate) fn as_argument(bytes: &[u8]) -> &OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(bytes)
}

/// Bytes as another program's argument, as far as this system can.
#[cfg(not(unix))]
pub(crate) fn as_argument(bytes: &[u8]) -> std::ffi::OsString {
    String::from_utf8_lossy(bytes).into_owned().into()
}

/// Writes one answer. A reader that went away has seen enough: that is no trouble.
pub(crate) fn write(bytes: &[u8]) -> Result<(), Trouble> {
    write_to(&mut io::stdout().lock(), bytes)
        .map(drop)
        .map_err(Trouble::Write)
}

/// Writes the answer to a write.
pub(crate) fn write_change(bytes: &[u8]) -> Result<(), Trouble> {
    write_to(&mut io::stdout().lock(), bytes)
        .map(drop)
        .map_err(Trouble::WriteAfterChange)
}

fn write_to(out: &mut impl Write, bytes: &[u8]) -> io::Result<Reader> {
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        outcome => outcome.map(|()| Reader::Reads),
    }
}

/// Who reads what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    Reads,
    /// It has seen enough.
    Gone,
}

/// So many bytes of lines are written at once.
const WRITTEN_BYTES: usize = 64 << 10;

/// Lines that are not written yet.
#[derive(Debug, Default)]
pub(crate) struct Printed(Vec<u8>);

impl Printed {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes them if they are many.
    pub(crate) fn write_full(&mut self) -> Result<Reader, Trouble> {
        match self.0.len() < WRITTEN_BYTES {
            true => Ok(Reader::Reads),
            false => self.write(),
        }
    }

    pub(crate) fn write(&mut self) -> Result<Reader, Trouble> {
        let written = write_to(&mut io::stdout().lock(), &self.0).map_err(Trouble::Write);
        self.0.clear();
        written
    }
}

/// A JSON document on a line of its own.
pub(crate) fn document(value: &Value) -> Vec<u8> {
    format!("{value}\n").into_bytes()
}

/// The answer to `get`: as text the value's bytes and a newline, nothing else.
pub(crate) fn record(format: Format, key: &[u8], record: Option<&Record>) -> Vec<u8> {
    match (format, record) {
        (Format::Text | Format::Table, None) => Vec::new(),
        (Format::Text, Some(record)) => [&record.value[..], b"\n"].concat(),
        (Format::Table, Some(record)) => {
            let mut table = Table::new(&record_header(Shape::Records));
            table.push(record_row(key, record, Shape::Records));
            table.take()
        }
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
    insert_record(&mut object, key, record, Shape::Records);
    Value::Object(object)
}

/// A record of a listing.
pub(crate) fn kv_json(kv: &KeyValue, shape: Shape) -> Value {
    let mut object = Map::new();
    insert_record(&mut object, &kv.key, &kv.record, shape);
    Value::Object(object)
}

fn insert_record(object: &mut Map<String, Value>, key: &[u8], record: &Record, shape: Shape) {
    insert_bytes(object, "key", key);
    if shape == Shape::Records {
        insert_bytes(object, "value", &record.value);
    }
    object.insert("create_revision".to_owned(), record.create_revision.0.into());
    object.insert("mod_revision".to_owned(), record.mod_revision.0.into());
    object.insert("version".to_owned(), record.version.into());
}

/// A key of a listing as text.
pub(crate) fn line(kv: &KeyValue, shape: Shape) -> Vec<u8> {
    let line = match shape {
        Shape::Records => format!("{}\t{}\n", escaped(&kv.key), escaped(&kv.record.value)),
        Shape::KeysOnly | Shape::CountOnly => format!("{}\n", escaped(&kv.key)),
    };
    line.into_bytes()
}

/// The columns of a listing as a table. The value stands last: it may be long.
pub(crate) fn record_header(shape: Shape) -> Vec<&'static str> {
    let mut header = vec!["KEY", "CREATED", "MODIFIED", "VERSION", "LEASE"];
    header.extend((shape == Shape::Records).then_some("VALUE"));
    header
}

/// A key of a listing as a row of that table.
pub(crate) fn record_row(key: &[u8], record: &Record, shape: Shape) -> Vec<String> {
    let lease = record.lease.map_or("-".to_owned(), |lease| lease.to_string());
    let mut row = vec![
        escaped(key).to_string(),
        record.create_revision.to_string(),
        record.mod_revision.to_string(),
        record.version.to_string(),
        lease,
    ];
    row.extend((shape == Shape::Records).then(|| escaped(&record.value).to_string()));
    row
}

/// A key of a listing as a part of its JSON document, which may be larger than memory.
pub(crate) fn list_item(kv: &KeyValue, shape: Shape, is_first: bool) -> Vec<u8> {
    let mut object = Map::new();
    insert_record(&mut object, &kv.key, &kv.record, shape);
    let before = if is_first { LIST_BEGIN } else { "," };
    format!("{before}{}", Value::Object(object)).into_bytes()
}

const LIST_BEGIN: &str = "{\"kvs\":[";

/// The end of that document; `at` is the revision whose state it tells.
pub(crate) fn list_end(at: Option<Revision>, is_empty: bool) -> Vec<u8> {
    let before = if is_empty { LIST_BEGIN } else { "" };
    let revision = at.map_or(Value::Null, |at| at.0.into());
    format!("{before}],\"revision\":{revision}}}\n").into_bytes()
}

/// How many keys a listing has.
pub(crate) fn count(format: Format, keys: u64) -> Vec<u8> {
    match format {
        Format::Text | Format::Table => format!("{keys}\n").into_bytes(),
        Format::Json => document(&json!({ "count": keys })),
    }
}

/// A put that a watch tells.
pub(crate) fn watch_put(format: Format, kv: &KeyValue) -> Vec<u8> {
    match format {
        Format::Text | Format::Table => {
            let (key, value) = (escaped(&kv.key), escaped(&kv.record.value));
            format!("put\t{}\t{key}\t{value}\n", kv.record.mod_revision).into_bytes()
        }
        Format::Json => {
            let mut object = Map::new();
            object.insert("event".to_owned(), "put".into());
            insert_record(&mut object, &kv.key, &kv.record, Shape::Records);
            document(&Value::Object(object))
        }
    }
}

/// A change that a watch tells.
pub(crate) fn watch_event(format: Format, event: &WatchEvent) -> Vec<u8> {
    match (event, format) {
        (WatchEvent::Put { kv, .. }, format) => watch_put(format, kv),
        (WatchEvent::Delete { key, revision, .. }, Format::Text | Format::Table) => {
            format!("delete\t{revision}\t{}\n", escaped(key)).into_bytes()
        }
        (WatchEvent::Delete { key, revision, .. }, Format::Json) => {
            let mut object = Map::new();
            object.insert("event".to_owned(), "delete".into());
            insert_bytes(&mut object, "key", key);
            object.insert("mod_revision".to_owned(), revision.0.into());
            document(&Value::Object(object))
        }
    }
}

/// What else a watch tells.
pub(crate) fn watch_mark(format: Format, name: &str, revision: Option<Revision>) -> Vec<u8> {
    match (format, revision) {
        (Format::Text | Format::Table, None) => format!("{name}\n").into_bytes(),
        (Format::Text | Format::Table, Some(revision)) => format!("{name}\t{revision}\n").into_bytes(),
        (Format::Json, None) => document(&json!({ "event": name })),
        (Format::Json, Some(revision)) => document(&json!({ "event": name, "revision": revision.0 })),
    }
}

/// The answer to `set`.
pub(crate) fn written(format: Format, key: &[u8], revision: Revision) -> Vec<u8> {
    match format {
        Format::Text | Format::Table => format!("revision {revision}\n").into_bytes(),
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
        Format::Text | Format::Table if deleted.existed => {
            format!("deleted, revision {}\n", deleted.revision).into_bytes()
        }
        Format::Text | Format::Table => Vec::new(),
        Format::Json => {
            let mut object = Map::new();
            insert_bytes(&mut object, "key", key);
            object.insert("deleted".to_owned(), deleted.existed.into());
            object.insert("revision".to_owned(), deleted.revision.0.into());
            document(&Value::Object(object))
        }
    }
}

/// How many keys of a range were deleted.
pub(crate) fn deleted_range(format: Format, deleted: &DeletedRange) -> Vec<u8> {
    let DeletedRange { count, revision, .. } = deleted;
    match format {
        Format::Text | Format::Table => match count {
            0 => Vec::new(),
            1 => format!("deleted 1 key, revision {revision}\n").into_bytes(),
            _ => format!("deleted {count} keys, revision {revision}\n").into_bytes(),
        },
        Format::Json => document(&json!({ "deleted": count, "revision": revision.0 })),
    }
}

/// Bytes that are UTF-8 stand as they are, others as base64 under another name.
pub(crate) fn insert_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), text.into()),
        Err(_) => object.insert(format!("{name}_base64"), STANDARD.encode(bytes).into()),
    };
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
    fn a_table_has_a_header_and_tells_of_each_record_all_there_is() {
        let printed = record(Format::Table, b"k", Some(&some(b"v")));
        let expected =
            "KEY  CREATED  MODIFIED  VERSION  LEASE  VALUE\nk    2        3         2        -      v\n";
        assert_eq!(String::from_utf8_lossy(&printed), expected);
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
        let gone = write_to(&mut Gone(ErrorKind::BrokenPipe), b"value");
        assert_eq!(gone.expect("no trouble"), Reader::Gone);
        assert!(write_to(&mut Gone(ErrorKind::StorageFull), b"value").is_err());
    }

    #[test]
    fn a_listing_is_a_line_per_key_or_one_document_whatever_its_length() {
        let kv = |key: &'static [u8]| KeyValue {
            key: Bytes::from_static(key),
            record: some(b"v"),
        };
        assert_eq!(line(&kv(b"\xffk"), Shape::Records), b"\\xffk\tv\n");
        let twisted = KeyValue {
            key: Bytes::from("a\tb"),
            record: some(b"c\nd\\"),
        };
        assert_eq!(line(&twisted, Shape::Records), b"a\\tb\tc\\nd\\\\\n");
        assert_eq!(line(&kv(b"k"), Shape::KeysOnly), b"k\n");
        let parse = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes).unwrap();
        let two = [
            list_item(&kv(b"a"), Shape::Records, true),
            list_item(&kv(b"b"), Shape::KeysOnly, false),
            list_end(Some(Revision(9)), false),
        ];
        assert_eq!(
            parse(two.concat()),
            json!({"kvs": [
                {"key": "a", "value": "v", "create_revision": 2, "mod_revision": 3, "version": 2},
                {"key": "b", "create_revision": 2, "mod_revision": 3, "version": 2}
            ], "revision": 9})
        );
        assert_eq!(
            parse(list_end(Some(Revision(9)), true)),
            json!({"kvs": [], "revision": 9})
        );
    }

    #[test]
    fn an_event_is_a_line() {
        let delete = WatchEvent::Delete {
            key: Bytes::from("k"),
            revision: Revision(7),
            previous: None,
        };
        let kv = KeyValue {
            key: Bytes::from("k"),
            record: some(b"\xff"),
        };
        assert_eq!(watch_put(Format::Text, &kv), b"put\t3\tk\t\\xff\n");
        assert_eq!(watch_event(Format::Text, &delete), b"delete\t7\tk\n");
        assert_eq!(
            watch_event(Format::Json, &delete),
            b"{\"event\":\"delete\",\"key\":\"k\",\"mod_revision\":7}\n"
        );
        assert_eq!(
            watch_mark(Format::Text, "snapshot_begin", None),
            b"snapshot_begin\n"
        );
        assert_eq!(
            watch_mark(Format::Json, "snapshot_end", Some(Revision(7))),
            b"{\"event\":\"snapshot_end\",\"revision\":7}\n"
        );
    }
}

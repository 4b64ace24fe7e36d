//! Keys, values and their records as JSON.

use base64::Engine;
use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use raftkv_protocol::{KeyValue, Record, Shape};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// A record as JSON: `key`, `value`, `create_revision`, `mod_revision`, `version`, and `lease` where there is one.
pub(super) struct KvBody<'a> {
    pub(super) kv: &'a KeyValue,
    pub(super) shape: Shape,
}

/// A key alone, as an object of its own.
pub(super) struct KeyOnly<'a>(pub(super) &'a [u8]);

/// Several records with their values.
pub(super) fn kv_bodies(kvs: &[KeyValue]) -> Vec<KvBody<'_>> {
    let body = |kv| KvBody {
        kv,
        shape: Shape::Records,
    };
    kvs.iter().map(body).collect()
}

impl Serialize for KvBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        put_bytes(&mut map, ["key", "key_base64"], &self.kv.key)?;
        put_record(&mut map, &self.kv.record, self.shape)?;
        map.end()
    }
}

/// A record whose key is told elsewhere.
pub(super) struct RecordBody<'a>(pub(super) &'a Record);

impl Serialize for RecordBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        put_record(&mut map, self.0, Shape::Records)?;
        map.end()
    }
}

/// The fields of a record.
pub(super) fn put_record<M: SerializeMap>(
    map: &mut M,
    record: &Record,
    shape: Shape,
) -> Result<(), M::Error> {
    if shape == Shape::Records {
        put_bytes(map, ["value", "value_base64"], &record.value)?;
    }
    map.serialize_entry("create_revision", &record.create_revision.0)?;
    map.serialize_entry("mod_revision", &record.mod_revision.0)?;
    map.serialize_entry("version", &record.version)?;
    if let Some(lease) = record.lease {
        map.serialize_entry("lease", &format_args!("{lease}"))?;
    }
    Ok(())
}

impl Serialize for KeyOnly<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        put_bytes(&mut map, ["key", "key_base64"], self.0)?;
        map.end()
    }
}

/// As text where they are UTF-8, else as base64 under the other name.
pub(super) fn put_bytes<M: SerializeMap>(
    map: &mut M,
    names: [&str; 2],
    bytes: &[u8],
) -> Result<(), M::Error> {
    match std::str::from_utf8(bytes) {
        Ok(text) => map.serialize_entry(names[0], text),
        Err(_) => map.serialize_entry(names[1], &Base64(bytes)),
    }
}

struct Base64<'a>(&'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(self.0, &STANDARD))
    }
}

/// Reads base64 as it is written here: the standard alphabet, padded.
pub(super) fn from_base64(text: &str) -> Result<Vec<u8>, base64::DecodeError> {
    STANDARD.decode(text)
}

#[cfg(test)]
pub(super) mod tests {
    use bytes::Bytes;
    use raftkv_protocol::{LeaseId, Record, Revision};

    use super::*;

    pub(in super::super) fn kv(key: &'static [u8], value: &'static [u8]) -> KeyValue {
        KeyValue {
            key: Bytes::from_static(key),
            record: Record {
                value: Bytes::from_static(value),
                create_revision: Revision(2),
                mod_revision: Revision(5),
                version: 3,
                lease: None,
            },
        }
    }

    fn json(kv: &KeyValue, shape: Shape) -> String {
        serde_json::to_string(&KvBody { kv, shape }).expect("plain data")
    }

    #[test]
    fn text_stands_as_text_and_other_bytes_as_base64() {
        assert_eq!(
            json(&kv(b"k", b"v\""), Shape::Records),
            r#"{"key":"k","value":"v\"","create_revision":2,"mod_revision":5,"version":3}"#
        );
        assert_eq!(
            json(&kv(b"\xfe", b"\xff\0"), Shape::Records),
            r#"{"key_base64":"/g==","value_base64":"/wA=","create_revision":2,"mod_revision":5,"version":3}"#
        );
    }

    #[test]
    fn a_value_that_was_not_asked_for_is_not_told_as_empty() {
        let mut kv = kv(b"k", b"");
        kv.record.lease = Some(LeaseId(255));
        assert_eq!(
            json(&kv, Shape::KeysOnly),
            r#"{"key":"k","create_revision":2,"mod_revision":5,"version":3,"lease":"00000000000000ff"}"#
        );
    }
}

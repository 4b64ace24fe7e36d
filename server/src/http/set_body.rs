//! The body of `POST /set`, read field by field so that every refusal names the field it is about.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use raftkv_protocol::{Condition, LeaseId, Lifetime};
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::Value;

use super::error::HttpError;
use super::kv::whole_ms;
use super::write::condition;

/// What `POST /set` asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SetRequest {
    pub(super) key: Bytes,
    pub(super) value: Bytes,
    pub(super) condition: Condition,
    pub(super) lifetime: Lifetime,
}

/// Reads the body; any content type is taken, because what it says is checked here anyway.
pub(super) fn parse(body: &[u8]) -> Result<SetRequest, HttpError> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let fields = deserializer
        .deserialize_map(FieldsVisitor)
        .and_then(|fields| deserializer.end().map(|()| fields));
    let fields =
        fields.map_err(|error| HttpError::bad_request(format!("the body is not usable: {error}")))?;
    fields.into_request().map_err(HttpError::bad_request)
}

/// The fields as they came, each at most once.
#[derive(Default)]
struct Fields {
    key: Option<Value>,
    key_base64: Option<Value>,
    value: Option<Value>,
    value_base64: Option<Value>,
    ttl_seconds: Option<Value>,
    lease: Option<Value>,
    if_revision: Option<Value>,
}

impl Fields {
    const NAMES: &[&str] = &[
        "key",
        "key_base64",
        "value",
        "value_base64",
        "ttl_seconds",
        "lease",
        "if_revision",
    ];

    fn slot(&mut self, name: &str) -> Option<&mut Option<Value>> {
        Some(match name {
            "key" => &mut self.key,
            "key_base64" => &mut self.key_base64,
            "value" => &mut self.value,
            "value_base64" => &mut self.value_base64,
            "ttl_seconds" => &mut self.ttl_seconds,
            "lease" => &mut self.lease,
            "if_revision" => &mut self.if_revision,
            _ => return None,
        })
    }

    fn into_request(self) -> Result<SetRequest, String> {
        Ok(SetRequest {
            key: bytes("key", self.key, self.key_base64)?,
            value: bytes("value", self.value, self.value_base64)?,
            condition: self
                .if_revision
                .map_or(Ok(Condition::Always), |value| parse_condition(&value))?,
            lifetime: lifetime(self.ttl_seconds.as_ref(), self.lease.as_ref())?,
        })
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"a JSON object such as {"key":"k","value":"v"}"#)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::default();
        while let Some(name) = map.next_key::<String>()? {
            let known = Fields::NAMES.join(", ");
            let slot = fields.slot(&name).ok_or_else(|| {
                A::Error::custom(format!("the field {name:?} is not known; known: {known}"))
            })?;
            if slot.is_some() {
                return Err(A::Error::custom(format!("the field {name:?} stands there twice")));
            }
            *slot = Some(map.next_value()?);
        }
        Ok(fields)
    }
}

/// Bytes given as text or as base64, exactly one of the two.
fn bytes(name: &str, text: Option<Value>, base64: Option<Value>) -> Result<Bytes, String> {
    match (text, base64) {
        (Some(Value::String(text)), None) => Ok(text.into()),
        (None, Some(Value::String(text))) => STANDARD
            .decode(&text)
            .map(Bytes::from)
            .map_err(|error| format!("{name}_base64 is not base64 (standard alphabet, padded): {error}")),
        (None, None) => Err(format!("the field {name} is missing (or {name}_base64)")),
        (Some(_), Some(_)) => Err(format!("{name} and {name}_base64 exclude each other: give one")),
        (Some(other), None) => Err(format!("{name} is {}; it must be a string", kind(&other))),
        (None, Some(other)) => Err(format!("{name}_base64 is {}; it must be a string", kind(&other))),
    }
}

fn parse_condition(value: &Value) -> Result<Condition, String> {
    value.as_u64().map(condition).ok_or_else(|| {
        format!(
            "if_revision is {}; it must be a whole number, 0 for 'the key is absent'",
            kind(value)
        )
    })
}

fn lifetime(ttl_seconds: Option<&Value>, lease: Option<&Value>) -> Result<Lifetime, String> {
    match (ttl_seconds, lease) {
        (None, None) => Ok(Lifetime::Unlimited),
        (Some(ttl_seconds), None) => parse_ttl(ttl_seconds).map(|ttl_ms| Lifetime::Ttl { ttl_ms }),
        (None, Some(lease)) => parse_lease(lease).map(Lifetime::Lease),
        (Some(_), Some(_)) => Err("ttl_seconds and lease exclude each other: give one".to_owned()),
    }
}

/// Seconds, fractions allowed down to a millisecond.
fn parse_ttl(value: &Value) -> Result<u64, String> {
    let seconds = value
        .as_f64()
        .ok_or_else(|| format!("ttl_seconds is {}; it must be a number", kind(value)))?;
    whole_ms(seconds).ok_or_else(|| {
        format!("ttl_seconds is {seconds}; it must be between 0.001 and a hundred years, 3153600000")
    })
}

fn parse_lease(value: &Value) -> Result<LeaseId, String> {
    let id = value.as_str().and_then(|text| text.parse().ok());
    id.ok_or_else(|| {
        format!(
            "lease is {}; it must be the id of a lease, a string of hexadecimal digits",
            kind(value)
        )
    })
}

fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "a boolean".to_owned(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(_) => "a string".to_owned(),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use raftkv_protocol::Revision;

    use super::*;

    fn accepted(body: &str) -> SetRequest {
        parse(body.as_bytes()).unwrap_or_else(|error| panic!("{body}: {}", error.message()))
    }

    #[test]
    fn key_and_value_are_enough() {
        let request = accepted(r#" {"key":"k","value":"v\n"} "#);
        assert_eq!((&request.key[..], &request.value[..]), (&b"k"[..], &b"v\n"[..]));
        assert_eq!(
            (request.condition, request.lifetime),
            (Condition::Always, Lifetime::Unlimited)
        );
    }

    #[test]
    fn base64_stands_in_for_either() {
        let request = accepted(r#"{"key_base64":"/g==","value_base64":"/wA="}"#);
        assert_eq!(
            (&request.key[..], &request.value[..]),
            (&b"\xfe"[..], &b"\xff\x00"[..])
        );
    }

    #[test]
    fn options_are_understood() {
        let request = accepted(r#"{"key":"k","value":"","ttl_seconds":1.5,"if_revision":3}"#);
        assert_eq!(request.lifetime, Lifetime::Ttl { ttl_ms: 1500 });
        let leased = accepted(r#"{"key":"k","value":"","lease":"ff"}"#);
        assert_eq!(leased.lifetime, Lifetime::Lease(LeaseId(255)));
        assert_eq!(request.condition, Condition::ModRevision(Revision(3)));
        assert_eq!(
            accepted(r#"{"key":"k","value":"","if_revision":0}"#).condition,
            Condition::Absent
        );
    }

    #[test]
    fn every_refusal_names_the_field() {
        for (body, expected) in [
            ("", "the body is not usable: EOF"),
            ("{", "EOF"),
            ("[]", "a JSON object such as"),
            ("{\"key\":\"k\",\"value\":\"v\"} x", "trailing characters"),
            (r#"{"value":"v"}"#, "the field key is missing"),
            (r#"{"key":"k"}"#, "the field value is missing"),
            (
                r#"{"key":"k","value":"v","key":"k"}"#,
                "\"key\" stands there twice",
            ),
            (
                r#"{"key":"k","key_base64":"aw==","value":"v"}"#,
                "key and key_base64 exclude",
            ),
            (r#"{"key":5,"value":"v"}"#, "key is the number 5"),
            (r#"{"key":"k","value":null}"#, "value is null"),
            (r#"{"key":"k","value":"v","tll":1}"#, "\"tll\" is not known"),
            (r#"{"key":"k","value_base64":"/w"}"#, "value_base64 is not base64"),
            (r#"{"key":"k","value":"v","ttl_seconds":0}"#, "ttl_seconds is 0"),
            (
                r#"{"key":"k","value":"v","ttl_seconds":"1"}"#,
                "ttl_seconds is a string",
            ),
            (r#"{"key":"k","value":"v","lease":5}"#, "lease is the number 5"),
            (
                r#"{"key":"k","value":"v","lease":"5","ttl_seconds":1}"#,
                "exclude each other",
            ),
            (
                r#"{"key":"k","value":"v","if_revision":-1}"#,
                "if_revision is the number -1",
            ),
        ] {
            let error = parse(body.as_bytes()).expect_err(body);
            assert!(error.message().contains(expected), "{body}: {}", error.message());
            assert_eq!(error.status().as_u16(), 400);
        }
    }
}

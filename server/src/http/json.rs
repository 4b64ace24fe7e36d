//! JSON bodies read by hand, so that every refusal names the place it is about: `then[2].put.key: ...`.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use raftkv_protocol::{ErrorCode, Failure, LeaseId};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

use super::error::HttpError;
use super::kv::whole_ms;
use super::records::from_base64;

/// Most values in one body: what it may grow to in memory is bounded, though `[]` takes but two bytes.
const MAX_VALUES: usize = 200_000;

/// A JSON value as it stands in the body; of an object each field, also one that stands there twice.
#[derive(Debug)]
pub(super) enum Node {
    Null,
    Flag(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

/// Reads a whole body.
pub(super) fn parse(body: &[u8]) -> Result<Node, HttpError> {
    let left = Cell::new(MAX_VALUES);
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let node = NodeSeed(&left)
        .deserialize(&mut deserializer)
        .and_then(|node| deserializer.end().map(|()| node));
    node.map_err(|error| HttpError::bad_request(format!("the body is not usable: {error}")))
}

/// Why a place in a body can not be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    code: ErrorCode,
    path: String,
    message: String,
}

pub(super) type Read<T> = Result<T, Refusal>;

impl Refusal {
    /// Of the place that is looked at; its path is added on the way out.
    pub(super) fn new(message: impl Into<String>) -> Refusal {
        Refusal {
            code: ErrorCode::BadRequest,
            path: String::new(),
            message: message.into(),
        }
    }

    /// The place is a field of another one.
    pub(super) fn in_field(mut self, name: &str) -> Refusal {
        let dot = if self.path.is_empty() || self.path.starts_with('[') {
            ""
        } else {
            "."
        };
        self.path = format!("{name}{dot}{}", self.path);
        self
    }

    /// The place is an item of a list.
    pub(super) fn in_item(mut self, index: usize) -> Refusal {
        let dot = if self.path.is_empty() { "" } else { "." };
        self.path = format!("[{index}]{dot}{}", self.path);
        self
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Refusal {
        Refusal {
            code: failure.code,
            path: String::new(),
            message: failure.message,
        }
    }
}

impl From<Refusal> for HttpError {
    fn from(refusal: Refusal) -> HttpError {
        let place = if refusal.path.is_empty() {
            "the body"
        } else {
            &refusal.path
        };
        HttpError::from_code(refusal.code, format!("{place}: {}", refusal.message))
    }
}

/// The fields of an object, each at most once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'n>(&'n [(String, Node)]);

impl Node {
    /// The fields of an object that has no others than `known`.
    pub(super) fn fields(&self, known: &[&str]) -> Read<Fields<'_>> {
        let Node::Object(fields) = self else {
            return Err(self.unfit("an object"));
        };
        for (place, (name, _)) in fields.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let known = known.join(", ");
                return Err(Refusal::new(format!(
                    "the field {name:?} is not known; known: {known}"
                )));
            }
            if fields[..place].iter().any(|(earlier, _)| earlier == name) {
                return Err(Refusal::new(format!("the field {name:?} stands there twice")));
            }
        }
        Ok(Fields(fields))
    }

    /// What `read` makes of each item of a list.
    pub(super) fn items<'n, T>(&'n self, read: impl Fn(&'n Node) -> Read<T>) -> Read<Vec<T>> {
        let Node::List(items) = self else {
            return Err(self.unfit("a list"));
        };
        let item = |(index, item)| read(item).map_err(|refusal: Refusal| refusal.in_item(index));
        items.iter().enumerate().map(item).collect()
    }

    pub(super) fn text(&self) -> Read<&str> {
        match self {
            Node::Text(text) => Ok(text),
            other => Err(other.unfit("a string")),
        }
    }

    fn whole(&self) -> Read<u64> {
        match self {
            Node::Number(number) => number.as_u64(),
            _ => None,
        }
        .ok_or_else(|| self.unfit("a whole number"))
    }

    fn signed(&self) -> Read<i64> {
        match self {
            Node::Number(number) => number.as_i64(),
            _ => None,
        }
        .ok_or_else(|| self.unfit("a whole number of 64 bits"))
    }

    pub(super) fn flag(&self) -> Read<bool> {
        match self {
            Node::Flag(flag) => Ok(*flag),
            other => Err(other.unfit("true or false")),
        }
    }

    /// The id of a lease.
    pub(super) fn lease(&self) -> Read<LeaseId> {
        let text = self
            .text()
            .map_err(|_| self.unfit("the id of a lease, a string of hexadecimal digits,"))?;
        text.parse()
            .map_err(|_| Refusal::new("is not the id of a lease, which is hexadecimal digits"))
    }

    /// Seconds, as milliseconds.
    fn seconds_ms(&self) -> Read<u64> {
        let seconds = match self {
            Node::Number(number) => number.as_f64(),
            _ => None,
        }
        .ok_or_else(|| self.unfit("a number of seconds"))?;
        whole_ms(seconds).ok_or_else(|| {
            Refusal::new(format!(
                "{seconds} is not between 0.001 and a hundred years, 3153600000"
            ))
        })
    }

    /// Another kind belongs here.
    pub(super) fn unfit(&self, wanted: &str) -> Refusal {
        let found = match self {
            Node::Null => "null",
            Node::Flag(_) => "a boolean",
            Node::Number(number) => return Refusal::new(format!("{wanted} belongs here, not {number}")),
            Node::Text(_) => "a string",
            Node::List(_) => "a list",
            Node::Object(_) => "an object",
        };
        Refusal::new(format!("{wanted} belongs here, not {found}"))
    }
}

impl<'n> Fields<'n> {
    pub(super) fn get(self, name: &str) -> Option<&'n Node> {
        let found = self.0.iter().find(|(field, _)| field == name);
        found.map(|(_, node)| node)
    }

    /// What `read` makes of a field, if it is there.
    pub(super) fn read<T>(self, name: &str, read: impl FnOnce(&'n Node) -> Read<T>) -> Read<Option<T>> {
        let Some(node) = self.get(name) else {
            return Ok(None);
        };
        match read(node) {
            Ok(value) => Ok(Some(value)),
            Err(refusal) => Err(refusal.in_field(name)),
        }
    }

    /// Bytes given as text, or as base64 in the field of that other name.
    pub(super) fn bytes(self, name: &str) -> Read<Option<Cow<'n, [u8]>>> {
        let in_base64 = format!("{name}_base64");
        let text = self.read(name, Node::text)?;
        let base64 = self.read(&in_base64, |node| {
            from_base64(node.text()?)
                .map_err(|error| Refusal::new(format!("is not base64 (standard alphabet, padded): {error}")))
        })?;
        match (text, base64) {
            (Some(text), None) => Ok(Some(Cow::Borrowed(text.as_bytes()))),
            (None, Some(bytes)) => Ok(Some(Cow::Owned(bytes))),
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(Refusal::new(format!(
                "{name} and {in_base64} exclude each other: give one"
            ))),
        }
    }

    /// Such bytes where they have to be there.
    pub(super) fn required_bytes(self, name: &str) -> Read<Cow<'n, [u8]>> {
        let bytes = self.bytes(name)?;
        bytes.ok_or_else(|| Refusal::new(format!("the field {name} is missing (or {name}_base64)")))
    }

    pub(super) fn whole(self, name: &str) -> Read<Option<u64>> {
        self.read(name, Node::whole)
    }

    pub(super) fn signed(self, name: &str) -> Read<Option<i64>> {
        self.read(name, Node::signed)
    }

    pub(super) fn seconds_ms(self, name: &str) -> Read<Option<u64>> {
        self.read(name, Node::seconds_ms)
    }

    /// Is it there, and true?
    pub(super) fn is_set(self, name: &str) -> Read<bool> {
        Ok(self.read(name, Node::flag)?.unwrap_or(false))
    }

    /// Of those, the names that are there.
    pub(super) fn present<'a>(self, names: &[&'a str]) -> Vec<&'a str> {
        let there = |name: &&str| self.get(name).is_some();
        names.iter().copied().filter(there).collect()
    }
}

/// Reads a value, as long as there may be more of them.
#[derive(Clone, Copy)]
struct NodeSeed<'c>(&'c Cell<usize>);

impl<'de> DeserializeSeed<'de> for NodeSeed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        let left = self.0.get().checked_sub(1);
        let left = left.ok_or_else(|| D::Error::custom(format!("it has more than {MAX_VALUES} values")))?;
        self.0.set(left);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NodeSeed<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Node, E> {
        Ok(Node::Flag(flag))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Node, E> {
        Ok(Node::Number(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Node, E> {
        Ok(Node::Number(number.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Node, E> {
        let number = Number::from_f64(number);
        number
            .map(Node::Number)
            .ok_or_else(|| E::custom("a number is none"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Node, A::Error> {
        let mut object = Vec::new();
        while let Some(name) = fields.next_key::<String>()? {
            object.push((name, fields.next_value_seed(self)?));
        }
        Ok(Node::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_its_place() {
        let refusal = Refusal::new("no").in_field("key").in_field("put");
        let refusal = refusal.in_item(2).in_field("then");
        assert_eq!(HttpError::from(refusal).message(), "then[2].put.key: no");
        assert_eq!(HttpError::from(Refusal::new("no")).message(), "the body: no");
        let nested = Refusal::new("no").in_item(1).in_field("then").in_field("txn");
        assert_eq!(HttpError::from(nested).message(), "txn.then[1]: no");
    }

    #[test]
    fn a_field_stands_there_once_and_is_known() {
        let read = |text: &str| {
            let node = parse(text.as_bytes()).expect(text);
            node.fields(&["a", "b"])
                .map(drop)
                .map_err(|refusal| refusal.message)
        };
        assert_eq!(read(r#"{"a":1,"b":{"a":2}}"#), Ok(()));
        assert_eq!(
            read(r#"{"a":1,"a":2}"#),
            Err("the field \"a\" stands there twice".into())
        );
        assert_eq!(
            read(r#"{"c":1}"#),
            Err("the field \"c\" is not known; known: a, b".into())
        );
        assert_eq!(read("[]"), Err("an object belongs here, not a list".into()));
    }

    #[test]
    fn what_a_body_grows_to_is_bounded() {
        let wide = format!("[{}1]", "[],".repeat(MAX_VALUES));
        let error = parse(wide.as_bytes()).expect_err("too many");
        assert!(
            error.message().contains("more than 200000 values"),
            "{}",
            error.message()
        );
        let deep = "[".repeat(10_000);
        assert!(parse(deep.as_bytes()).is_err());
    }
}

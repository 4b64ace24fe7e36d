//! The bodies of the HTTP API: transactions written, records and results read.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use raftkv_protocol::{Previous, Relation, Revision, Shape};
use serde_json::{Map, Value, json};

use super::ask::{Keys, Life, Operation, Test, Transaction};
use super::doors::Leases;
use super::told::{Branch, Done, Row, ToldLease};

/// A field of bytes: as text where they are, else as base64 under the other name.
fn put_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), text.into()),
        Err(_) => object.insert(format!("{name}_base64"), STANDARD.encode(bytes).into()),
    };
}

/// Reads it back, if it is there.
fn bytes_of(object: &Value, name: &str) -> Option<Bytes> {
    if let Some(text) = object[name].as_str() {
        return Some(Bytes::from(text.to_owned()));
    }
    let base64 = object[format!("{name}_base64")].as_str()?;
    Some(STANDARD.decode(base64).expect("base64").into())
}

/// A whole number of an answer.
pub(super) fn number(object: &Value, name: &str) -> u64 {
    let number = object[name].as_u64();
    number.unwrap_or_else(|| panic!("no number {name} in {object}"))
}

/// A revision of an answer.
pub(super) fn revision(object: &Value, name: &str) -> Revision {
    Revision(number(object, name))
}

/// Seconds of an answer, as milliseconds.
pub(super) fn seconds_ms(object: &Value, name: &str) -> u64 {
    let seconds = object[name].as_f64();
    let seconds = seconds.unwrap_or_else(|| panic!("no seconds {name} in {object}"));
    (seconds * 1000.0).round() as u64
}

/// An object of one field of bytes, and others.
pub(super) fn with_bytes(name: &str, bytes: &[u8], others: Value) -> Value {
    let mut object = match others {
        Value::Object(object) => object,
        other => panic!("{other} is no object"),
    };
    put_bytes(&mut object, name, bytes);
    Value::Object(object)
}

/// A transaction as a body.
pub(super) fn transaction(asked: &Transaction, leases: &Leases) -> Value {
    let checks = asked.checks.iter().map(|(keys, test)| check(keys, test, leases));
    let operation = |asked| operation(asked, leases);
    json!({
        "compare": checks.collect::<Vec<_>>(),
        "then": asked.then.iter().map(operation).collect::<Vec<_>>(),
        "else": asked.otherwise.iter().map(operation).collect::<Vec<_>>(),
    })
}

fn put_keys(object: &mut Map<String, Value>, keys: &Keys) {
    match keys {
        Keys::One(key) => put_bytes(object, "key", key),
        Keys::Span(span) => {
            put_bytes(object, "from", &span.from);
            if let Some(to) = &span.to {
                put_bytes(object, "to", to);
            }
        }
    }
}

fn check(keys: &Keys, test: &Test, leases: &Leases) -> Value {
    let mut object = Map::new();
    put_keys(&mut object, keys);
    let relation = match test {
        Test::Exists | Test::Absent => {
            object.insert("exists".into(), (*test == Test::Exists).into());
            return Value::Object(object);
        }
        Test::Value(relation, value) => {
            put_bytes(&mut object, "value", value);
            relation
        }
        Test::Version(relation, version) => {
            object.insert("version".into(), (*version).into());
            relation
        }
        Test::Created(relation, revision) => {
            object.insert("create_revision".into(), revision.0.into());
            relation
        }
        Test::Changed(relation, revision) => {
            object.insert("mod_revision".into(), revision.0.into());
            relation
        }
        Test::Lease(relation, name) => {
            let id = name.map(|name| leases.id(name).to_string());
            object.insert("lease".into(), id.into());
            relation
        }
    };
    let relation = match relation {
        Relation::Equal => "=",
        Relation::NotEqual => "!=",
        Relation::Less => "<",
        Relation::Greater => ">",
    };
    object.insert("relation".into(), relation.into());
    Value::Object(object)
}

fn operation(asked: &Operation, leases: &Leases) -> Value {
    let mut object = Map::new();
    let name = match asked {
        Operation::Put {
            key,
            value,
            life,
            previous,
        } => {
            put_bytes(&mut object, "key", key);
            put_bytes(&mut object, "value", value);
            put_life(&mut object, *life, leases);
            put_previous(&mut object, *previous);
            "put"
        }
        Operation::Increment { key, by } => {
            put_bytes(&mut object, "key", key);
            object.insert("by".into(), (*by).into());
            "increment"
        }
        Operation::Delete { keys, previous } => {
            put_keys(&mut object, keys);
            put_previous(&mut object, *previous);
            "delete"
        }
        Operation::Get { keys, shape, limit } => {
            put_keys(&mut object, keys);
            match shape {
                Shape::Records => None,
                Shape::KeysOnly => object.insert("keys_only".into(), true.into()),
                Shape::CountOnly => object.insert("count_only".into(), true.into()),
            };
            if let Some(limit) = limit {
                object.insert("limit".into(), (*limit).into());
            }
            "get"
        }
        Operation::Nested(asked) => return json!({"txn": transaction(asked, leases)}),
    };
    json!({name: object})
}

fn put_life(object: &mut Map<String, Value>, life: Life, leases: &Leases) {
    match life {
        Life::Unlimited => None,
        Life::Ttl(ttl_ms) => object.insert("ttl_seconds".into(), (ttl_ms as f64 / 1000.0).into()),
        Life::Lease(name) => object.insert("lease".into(), leases.id(name).to_string().into()),
        Life::Kept => object.insert("keep_lifetime".into(), true.into()),
    };
}

fn put_previous(object: &mut Map<String, Value>, previous: Previous) {
    if previous == Previous::Wanted {
        object.insert("previous".into(), true.into());
    }
}

/// A record as the API tells it.
fn row(object: &Value, leases: &Leases) -> Row {
    let lease = object["lease"].as_str();
    Row {
        key: bytes_of(object, "key").unwrap_or_else(|| panic!("no key in {object}")),
        value: bytes_of(object, "value").unwrap_or_default(),
        created: revision(object, "create_revision"),
        changed: revision(object, "mod_revision"),
        version: number(object, "version"),
        lease: lease.map(|id| leases.name(id.parse().expect("the id of a lease"))),
    }
}

/// A list of them; none, where the field is not there.
pub(super) fn rows(list: &Value, leases: &Leases) -> Vec<Row> {
    let list = list.as_array().map_or(&[][..], Vec::as_slice);
    list.iter().map(|object| row(object, leases)).collect()
}

/// What a transaction did.
pub(super) fn branch(object: &Value, leases: &Leases) -> Branch {
    let done = object["results"].as_array().expect("results");
    Branch {
        succeeded: object["succeeded"].as_bool().expect("true or false"),
        done: done.iter().map(|object| result(object, leases)).collect(),
    }
}

fn result(object: &Value, leases: &Leases) -> Done {
    let (name, told) = match object.as_object().map(|object| object.iter().collect::<Vec<_>>()) {
        Some(fields) if fields.len() == 1 => fields[0],
        _ => panic!("a result has one name: {object}"),
    };
    match name.as_str() {
        "put" => Done::Put(told.get("previous").map(|previous| row(previous, leases))),
        "increment" => Done::Sum(told["value"].as_i64().expect("a number")),
        "delete" => Done::Deleted(number(told, "deleted"), rows(&told["previous"], leases)),
        "get" => Done::Got(rows(&told["kvs"], leases), number(told, "count")),
        "txn" => Done::Nested(branch(told, leases)),
        other => panic!("{other:?} is no operation"),
    }
}

/// A lease, with its keys where they are told.
pub(super) fn lease(object: &Value, leases: &Leases) -> ToldLease {
    let keys = object["keys"].as_array().map_or(&[][..], Vec::as_slice);
    let keys = keys.iter().map(|key| bytes_of(key, "key").expect("a key"));
    let id = object["id"].as_str().expect("an id").parse();
    ToldLease::of(
        raftkv_protocol::LeaseState {
            id: id.expect("the id of a lease"),
            ttl_ms: seconds_ms(object, "ttl_seconds"),
            remaining_ms: seconds_ms(object, "remaining_seconds"),
            key_count: number(object, "key_count"),
            keys: keys.collect(),
        },
        leases,
    )
}

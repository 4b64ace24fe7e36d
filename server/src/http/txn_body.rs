//! The JSON form of a transaction.
//!
//! ```text
//! txn      {"compare":[..],"then":[..],"else":[..]}                      each may be left out
//! compare  {KEYS, TEST, "relation"}                                      relation: "=" (if left out), "!=", "<" or ">"
//!   TEST   "exists":true|false | "value":V | "version":N | "create_revision":N | "mod_revision":N | "lease":"ID"|null
//! op       {"put":{"key","value", "ttl_seconds"|"lease"|"keep_lifetime":true, "previous":true}}
//!          {"increment":{"key","by"}}                                    by 1 if left out
//!          {"delete":{KEYS,"previous":true}}
//!          {"get":{KEYS,"limit","keys_only":true|"count_only":true}}
//!          {"txn":{..}}
//! KEYS     "key":K | "prefix":P | "from":A,"to":B (one of the two may be left out)
//! ```
//! Wherever bytes stand as text, the same name with `_base64` takes any bytes.

use std::borrow::Cow;

use bytes::Bytes;
use raftkv_protocol::{
    Compare, KeySpan, Keys, Lifetime, Limits, MAX_TXN_DEPTH, Op, Previous, Relation, Revision, Shape, Test,
    Txn, prefix_end,
};

use super::json::{Fields, Node, Read, Refusal};

type Text<'n> = Cow<'n, [u8]>;

/// A transaction that holds, or borrows from the body, what [`Txn`] borrows.
#[derive(Debug)]
pub(super) struct TxnBody<'n> {
    compare: Vec<(KeysBody<'n>, TestBody<'n>)>,
    then: Vec<OpBody<'n>>,
    otherwise: Vec<OpBody<'n>>,
}

#[derive(Debug)]
enum KeysBody<'n> {
    One(Text<'n>),
    Range { from: Text<'n>, to: Option<Text<'n>> },
}

#[derive(Debug)]
enum TestBody<'n> {
    Value(Relation, Text<'n>),
    Other(Test<'static>),
}

#[derive(Debug)]
enum OpBody<'n> {
    Put {
        key: Text<'n>,
        value: Text<'n>,
        lifetime: Lifetime,
        previous: Previous,
    },
    Increment {
        key: Text<'n>,
        by: i64,
    },
    Delete {
        keys: KeysBody<'n>,
        previous: Previous,
    },
    Get {
        keys: KeysBody<'n>,
        shape: Shape,
        limit: Option<u32>,
    },
    /// Encoded: what is nested travels so.
    Txn(Bytes),
}

impl TxnBody<'_> {
    /// What goes to the node.
    pub(super) fn txn(&self) -> Txn<'_> {
        Txn {
            compare: self.compare.iter().map(borrow_compare).collect(),
            then: self.then.iter().map(OpBody::borrow).collect(),
            otherwise: self.otherwise.iter().map(OpBody::borrow).collect(),
        }
    }
}

fn borrow_compare<'a>((keys, test): &'a (KeysBody<'_>, TestBody<'_>)) -> Compare<'a> {
    Compare {
        keys: keys.borrow(),
        test: match test {
            TestBody::Value(relation, value) => Test::Value(*relation, value),
            TestBody::Other(test) => *test,
        },
    }
}

impl KeysBody<'_> {
    fn borrow(&self) -> Keys<'_> {
        match self {
            KeysBody::One(key) => Keys::One(key),
            KeysBody::Range { from, to } => Keys::Range {
                from,
                to: to.as_deref(),
            },
        }
    }
}

impl OpBody<'_> {
    fn borrow(&self) -> Op<'_> {
        match self {
            OpBody::Put {
                key,
                value,
                lifetime,
                previous,
            } => Op::Put {
                key,
                value,
                lifetime: *lifetime,
                previous: *previous,
            },
            OpBody::Increment { key, by } => Op::Increment { key, by: *by },
            OpBody::Delete { keys, previous } => Op::Delete {
                keys: keys.borrow(),
                previous: *previous,
            },
            OpBody::Get { keys, shape, limit } => Op::Get {
                keys: keys.borrow(),
                shape: *shape,
                limit: *limit,
            },
            OpBody::Txn(encoded) => Op::Txn(encoded),
        }
    }
}

/// Reads a transaction, and checks keys and values where their places are still known.
pub(super) fn read<'n>(node: &'n Node, limits: &Limits) -> Read<TxnBody<'n>> {
    read_at(node, limits, 1)
}

fn read_at<'n>(node: &'n Node, limits: &Limits, depth: usize) -> Read<TxnBody<'n>> {
    if depth > MAX_TXN_DEPTH {
        let message = format!("transactions are nested more than {MAX_TXN_DEPTH} deep");
        return Err(Refusal::new(message));
    }
    let fields = node.fields(&["compare", "then", "else"])?;
    let op = |node| op(node, limits, depth);
    let compare = fields.read("compare", |list| list.items(|node| compare(node, limits)))?;
    Ok(TxnBody {
        compare: compare.unwrap_or_default(),
        then: fields.read("then", |list| list.items(op))?.unwrap_or_default(),
        otherwise: fields.read("else", |list| list.items(op))?.unwrap_or_default(),
    })
}

/// The names by which keys are told.
const KEYS: [&str; 8] = [
    "key",
    "key_base64",
    "prefix",
    "prefix_base64",
    "from",
    "from_base64",
    "to",
    "to_base64",
];

/// The fields of what is about keys: theirs come first.
fn fields_with_keys<'n>(node: &'n Node, others: &[&[&str]]) -> Read<Fields<'n>> {
    let names: Vec<&str> = KEYS.into_iter().chain(others.concat()).collect();
    node.fields(&names)
}

fn key<'n>(fields: Fields<'n>, limits: &Limits) -> Read<Text<'n>> {
    let key = fields.required_bytes("key")?;
    limits
        .check_key(&key)
        .map_err(|failure| Refusal::from(failure).in_field("key"))?;
    Ok(key)
}

fn keys<'n>(fields: Fields<'n>, limits: &Limits) -> Read<KeysBody<'n>> {
    let (from, to) = (fields.bytes("from")?, fields.bytes("to")?);
    let is_range = from.is_some() || to.is_some();
    match (fields.bytes("key")?, fields.bytes("prefix")?) {
        (Some(_), None) if !is_range => key(fields, limits).map(KeysBody::One),
        (None, Some(prefix)) if !is_range => {
            let to = prefix_end(&prefix).map(Cow::Owned);
            range(prefix, to, limits).map_err(|refusal| refusal.in_field("prefix"))
        }
        (None, None) if is_range => range(from.unwrap_or_default(), to, limits),
        _ => Err(Refusal::new(
            "say which keys by exactly one of key, prefix (empty: all keys), and from with to",
        )),
    }
}

fn range<'n>(from: Text<'n>, to: Option<Text<'n>>, limits: &Limits) -> Read<KeysBody<'n>> {
    let span = KeySpan {
        from: Bytes::copy_from_slice(&from),
        to: to.as_deref().map(Bytes::copy_from_slice),
    };
    span.check(limits)?;
    Ok(KeysBody::Range { from, to })
}

/// What can be compared.
const TESTS: [&str; 7] = [
    "exists",
    "value",
    "value_base64",
    "version",
    "create_revision",
    "mod_revision",
    "lease",
];

fn compare<'n>(node: &'n Node, limits: &Limits) -> Read<(KeysBody<'n>, TestBody<'n>)> {
    let fields = fields_with_keys(node, &[&TESTS, &["relation"]])?;
    let keys = keys(fields, limits)?;
    let relation = fields.read("relation", relation)?;
    let test = match fields.present(&TESTS)[..] {
        [test] => test,
        [] => {
            return Err(Refusal::new(format!(
                "what is compared is missing: one of {}",
                TESTS.join(", ")
            )));
        }
        [first, second, ..] => {
            let message = format!("{first} and {second} exclude each other: one compare compares one thing");
            return Err(Refusal::new(message));
        }
    };
    if test == "exists" && relation.is_some() {
        return Err(Refusal::new(
            "relation does not go with exists, which is true or false",
        ));
    }
    let relation = relation.unwrap_or(Relation::Equal);
    let whole = || Read::Ok(fields.whole(test)?.unwrap_or_default());
    let test = match test {
        "exists" => match fields.is_set("exists")? {
            true => Test::Exists,
            false => Test::Absent,
        },
        "version" => Test::Version(relation, whole()?),
        "create_revision" => Test::CreateRevision(relation, Revision(whole()?)),
        "mod_revision" => Test::ModRevision(relation, Revision(whole()?)),
        "lease" => {
            let lease = fields.read("lease", |node| match node {
                Node::Null => Ok(None),
                node => node.lease().map(Some),
            })?;
            Test::Lease(relation, lease.flatten())
        }
        _ => return Ok((keys, TestBody::Value(relation, value(fields, limits)?))),
    };
    Ok((keys, TestBody::Other(test)))
}

fn value<'n>(fields: Fields<'n>, limits: &Limits) -> Read<Text<'n>> {
    let value = fields.required_bytes("value")?;
    limits
        .check_value(&value)
        .map_err(|failure| Refusal::from(failure).in_field("value"))?;
    Ok(value)
}

fn relation(node: &Node) -> Read<Relation> {
    match node.text()? {
        "=" => Ok(Relation::Equal),
        "!=" => Ok(Relation::NotEqual),
        "<" => Ok(Relation::Less),
        ">" => Ok(Relation::Greater),
        other => Err(Refusal::new(format!("{other:?} is none of =, !=, < and >"))),
    }
}

const OPS: [&str; 5] = ["put", "increment", "delete", "get", "txn"];

fn op<'n>(node: &'n Node, limits: &Limits, depth: usize) -> Read<OpBody<'n>> {
    let fields = node.fields(&OPS)?;
    let names = fields.present(&OPS);
    let ([name], Some(node)) = (&names[..], names.first().and_then(|name| fields.get(name))) else {
        let message = format!("an operation is an object with exactly one of {}", OPS.join(", "));
        return Err(Refusal::new(message));
    };
    let op = match *name {
        "put" => put(node, limits),
        "increment" => increment(node, limits),
        "delete" => delete(node, limits),
        "get" => get(node, limits),
        _ => read_at(node, limits, depth + 1).map(|txn| OpBody::Txn(txn.txn().encode())),
    };
    op.map_err(|refusal| refusal.in_field(name))
}

fn put<'n>(node: &'n Node, limits: &Limits) -> Read<OpBody<'n>> {
    let fields = node.fields(&[
        "key",
        "key_base64",
        "value",
        "value_base64",
        "ttl_seconds",
        "lease",
        "keep_lifetime",
        "previous",
    ])?;
    Ok(OpBody::Put {
        key: key(fields, limits)?,
        value: value(fields, limits)?,
        lifetime: lifetime(fields)?,
        previous: previous(fields)?,
    })
}

fn lifetime(fields: Fields<'_>) -> Read<Lifetime> {
    let ttl_ms = fields.seconds_ms("ttl_seconds")?;
    let lease = fields.read("lease", Node::lease)?;
    match (ttl_ms, lease, fields.is_set("keep_lifetime")?) {
        (None, None, false) => Ok(Lifetime::Unlimited),
        (Some(ttl_ms), None, false) => Ok(Lifetime::Ttl { ttl_ms }),
        (None, Some(lease), false) => Ok(Lifetime::Lease(lease)),
        (None, None, true) => Ok(Lifetime::Kept),
        _ => Err(Refusal::new(
            "ttl_seconds, lease and keep_lifetime exclude each other: give one",
        )),
    }
}

fn increment<'n>(node: &'n Node, limits: &Limits) -> Read<OpBody<'n>> {
    let fields = node.fields(&["key", "key_base64", "by"])?;
    Ok(OpBody::Increment {
        key: key(fields, limits)?,
        by: fields.signed("by")?.unwrap_or(1),
    })
}

fn delete<'n>(node: &'n Node, limits: &Limits) -> Read<OpBody<'n>> {
    let fields = fields_with_keys(node, &[&["previous"]])?;
    Ok(OpBody::Delete {
        keys: keys(fields, limits)?,
        previous: previous(fields)?,
    })
}

fn get<'n>(node: &'n Node, limits: &Limits) -> Read<OpBody<'n>> {
    let fields = fields_with_keys(node, &[&["limit", "keys_only", "count_only"]])?;
    let shape = match (fields.is_set("keys_only")?, fields.is_set("count_only")?) {
        (false, false) => Shape::Records,
        (true, false) => Shape::KeysOnly,
        (false, true) => Shape::CountOnly,
        (true, true) => {
            return Err(Refusal::new(
                "keys_only and count_only exclude each other: give one",
            ));
        }
    };
    let limit = fields.whole("limit")?;
    Ok(OpBody::Get {
        keys: keys(fields, limits)?,
        shape,
        limit: limit.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX)),
    })
}

fn previous(fields: Fields<'_>) -> Read<Previous> {
    Ok(match fields.is_set("previous")? {
        true => Previous::Wanted,
        false => Previous::Unwanted,
    })
}

#[cfg(test)]
mod tests;

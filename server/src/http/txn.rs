//! `POST /v1/txn` and `POST /v1/increment`: what they answer. What they take is read in [`super::txn_body`].

use axum::extract::{Request as HttpRequest, State};
use raftkv_protocol::{Answer, Branch, Command, Op, OpResult, Shape, Txn, TxnResult};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use super::answer;
use super::api::{Outcome, Shared, unexpected};
use super::idempotency::IdempotencyKey;
use super::json::{self, Refusal};
use super::query::Query;
use super::records::{KvBody, kv_bodies, put_bytes};
use super::txn_body;

/// `POST /v1/txn`
pub(super) async fn txn(State(api): Shared, request: HttpRequest) -> Outcome {
    let (parts, body) = request.into_parts();
    Query::parse(parts.uri.query(), &[])?;
    let once = IdempotencyKey::of(&parts.headers)?;
    let body = api.read_body(&parts.headers, body).await?;
    let node = json::parse(&body)?;
    let body = txn_body::read(&node, &api.limits)?;
    let txn = body.txn();
    let command = Command::Txn(txn);
    let (header, answer) = api.write(&command, once.as_ref()).await?;
    match (answer, &command) {
        (Answer::Txn(result), Command::Txn(txn)) => {
            Ok(answer::json(&header, &ResultBody { txn, result: &result }))
        }
        (other, _) => Err(unexpected(&other)),
    }
}

/// `POST /v1/increment`
pub(super) async fn increment(State(api): Shared, request: HttpRequest) -> Outcome {
    let (parts, body) = request.into_parts();
    Query::parse(parts.uri.query(), &[])?;
    let once = IdempotencyKey::of(&parts.headers)?;
    let body = api.read_body(&parts.headers, body).await?;
    let node = json::parse(&body)?;
    let fields = node.fields(&["key", "key_base64", "by"])?;
    let key = fields.required_bytes("key")?;
    let by = fields.signed("by")?.unwrap_or(1);
    api.limits
        .check_key(&key)
        .map_err(|failure| Refusal::from(failure).in_field("key"))?;
    let txn = Txn {
        then: vec![Op::Increment { key: &key, by }],
        ..Txn::default()
    };
    let (header, answer) = api.write(&Command::Txn(txn), once.as_ref()).await?;
    let Answer::Txn(result) = answer else {
        return Err(unexpected(&answer));
    };
    let Some(OpResult::Incremented { value }) = result.results.first() else {
        return Err(unexpected(&Answer::Txn(result)));
    };
    let body = IncrementedBody {
        key: &key,
        value: *value,
        revision: result.revision.0,
    };
    Ok(answer::json(&header, &body))
}

struct IncrementedBody<'a> {
    key: &'a [u8],
    value: i64,
    revision: u64,
}

impl Serialize for IncrementedBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        put_bytes(&mut map, ["key", "key_base64"], self.key)?;
        map.serialize_entry("value", &self.value)?;
        map.serialize_entry("revision", &self.revision)?;
        map.end()
    }
}

/// What a transaction did, told along what it was asked to.
struct ResultBody<'a> {
    txn: &'a Txn<'a>,
    result: &'a TxnResult,
}

impl Serialize for ResultBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("succeeded", &self.result.succeeded())?;
        map.serialize_entry("revision", &self.result.revision.0)?;
        let ops = ran(self.txn, self.result.branch);
        let results = &self.result.results;
        map.serialize_entry("results", &Results { ops, results })?;
        map.end()
    }
}

/// The operations of the branch that was taken.
fn ran<'t, 'a>(txn: &'t Txn<'a>, branch: Branch) -> &'t [Op<'a>] {
    match branch {
        Branch::Then => &txn.then,
        Branch::Otherwise => &txn.otherwise,
    }
}

/// One result for each operation that ran.
struct Results<'a> {
    ops: &'a [Op<'a>],
    results: &'a [OpResult],
}

impl Serialize for Results<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.results.len()))?;
        for (place, result) in self.results.iter().enumerate() {
            let op = self.ops.get(place);
            seq.serialize_element(&Named { op, result })?;
        }
        seq.end()
    }
}

/// A result under the name of its operation.
struct Named<'a> {
    op: Option<&'a Op<'a>>,
    result: &'a OpResult,
}

impl Serialize for Named<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let name = match self.result {
            OpResult::Put { .. } => "put",
            OpResult::Incremented { .. } => "increment",
            OpResult::Deleted { .. } => "delete",
            OpResult::Got { .. } => "get",
            OpResult::Txn { .. } => "txn",
        };
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(name, &Told(self))?;
        map.end()
    }
}

/// The result itself.
struct Told<'a>(&'a Named<'a>);

impl Serialize for Told<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Named { op, result } = *self.0;
        let mut map = serializer.serialize_map(None)?;
        match result {
            OpResult::Put { previous } => {
                if let Some(previous) = previous {
                    map.serialize_entry("previous", &kv_bodies(std::slice::from_ref(previous))[0])?;
                }
            }
            OpResult::Incremented { value } => map.serialize_entry("value", value)?,
            OpResult::Deleted { count, previous } => {
                map.serialize_entry("deleted", count)?;
                if !previous.is_empty() {
                    map.serialize_entry("previous", &kv_bodies(previous))?;
                }
            }
            OpResult::Got { kvs, count } => {
                let shape = match op {
                    Some(Op::Get { shape, .. }) => *shape,
                    _ => Shape::Records,
                };
                let kvs: Vec<KvBody<'_>> = kvs.iter().map(|kv| KvBody { kv, shape }).collect();
                map.serialize_entry("kvs", &kvs)?;
                map.serialize_entry("count", count)?;
            }
            OpResult::Txn { branch, results } => {
                let nested = match op {
                    Some(Op::Txn(encoded)) => Txn::decode(encoded).unwrap_or_default(),
                    _ => Txn::default(),
                };
                map.serialize_entry("succeeded", &(*branch == Branch::Then))?;
                let ops = ran(&nested, *branch);
                map.serialize_entry("results", &Results { ops, results })?;
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use raftkv_protocol::{Keys, Revision};

    use super::super::records::tests::kv;
    use super::*;

    #[test]
    fn results_mirror_the_operations() {
        let keys = Keys::One(b"k");
        let get = Op::Get {
            keys,
            shape: Shape::KeysOnly,
            limit: None,
        };
        let nested = Txn {
            otherwise: vec![get.clone()],
            ..Txn::default()
        };
        let nested = nested.encode();
        let txn = Txn {
            then: vec![Op::Increment { key: b"n", by: 1 }, get, Op::Txn(&nested)],
            ..Txn::default()
        };
        let got = || OpResult::Got {
            kvs: vec![kv(b"k", b"")],
            count: 1,
        };
        let result = TxnResult {
            revision: Revision(9),
            branch: Branch::Then,
            results: vec![
                OpResult::Incremented { value: -4 },
                got(),
                OpResult::Txn {
                    branch: Branch::Otherwise,
                    results: vec![got()],
                },
            ],
        };
        let kvs = r#"{"kvs":[{"key":"k","create_revision":2,"mod_revision":5,"version":3}],"count":1}"#;
        let expected = format!(
            r#"{{"succeeded":true,"revision":9,"results":[{{"increment":{{"value":-4}}}},{{"get":{kvs}}},{{"txn":{{"succeeded":false,"results":[{{"get":{kvs}}}]}}}}]}}"#
        );
        let (txn, result) = (&txn, &result);
        let body = serde_json::to_string(&ResultBody { txn, result }).expect("plain data");
        assert_eq!(body, expected);
    }

    #[test]
    fn what_was_there_before_is_told_where_it_was_asked_for() {
        let told = |result| {
            let op = None;
            serde_json::to_string(&Named { op, result: &result }).expect("plain data")
        };
        assert_eq!(told(OpResult::Put { previous: None }), r#"{"put":{}}"#);
        let deleted = OpResult::Deleted {
            count: 1,
            previous: vec![kv(b"k", b"v")],
        };
        assert_eq!(
            told(deleted),
            r#"{"delete":{"deleted":1,"previous":[{"key":"k","value":"v","create_revision":2,"mod_revision":5,"version":3}]}}"#
        );
    }
}

//! The way in through the HTTP API v1.

use std::time::Duration;

use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use raftkv_protocol::{Condition, ErrorCode, KeySpan, Order, Previous, Revision, Shape};
use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::{HeaderMap, Request};

use super::ask::{Ask, LeaseName, Life, Listing, Transaction, set_as_transaction};
use super::doors::{Cursors, Door, Leases};
use super::json as body;
use super::told::{Row, Told};

/// A client of one server's HTTP API.
#[derive(Debug)]
pub struct HttpDoor {
    agent: Agent,
    base: String,
    leases: Leases,
    cursors: Cursors<String>,
}

/// An answer as it came.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        let text = || String::from_utf8_lossy(&self.body);
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", text()))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }

    fn number(&self, name: &str) -> u64 {
        let number = self.header(name).and_then(|text| text.parse().ok());
        number.unwrap_or_else(|| panic!("no number {name} in {:?}", self.headers))
    }

    /// The body, if it is no error.
    fn good(&self) -> Result<Value, ErrorCode> {
        match self.status {
            200 => Ok(self.json()),
            _ => Err(self.code()),
        }
    }

    fn code(&self) -> ErrorCode {
        let body = self.json();
        let name = body["code"].as_str().expect("an error has a code");
        let code = ErrorCode::ALL.into_iter().find(|code| code.name() == name);
        match code.unwrap_or_else(|| panic!("{name} is no code")) {
            code @ (ErrorCode::NoLeader | ErrorCode::Overloaded | ErrorCode::OutcomeUnknown) => {
                panic!("{code}: {body}")
            }
            code => code,
        }
    }
}

fn escaped(bytes: &[u8]) -> String {
    percent_encode(bytes, NON_ALPHANUMERIC).to_string()
}

fn of_key(key: &[u8]) -> String {
    format!("/v1/kv/{}", escaped(key))
}

/// The parameters that name a range.
fn of_span(span: &KeySpan) -> Vec<String> {
    let to = span.to.as_ref().map(|to| format!("to={}", escaped(to)));
    let from = format!("from={}", escaped(&span.from));
    [Some(from), to].into_iter().flatten().collect()
}

fn with_query(path: &str, parameters: &[String]) -> String {
    match parameters {
        [] => path.to_owned(),
        _ => format!("{path}?{}", parameters.join("&")),
    }
}

impl HttpDoor {
    /// To the server at this HTTP port of 127.0.0.1.
    #[must_use]
    pub fn new(http_port: u16, timeout: Duration) -> HttpDoor {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(timeout))
            .build();
        HttpDoor {
            agent: config.new_agent(),
            base: format!("http://127.0.0.1:{http_port}"),
            leases: Leases::default(),
            cursors: Cursors::default(),
        }
    }

    fn send(&self, method: &str, path: &str, fields: &[(&str, String)], body: Option<&[u8]>) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base));
        let request = fields
            .iter()
            .fold(request, |request, (name, value)| request.header(*name, value));
        let response = match body {
            Some(body) => self.agent.run(request.body(body).expect("a request")),
            None => self.agent.run(request.body(()).expect("a request")),
        };
        let mut response = response.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response
                .body_mut()
                .with_config()
                .limit(64 << 20)
                .read_to_vec()
                .expect("a body"),
        }
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        let json = [("content-type", "application/json".to_owned())];
        self.send("POST", path, &json, Some(body.to_string().as_bytes()))
    }

    fn transact(&self, transaction: &Transaction) -> Result<Told, ErrorCode> {
        let answer = self.post("/v1/txn", &body::transaction(transaction, &self.leases));
        let told = answer.good()?;
        let branch = body::branch(&told, &self.leases);
        Ok(Told::Transacted(body::revision(&told, "revision"), branch))
    }

    fn set(
        &self,
        (key, value): (&Bytes, &Bytes),
        condition: Condition,
        life: Life,
    ) -> Result<Told, ErrorCode> {
        let parameter = match life {
            Life::Unlimited => None,
            Life::Ttl(ttl_ms) => Some(format!("ttl={ttl_ms}ms")),
            Life::Lease(name) => Some(format!("lease={}", self.leases.id(name))),
            Life::Kept => {
                return Ok(self
                    .transact(&set_as_transaction(key, value, condition, life))?
                    .into_set());
            }
        };
        let parameters: Vec<String> = parameter.into_iter().collect();
        let path = with_query(&of_key(key), &parameters);
        let answer = self.send("PUT", &path, &condition_field(condition), Some(value));
        match changed(&answer)? {
            Ok(told) => Ok(Told::Set(body::revision(&told, "revision"))),
            Err(current) => Ok(Told::ConditionFailed(current)),
        }
    }

    fn get(&self, key: &Bytes, at: Option<Revision>) -> Result<Told, ErrorCode> {
        let parameters: Vec<String> = at.iter().map(|at| format!("revision={at}")).collect();
        let answer = self.send("GET", &with_query(&of_key(key), &parameters), &[], None);
        if answer.status != 200 {
            return match answer.code() {
                ErrorCode::KeyNotFound => Ok(Told::Found(None)),
                code => Err(code),
            };
        }
        let lease = answer.header("raftkv-lease");
        let row = Row {
            key: key.clone(),
            value: answer.body.clone().into(),
            created: Revision(answer.number("raftkv-create-revision")),
            changed: Revision(answer.number("raftkv-mod-revision")),
            version: answer.number("raftkv-version"),
            lease: lease.map(|id| self.leases.name(id.parse().expect("the id of a lease"))),
        };
        assert_eq!(answer.header("etag"), Some(&*format!("\"{}\"", row.changed)));
        Ok(Told::Found(Some(row)))
    }

    fn page(&mut self, place: usize, listing: &Listing, cursor: Option<String>) -> Result<Told, ErrorCode> {
        let mut parameters = of_span(&listing.span);
        parameters.extend(listing.at.map(|at| format!("revision={at}")));
        parameters.extend(listing.limit.map(|limit| format!("limit={limit}")));
        parameters.extend(cursor.map(|cursor| format!("cursor={cursor}")));
        if listing.order == Order::Descending {
            parameters.push("reverse".into());
        }
        match listing.shape {
            Shape::Records => {}
            Shape::KeysOnly => parameters.push("keys_only".into()),
            Shape::CountOnly => parameters.push("count_only".into()),
        }
        let answer = self.send("GET", &with_query("/v1/kv", &parameters), &[], None);
        let told = answer.good()?;
        let cursor = told["cursor"].as_str().map(str::to_owned);
        self.cursors.note(place, cursor.clone());
        Ok(Told::Page {
            at: body::revision(&told, "revision"),
            rows: body::rows(&told["kvs"], &self.leases),
            count: body::number(&told, "count"),
            goes_on: cursor.is_some(),
        })
    }

    fn lease_path(&self, name: LeaseName) -> String {
        format!("/v1/leases/{}", self.leases.id(name))
    }

    fn all_leases(&self) -> Result<Told, ErrorCode> {
        let (mut told, mut path) = (Vec::new(), "/v1/leases".to_owned());
        loop {
            let page = self.send("GET", &path, &[], None).good()?;
            let leases = page["leases"].as_array().expect("a list");
            told.extend(leases.iter().map(|object| body::lease(object, &self.leases)));
            match page["cursor"].as_str() {
                Some(cursor) => path = format!("/v1/leases?cursor={cursor}"),
                None => return Ok(Told::Leases(told)),
            }
        }
    }

    fn tell(&mut self, ask: &Ask) -> Result<Told, ErrorCode> {
        Ok(match ask {
            Ask::Set {
                key,
                value,
                condition,
                life,
            } => self.set((key, value), *condition, *life)?,
            Ask::Get { key, at } => self.get(key, *at)?,
            Ask::Delete { key, condition } => {
                let answer = self.send("DELETE", &of_key(key), &condition_field(*condition), None);
                match changed(&answer)? {
                    Ok(told) => {
                        let existed = told["deleted"].as_bool().expect("true or false");
                        Told::Deleted(existed, body::revision(&told, "revision"))
                    }
                    Err(current) => Told::ConditionFailed(current),
                }
            }
            Ask::DeleteRange { span, previous } => {
                let mut parameters = of_span(span);
                if *previous == Previous::Wanted {
                    parameters.push("previous".into());
                }
                let told = self
                    .send("DELETE", &with_query("/v1/kv", &parameters), &[], None)
                    .good()?;
                let previous = body::rows(&told["previous"], &self.leases);
                Told::DeletedRange(
                    body::number(&told, "deleted"),
                    body::revision(&told, "revision"),
                    previous,
                )
            }
            Ask::Increment { key, by } => {
                let asked = body::with_bytes("key", key, json!({"by": by}));
                let told = self.post("/v1/increment", &asked).good()?;
                Told::Sum(told["value"].as_i64().expect("a number"))
            }
            Ask::Transact(transaction) => self.transact(transaction)?,
            Ask::List(listing) => {
                let place = self.cursors.begin(listing);
                self.page(place, listing, None)?
            }
            Ask::GoOn(place) => match self.cursors.at(*place) {
                Some((listing, cursor)) => self.page(*place, &listing, Some(cursor))?,
                None => Told::NoPage,
            },
            Ask::Grant(ttl_ms) => {
                let asked = json!({"ttl_seconds": *ttl_ms as f64 / 1000.0});
                let told = self.post("/v1/leases", &asked).good()?;
                let id = told["id"].as_str().expect("an id").parse();
                self.leases.note(id.expect("the id of a lease"));
                Told::Granted(body::seconds_ms(&told, "ttl_seconds"))
            }
            Ask::Renew(name) => {
                let answer = self.send(
                    "POST",
                    &format!("{}/renew", self.lease_path(*name)),
                    &[],
                    Some(b""),
                );
                let told = found(answer.good())?;
                Told::Renewed(told.map(|told| body::seconds_ms(&told, "ttl_seconds")))
            }
            Ask::Revoke(name) => {
                let told = self.send("DELETE", &self.lease_path(*name), &[], None).good()?;
                Told::Revoked(body::number(&told, "deleted"))
            }
            Ask::Lease(name) => {
                let told = found(self.send("GET", &self.lease_path(*name), &[], None).good())?;
                Told::Lease(told.map(|told| body::lease(&told, &self.leases)))
            }
            Ask::Leases => self.all_leases()?,
        })
    }
}

impl Door for HttpDoor {
    fn name(&self) -> &'static str {
        "HTTP"
    }

    fn ask(&mut self, ask: &Ask) -> Told {
        self.tell(ask).unwrap_or_else(Told::Refused)
    }
}

fn condition_field(condition: Condition) -> Vec<(&'static str, String)> {
    match condition {
        Condition::Always => Vec::new(),
        Condition::Absent => vec![("if-none-match", "*".to_owned())],
        Condition::ModRevision(revision) => vec![("if-match", format!("\"{revision}\""))],
    }
}

/// What a write under a condition did; the error within is the key's revision where the condition did not hold.
fn changed(answer: &Answer) -> Result<Result<Value, Option<Revision>>, ErrorCode> {
    match answer.good() {
        Ok(told) => Ok(Ok(told)),
        Err(ErrorCode::RevisionMismatch) => {
            let current = body::revision(&answer.json(), "revision");
            Ok(Err((current.0 != 0).then_some(current)))
        }
        Err(code) => Err(code),
    }
}

/// A lease that is not there is an error here, and an answer at the other doors.
fn found(told: Result<Value, ErrorCode>) -> Result<Option<Value>, ErrorCode> {
    match told {
        Ok(told) => Ok(Some(told)),
        Err(ErrorCode::LeaseNotFound) => Ok(None),
        Err(code) => Err(code),
    }
}

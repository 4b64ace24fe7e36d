//! A node's HTTP API, as a program uses it.

use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::Response;

/// A node that does not tell its status within this time is taken as one that does not answer: a paused one never does.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);

/// An answer, whatever its status.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The body; `Null` where it is not JSON.
    pub body: Value,
    /// The node's identity as the header fields tell it.
    pub node_identity: Option<u64>,
    /// What a read rests on, as the header fields tell it.
    pub basis: Option<String>,
}

impl Reply {
    /// The `code` of an error.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.body["code"].as_str()
    }

    /// The revision that the body names.
    #[must_use]
    pub fn revision(&self) -> Option<u64> {
        self.body["revision"].as_u64()
    }
}

/// `GET /status`, as far as tests use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The node's name.
    pub id: String,
    /// `leader`, `follower`, `candidate` or `learner`.
    pub role: String,
    /// The leader's name, if known.
    pub leader: Option<String>,
    /// The term.
    pub term: u64,
    /// The commit index.
    pub commit_index: u64,
    /// The applied index.
    pub applied_index: u64,
    /// The store's revision.
    pub revision: u64,
    /// The cluster's id, once formed.
    pub cluster_id: Option<String>,
}

/// A client of one node. Clones share connections.
#[derive(Clone, Debug)]
pub struct HttpClient {
    agent: Agent,
    base: String,
}

impl HttpClient {
    /// Talks to `127.0.0.1:port`, and waits at most `timeout` for each answer.
    #[must_use]
    pub fn new(port: u16, timeout: Duration) -> HttpClient {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(timeout))
            .build();
        HttpClient {
            agent: config.new_agent(),
            base: format!("http://127.0.0.1:{port}"),
        }
    }

    /// `GET /get`.
    ///
    /// # Errors
    /// When no answer came.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Reply, ureq::Error> {
        read(self.agent.get(self.url("/get", key.as_ref())).call()?)
    }

    /// `POST /set` of a text.
    ///
    /// # Errors
    /// When no answer came.
    pub fn set(&self, key: &str, value: &str) -> Result<Reply, ureq::Error> {
        self.post("/set", json!({"key": key, "value": value}).to_string().as_bytes())
    }

    /// `POST /set` if the key was last changed by `revision` (0: if it does not exist).
    ///
    /// # Errors
    /// When no answer came.
    pub fn set_if(&self, key: &str, value: &str, revision: u64) -> Result<Reply, ureq::Error> {
        let body = json!({"key": key, "value": value, "if_revision": revision});
        self.post("/set", body.to_string().as_bytes())
    }

    /// `DELETE /delete`.
    ///
    /// # Errors
    /// When no answer came.
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<Reply, ureq::Error> {
        read(self.agent.delete(self.url("/delete", key.as_ref())).call()?)
    }

    /// `POST` of any bytes, as JSON.
    ///
    /// # Errors
    /// When no answer came.
    pub fn post(&self, path: &str, body: &[u8]) -> Result<Reply, ureq::Error> {
        let request = self
            .agent
            .post(format!("{}{path}", self.base))
            .content_type("application/json");
        read(request.send(body)?)
    }

    /// `GET` of any path and query, as it stands.
    ///
    /// # Errors
    /// When no answer came.
    pub fn get_path(&self, path_and_query: &str) -> Result<Reply, ureq::Error> {
        read(self.agent.get(format!("{}{path_and_query}", self.base)).call()?)
    }

    /// `GET /status`.
    ///
    /// # Errors
    /// A sentence, when the node did not tell it.
    pub fn status(&self) -> Result<Status, String> {
        let request = self.agent.get(format!("{}/status", self.base));
        let request = request.config().timeout_global(Some(STATUS_TIMEOUT)).build();
        let reply = request.call().and_then(read).map_err(|error| error.to_string())?;
        let text = |field: &str| reply.body[field].as_str().map(str::to_owned);
        let number = |field: &str| reply.body[field].as_u64();
        let status = || {
            Some(Status {
                id: text("id")?,
                role: text("role")?,
                leader: text("leader"),
                term: number("term")?,
                commit_index: number("commit_index")?,
                applied_index: number("applied_index")?,
                revision: number("revision")?,
                cluster_id: text("cluster_id"),
            })
        };
        status().ok_or_else(|| format!("/status answered {} {}", reply.status, reply.body))
    }

    fn url(&self, path: &str, key: &[u8]) -> String {
        format!(
            "{}{path}?key={}",
            self.base,
            percent_encode(key, NON_ALPHANUMERIC)
        )
    }
}

fn read(mut response: Response<ureq::Body>) -> Result<Reply, ureq::Error> {
    let field = |name: &str| {
        let value = response.headers().get(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    let node_identity = field("raftkv-node-id").and_then(|text| u64::from_str_radix(&text, 16).ok());
    let basis = field("raftkv-read-basis");
    let status = response.status().as_u16();
    let text = response.body_mut().read_to_string()?;
    Ok(Reply {
        status,
        body: serde_json::from_str(&text).unwrap_or(Value::Null),
        node_identity,
        basis,
    })
}

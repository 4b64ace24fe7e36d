//! `/v1/kv` and the description of the API, over real sockets.

use serde_json::{Value, json};

use crate::rig::{Cluster, agent, delete, get, post};

/// An answer whose body is not JSON.
struct Plain {
    status: u16,
    body: Vec<u8>,
    headers: ureq::http::HeaderMap,
}

impl Plain {
    fn of(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Plain {
        let mut response = response.expect("an answer");
        Plain {
            status: response.status().as_u16(),
            body: response.body_mut().read_to_vec().expect("a body"),
            headers: response.headers().clone(),
        }
    }

    fn get(url: &str, fields: &[(&str, &str)]) -> Plain {
        let request = fields.iter().fold(agent().get(url), |request, (name, value)| {
            request.header(*name, *value)
        });
        Plain::of(request.call())
    }

    fn put(url: &str, fields: &[(&str, &str)], value: &[u8]) -> Plain {
        let request = fields.iter().fold(agent().put(url), |request, (name, value)| {
            request.header(*name, *value)
        });
        Plain::of(request.send(value))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

fn keys(listing: &Value) -> Vec<&str> {
    let kvs = listing["kvs"].as_array().expect("a list");
    kvs.iter().map(|kv| kv["key"].as_str().expect("text")).collect()
}

#[test]
fn a_value_is_the_body_and_its_record_stands_in_the_headers() {
    let cluster = Cluster::single();
    cluster.wait_ready();
    let url = cluster.url(0, "/v1/kv/a/b%2Fc%20d");
    let value = b"\0\xff any bytes";
    let put = Plain::put(&url, &[], value);
    assert_eq!(put.status, 200, "{}", put.json());
    let revision = put.json()["revision"].as_u64().expect("a revision");
    let tag = put.header("etag").expect("an ETag").to_owned();
    assert_eq!(tag, format!("\"{revision}\""));

    let read = Plain::get(&url, &[]);
    assert_eq!((read.status, &read.body[..]), (200, &value[..]));
    assert_eq!(read.header("etag"), Some(&*tag));
    assert_eq!(read.header("content-type"), Some("application/octet-stream"));
    assert_eq!(read.header("raftkv-version"), Some("1"));
    assert_eq!(
        read.header("raftkv-create-revision"),
        Some(&*revision.to_string())
    );
    // The short calls see the same key.
    let short = get(&cluster.url(0, "/get?key=a/b/c%20d"));
    assert_eq!(short.json["revision"], revision);

    let known = Plain::get(&url, &[("if-none-match", &tag)]);
    assert_eq!((known.status, known.body.len()), (304, 0));
    let newer = Plain::put(&url, &[("if-match", &tag)], b"2");
    assert_eq!(newer.status, 200);
    let stale = Plain::put(&url, &[("if-match", &tag)], b"3");
    assert_eq!(stale.status, 409);
    assert_eq!(stale.json()["code"], "revision_mismatch");
    assert_eq!(stale.json()["revision"], newer.json()["revision"]);
    let taken = Plain::put(&url, &[("if-none-match", "*")], b"4");
    assert_eq!(taken.status, 409);
    let past = Plain::get(&format!("{url}?revision={revision}"), &[]);
    assert_eq!((past.status, &past.body[..]), (200, &value[..]));
    assert_eq!(Plain::get(&url, &[]).body, b"2");

    let deleted = delete(&url);
    assert_eq!((deleted.status, &deleted.json["deleted"]), (200, &json!(true)));
    let gone = Plain::get(&url, &[]);
    assert_eq!(gone.status, 404);
    assert_eq!(gone.json()["code"], "key_not_found");
    assert_eq!(delete(&url).json["deleted"], false);
}

#[test]
fn a_range_is_listed_whole_or_in_pages_of_one_state() {
    let cluster = Cluster::of(3);
    cluster.wait_ready();
    for number in 0..7 {
        assert_eq!(cluster.set(0, &format!("l/{number}"), "v").status, 200);
    }
    assert_eq!(cluster.set(0, "m", "other").status, 200);
    let url = |k, query: &str| cluster.url(k, &format!("/v1/kv?prefix=l/{query}"));
    let whole = get(&url(1, ""));
    assert_eq!(whole.status, 200);
    assert_eq!(
        keys(&whole.json),
        ["l/0", "l/1", "l/2", "l/3", "l/4", "l/5", "l/6"]
    );
    assert_eq!(whole.json["kvs"][0]["version"], 1);
    assert_eq!(whole.json["cursor"], Value::Null);
    assert_eq!(keys(&get(&url(1, "&reverse&limit=2")).json), ["l/6", "l/5"]);
    assert_eq!(get(&url(0, "&count_only")).json["count"], 7);
    let bare = get(&url(2, "&keys_only&limit=1")).json;
    assert_eq!(
        (bare["kvs"][0]["key"].as_str(), &bare["kvs"][0]["value"]),
        (Some("l/0"), &Value::Null)
    );

    let first = get(&url(0, "&limit=3"));
    let cursor = first.json["cursor"].as_str().expect("there is more").to_owned();
    // What changes between the pages is not seen; another node goes on.
    assert_eq!(cluster.set(0, "l/4", "new").status, 200);
    assert_eq!(delete(&cluster.url(0, "/delete?key=l/5")).status, 200);
    let second = get(&url(1, &format!("&limit=3&cursor={cursor}")));
    assert_eq!(second.status, 200, "{}", second.json);
    assert_eq!(keys(&second.json), ["l/3", "l/4", "l/5"]);
    assert_eq!(second.json["kvs"][1]["value"], "v");
    assert_eq!(second.json["revision"], first.json["revision"]);

    let lines = Plain::get(&url(0, ""), &[("accept", "application/x-ndjson")]);
    assert_eq!(lines.header("content-type"), Some("application/x-ndjson"));
    let lines: Vec<Value> = String::from_utf8(lines.body)
        .expect("text")
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), 6);
    assert_eq!(lines[4]["value"], "new");
}

#[test]
fn bad_requests_are_told_what_is_wrong() {
    let cluster = Cluster::single();
    cluster.wait_ready();
    for (path, expected) in [
        ("/v1/kv?prefix=a&from=b", "exclude each other"),
        ("/v1/kv?limit=-1", "limit is not a whole number"),
        ("/v1/kv?cursor=zz", "cursor"),
        ("/v1/kv?keys_only&count_only", "exclude each other"),
        ("/v1/kv?perfix=a", "\"perfix\" is not known here"),
        ("/v1/kv/k?limit=1", "goes with ?prefix alone"),
        ("/v1/kv/k?revision=1&ago=5m", "exclude each other"),
        ("/v1/kv/k?ago=5", "is no duration"),
        ("/v1/kv/k%2", "no percent-escape"),
        ("/v1/kv/k?revision=999999", "revision"),
    ] {
        let answer = get(&cluster.url(0, path));
        assert_eq!(answer.status, 400, "{path}: {}", answer.json);
        let error = answer.json["error"].as_str().expect("a sentence");
        assert!(error.contains(expected), "{path}: {error}");
    }
    for (fields, expected) in [
        (&[("if-match", "7")][..], "what no ETag of this server is"),
        (&[("if-none-match", "\"7\"")], "the key must not exist"),
    ] {
        let answer = Plain::put(&cluster.url(0, "/v1/kv/k"), fields, b"v");
        assert_eq!(answer.status, 400);
        let error = answer.json()["error"].to_string();
        assert!(error.contains(expected), "{error}");
    }
    let nothing = delete(&cluster.url(0, "/v1/kv"));
    assert_eq!(nothing.status, 400, "no range: nothing may be deleted");
    let wrong = post(&cluster.url(0, "/v1/kv/k"), "v");
    assert_eq!(wrong.status, 405);
    assert!(wrong.headers["allow"].to_str().expect("text").contains("PUT"));
}

#[test]
fn the_description_names_what_is_served() {
    let cluster = Cluster::single();
    cluster.wait_ready();
    let answer = get(&cluster.url(0, "/openapi.json"));
    assert_eq!(answer.json["openapi"], "3.1.0");
    let paths = answer.json["paths"].as_object().expect("paths");
    assert!(paths.len() > 15, "{}", paths.len());
    for (path, methods) in paths {
        let path = path
            .replace("{key}", "k")
            .replace("{id}", "1")
            .replace("{name}", "n");
        // A method that no path has is refused with those that this one has.
        let request = ureq::http::Request::builder()
            .method("PATCH")
            .uri(cluster.url(0, &path));
        let answer = agent()
            .run(request.body(()).expect("a request"))
            .expect("an answer");
        assert_eq!(answer.status(), 405, "{path}");
        let allowed = answer.headers()["allow"].to_str().expect("text").to_lowercase();
        let allowed: Vec<&str> = allowed.split(',').filter(|method| *method != "head").collect();
        let mut described: Vec<&str> = methods
            .as_object()
            .expect("methods")
            .keys()
            .map(String::as_str)
            .collect();
        described.retain(|name| ["get", "put", "post", "delete"].contains(name));
        let sorted = |mut names: Vec<&str>| {
            names.sort_unstable();
            names.join(",")
        };
        assert_eq!(sorted(allowed), sorted(described), "{path}");
    }
}

//! Transactions, leases and idempotency keys, over real sockets.

use serde_json::{Value, json};

use crate::rig::{Cluster, agent, delete, eventually, get, post};

fn txn(cluster: &Cluster, body: &Value) -> Value {
    let answer = post(&cluster.url(0, "/v1/txn"), &body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.json);
    answer.json
}

fn named(url: &str, name: &str, body: &str) -> (u16, Value) {
    let request = agent().post(url).header("Idempotency-Key", name);
    let mut response = request.send(body).expect("an answer");
    let text = response.body_mut().read_to_string().expect("a body");
    (
        response.status().as_u16(),
        serde_json::from_str(&text).expect("JSON"),
    )
}

#[test]
fn a_transaction_happens_whole_or_not_at_all() {
    let cluster = Cluster::of(3);
    cluster.wait_ready();
    let claim = json!({
        "compare": [{"key": "seat", "exists": false}],
        "then": [
            {"put": {"key": "seat", "value": "alice"}},
            {"increment": {"key": "sold"}},
            {"get": {"key": "seat"}},
        ],
        "else": [{"get": {"key": "seat"}}],
    });
    let first = txn(&cluster, &claim);
    assert_eq!(first["succeeded"], true);
    assert_eq!(first["results"][1]["increment"]["value"], 1);
    let seen = &first["results"][2]["get"]["kvs"][0];
    assert_eq!(
        (&seen["value"], &seen["mod_revision"]),
        (&json!("alice"), &first["revision"])
    );
    // Both keys at the one revision.
    let sold = get(&cluster.url(1, "/get?key=sold")).json;
    assert_eq!(
        (&sold["value"], &sold["revision"]),
        (&json!("1"), &first["revision"])
    );

    let second = txn(&cluster, &claim);
    assert_eq!(second["succeeded"], false);
    assert_eq!(second["results"][0]["get"]["kvs"][0]["value"], "alice");
    assert_eq!(second["revision"], first["revision"], "nothing changed");

    let swap = json!({
        "then": [
            {"put": {"key": "seat", "value": "bob", "previous": true}},
            {"delete": {"key": "sold", "previous": true}},
            {"txn": {"compare": [{"key": "seat", "value": "bob"}], "then": [{"put": {"key": "nested", "value": "y"}}]}},
        ],
    });
    let swapped = txn(&cluster, &swap);
    assert_eq!(swapped["results"][0]["put"]["previous"]["value"], "alice");
    assert_eq!(swapped["results"][1]["delete"]["deleted"], 1);
    assert_eq!(swapped["results"][2]["txn"]["succeeded"], true);
    assert_eq!(cluster.get(2, "nested").json["revision"], swapped["revision"]);

    // What fails half-way has changed nothing.
    let broken = json!({"then": [{"put": {"key": "x", "value": "1"}}, {"increment": {"key": "seat"}}]});
    let refused = post(&cluster.url(0, "/v1/txn"), &broken.to_string());
    assert_eq!(refused.json["code"], "not_a_number", "{}", refused.json);
    let twice = json!({"then": [{"put": {"key": "x", "value": "1"}}, {"delete": {"key": "x"}}]});
    let refused = post(&cluster.url(0, "/v1/txn"), &twice.to_string());
    assert_eq!(
        (refused.status, &refused.json["code"]),
        (400, &json!("bad_request"))
    );
    assert_eq!(cluster.get(0, "x").status, 404);
    let added = post(&cluster.url(1, "/v1/increment"), r#"{"key":"n","by":-5}"#);
    assert_eq!(added.json["value"], -5);
}

#[test]
fn keys_live_as_long_as_their_lease() {
    let cluster = Cluster::of(3);
    cluster.wait_ready();
    let granted = post(&cluster.url(0, "/v1/leases"), r#"{"ttl_seconds":60}"#).json;
    let id = granted["id"].as_str().expect("an id").to_owned();
    for key in ["a", "b"] {
        let body = json!({"key": key, "value": "v", "lease": id});
        assert_eq!(post(&cluster.url(1, "/set"), &body.to_string()).status, 200);
    }
    let lease = get(&cluster.url(2, &format!("/v1/leases/{id}"))).json;
    assert_eq!(lease["keys"], json!([{"key": "a"}, {"key": "b"}]));
    assert!(
        lease["remaining_seconds"]
            .as_f64()
            .is_some_and(|left| left > 50.0 && left <= 60.0)
    );
    let renewed = post(&cluster.url(1, &format!("/v1/leases/{id}/renew")), "");
    assert_eq!(renewed.json["ttl_seconds"], 60);
    assert_eq!(
        get(&cluster.url(0, "/v1/leases")).json["leases"][0]["key_count"],
        2
    );
    // Written without it, a key hangs on it no longer.
    assert_eq!(cluster.set(0, "b", "free").status, 200);
    let revoked = delete(&cluster.url(0, &format!("/v1/leases/{id}")));
    assert_eq!(revoked.json["deleted"], 1, "{}", revoked.json);
    assert_eq!(cluster.get(0, "a").status, 404);
    assert_eq!(cluster.get(0, "b").status, 200);
    let gone = get(&cluster.url(0, &format!("/v1/leases/{id}")));
    assert_eq!(
        (gone.status, &gone.json["code"]),
        (404, &json!("lease_not_found"))
    );

    let short = post(&cluster.url(0, "/v1/leases"), r#"{"ttl_seconds":0.2}"#).json;
    let body = json!({"key": "c", "value": "v", "lease": short["id"]});
    assert_eq!(post(&cluster.url(0, "/set"), &body.to_string()).status, 200);
    eventually("the lease ends, and its key with it", || {
        cluster.get(1, "c").status == 404
    });
    let late = post(&cluster.url(0, "/set"), &body.to_string());
    assert_eq!(late.json["code"], "lease_not_found", "{}", late.json);
}

#[test]
fn a_write_is_applied_once_under_its_name() {
    let cluster = Cluster::of(3);
    cluster.wait_ready();
    let url = |k| cluster.url(k, "/v1/increment");
    let body = r#"{"key":"n"}"#;
    let first = named(&url(0), "once", body);
    assert_eq!((first.0, &first.1["value"]), (200, &json!(1)));
    // Sent again, at whichever node: the first answer.
    assert_eq!(named(&url(1), "once", body), first);
    assert_eq!(named(&url(2), "twice", body).1["value"], 2);
    let other = named(&url(0), "once", r#"{"key":"m"}"#);
    assert_eq!(
        (other.0, &other.1["code"]),
        (409, &json!("idempotency_conflict")),
        "{}",
        other.1
    );
    assert_eq!(cluster.get(0, "n").json["value"], "2");
    assert_eq!(cluster.get(0, "m").status, 404);
}

fn count(cluster: &Cluster, k: usize, prefix: &str) -> Value {
    get(&cluster.url(k, &format!("/v1/kv?prefix={prefix}&count_only"))).json["count"].clone()
}

#[test]
fn ranges_are_compared_read_and_deleted_in_one_transaction() {
    let cluster = Cluster::of(3);
    cluster.wait_ready();
    for key in ["job/1", "job/2", "job/3", "jobs", "k"] {
        assert_eq!(cluster.set(0, key, "idle").status, 200);
    }
    let clear = json!({
        "compare": [{"prefix": "job/", "value": "idle"}, {"from": "x", "exists": false}],
        "then": [
            {"put": {"key": "cleared", "value": "yes"}},
            {"get": {"prefix": "job", "keys_only": true, "limit": 2}},
            {"delete": {"from": "job/", "to": "job/3", "previous": true}},
            {"txn": {
                "compare": [{"prefix": "job/", "version": 1}],
                "then": [{"delete": {"prefix": "job/"}}],
            }},
            {"get": {"prefix": "job", "count_only": true}},
        ],
        "else": [{"get": {"prefix": ""}}],
    });
    let done = txn(&cluster, &clear);
    assert_eq!(done["succeeded"], true, "{done}");
    let results = &done["results"];
    let shown = results[1]["get"]["kvs"].as_array().expect("a list");
    assert_eq!(
        (shown.len(), &shown[0]["key"], &shown[0]["value"]),
        (2, &json!("job/1"), &Value::Null)
    );
    assert_eq!(results[1]["get"]["count"], 4, "whatever the limit");
    let deleted = &results[2]["delete"];
    assert_eq!(
        (&deleted["deleted"], &deleted["previous"][1]["key"]),
        (&json!(2), &json!("job/2"))
    );
    assert_eq!(results[3]["txn"]["results"][0]["delete"]["deleted"], 1);
    assert_eq!(
        results[4]["get"]["count"], 1,
        "it sees what was deleted before it"
    );
    assert_eq!(cluster.get(1, "cleared").json["revision"], done["revision"]);

    // Nothing is left to compare: as a key that is not there, which has no value.
    let again = txn(&cluster, &clear);
    assert_eq!(again["succeeded"], false);
    assert_eq!(again["results"][0]["get"]["count"], 3);

    for (body, expected) in [
        (
            json!({"then": [{"put": {"key": "job/9", "value": ""}}, {"delete": {"prefix": "job/"}}]}),
            "at most once",
        ),
        (
            json!({"then": [{"delete": {"prefix": "job/"}}, {"increment": {"key": "job/9"}}]}),
            "at most once",
        ),
        (
            json!({"then": [{"delete": {"from": "a", "prefix": "b"}}]}),
            "say which keys",
        ),
        (
            json!({"compare": [{"prefix": "a"}]}),
            "what is compared is missing",
        ),
        (
            json!({"then": [{"get": {"prefix": "a", "keys_only": true, "count_only": true}}]}),
            "exclude each other",
        ),
    ] {
        let refused = post(&cluster.url(2, "/v1/txn"), &body.to_string());
        assert_eq!(
            (refused.status, &refused.json["code"]),
            (400, &json!("bad_request"))
        );
        let error = refused.json["error"].as_str().expect("a sentence");
        assert!(error.contains(expected), "{body}: {error}");
    }
    assert_eq!(count(&cluster, 0, ""), 3, "what was refused changed nothing");
}

#[test]
fn a_prefix_is_deleted_at_once_as_far_as_a_transaction_goes() {
    let cluster = Cluster::of(3);
    cluster.wait_ready();
    // In two steps: one transaction puts at most so many keys.
    for half in 0..2 {
        let puts: Vec<Value> = (0..5_001)
            .map(|number| json!({"put": {"key": format!("p/{half}/{number:04}"), "value": "v"}}))
            .collect();
        txn(&cluster, &json!({ "then": puts }));
    }
    let url = |k, path: &str| cluster.url(k, path);
    let refused = delete(&url(1, "/v1/kv/p/?prefix"));
    assert_eq!(
        (refused.status, &refused.json["code"]),
        (413, &json!("too_large")),
        "{}",
        refused.json
    );
    assert_eq!(count(&cluster, 0, "p/"), 10_002);

    let half = delete(&url(1, "/v1/kv/p/0/?prefix"));
    assert_eq!(
        (half.status, &half.json["deleted"]),
        (200, &json!(5_001)),
        "{}",
        half.json
    );
    let some = delete(&url(2, "/v1/kv?from=p/1/4990&to=p/1/4992&previous"));
    assert_eq!(some.json["deleted"], 2, "{}", some.json);
    assert_eq!(some.json["previous"][1]["key"], "p/1/4991");
    assert_eq!(
        some.json["revision"].as_u64(),
        half.json["revision"].as_u64().map(|before| before + 1)
    );
    let rest = delete(&url(0, "/v1/kv?prefix=p/"));
    assert_eq!(rest.json["deleted"], 4_999, "{}", rest.json);
    let nothing = delete(&url(0, "/v1/kv?prefix=p/"));
    assert_eq!(
        (&nothing.json["deleted"], &nothing.json["revision"]),
        (&json!(0), &rest.json["revision"])
    );
    for k in 0..3 {
        assert_eq!(count(&cluster, k, ""), 0);
    }

    for (path, expected) in [
        ("/v1/kv/p/?prefix&limit=5", "\"limit\" is not known here"),
        ("/v1/kv?prefix=a&to=b", "exclude each other"),
    ] {
        let refused = delete(&url(0, path));
        assert_eq!(refused.status, 400, "{path}");
        let error = refused.json["error"].as_str().expect("a sentence");
        assert!(error.contains(expected), "{path}: {error}");
    }
}

//! Watches as server-sent events.

use std::io::{BufRead, BufReader};

use serde_json::{Value, json};

use crate::rig::{Cluster, agent, get};

/// One event.
#[derive(Debug)]
struct Event {
    name: String,
    id: Option<u64>,
    data: Value,
}

/// An open stream of events.
struct Stream {
    lines: BufReader<ureq::BodyReader<'static>>,
}

impl Stream {
    fn open(url: &str, last: Option<u64>) -> Stream {
        let mut request = agent().get(url);
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last.to_string());
        }
        let response = request.call().expect("an answer");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert!(response.headers().contains_key("raftkv-revision"));
        Stream {
            lines: BufReader::new(response.into_body().into_reader()),
        }
    }

    fn next(&mut self) -> Option<Event> {
        let mut event = Event {
            name: String::new(),
            id: None,
            data: Value::Null,
        };
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).expect("a line") == 0 {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some(("event", name)) => event.name = name.to_owned(),
                Some(("id", id)) => event.id = Some(id.parse().expect("a revision")),
                Some(("data", data)) => event.data = serde_json::from_str(data).expect("JSON"),
                Some(_) => {}
                None if event.name.is_empty() => {}
                None => return Some(event),
            }
        }
    }

    fn expect(&mut self, name: &str) -> Event {
        let event = self.next().expect("an event");
        assert_eq!(event.name, name, "{event:?}");
        event
    }
}

#[test]
fn changes_come_as_events_and_a_stream_goes_on_behind_the_last_id() {
    let cluster = Cluster::single();
    cluster.wait_ready();
    let url = cluster.url(0, "/v1/watch?prefix=a&previous=true");
    let mut stream = Stream::open(&url, None);
    assert_eq!(stream.expect("progress").id, Some(1));
    cluster.set(0, "a1", "one");
    cluster.set(0, "b1", "other");
    cluster.set(0, "a1", "two");
    let first = stream.expect("put");
    let expected =
        json!({ "key": "a1", "value": "one", "create_revision": 2, "mod_revision": 2, "version": 1 });
    assert_eq!((first.id, first.data), (Some(2), expected));
    drop(stream);
    let mut resumed = Stream::open(&url, Some(2));
    assert_eq!(resumed.expect("progress").id, Some(2));
    let second = resumed.expect("put");
    assert_eq!(second.id, Some(4));
    assert_eq!(second.data["previous"]["value"], "one");
    assert_eq!(second.data["version"], 2);
}

#[test]
fn a_snapshot_comes_first_if_it_is_asked_for() {
    let cluster = Cluster::single();
    cluster.wait_ready();
    cluster.set(0, "a", "1");
    cluster.set(0, "b", "2");
    let url = cluster.url(0, "/v1/watch?from=a&to=c&snapshot=true");
    let mut stream = Stream::open(&url, None);
    assert_eq!(stream.expect("put").data["key"], "a");
    let last = stream.expect("put");
    assert_eq!((last.id, &last.data["key"]), (None, &json!("b")));
    let end = stream.expect("snapshot_end");
    assert_eq!((end.id, end.data), (Some(3), json!({ "revision": 3 })));
    cluster.set(0, "c", "not watched");
    assert_eq!(crate::rig::delete(&cluster.url(0, "/delete?key=a")).status, 200);
    let deleted = stream.expect("delete");
    assert_eq!(
        (deleted.id, deleted.data),
        (Some(5), json!({ "key": "a", "mod_revision": 5 }))
    );
}

#[test]
fn what_is_wrong_is_told_before_the_stream_and_a_stop_within_it() {
    let mut cluster = Cluster::single();
    cluster.wait_ready();
    for (query, code) in [
        ("", "bad_request"),
        ("?prefix=a&start_revision=0", "compacted"),
        ("?prefix=a&start_revision=1&epoch=9", "compacted"),
        ("?key=", "bad_request"),
    ] {
        let answer = get(&cluster.url(0, &format!("/v1/watch{query}")));
        assert_eq!(
            (answer.status, &answer.json["code"]),
            (400, &json!(code)),
            "{query}: {}",
            answer.json
        );
    }
    let mut stream = Stream::open(&cluster.url(0, "/v1/watch?prefix="), None);
    stream.expect("progress");
    cluster.stop(0);
    let end = stream.expect("error");
    assert_eq!(end.data["code"], "no_leader");
    assert!(stream.next().is_none());
}

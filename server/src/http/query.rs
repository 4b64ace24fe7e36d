//! The query part of an address: percent-decoded to bytes.

use std::borrow::Cow;

use bytes::Bytes;
use raftkv_protocol::{Condition, Consistency, Revision};

use super::error::HttpError;

/// What `/get` and `/delete` ask for in the query.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct KeyQuery {
    pub(super) key: Bytes,
    pub(super) condition: Condition,
    pub(super) consistency: Consistency,
}

/// Which parameters a call knows beside `key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accepts {
    KeyAndConsistency,
    KeyAndCondition,
}

/// Reads `key` and what else the call knows; each at most once, and nothing else.
pub(super) fn parse(query: Option<&str>, accepts: Accepts) -> Result<KeyQuery, HttpError> {
    let mut key = None;
    let mut condition = None;
    let (mut consistency, mut max_staleness_ms) = (None, None);
    for (name, value) in parameters(query) {
        let name = decode(name)?;
        match (&*name, accepts) {
            (b"key", _) => once(&mut key, "key", Bytes::from(decode(value)?.into_owned()))?,
            (b"if_revision", Accepts::KeyAndCondition) => {
                once(&mut condition, "if_revision", parse_condition(&decode(value)?)?)?;
            }
            (b"consistency", Accepts::KeyAndConsistency) => {
                once(
                    &mut consistency,
                    "consistency",
                    parse_consistency(&decode(value)?)?,
                )?;
            }
            (b"max_staleness_ms", Accepts::KeyAndConsistency) => {
                once(
                    &mut max_staleness_ms,
                    "max_staleness_ms",
                    parse_staleness(&decode(value)?)?,
                )?;
            }
            _ => {
                let name = String::from_utf8_lossy(&name).into_owned();
                return Err(HttpError::bad_request(format!(
                    "the query parameter {name:?} is not known here; known: {}",
                    accepts.names()
                )));
            }
        }
    }
    let key = key.ok_or_else(|| HttpError::bad_request("the query parameter key is missing: add ?key=K"))?;
    Ok(KeyQuery {
        key,
        condition: condition.unwrap_or(Condition::Always),
        consistency: bounded(consistency.unwrap_or_default(), max_staleness_ms)?,
    })
}

impl Accepts {
    fn names(self) -> &'static str {
        match self {
            Accepts::KeyAndConsistency => "key, consistency, max_staleness_ms",
            Accepts::KeyAndCondition => "key, if_revision",
        }
    }
}

/// What `if_revision` means: 0 stands for "absent".
pub(super) fn condition(if_revision: u64) -> Condition {
    match if_revision {
        0 => Condition::Absent,
        revision => Condition::ModRevision(Revision(revision)),
    }
}

fn parse_consistency(text: &[u8]) -> Result<Consistency, HttpError> {
    match text {
        b"linearizable" => Ok(Consistency::Linearizable),
        b"leader_lease" => Ok(Consistency::LeaderLease),
        b"stale" => Ok(Consistency::Stale),
        _ => Err(HttpError::bad_request(
            "consistency is none of linearizable, leader_lease and stale",
        )),
    }
}

fn parse_staleness(text: &[u8]) -> Result<u64, HttpError> {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| HttpError::bad_request("max_staleness_ms is not a whole number of milliseconds"))
}

/// A bound belongs to a stale read alone.
fn bounded(consistency: Consistency, max_staleness_ms: Option<u64>) -> Result<Consistency, HttpError> {
    match (consistency, max_staleness_ms) {
        (consistency, None) => Ok(consistency),
        (Consistency::Stale, Some(max_staleness_ms)) => Ok(Consistency::StaleWithin { max_staleness_ms }),
        (_, Some(_)) => Err(HttpError::bad_request(
            "max_staleness_ms goes with consistency=stale alone; other reads are never stale",
        )),
    }
}

fn parse_condition(text: &[u8]) -> Result<Condition, HttpError> {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    number.map(condition).ok_or_else(|| {
        HttpError::bad_request(
            "if_revision is not a revision: write a whole number, 0 for 'the key is absent'",
        )
    })
}

fn once<T>(slot: &mut Option<T>, name: &str, value: T) -> Result<(), HttpError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(HttpError::bad_request(format!(
            "the query parameter {name} stands there twice; it is not clear which one is meant"
        ))),
    }
}

/// Names and values as they stand in a query, not decoded.
pub(super) fn parameters(query: Option<&str>) -> impl Iterator<Item = (&str, &str)> {
    let parts = query.unwrap_or_default().split('&');
    parts
        .filter(|part| !part.is_empty())
        .map(|part| part.split_once('=').unwrap_or((part, "")))
}

/// What a part of a query stands for.
pub(super) fn decode(text: &str) -> Result<Cow<'_, [u8]>, HttpError> {
    let is_escape =
        |rest: &[u8]| matches!(rest, [b'%', a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
    let bytes = text.as_bytes();
    let broken = (0..bytes.len()).find(|&at| bytes[at] == b'%' && !is_escape(&bytes[at..]));
    if let Some(at) = broken {
        let rest: String = text.chars().skip_while(|c| *c != '%').take(3).collect();
        return Err(HttpError::bad_request(format!(
            "{rest:?} in the query (byte {at}) is no percent-escape: '%' is followed by two hex digits, a real one is %25"
        )));
    }
    let spaced: Cow<'_, [u8]> = if bytes.contains(&b'+') {
        let space = |byte: &u8| if *byte == b'+' { b' ' } else { *byte };
        Cow::Owned(bytes.iter().map(space).collect())
    } else {
        Cow::Borrowed(bytes)
    };
    Ok(match spaced {
        Cow::Borrowed(bytes) => percent_encoding::percent_decode(bytes).into(),
        Cow::Owned(bytes) => Cow::Owned(percent_encoding::percent_decode(&bytes).collect()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(query: &str) -> Bytes {
        parse(Some(query), Accepts::KeyAndConsistency).expect(query).key
    }

    fn refusal(query: &str, accepts: Accepts) -> String {
        parse(Some(query), accepts).expect_err(query).message().to_owned()
    }

    #[test]
    fn keys_are_decoded_to_bytes() {
        assert_eq!(key("key=a"), "a");
        assert_eq!(key("key=a%20b%2Bc%26d%3De"), "a b+c&d=e");
        assert_eq!(key("key=%00%ff%FE"), &b"\x00\xff\xfe"[..]);
        assert_eq!(key("key=a=b"), "a=b");
        assert_eq!(key("%6Bey=x"), "x");
        assert_eq!(key("key=%25"), "%");
    }

    #[test]
    fn a_plus_is_a_space_as_libraries_write_it() {
        assert_eq!(key("key=a+b"), "a b");
        assert_eq!(key("key=a%2Bb"), "a+b");
        assert_eq!(key("key=+%00+"), &b" \x00 "[..]);
    }

    #[test]
    fn an_empty_key_is_left_to_the_one_place_that_checks_keys() {
        assert_eq!(key("key="), "");
        assert_eq!(key("key"), "");
    }

    #[test]
    fn refusals_name_the_parameter() {
        for (query, expected) in [
            ("", "key is missing"),
            ("key=a&key=b", "key stands there twice"),
            ("key=a&prefix=b", "\"prefix\" is not known"),
            ("key=a&if_revision=1", "\"if_revision\" is not known"),
            ("key=%4", "\"%4\""),
            ("key=%zz", "\"%zz\""),
            ("key=100%", "no percent-escape"),
        ] {
            let message = refusal(query, Accepts::KeyAndConsistency);
            assert!(message.contains(expected), "{query}: {message}");
        }
        let message = refusal("key=a&if_revision=-1", Accepts::KeyAndCondition);
        assert!(message.contains("if_revision is not a revision"), "{message}");
    }

    #[test]
    fn a_read_says_what_it_wants_to_be_promised() {
        let consistency =
            |query: &str| parse(Some(query), Accepts::KeyAndConsistency).map(|query| query.consistency);
        assert_eq!(consistency("key=a").ok(), Some(Consistency::Linearizable));
        assert_eq!(
            consistency("key=a&consistency=leader_lease").ok(),
            Some(Consistency::LeaderLease)
        );
        let bounded = Consistency::StaleWithin { max_staleness_ms: 50 };
        assert_eq!(
            consistency("key=a&max_staleness_ms=50&consistency=stale").ok(),
            Some(bounded)
        );
        for wrong in [
            "consistency=eventual",
            "max_staleness_ms=50",
            "consistency=stale&max_staleness_ms=x",
        ] {
            assert!(consistency(&format!("key=a&{wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn revision_zero_means_absent() {
        let condition = |query| {
            parse(Some(query), Accepts::KeyAndCondition)
                .expect(query)
                .condition
        };
        assert_eq!(condition("key=a"), Condition::Always);
        assert_eq!(condition("key=a&if_revision=0"), Condition::Absent);
        assert_eq!(
            condition("if_revision=7&key=a"),
            Condition::ModRevision(Revision(7))
        );
    }
}

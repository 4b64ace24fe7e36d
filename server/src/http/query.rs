//! The query part of an address: percent-decoded to bytes, each parameter at most once, and none that the call does not know.

use std::borrow::Cow;

use bytes::Bytes;
use raftkv_protocol::LeaseId;

use super::error::HttpError;
use super::parameter::Parameter;

/// The parameters of one request.
#[derive(Debug)]
pub(super) struct Query<'a> {
    values: Vec<(&'static str, Cow<'a, [u8]>)>,
}

impl<'a> Query<'a> {
    /// Reads what stands behind the `?`; `known` is what the call takes.
    pub(super) fn parse(text: Option<&'a str>, known: &[&'static Parameter]) -> Result<Query<'a>, HttpError> {
        let mut query = Query { values: Vec::new() };
        let parameters = text.unwrap_or_default().split('&');
        for parameter in parameters.filter(|part| !part.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let name = decode(name)?;
            let Some(parameter) = known.iter().find(|known| known.name.as_bytes() == &name[..]) else {
                return Err(unknown(&name, known));
            };
            if query.get(parameter).is_some() {
                return Err(HttpError::bad_request(format!(
                    "the query parameter {} stands there twice; it is not clear which one is meant",
                    parameter.name
                )));
            }
            query.values.push((parameter.name, decode(value)?));
        }
        Ok(query)
    }

    /// The bytes of a parameter, if it is there.
    pub(super) fn get(&self, parameter: &Parameter) -> Option<&[u8]> {
        let found = self.values.iter().find(|(name, _)| *name == parameter.name);
        found.map(|(_, value)| &value[..])
    }

    /// The same, to keep.
    pub(super) fn bytes(&self, parameter: &Parameter) -> Option<Bytes> {
        self.get(parameter).map(Bytes::copy_from_slice)
    }

    /// The bytes of a parameter that has to be there.
    pub(super) fn required(&self, parameter: &Parameter) -> Result<Bytes, HttpError> {
        self.bytes(parameter).ok_or_else(|| {
            let name = parameter.name;
            let sign = name[..1].to_uppercase();
            HttpError::bad_request(format!(
                "the query parameter {name} is missing: add ?{name}={sign}"
            ))
        })
    }

    /// A whole number.
    pub(super) fn whole(&self, parameter: &Parameter) -> Result<Option<u64>, HttpError> {
        let Some(value) = self.get(parameter) else {
            return Ok(None);
        };
        match text(value).and_then(|text| text.parse().ok()) {
            Some(number) => Ok(Some(number)),
            None => Err(refused(parameter, "is not a whole number")),
        }
    }

    /// Is the flag set? Its name alone sets it.
    pub(super) fn is_set(&self, parameter: &Parameter) -> Result<bool, HttpError> {
        match self.get(parameter) {
            None | Some(b"false") => Ok(false),
            Some(b"true" | b"") => Ok(true),
            Some(_) => Err(refused(parameter, "is neither true nor false")),
        }
    }

    /// Milliseconds, of a number with its unit.
    pub(super) fn duration_ms(&self, parameter: &Parameter) -> Result<Option<u64>, HttpError> {
        let Some(value) = self.get(parameter) else {
            return Ok(None);
        };
        match text(value).and_then(duration_ms) {
            Some(duration_ms) => Ok(Some(duration_ms)),
            None => Err(refused(
                parameter,
                "is no duration: write a whole number with its unit (ms, s, m, h or d), such as 500ms, 30s or 1h30m",
            )),
        }
    }

    /// The id of a lease.
    pub(super) fn lease(&self, parameter: &Parameter) -> Result<Option<LeaseId>, HttpError> {
        let Some(value) = self.get(parameter) else {
            return Ok(None);
        };
        match text(value).and_then(|text| text.parse().ok()) {
            Some(lease) => Ok(Some(lease)),
            None => Err(refused(
                parameter,
                "is not the id of a lease, which is hexadecimal digits",
            )),
        }
    }

    /// Of those, the first that is there.
    pub(super) fn first_of(&self, parameters: &[&'static Parameter]) -> Option<&'static Parameter> {
        parameters
            .iter()
            .copied()
            .find(|parameter| self.get(parameter).is_some())
    }
}

/// A refusal of a parameter's value.
pub(super) fn refused(parameter: &Parameter, problem: &str) -> HttpError {
    HttpError::bad_request(format!("{} {problem}", parameter.name))
}

fn unknown(name: &[u8], known: &[&'static Parameter]) -> HttpError {
    let name = String::from_utf8_lossy(name);
    if known.is_empty() {
        return HttpError::bad_request(format!(
            "the query parameter {name:?} is not known here; this call takes none"
        ));
    }
    let known: Vec<&str> = known.iter().map(|parameter| parameter.name).collect();
    let known = known.join(", ");
    HttpError::bad_request(format!(
        "the query parameter {name:?} is not known here; known: {known}"
    ))
}

fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok()
}

/// Reads `1h30m` and the like; `None` if it is none, or too long to count.
fn duration_ms(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total_ms = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, behind) = rest.split_at(digits);
        let unit = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit);
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        let part_ms = number.parse::<u64>().ok()?.checked_mul(unit_ms)?;
        total_ms = total_ms.checked_add(part_ms)?;
        rest = behind;
    }
    (!text.is_empty()).then_some(total_ms)
}

/// What a part of a query stands for.
fn decode(text: &str) -> Result<Cow<'_, [u8]>, HttpError> {
    check_escapes(text, "query")?;
    let bytes = text.as_bytes();
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

/// What a part of a path stands for: as in a query, but that `+` is a plus.
pub(super) fn decode_path(text: &str) -> Result<Cow<'_, [u8]>, HttpError> {
    check_escapes(text, "path")?;
    Ok(percent_encoding::percent_decode(text.as_bytes()).into())
}

fn check_escapes(text: &str, place: &str) -> Result<(), HttpError> {
    let is_escape =
        |rest: &[u8]| matches!(rest, [b'%', a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
    let bytes = text.as_bytes();
    let broken = (0..bytes.len()).find(|&at| bytes[at] == b'%' && !is_escape(&bytes[at..]));
    let Some(at) = broken else {
        return Ok(());
    };
    let rest: String = text[at..].chars().take(3).collect();
    Err(HttpError::bad_request(format!(
        "{rest:?} in the {place} (byte {at}) is no percent-escape: '%' is followed by two hex digits, a real one is %25"
    )))
}

#[cfg(test)]
mod tests {
    use super::super::parameter;
    use super::*;

    const KNOWN: &[&Parameter] = &[
        &parameter::KEY,
        &parameter::LIMIT,
        &parameter::REVERSE,
        &parameter::AGO,
        &parameter::LEASE,
    ];

    fn query(text: &str) -> Query<'_> {
        Query::parse(Some(text), KNOWN).expect(text)
    }

    fn key(text: &str) -> Bytes {
        query(text).required(&parameter::KEY).expect(text)
    }

    #[test]
    fn keys_are_decoded_to_bytes() {
        assert_eq!(key("key=a"), "a");
        assert_eq!(key("key=a%20b%2Bc%26d%3De"), "a b+c&d=e");
        assert_eq!(key("key=%00%ff%FE"), &b"\x00\xff\xfe"[..]);
        assert_eq!(key("key=a=b"), "a=b");
        assert_eq!(key("%6Bey=x"), "x");
        assert_eq!(key("key=%25"), "%");
        assert_eq!(decode_path("a+b%2fc").unwrap(), &b"a+b/c"[..]);
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
        for (text, expected) in [
            ("key=a&key=b", "key stands there twice"),
            (
                "key=a&prefix=b",
                "\"prefix\" is not known here; known: key, limit, reverse",
            ),
            ("key=%4", "\"%4\""),
            ("key=%zz", "\"%zz\""),
            ("key=100%", "no percent-escape"),
        ] {
            let error = Query::parse(Some(text), KNOWN).expect_err(text);
            assert!(error.message().contains(expected), "{text}: {}", error.message());
        }
        let missing = query("").required(&parameter::KEY).expect_err("missing");
        assert!(missing.message().ends_with("key is missing: add ?key=K"));
        let none = Query::parse(Some("a=b"), &[]).expect_err("takes none");
        assert!(none.message().contains("takes none"));
    }

    #[test]
    fn values_are_read_strictly() {
        assert_eq!(query("limit=5").whole(&parameter::LIMIT).ok(), Some(Some(5)));
        assert_eq!(query("").whole(&parameter::LIMIT).ok(), Some(None));
        for wrong in [
            "limit=",
            "limit=-1",
            "limit=x",
            "limit=%ff",
            "limit=18446744073709551616",
        ] {
            assert!(query(wrong).whole(&parameter::LIMIT).is_err(), "{wrong}");
        }
        let flag = |text| query(text).is_set(&parameter::REVERSE).ok();
        assert_eq!(
            ["", "reverse", "reverse=true", "reverse=false", "reverse=1"].map(flag),
            [Some(false), Some(true), Some(true), Some(false), None]
        );
        let lease = query("lease=ff").lease(&parameter::LEASE).unwrap();
        assert_eq!(lease, Some(LeaseId(255)));
        assert!(query("lease=x").lease(&parameter::LEASE).is_err());
    }

    #[test]
    fn durations_have_units() {
        for (text, expected_ms) in [
            ("500ms", Some(500)),
            ("30s", Some(30_000)),
            ("1h30m", Some(5_400_000)),
            ("7d", Some(604_800_000)),
            ("0s", Some(0)),
            ("", None),
            ("30", None),
            ("s", None),
            ("1.5s", None),
            ("-1s", None),
            ("1y", None),
            ("\u{e9}", None),
            ("1\u{e9}", None),
            ("18446744073709551615d", None),
        ] {
            assert_eq!(duration_ms(text), expected_ms, "{text}");
        }
    }
}

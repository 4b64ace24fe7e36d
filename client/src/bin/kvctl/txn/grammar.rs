//! From lines of words to a transaction. `kvctl txn --help` describes the grammar.

use std::str::FromStr;

use bytes::Bytes;
use raftkv_client::command_line::parse_duration;
use raftkv_client::{Check, KeySpan, LeaseId, Operation, Relation, Revision, Shape, Target, Transaction};

use super::tokens::{Line, SyntaxError, Token, Word};

/// A transaction, and how the results of its operations are shaped.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) transaction: Transaction,
    pub(super) then: Vec<Shape>,
    pub(super) otherwise: Vec<Shape>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Section {
    If,
    Then,
    Else,
}

impl Section {
    const ALL: [(&'static str, Section); 3] = [
        ("if", Section::If),
        ("then", Section::Then),
        ("else", Section::Else),
    ];
}

/// Reads the whole text.
pub(super) fn parse(text: &[u8]) -> Result<Parsed, SyntaxError> {
    let mut checks = Vec::new();
    let (mut then, mut otherwise) = (Vec::new(), Vec::new());
    let mut section = Section::Then;
    let mut begun: Vec<Section> = Vec::new();
    let mut number = 0;
    for text in text.split(|byte| *byte == b'\n') {
        number += 1;
        let mut line = Line::read(number, text)?;
        if line.is_empty() {
            continue;
        }
        let column = line.column();
        if let Some(next) = header(&mut line) {
            if begun.contains(&next) {
                return Err(line.error(column, "this header stands twice".to_owned()));
            }
            section = next;
            begun.push(next);
            line.end()?;
            continue;
        }
        if begun.is_empty() {
            begun.push(Section::Then);
        }
        match section {
            Section::If => checks.push(check(line)?),
            Section::Then => then.push(operation(line)?),
            Section::Else => otherwise.push(operation(line)?),
        }
    }
    if checks.is_empty() && then.is_empty() && otherwise.is_empty() {
        return Err(SyntaxError {
            line: number.max(1),
            column: 1,
            message: "the text ends, and there is neither a condition nor an operation in it".to_owned(),
        });
    }
    let (then, then_shapes): (Vec<_>, Vec<_>) = then.into_iter().unzip();
    let (otherwise, otherwise_shapes): (Vec<_>, Vec<_>) = otherwise.into_iter().unzip();
    Ok(Parsed {
        transaction: Transaction::new().when(checks).then(then).otherwise(otherwise),
        then: then_shapes,
        otherwise: otherwise_shapes,
    })
}

fn header(line: &mut Line) -> Option<Section> {
    let found = Section::ALL.iter().find(|(name, _)| line.take_keyword(name));
    found.map(|(_, section)| *section)
}

fn check(mut line: Line) -> Result<Check, SyntaxError> {
    let kind = line.take("a condition")?;
    let name = match &kind.word {
        Word::Bare(name) => name.as_str(),
        Word::Quoted(_) => "",
    };
    let check = match name {
        "exists" => Check::exists(target(&mut line)?),
        "absent" => Check::absent(target(&mut line)?),
        "value" => {
            let (target, relation) = (target(&mut line)?, relation(&mut line)?);
            Check::value(target, relation, line.take("a value")?.word.into_bytes())
        }
        "version" => {
            let (target, relation) = (target(&mut line)?, relation(&mut line)?);
            Check::version(target, relation, number(&mut line, "a version")?)
        }
        "create_revision" => {
            let (target, relation) = (target(&mut line)?, relation(&mut line)?);
            Check::create_revision(target, relation, Revision(number(&mut line, "a revision")?))
        }
        "mod_revision" => {
            let (target, relation) = (target(&mut line)?, relation(&mut line)?);
            Check::mod_revision(target, relation, Revision(number(&mut line, "a revision")?))
        }
        "lease" => {
            let (target, relation) = (target(&mut line)?, relation(&mut line)?);
            Check::lease(target, relation, lease_or_none(&mut line)?)
        }
        _ => {
            let message = "this is no condition: one of exists, absent, value, version, create_revision, \
                           mod_revision, lease; or is a header missing, then or else?";
            return Err(line.error(kind.column, message.to_owned()));
        }
    };
    line.end()?;
    Ok(check)
}

fn operation(mut line: Line) -> Result<(Operation, Shape), SyntaxError> {
    let kind = line.take("an operation")?;
    let name = match &kind.word {
        Word::Bare(name) => name.as_str(),
        Word::Quoted(_) => "",
    };
    let mut shape = Shape::Records;
    let operation = match name {
        "put" => put(&mut line)?,
        "increment" => {
            let key = key(&mut line)?;
            let by = match line.is_empty() {
                true => 1,
                false => number(&mut line, "what is added")?,
            };
            Operation::increment(key, by)
        }
        "delete" => {
            let delete = Operation::delete(target(&mut line)?);
            match line.take_keyword("previous") {
                true => delete.with_previous(),
                false => delete,
            }
        }
        "get" => {
            let mut get = Operation::get(target(&mut line)?);
            if line.take_keyword("keys-only") {
                shape = Shape::KeysOnly;
            } else if line.take_keyword("count-only") {
                shape = Shape::CountOnly;
            }
            get = get.shape(shape);
            match line.take_keyword("limit") {
                true => get.limit(number(&mut line, "a limit")?),
                false => get,
            }
        }
        _ => {
            let message =
                "this is no operation: one of put, increment, delete, get; conditions stand under if";
            return Err(line.error(kind.column, message.to_owned()));
        }
    };
    line.end()?;
    Ok((operation, shape))
}

fn put(line: &mut Line) -> Result<Operation, SyntaxError> {
    let key = key(line)?;
    let mut put = Operation::put(key, line.take("a value")?.word.into_bytes());
    if line.take_keyword("ttl") {
        let ttl = line.take("a duration")?;
        put = put.ttl(read(line, &ttl, parse_duration)?);
    } else if line.take_keyword("lease") {
        let id = line.take("a lease")?;
        put = put.lease(read(line, &id, lease)?);
    } else if line.take_keyword("keep-lifetime") {
        put = put.keep_lifetime();
    }
    match line.take_keyword("previous") {
        true => Ok(put.with_previous()),
        false => Ok(put),
    }
}

fn key(line: &mut Line) -> Result<Bytes, SyntaxError> {
    let token = line.take("a key")?;
    let key = token.word.into_bytes();
    match key.is_empty() {
        true => Err(line.error(token.column, "a key is not empty".to_owned())),
        false => Ok(key),
    }
}

/// A key, or keys.
fn target(line: &mut Line) -> Result<Target, SyntaxError> {
    if line.take_keyword("prefix") {
        let prefix = line.take("a prefix")?.word.into_bytes();
        return Ok(KeySpan::prefix(&prefix).into());
    }
    if line.take_keyword("range") {
        let from = line.take("the first key of the range")?.word.into_bytes();
        let end = line.take("the key behind the range")?;
        let span = KeySpan {
            from,
            to: Some(end.word.into_bytes()),
        };
        return match span.is_empty() {
            true => Err(line.error(end.column, "there is no key between the two".to_owned())),
            false => Ok(span.into()),
        };
    }
    key(line).map(Target::Key)
}

fn relation(line: &mut Line) -> Result<Relation, SyntaxError> {
    let token = line.take("one of = != < >")?;
    let relations = [
        ("=", Relation::Equal),
        ("!=", Relation::NotEqual),
        ("<", Relation::Less),
        (">", Relation::Greater),
    ];
    let found = relations.iter().find(|(sign, _)| token.word.is(sign));
    match found {
        Some((_, relation)) => Ok(*relation),
        None => Err(line.error(
            token.column,
            "expected is one of = != < > with spaces around it".to_owned(),
        )),
    }
}

fn number<T: FromStr<Err = std::num::ParseIntError>>(line: &mut Line, what: &str) -> Result<T, SyntaxError> {
    let token = line.take(what)?;
    read(line, &token, |text| {
        let parsed = text.parse();
        parsed.map_err(|error| format!("{text:?} is not {what}: {error}"))
    })
}

fn lease_or_none(line: &mut Line) -> Result<Option<LeaseId>, SyntaxError> {
    let token = line.take("a lease, or none")?;
    match token.word.is("none") {
        true => Ok(None),
        false => read(line, &token, lease).map(Some),
    }
}

fn lease(text: &str) -> Result<LeaseId, String> {
    let parsed = text.parse();
    parsed.map_err(|_| {
        format!("{text:?} is not the id of a lease: hexadecimal digits, as kvctl lease list prints")
    })
}

fn read<T>(line: &Line, token: &Token, parse: impl Fn(&str) -> Result<T, String>) -> Result<T, SyntaxError> {
    let bytes = token.word.clone().into_bytes();
    parse(&String::from_utf8_lossy(&bytes)).map_err(|message| line.error(token.column, message))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_condition_and_operation_is_read() {
        let text = r#"
            if                                   # all of these
              exists a
              absent prefix ""
              value "a b" != "x\ny"
              version a > 3
              create_revision a = 17
              mod_revision range a b < 18
              lease a = 4000000000000001
              lease "prefix" != none
            then
              put k v
              put k2 "" ttl 1.5s previous
              put k3 v lease ff
              put k4 v keep-lifetime
              increment n
              increment n2 -5
              delete k5 previous
              delete prefix p/
            else
              get a
              get prefix p/ keys-only limit 3
              get range a c count-only
        "#;
        let span = |from: &'static str, to: &'static str| KeySpan {
            from: from.into(),
            to: Some(to.into()),
        };
        let transaction = Transaction::new()
            .when([
                Check::exists("a"),
                Check::absent(KeySpan::prefix(b"")),
                Check::value("a b", Relation::NotEqual, "x\ny"),
                Check::version("a", Relation::Greater, 3),
                Check::create_revision("a", Relation::Equal, Revision(17)),
                Check::mod_revision(span("a", "b"), Relation::Less, Revision(18)),
                Check::lease("a", Relation::Equal, Some(LeaseId(0x4000_0000_0000_0001))),
                Check::lease("prefix", Relation::NotEqual, None),
            ])
            .then([
                Operation::put("k", "v"),
                Operation::put("k2", "")
                    .ttl(Duration::from_millis(1500))
                    .with_previous(),
                Operation::put("k3", "v").lease(LeaseId(255)),
                Operation::put("k4", "v").keep_lifetime(),
                Operation::increment("n", 1),
                Operation::increment("n2", -5),
                Operation::delete("k5").with_previous(),
                Operation::delete(KeySpan::prefix(b"p/")),
            ])
            .otherwise([
                Operation::get("a"),
                Operation::get(KeySpan::prefix(b"p/"))
                    .shape(Shape::KeysOnly)
                    .limit(3),
                Operation::get(span("a", "c")).shape(Shape::CountOnly),
            ]);
        let parsed = parse(text.as_bytes()).expect("a transaction");
        assert_eq!(parsed.transaction, transaction);
        assert_eq!(
            parsed.otherwise,
            [Shape::Records, Shape::KeysOnly, Shape::CountOnly]
        );
        assert_eq!(parsed.then.len(), 8);
    }

    #[test]
    fn without_headers_operations_happen_in_any_case() {
        let parsed = parse(b"put k v\n").expect("a transaction");
        let expected = Transaction::new().then([Operation::put("k", "v")]);
        assert_eq!(parsed.transaction, expected);
    }

    #[test]
    fn errors_name_line_and_column_and_what_is_expected() {
        let cases = [
            ("", 1, 1, "neither"),
            ("if\nthen\n", 3, 1, "neither"),
            ("put k", 1, 6, "a value is missing"),
            ("put k v w", 1, 9, "nothing more"),
            ("put \"\" v", 1, 5, "not empty"),
            ("put k v ttl 5", 1, 13, "duration"),
            ("put k v lease x", 1, 15, "hexadecimal"),
            ("increment k much", 1, 13, "much"),
            ("get k limit -1", 1, 13, "-1"),
            ("get range b a", 1, 13, "no key between"),
            ("get", 1, 4, "a key is missing"),
            ("if\n  exists k\n  put k v", 3, 3, "no condition"),
            ("if\n  value k v", 2, 11, "= != < >"),
            ("if\n  value k=v", 2, 12, "= != < >"),
            ("exists k", 1, 1, "no operation"),
            ("\"put\" k v", 1, 1, "no operation"),
            ("then\nput k v\nif\nexists k\nthen", 5, 1, "twice"),
            ("put k v\nthen", 2, 1, "twice"),
            ("if x", 1, 4, "nothing more"),
        ];
        for (text, line, column, expected) in cases {
            let error = parse(text.as_bytes()).expect_err(text);
            assert_eq!((error.line, error.column), (line, column), "{text:?}: {error}");
            assert!(error.to_string().contains(expected), "{text:?}: {error}");
        }
    }
}

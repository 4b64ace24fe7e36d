//! The words of a transaction's text.

use bytes::Bytes;
use thiserror::Error;

use crate::escape::{InvalidEscape, unescaped};

/// What is wrong with a transaction's text, and where. Lines and columns count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}, column {column}: {message}; see kvctl txn --help")]
pub(crate) struct SyntaxError {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) message: String,
}

/// A word, and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) column: usize,
    pub(super) word: Word,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// As it stands; may be a keyword.
    Bare(String),
    /// Between quotes.
    Quoted(Bytes),
}

impl Word {
    pub(super) fn into_bytes(self) -> Bytes {
        match self {
            Word::Bare(text) => text.into(),
            Word::Quoted(bytes) => bytes,
        }
    }

    pub(super) fn is(&self, keyword: &str) -> bool {
        matches!(self, Word::Bare(text) if text == keyword)
    }
}

/// The words of one line that were not taken yet.
#[derive(Debug)]
pub(super) struct Line {
    number: usize,
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    /// Behind the last word.
    end: usize,
}

impl Line {
    /// Reads a line; `number` counts from 1.
    pub(super) fn read(number: usize, text: &[u8]) -> Result<Line, SyntaxError> {
        let text = std::str::from_utf8(text).map_err(|error| {
            let valid = String::from_utf8_lossy(&text[..error.valid_up_to()]);
            SyntaxError {
                line: number,
                column: valid.chars().count() + 1,
                message: "this is not UTF-8; write other bytes as \\xNN between quotes".to_owned(),
            }
        })?;
        let characters: Vec<char> = text.trim_end_matches('\r').chars().collect();
        let mut tokens = Vec::new();
        let mut at = 0;
        while let Some(begin) = next_word(&characters, at) {
            let (word, end) = match characters[begin] {
                '"' => read_quoted(number, &characters, begin)?,
                _ => read_bare(number, &characters, begin)?,
            };
            tokens.push(Token {
                column: begin + 1,
                word,
            });
            at = end;
        }
        Ok(Line {
            number,
            tokens: tokens.into_iter().peekable(),
            end: at + 1,
        })
    }

    pub(super) fn is_empty(&mut self) -> bool {
        self.tokens.peek().is_none()
    }

    /// Where the next word stands, or would.
    pub(super) fn column(&mut self) -> usize {
        self.tokens.peek().map_or(self.end, |token| token.column)
    }

    /// The next word; `what`: what it is to be.
    pub(super) fn take(&mut self, what: &str) -> Result<Token, SyntaxError> {
        let missing = self.error(self.end, format!("{what} is missing"));
        self.tokens.next().ok_or(missing)
    }

    /// Takes this keyword, if it is next.
    pub(super) fn take_keyword(&mut self, keyword: &str) -> bool {
        self.tokens.next_if(|token| token.word.is(keyword)).is_some()
    }

    /// Nothing may follow.
    pub(super) fn end(mut self) -> Result<(), SyntaxError> {
        match self.tokens.next() {
            None => Ok(()),
            Some(token) => Err(self.error(token.column, "nothing more is expected here".to_owned())),
        }
    }

    pub(super) fn error(&self, column: usize, message: String) -> SyntaxError {
        SyntaxError {
            line: self.number,
            column,
            message,
        }
    }
}

/// Where the next word begins; `None`: only a comment follows, or nothing.
fn next_word(characters: &[char], from: usize) -> Option<usize> {
    let behind = characters.get(from..)?;
    let begin = from + behind.iter().position(|character| !character.is_whitespace())?;
    (characters[begin] != '#').then_some(begin)
}

fn read_bare(line: usize, characters: &[char], begin: usize) -> Result<(Word, usize), SyntaxError> {
    let word: String = characters[begin..]
        .iter()
        .take_while(|character| !character.is_whitespace())
        .collect();
    match word.chars().position(|character| matches!(character, '"' | '\\')) {
        None => {
            let end = begin + word.chars().count();
            Ok((Word::Bare(word), end))
        }
        Some(at) => Err(SyntaxError {
            line,
            column: begin + at + 1,
            message: "a quote or a backslash may stand between quotes only: \"...\", as \\\" and \\\\"
                .to_owned(),
        }),
    }
}

fn read_quoted(line: usize, characters: &[char], begin: usize) -> Result<(Word, usize), SyntaxError> {
    let error = |column: usize, message: &str| SyntaxError {
        line,
        column,
        message: message.to_owned(),
    };
    let mut is_escaped = false;
    let length = characters[begin + 1..].iter().position(|&character| {
        let is_end = character == '"' && !is_escaped;
        is_escaped = character == '\\' && !is_escaped;
        is_end
    });
    let length = length.ok_or_else(|| error(begin + 1, "this quote is not closed on its line"))?;
    let end = begin + 1 + length;
    let text: String = characters[begin + 1..end].iter().collect();
    let bytes = unescaped(&text).map_err(|InvalidEscape { at }| {
        error(
            begin + at + 2,
            "this is no escape: one of \\n \\t \\r \\0 \\\\ \\\" \\xNN",
        )
    })?;
    match characters.get(end + 1) {
        Some(character) if !character.is_whitespace() => {
            Err(error(end + 2, "a space is missing behind the quote"))
        }
        Some(_) | None => Ok((Word::Quoted(bytes.into()), end + 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<(usize, Word)> {
        let line = Line::read(1, text.as_bytes()).expect("words");
        line.tokens.map(|token| (token.column, token.word)).collect()
    }

    #[test]
    fn words_are_bare_or_quoted_and_comments_are_none() {
        let bare = |text: &str| Word::Bare(text.to_owned());
        let quoted = |bytes: &'static [u8]| Word::Quoted(Bytes::from_static(bytes));
        assert_eq!(
            words("  put k \"two words\\n\"  # why\r"),
            [(3, bare("put")), (7, bare("k")), (9, quoted(b"two words\n"))]
        );
        assert_eq!(
            words("a#b \"\" \"\\\"\\xff\""),
            [(1, bare("a#b")), (5, quoted(b"")), (8, quoted(b"\"\xff"))]
        );
        assert_eq!(words(" # only this"), []);
        assert_eq!(words("\u{fc} x"), [(1, bare("\u{fc}")), (3, bare("x"))]);
    }

    #[test]
    fn what_is_no_word_is_refused_with_its_column() {
        for (text, column) in [
            (&b"put k \"open"[..], 7),
            (b"put k \"a\\qb\"", 9),
            (b"put k\"v\"", 6),
            (b"put a\\tb", 6),
            (b"put \"k\"v", 8),
            (b"put \xc3\xbc\xff", 6),
        ] {
            let error = Line::read(3, text).expect_err("no words");
            assert_eq!((error.line, error.column), (3, column), "{error}");
        }
    }
}

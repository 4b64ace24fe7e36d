//! Bytes on one line, unmistakably: how listings print keys and values, and how `txn` reads them between quotes.

use std::fmt::{self, Display, Formatter, Write};

/// Bytes as text without tabs and newlines: `\t`, `\n`, `\r`, `\\`, and `\xNN` for other control characters and for what is not
/// UTF-8. Different bytes look different.
pub(crate) fn escaped(bytes: &[u8]) -> impl Display {
    Escaped(bytes)
}

struct Escaped<'a>(&'a [u8]);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '\t' => f.write_str("\\t")?,
                    '\n' => f.write_str("\\n")?,
                    '\r' => f.write_str("\\r")?,
                    '\\' => f.write_str("\\\\")?,
                    // Control characters beyond ASCII have several bytes.
                    character if character.is_control() => {
                        let mut bytes = [0; 4];
                        write_hex(f, character.encode_utf8(&mut bytes).as_bytes())?;
                    }
                    character => f.write_char(character)?,
                }
            }
            write_hex(f, chunk.invalid())?;
        }
        Ok(())
    }
}

fn write_hex(f: &mut Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))
}

/// Why an escape is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidEscape {
    /// Characters before it.
    pub(crate) at: usize,
}

/// Reads back what [`escaped`] writes, and `\"` and `\0` as well.
pub(crate) fn unescaped(text: &str) -> Result<Vec<u8>, InvalidEscape> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut characters = text.chars().enumerate();
    while let Some((at, character)) = characters.next() {
        if character != '\\' {
            bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let mut next = || characters.next().map(|(_, character)| character);
        let byte = match next() {
            Some('t') => Some(b'\t'),
            Some('n') => Some(b'\n'),
            Some('r') => Some(b'\r'),
            Some('0') => Some(0),
            Some('\\') => Some(b'\\'),
            Some('"') => Some(b'"'),
            Some('x') => {
                let mut digit = || next().and_then(|digit| digit.to_digit(16));
                let (high, low) = (digit(), digit());
                high.zip(low)
                    .and_then(|(high, low)| u8::try_from(high * 16 + low).ok())
            }
            Some(_) | None => None,
        };
        bytes.push(byte.ok_or(InvalidEscape { at })?);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_every_kind_are_read_back_as_they_were() {
        let cases: [(&[u8], &str); 5] = [
            (b"plain \xc3\xbc", "plain \u{fc}"),
            (b"a\tb\nc\rd", "a\\tb\\nc\\rd"),
            (b"\\t", "\\\\t"),
            (b"\xff\0\x7f", "\\xff\\x00\\x7f"),
            ("\u{85}".as_bytes(), "\\xc2\\x85"),
        ];
        for (bytes, text) in cases {
            assert_eq!(escaped(bytes).to_string(), text);
            assert_eq!(unescaped(text).as_deref(), Ok(bytes));
        }
        let all: Vec<u8> = (0..=255).collect();
        let text = escaped(&all).to_string();
        assert_eq!(unescaped(&text), Ok(all));
    }

    #[test]
    fn what_is_no_escape_is_refused_with_its_place() {
        for text in ["ab\\q", "ab\\", "ab\\x1", "ab\\xg0"] {
            assert_eq!(unescaped(text), Err(InvalidEscape { at: 2 }), "{text}");
        }
        assert_eq!(unescaped("\\\"\\0").as_deref(), Ok(&b"\"\0"[..]));
    }
}

//! As much RESP as the load speaks: SET and GET, and the INFO that it begins with.

use bytes::{Buf, BytesMut};

/// What a client asked for; keys and values lie at the front of its buffer until they are taken away.
pub(crate) enum Command<'a> {
    Set { key: &'a [u8], value: &'a [u8] },
    Get { key: &'a [u8] },
    Info,
}

/// What is there is no command of these.
#[derive(Debug)]
pub(crate) struct NotUnderstood;

/// Hands over the commands that are there in full, and takes them out of the buffer.
pub(crate) fn take_commands(
    buffer: &mut BytesMut,
    mut take: impl FnMut(Command<'_>),
) -> Result<(), NotUnderstood> {
    let mut rest = &buffer[..];
    let mut taken = 0;
    while let Some(command) = parse(&mut rest)? {
        take(command);
        taken = buffer.len() - rest.len();
    }
    buffer.advance(taken);
    Ok(())
}

/// `None`: not all of it is there.
fn parse<'a>(rest: &mut &'a [u8]) -> Result<Option<Command<'a>>, NotUnderstood> {
    let Some(count) = take_number(rest, b'*')? else {
        return Ok(None);
    };
    let mut words = [&b""[..]; 3];
    for word in words.get_mut(..count).ok_or(NotUnderstood)? {
        let Some(length) = take_number(rest, b'$')? else {
            return Ok(None);
        };
        let Some(bytes) = rest.get(..length + 2) else {
            return Ok(None);
        };
        *word = &bytes[..length];
        *rest = &rest[length + 2..];
    }
    match (count, words) {
        (3, [b"SET", key, value]) => Ok(Some(Command::Set { key, value })),
        (2, [b"GET", key, _]) => Ok(Some(Command::Get { key })),
        (2, [b"INFO", ..]) => Ok(Some(Command::Info)),
        _ => Err(NotUnderstood),
    }
}

fn take_number(rest: &mut &[u8], mark: u8) -> Result<Option<usize>, NotUnderstood> {
    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
        return Ok(None);
    };
    let (line, after) = rest.split_at(end + 1);
    let digits = line
        .strip_prefix(&[mark])
        .and_then(|line| line.strip_suffix(b"\r\n"));
    let number = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    *rest = after;
    number.ok_or(NotUnderstood).map(Some)
}

pub(crate) fn put_done(out: &mut BytesMut) {
    out.extend_from_slice(b"+OK\r\n");
}

pub(crate) fn put_value(out: &mut BytesMut, value: Option<&[u8]>) {
    let Some(value) = value else {
        return out.extend_from_slice(b"$-1\r\n");
    };
    out.extend_from_slice(format!("${}\r\n", value.len()).as_bytes());
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(buffer: &mut BytesMut) -> Vec<String> {
        let mut told = Vec::new();
        take_commands(buffer, |command| {
            told.push(match command {
                Command::Set { key, value } => format!("{} = {}", key.escape_ascii(), value.escape_ascii()),
                Command::Get { key } => key.escape_ascii().to_string(),
                Command::Info => "info".to_owned(),
            });
        })
        .expect("it is understood");
        told
    }

    #[test]
    fn commands_are_taken_once_all_of_them_is_there() {
        let sent = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\n\r\n\0v\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*2\r\n$4\r\nINFO\r\n$6\r\nserver\r\n";
        let expected = ["k = \\r\\n\\x00v", "k", "info"];
        for split in 0..=sent.len() {
            let mut buffer = BytesMut::from(&sent[..split]);
            let mut commands = told(&mut buffer);
            buffer.extend_from_slice(&sent[split..]);
            commands.extend(told(&mut buffer));
            assert_eq!(commands, expected, "in two pieces, the first of {split} bytes");
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for sent in [
            &b"GET k\r\n"[..],
            b"*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n",
            b"*9\r\n$1\r\nk\r\n",
        ] {
            assert!(take_commands(&mut BytesMut::from(sent), |_| ()).is_err());
        }
    }
}

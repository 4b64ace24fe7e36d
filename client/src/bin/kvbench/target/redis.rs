//! One Redis, spoken to in RESP over pipelined connections.
//!
//! Spoken right here, as our own protocol is: a client library that hands each command to a task through a channel costs
//! more than Redis spends on it, and the two share the machine. Redis would seem slower than it is.

mod reply;

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use thiserror::Error;

use super::socket::Socket;
use super::{Answered, Asked, Found, Session, Swapped, Target};
use reply::{Reply, take_reply};

/// Redis has no revisions: a swap compares the value that was read. Values of the load are unique, so it is as exact.
const SWAP: &[u8] =
    b"if redis.call('GET',KEYS[1])==ARGV[1] then redis.call('SET',KEYS[1],ARGV[2]) return 1 end return 0";

/// The same of two keys at once. No value of the load is empty: that stands for a key that does not exist.
const SWAP_BOTH: &[u8] = b"for i=1,2 do if (redis.call('GET',KEYS[i]) or '')~=ARGV[i] then return 0 end end \
for i=1,2 do redis.call('SET',KEYS[i],ARGV[i+2]) end return 1";

/// Where it is. Each connection goes to the next endpoint.
pub(crate) struct Redis {
    endpoints: Vec<String>,
    next: Cell<usize>,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub(crate) enum RedisError {
    #[error("{address}: {source}")]
    Connect { address: String, source: io::Error },
    #[error("the connection is lost: {0}")]
    Lost(#[from] io::Error),
    #[error("an answer is not RESP: it begins with byte {0:#04x}")]
    NotResp(u8),
    #[error("a number in an answer can not be read")]
    NotANumber,
    #[error("an answer came that nothing asked for")]
    Unasked,
    #[error("INFO was not answered as expected")]
    NoInfo,
}

impl Redis {
    pub(crate) fn new(endpoints: &[String]) -> Redis {
        Redis {
            endpoints: endpoints.to_vec(),
            next: Cell::new(0),
        }
    }

    async fn open(&self) -> Result<Socket, RedisError> {
        let turn = self.next.replace(self.next.get() + 1) % self.endpoints.len();
        let address = &self.endpoints[turn];
        Socket::connect(address).await.map_err(|source| {
            let address = address.clone();
            RedisError::Connect { address, source }
        })
    }
}

impl Target for Redis {
    type Session = RedisSession;

    async fn version(&self) -> Result<String, RedisError> {
        let mut socket = self.open().await?;
        write_command(&mut socket.outgoing, &[b"INFO", b"server"]);
        let reply = loop {
            match take_reply(&mut socket.incoming)? {
                Some(reply) => break reply,
                None => socket.drive().await?,
            }
        };
        let Reply::Bulk(Some(text)) = reply else {
            return Err(RedisError::NoInfo);
        };
        let text = String::from_utf8_lossy(&text);
        let version = text.lines().find_map(|line| line.strip_prefix("redis_version:"));
        version
            .map(|version| version.trim().to_owned())
            .ok_or(RedisError::NoInfo)
    }

    async fn connect(&self) -> Result<RedisSession, RedisError> {
        Ok(RedisSession {
            socket: self.open().await?,
            in_flight: VecDeque::new(),
        })
    }
}

/// One connection: answers come in the order of the commands.
pub(crate) struct RedisSession {
    socket: Socket,
    in_flight: VecDeque<(usize, Kind)>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Get,
    Set,
    Swap,
}

impl Session for RedisSession {
    type Error = RedisError;

    fn enqueue(&mut self, slot: usize, _: Duration, asked: Asked<'_>) -> Result<(), &'static str> {
        let out = &mut self.socket.outgoing;
        let kind = match asked {
            Asked::Get { key } => {
                write_command(out, &[b"GET", key]);
                Kind::Get
            }
            Asked::Scan { .. } => return Err("no_scans_of_this_target"),
            Asked::Put { key, value } => {
                write_command(out, &[b"SET", key, value]);
                Kind::Set
            }
            Asked::Swap(Swapped {
                key,
                seen: None,
                value,
            }) => {
                write_command(out, &[b"SET", key, value, b"NX"]);
                Kind::Swap
            }
            Asked::Swap(Swapped {
                key,
                seen: Some(found),
                value,
            }) => {
                write_command(out, &[b"EVAL", SWAP, b"1", key, &found.value, value]);
                Kind::Swap
            }
            Asked::SwapBoth([one, other]) => {
                let [first, second] =
                    [one, other].map(|swapped| swapped.seen.map_or(&b""[..], |found| &found.value));
                let keys = [one.key, other.key];
                write_command(
                    out,
                    &[
                        b"EVAL",
                        SWAP_BOTH,
                        b"2",
                        keys[0],
                        keys[1],
                        first,
                        second,
                        one.value,
                        other.value,
                    ],
                );
                Kind::Swap
            }
            Asked::Grant { .. } | Asked::Attach { .. } | Asked::Revoke { .. } => {
                return Err("no_leases_of_this_target");
            }
        };
        self.in_flight.push_back((slot, kind));
        Ok(())
    }

    fn send(&mut self) -> Result<(), RedisError> {
        Ok(self.socket.send()?)
    }

    async fn drive(&mut self) -> Result<(), RedisError> {
        Ok(self.socket.drive().await?)
    }

    fn next_answer(&mut self) -> Result<Option<(usize, Answered)>, RedisError> {
        let Some(reply) = take_reply(&mut self.socket.incoming)? else {
            return Ok(None);
        };
        let (slot, kind) = self.in_flight.pop_front().ok_or(RedisError::Unasked)?;
        Ok(Some((slot, answered(kind, reply))))
    }
}

fn answered(kind: Kind, reply: Reply) -> Answered {
    match (kind, reply) {
        (Kind::Get, Reply::Bulk(value)) => Answered::Read(value.map(|value| Found {
            value,
            revision: None,
        })),
        (Kind::Set | Kind::Swap, Reply::Simple) | (Kind::Swap, Reply::Integer(1)) => Answered::Written(None),
        (Kind::Swap, Reply::Bulk(None) | Reply::Integer(0)) => Answered::Conflict,
        // Redis checks a command before it executes it.
        (_, Reply::Error) => Answered::Refused("error_reply"),
        (_, Reply::Bulk(_) | Reply::Simple | Reply::Integer(_)) => Answered::Unknown("unexpected_answer"),
    }
}

/// A command as Redis takes it: an array of strings with their lengths in front.
fn write_command(out: &mut BytesMut, parts: &[&[u8]]) {
    write_number(out, b'*', parts.len());
    for part in parts {
        write_number(out, b'$', part.len());
        out.put_slice(part);
        out.put_slice(b"\r\n");
    }
}

fn write_number(out: &mut BytesMut, mark: u8, mut number: usize) {
    let mut digits = [b'0'; 20];
    let mut first = digits.len() - 1;
    loop {
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
        first -= 1;
    }
    out.put_u8(mark);
    out.put_slice(&digits[first..]);
    out.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests;

//! Other protocols, told apart at their first bytes: people will point a browser at the wrong port.

use std::fmt;

/// What bytes that are not ours seem to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// An HTTP request or answer.
    Http,
    /// The begin of a TLS connection.
    Tls,
    /// Something else.
    Unrecognised,
}

impl Foreign {
    /// The foreign protocol that a stream beginning with `first` is known to be, judged by at most four bytes.
    #[must_use]
    pub fn recognise(first: &[u8]) -> Option<Foreign> {
        const HTTP: [&[u8; 4]; 11] = [
            b"GET ", b"POST", b"PUT ", b"DELE", b"HEAD", b"OPTI", b"PATC", b"CONN", b"TRAC", b"PRI ", b"HTTP",
        ];
        let first = first.first_chunk::<4>()?;
        if HTTP.contains(&first) {
            return Some(Foreign::Http);
        }
        // A handshake, or what a server has to say against ours.
        let is_tls = matches!(first[0], 0x15 | 0x16) && first[1] == 3;
        is_tls.then_some(Foreign::Tls)
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Foreign::Http => {
                "got HTTP: the HTTP API has a port of its own (`--http`); this one is for kvctl, client libraries and nodes"
            }
            Foreign::Tls => "got TLS where none was expected: one side is set up for it (`--tls-cert`, `--tls-ca`), and the other is not",
            Foreign::Unrecognised => "got bytes of another protocol: check the address and the port",
        })
    }
}

//! Giving up what has waited for too long.

use raftkv_raft::Time;

use super::Token;

/// One pass over things that wait: which give up now, and when the next one will.
///
/// Waiting lists keep the moment of their earliest give-up and are looked through only when it has come, so that waiting
/// costs nothing while all is well. The moment may be too early (what it stood for was answered since), never too late.
#[derive(Debug)]
pub(super) struct Expiry {
    now: Time,
    /// When the first of those that stay gives up.
    pub(super) until: Time,
    /// Those that give up now.
    pub(super) expired: Vec<Token>,
}

impl Expiry {
    pub(super) fn at(now: Time) -> Expiry {
        Expiry {
            now,
            until: Time::NEVER,
            expired: Vec::new(),
        }
    }

    /// Does something that waits until `gives_up` stay?
    pub(super) fn keeps(&mut self, token: Token, gives_up: Time) -> bool {
        let stays = gives_up > self.now;
        if stays {
            self.until = self.until.min(gives_up);
        } else {
            self.expired.push(token);
        }
        stays
    }
}

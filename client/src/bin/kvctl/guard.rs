//! How a command that `kvctl lock` runs shows that it holds the lock.

use std::ffi::OsString;

use clap::Args;
use raftkv_client::{FencingToken, Revision, Transaction};

use crate::outcome::Trouble;
use crate::output;

/// The environment variables in which `kvctl lock` tells its command what it holds.
pub(crate) const KEY_VARIABLE: &str = "RAFTKV_LOCK_KEY";
pub(crate) const TOKEN_VARIABLE: &str = "RAFTKV_LOCK_TOKEN";

/// Of commands that write.
#[derive(Args, Debug)]
pub(crate) struct Guard {
    /// Only while the lock is held under which kvctl lock runs this
    #[arg(long)]
    pub(crate) guarded: bool,
}

impl Guard {
    /// The transaction, guarded by the lock if that was asked for.
    pub(crate) fn put_on(&self, transaction: Transaction) -> Result<Transaction, Trouble> {
        match self.guarded {
            true => Ok(transaction.guarded_by(&of_environment()?)),
            false => Ok(transaction),
        }
    }
}

fn of_environment() -> Result<FencingToken, Trouble> {
    token(std::env::var_os(KEY_VARIABLE), std::env::var_os(TOKEN_VARIABLE)).ok_or(Trouble::NoGuard)
}

fn token(key: Option<OsString>, revision: Option<OsString>) -> Option<FencingToken> {
    let revision = revision?.to_str()?.parse().ok()?;
    Some(FencingToken::new(
        output::argument_bytes(&key?),
        Revision(revision),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_needs_both_variables() {
        let read =
            |key: Option<&str>, revision: Option<&str>| token(key.map(Into::into), revision.map(Into::into));
        let both = read(Some("lock/0a"), Some("17"));
        assert_eq!(both, Some(FencingToken::new("lock/0a", Revision(17))));
        for (key, revision) in [(None, Some("17")), (Some("k"), None), (Some("k"), Some("x"))] {
            assert_eq!(read(key, revision), None);
        }
    }
}

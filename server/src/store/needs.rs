//! Which keys and ranges a command depends on: their old records decide what it does, or are part of its answer.

use raftkv_protocol::{
    Command, Compare, Condition, Keys, Lifetime, Op, Previous, Shape, Test, Txn, decode_command,
};

/// How much of a key's old record must be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// The record, but for its creation and version.
    Record,
    /// All of it.
    Whole,
}

/// Tells all keys and ranges that `command` depends on, whatever it will turn out to do; some of them several times.
pub(super) fn tell_needs<'a>(command: &Command<'a>, tell: &mut dyn FnMut(Keys<'a>, Need)) {
    match command {
        Command::Put {
            condition: Condition::Always,
            ..
        }
        | Command::Tick
        | Command::KeepHistoryFrom { .. }
        | Command::GrantLease { .. }
        | Command::RenewLeases { .. }
        | Command::RevokeLease { .. }
        | Command::OpenSession { .. }
        | Command::RenewSession { .. }
        | Command::CloseSession { .. }
        // Its records are read off the node's thread, and nothing depends on them.
        | Command::Scrub { .. } => {}
        Command::Put { key, .. } | Command::Delete { key, .. } => tell(Keys::One(key), Need::Record),
        Command::Txn(txn) => tell_needs_of_txn(txn, tell),
        Command::Once { command, .. } => {
            let command = decode_command(command).expect("what is under an idempotency key was checked");
            tell_needs(&command, tell);
        }
    }
}

/// Of both branches: which one runs is known only when the compares are.
fn tell_needs_of_txn<'a>(txn: &Txn<'a>, tell: &mut dyn FnMut(Keys<'a>, Need)) {
    for Compare { keys, test } in &txn.compare {
        let need = match test {
            Test::Exists | Test::Absent | Test::Value(..) | Test::ModRevision(..) | Test::Lease(..) => {
                Need::Record
            }
            Test::Version(..) | Test::CreateRevision(..) => Need::Whole,
        };
        tell(*keys, need);
    }
    for op in txn.then.iter().chain(&txn.otherwise) {
        tell_needs_of_op(op, tell);
    }
}

fn tell_needs_of_op<'a>(op: &Op<'a>, tell: &mut dyn FnMut(Keys<'a>, Need)) {
    match op {
        Op::Put {
            key,
            previous: Previous::Wanted,
            ..
        } => tell(Keys::One(key), Need::Whole),
        Op::Put {
            key,
            lifetime: Lifetime::Kept,
            ..
        }
        | Op::Increment { key, .. } => tell(Keys::One(key), Need::Record),
        Op::Put { .. } => {}
        Op::Delete {
            keys,
            previous: Previous::Unwanted,
        } => tell(*keys, Need::Record),
        Op::Delete {
            keys,
            previous: Previous::Wanted,
        } => tell(*keys, Need::Whole),
        Op::Get {
            keys,
            shape: Shape::CountOnly,
            ..
        } => tell(*keys, Need::Record),
        Op::Get {
            keys,
            shape: Shape::Records | Shape::KeysOnly,
            ..
        } => tell(*keys, Need::Whole),
        Op::Txn(encoded) => tell_needs_of_txn(&nested(encoded), tell),
    }
}

/// A transaction within one.
///
/// # Panics
/// When it does not decode: it was checked with the one around it.
pub(super) fn nested<'a>(encoded: &'a [u8]) -> Txn<'a> {
    Txn::decode(encoded).expect("a nested transaction was checked with the one around it")
}

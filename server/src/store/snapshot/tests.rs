//! Snapshots from one store to another, part by part.

use raftkv_protocol::{Condition, Revision};

use super::*;
use crate::disk::{Disk, DiskFile, SimulatedDisk};
use crate::store::base::{Base, TwinBase};
use crate::store::tests::rig::{Applier, delete, put};
use crate::store::{StoreNumber, companions_in};

fn filled() -> Applier {
    let mut a = Applier::with_overlay(0);
    for number in 0..200_u32 {
        let key = format!("key{:02}", number % 50);
        a.apply(
            0,
            &put(key.as_bytes(), &number.to_be_bytes(), Condition::Always, None),
        );
        if number % 20 == 0 {
            a.freeze();
            a.drain();
        }
    }
    a.put(0, "short-lived", Some(1000));
    a.apply(0, &delete(b"key07", Condition::Always));
    a.freeze();
    a.drain();
    a
}

type Parts = Vec<bytes::Bytes>;

fn parts(a: &Applier) -> Parts {
    let source = a.source().with_parts_of(300);
    let mut position = Position::START;
    let mut parts = Vec::new();
    loop {
        let part = source
            .part(&position)
            .expect("readable")
            .expect("a position of its own");
        let (head, _) = part::decode(part.clone()).expect("intact");
        parts.push(part);
        if head.next == Position::End {
            return parts;
        }
        position = head.next;
    }
}

fn receive(
    a: &Applier,
    parts: impl IntoIterator<Item = bytes::Bytes>,
) -> Option<Box<Received<TwinBase, SimulatedDisk>>> {
    let disk = SimulatedDisk::new(2);
    let mut receiver =
        Receiver::begin(TwinBase::new(), disk, StoreNumber(5), a.source().last()).expect("begun");
    for part in parts {
        match receiver.take(part).expect("a good disk") {
            Taken::Next(_) => {}
            Taken::Whole(received) => return Some(received),
            Taken::Broken(what) => panic!("{what}"),
        }
    }
    None
}

fn rows(base: &TwinBase) -> Vec<(bytes::Bytes, bytes::Bytes)> {
    let view = base.view().expect("readable");
    crate::store::base::BaseView::range(&view, &[], None)
        .map(|row| row.expect("readable"))
        .collect()
}

#[test]
fn what_arrives_is_what_was_sent_history_and_tables_included() {
    let a = filled();
    let received = receive(&a, parts(&a)).expect("whole");
    assert_eq!(rows(&received.base), rows(a.base()));
    let sent = companions_in(&a.base().view().expect("readable")).expect("readable");
    assert_eq!(Some(received.companions), sent);
    assert_eq!(received.tables.deadlines.len(), 1);
    let (ours, theirs) = (a.history().statistics(), received.history.statistics());
    assert_eq!(ours.generations, theirs.generations);
    for revision in 1..=203 {
        let of = |history: &crate::store::history::History<SimulatedDisk>| {
            let slot = history.view().newest_event(b"key03", Revision(revision));
            slot.expect("readable")
        };
        assert_eq!(of(a.history()), of(&received.history), "revision {revision}");
    }
}

#[test]
fn s09_parts_that_are_lost_doubled_damaged_or_out_of_turn_change_nothing() {
    let a = filled();
    let whole = parts(&a);
    let mut noisy = Vec::new();
    for (at, part) in whole.iter().enumerate() {
        let mut damaged = part.to_vec();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        noisy.extend([
            damaged.into(),
            whole[whole.len() - 1 - at].clone(),
            part.clone(),
            part.clone(),
        ]);
    }
    let received = receive(&a, noisy).expect("whole");
    assert_eq!(rows(&received.base), rows(a.base()));
    assert!(
        receive(&a, whole[1..].to_vec()).is_none(),
        "nothing comes of it without the first part"
    );
}

#[test]
fn a_snapshot_is_held_while_drains_and_trims_go_on() {
    let mut a = filled();
    let source = a.source().with_parts_of(300);
    let before = parts(&a);
    for number in 0..100_u32 {
        a.apply(0, &put(b"key03", &number.to_be_bytes(), Condition::Always, None));
        a.freeze();
        a.drain();
    }
    a.history().trim(a.store.revision()).expect("a good disk");
    let mut position = Position::START;
    for part in before {
        assert_eq!(source.part(&position).expect("readable"), Some(part.clone()));
        let (head, _) = part::decode(part).expect("intact");
        position = head.next;
    }
}

#[test]
fn another_snapshot_than_was_offered_is_refused() {
    let a = filled();
    let last = raftkv_raft::EntryId {
        index: a.source().last().index.next(),
        ..a.source().last()
    };
    let mut receiver =
        Receiver::begin(TwinBase::new(), SimulatedDisk::new(2), StoreNumber(2), last).expect("begun");
    let taken: Vec<_> = parts(&a)
        .into_iter()
        .map(|part| receiver.take(part).expect("a good disk"))
        .collect();
    assert!(matches!(taken.last(), Some(Taken::Broken(_))));
}

/// The pieces of the snapshot's first file, read as a sender reads them.
fn send_first_file(a: &Applier) -> Result<(), crate::store::StoreError> {
    let source = a.source();
    let first = Position::File { number: 0, offset: 0 };
    source.part(&first).map(|_| ())
}

#[test]
fn a_damaged_file_is_not_sent() {
    let a = filled();
    let name = a
        .history()
        .view()
        .files(a.source().companions().generation)
        .first()
        .expect("there is history")
        .name();
    let size = a.disk().open(&name).expect("there").len().expect("known");
    send_first_file(&a).expect("it is whole");
    for offset in 0..size {
        a.disk().flip_bit(&name, offset, 3).expect("there");
        if let Ok(()) = send_first_file(&a) {
            // Of what is not in use nothing depends on.
            let (at, file) = (offset, a.disk().open(&name).expect("there"));
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).expect("there");
            assert_eq!(byte, [1 << 3], "byte {at} was in use");
        }
        a.disk().flip_bit(&name, offset, 3).expect("there");
    }
}

#[test]
fn a_damaged_file_that_comes_in_ends_the_snapshot_and_not_the_node() {
    let a = filled();
    let mut receiver = Receiver::begin(
        TwinBase::new(),
        SimulatedDisk::new(2),
        StoreNumber(5),
        a.source().last(),
    )
    .expect("begun");
    for part in parts(&a) {
        let (head, mut body) = part::decode(part)
            .map(|(head, body)| (head, body.to_vec()))
            .expect("intact");
        if let part::Content::Piece { .. } = head.content {
            body[0] ^= 1;
        }
        match receiver.take(part::encode(&head, &body)).expect("a good disk") {
            Taken::Next(_) => {}
            Taken::Whole(_) => panic!("it was damaged"),
            Taken::Broken(_) => return,
        }
    }
    panic!("the damage was not noticed");
}

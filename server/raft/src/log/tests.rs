use super::*;
use crate::{EntryKind, Stamp};

fn index(number: u64) -> Index {
    Index::new(number).unwrap()
}

fn entry(index_number: u64, term: u64) -> Entry {
    Entry {
        id: id(index_number, term),
        kind: EntryKind::Command,
        stamp: Stamp::default(),
        payload: bytes::Bytes::from(vec![0; 36]),
        configuration: None,
    }
}

fn id(index_number: u64, term: u64) -> EntryId {
    EntryId {
        term: Term(term),
        index: index(index_number),
    }
}

fn log_of(terms: &[u64]) -> Log {
    let mut log = Log::restored(id(1, 1), &[], id(1, 1));
    log.append(terms.iter().zip(2..).map(|(term, index)| entry(index, *term)));
    log
}

fn write(log: &mut Log) -> WriteNumber {
    log.start_write(Time(0)).0.number
}

#[test]
fn terms_are_known_by_runs() {
    let log = log_of(&[1, 1, 4, 4, 7]);
    let terms: Vec<u64> = (1..=6).map(|at| log.id_at(index(at)).unwrap().term.0).collect();
    assert_eq!(terms, [1, 1, 1, 4, 4, 7]);
    assert_eq!(log.id_at(index(7)), None);
}

#[test]
fn r24_greatest_id_skips_whole_terms() {
    let log = log_of(&[1, 1, 4, 4, 7]);
    assert_eq!(log.greatest_up_to(index(9), Term(9)), id(6, 7));
    assert_eq!(log.greatest_up_to(index(9), Term(6)), id(5, 4));
    assert_eq!(log.greatest_up_to(index(4), Term(6)), id(4, 4));
    assert_eq!(log.greatest_up_to(index(6), Term(3)), id(3, 1));
    assert_eq!(
        log.greatest_up_to(index(6), Term(0)),
        id(1, 1),
        "the base, when nothing fits"
    );
}

#[test]
fn r35_late_completion_proves_only_what_a_truncation_left() {
    let mut log = log_of(&[1, 1, 1]);
    let old = write(&mut log);
    log.truncate(index(3));
    log.append([entry(3, 2), entry(4, 2)]);
    let (span, entries) = log.start_write(Time(0));
    assert_eq!((span.truncate_from, entries.len()), (Some(index(3)), 2));
    log.finish_writes(old);
    assert_eq!(log.persisted(), index(2));
    log.finish_writes(span.number);
    assert_eq!(log.persisted(), index(4));
}

#[test]
fn r35_three_overwrites_in_the_disk_queue_finish_one_by_one() {
    let mut log = log_of(&[1]);
    let mut numbers = vec![write(&mut log)];
    for term in 2..=4 {
        log.truncate(index(2));
        log.append([entry(2, term)]);
        numbers.push(write(&mut log));
    }
    let newest = numbers.pop().unwrap();
    for number in numbers {
        log.finish_writes(number);
        assert_eq!(
            log.persisted(),
            index(1),
            "{number:?} speaks of an overwritten entry"
        );
    }
    log.finish_writes(newest);
    assert_eq!(log.persisted(), index(2));
}

#[test]
fn a_cut_of_what_was_never_written_is_not_told_to_the_disk() {
    let mut log = log_of(&[1]);
    write(&mut log);
    log.append([entry(3, 1)]);
    log.truncate(index(3));
    assert!(!log.has_unwritten());
    log.append([entry(3, 2)]);
    let (span, entries) = log.start_write(Time(0));
    assert_eq!(span.truncate_from, None);
    assert_eq!(entries, [entry(3, 2)]);
}

#[test]
fn two_cuts_before_one_write_become_the_deeper_one() {
    let mut log = log_of(&[1, 1, 1]);
    write(&mut log);
    log.truncate(index(4));
    log.truncate(index(2));
    log.append([entry(2, 3)]);
    log.truncate(index(2));
    log.append([entry(2, 4), entry(3, 4)]);
    let (span, entries) = log.start_write(Time(0));
    assert_eq!(span.truncate_from, Some(index(2)));
    assert_eq!(entries, [entry(2, 4), entry(3, 4)]);
}

#[test]
fn only_durable_and_applied_entries_leave_the_tail() {
    let mut log = log_of(&[1, 1, 1]);
    log.evict(0, index(4));
    assert_eq!(log.tail_first(), index(2), "nothing is durable");
    let number = write(&mut log);
    log.finish_writes(number);
    log.evict(0, index(2));
    assert_eq!(log.tail_first(), index(3), "the rest is not applied");
    log.evict(1000, index(4));
    assert_eq!(log.tail_first(), index(3), "within the bound");
}

#[test]
fn slices_stop_at_their_limits_but_hold_one_entry() {
    let log = log_of(&[1, 1, 1, 1]);
    let limits = |last, max_entries, max_bytes| Limits {
        last: index(last),
        max_entries,
        max_bytes,
    };
    let count = |limits| log.slice(index(2), limits).unwrap().entries.len();
    assert_eq!(count(limits(9, 9, 10_000)), 4);
    assert_eq!(count(limits(3, 9, 10_000)), 2);
    assert_eq!(count(limits(9, 3, 10_000)), 3);
    assert_eq!(count(limits(9, 9, 200)), 2);
    assert_eq!(count(limits(9, 9, 1)), 1);
    assert!(
        log.slice(index(1), limits(9, 9, 1)).is_none(),
        "the base is not in memory"
    );
    assert!(log.slice(index(6), limits(9, 9, 1)).unwrap().entries.is_empty());
}

#[test]
#[should_panic(expected = "entry 7@1 can not follow 5@1")]
fn r25_a_gap_is_an_invariant_broken() {
    log_of(&[1, 1, 1, 1]).append([entry(7, 1)]);
}

#[test]
#[should_panic(expected = "entry 3@1 can not follow 2@2")]
fn r16_terms_never_fall_along_a_log() {
    log_of(&[2]).append([entry(3, 1)]);
}

//! Known histories, good and bad.

use std::time::{Duration, Instant};

use bytes::Bytes;
use raftkv_protocol::{Condition, Revision};

use super::generated::{Plan, generate};
use super::*;

/// Builds histories on one key, one line an operation.
#[derive(Default)]
struct Script {
    operations: Vec<Operation>,
    key: Bytes,
}

impl Script {
    fn on(key: &'static str) -> Script {
        Script {
            operations: Vec::new(),
            key: Bytes::from(key),
        }
    }

    fn add(mut self, times: (u64, u64), action: Action, outcome: Outcome) -> Script {
        self.operations.push(Operation {
            client: ClientId(u32::try_from(self.operations.len()).expect("short script")),
            key: self.key.clone(),
            action,
            invoked: Moment(times.0),
            ending: Ending::Answered {
                at: Moment(times.1),
                outcome,
            },
        });
        self
    }

    fn unknown(mut self, invoked: u64, action: Action) -> Script {
        self = self.add((invoked, invoked), action, Outcome::NotFound);
        self.operations.last_mut().expect("just added").ending = Ending::Unknown;
        self
    }

    fn put(self, times: (u64, u64), value: &'static str, revision: u64) -> Script {
        self.add(
            times,
            put(value),
            Outcome::Put {
                revision: Revision(revision),
            },
        )
    }

    fn put_if(self, times: (u64, u64), value: &'static str, condition: Condition, revision: u64) -> Script {
        let value = Bytes::from(value);
        self.add(
            times,
            Action::Put { value, condition },
            Outcome::Put {
                revision: Revision(revision),
            },
        )
    }

    fn refused(self, times: (u64, u64), condition: Condition, current: Option<u64>) -> Script {
        let outcome = Outcome::ConditionFailed {
            current: current.map(Revision),
        };
        self.add(
            times,
            Action::Put {
                value: Bytes::from("refused"),
                condition,
            },
            outcome,
        )
    }

    fn get(self, times: (u64, u64), value: &'static str, revision: u64) -> Script {
        let (value, mod_revision) = (Bytes::from(value), Revision(revision));
        self.add(times, Action::Get, Outcome::Found { value, mod_revision })
    }

    fn get_nothing(self, times: (u64, u64)) -> Script {
        self.add(times, Action::Get, Outcome::NotFound)
    }

    fn delete(self, times: (u64, u64), revision: u64) -> Script {
        let revision = Revision(revision);
        self.add(
            times,
            delete(),
            Outcome::Deleted {
                existed: true,
                revision,
            },
        )
    }

    fn delete_nothing(self, times: (u64, u64), revision: u64) -> Script {
        let revision = Revision(revision);
        self.add(
            times,
            delete(),
            Outcome::Deleted {
                existed: false,
                revision,
            },
        )
    }

    fn and(mut self, other: Script) -> Script {
        self.operations.extend(other.operations);
        self
    }

    fn verdict(self) -> Verdict {
        check(&History::new(self.operations), StepLimit::default())
    }

    #[track_caller]
    fn passes(self) {
        if let Err(error) = self.verdict().into_result() {
            panic!("a right history was refused: {error}");
        }
    }

    /// The times of invocation of the window that is reported.
    #[track_caller]
    fn offending(self) -> Vec<u64> {
        match self.verdict() {
            Verdict::Violated(Violation::NotLinearizable { window, .. }) => {
                window.iter().map(|operation| operation.invoked.0).collect()
            }
            other => panic!("expected a history without an order, got {other:?}"),
        }
    }

    #[track_caller]
    fn breaks(self, expected: RevisionRule) {
        match self.verdict() {
            Verdict::Violated(Violation::RevisionsContradict { rule, .. }) => assert_eq!(rule, expected),
            other => panic!("expected a contradiction of revisions, got {other:?}"),
        }
    }
}

fn put(value: &'static str) -> Action {
    Action::Put {
        value: Bytes::from(value),
        condition: Condition::Always,
    }
}

fn delete() -> Action {
    Action::Delete {
        condition: Condition::Always,
    }
}

fn at(revision: u64) -> Condition {
    Condition::ModRevision(Revision(revision))
}

#[test]
fn sequential_history_passes() {
    Script::on("k")
        .get_nothing((0, 1))
        .put((2, 3), "a", 2)
        .get((4, 5), "a", 2)
        .delete((6, 7), 3)
        .get_nothing((8, 9))
        .delete_nothing((10, 11), 3)
        .put((12, 13), "b", 4)
        .get((14, 15), "b", 4)
        .passes();
}

#[test]
fn concurrent_reads_may_see_old_and_new() {
    Script::on("k")
        .put((0, 1), "a", 2)
        .put((2, 20), "b", 3)
        .get((3, 4), "a", 2)
        .get((5, 6), "b", 3)
        .passes();
}

#[test]
fn read_of_an_overwritten_value_is_stale() {
    let window = Script::on("k")
        .put((0, 1), "a", 2)
        .get((2, 3), "a", 2)
        .put((4, 5), "b", 3)
        .get((6, 7), "b", 3)
        .get((8, 9), "a", 2)
        .put((10, 11), "c", 4)
        .offending();
    // The stale read, and one answer that shows the newer state before it.
    assert_eq!(window.len(), 2, "{window:?}");
    assert_eq!(window[1], 8);
}

#[test]
fn reads_must_not_go_back_within_one_write() {
    let window = Script::on("k")
        .put((0, 1), "a", 2)
        .put((2, 20), "b", 3)
        .get((3, 4), "b", 3)
        .get((5, 6), "a", 2)
        .offending();
    // The write stays: whoever reads the report wants to see where the value came from.
    assert_eq!(window, [2, 3, 5]);
}

#[test]
fn acknowledged_write_must_not_be_lost() {
    let window = Script::on("k")
        .put((0, 1), "a", 2)
        .get_nothing((2, 3))
        .offending();
    assert_eq!(window, [0, 2]);
}

#[test]
fn lost_write_shows_under_a_later_one_by_its_revision() {
    // Only the revision tells: "b" was written where "a" should have been at 2.
    Script::on("k")
        .put((0, 1), "a", 2)
        .put((2, 3), "b", 2)
        .breaks(RevisionRule::OneChangeEach);
    Script::on("k")
        .put((0, 1), "a", 3)
        .put((2, 3), "b", 2)
        .breaks(RevisionRule::GrowsInRealTime);
}

#[test]
fn revisions_order_changes_across_keys() {
    let first = Script::on("k").put((0, 1), "a", 5);
    first
        .and(Script::on("l").put((2, 3), "b", 4))
        .breaks(RevisionRule::GrowsInRealTime);
    let first = Script::on("k").put((0, 10), "a", 5);
    first
        .and(Script::on("l").put((2, 3), "b", 5))
        .breaks(RevisionRule::OneChangeEach);
    let first = Script::on("k").put((0, 10), "a", 5);
    first.and(Script::on("l").put((2, 3), "b", 4)).passes();
}

#[test]
fn read_of_a_value_never_written_is_invented() {
    assert_eq!(
        Script::on("k")
            .put((0, 1), "a", 2)
            .get((2, 3), "z", 9)
            .offending(),
        [0, 2]
    );
}

#[test]
fn unknown_put_may_happen_late_or_never() {
    let unknown = || Script::on("k").put((0, 1), "a", 2).unknown(2, put("b"));
    unknown().get((3, 4), "a", 2).passes();
    unknown().get((3, 4), "a", 2).get((5, 6), "b", 3).passes();
    unknown().get((3, 4), "b", 3).get((5, 6), "b", 3).passes();
    unknown()
        .put((3, 4), "c", 4)
        .get((5, 6), "c", 4)
        .get((7, 8), "b", 5)
        .passes();
}

#[test]
fn unknown_put_happens_once_and_not_before_it_was_asked() {
    let window = Script::on("k")
        .unknown(0, put("b"))
        .get((1, 2), "b", 2)
        .put((3, 4), "c", 3)
        .get((5, 6), "b", 4)
        .offending();
    assert!(window.ends_with(&[5]), "{window:?}");
    assert!(
        !Script::on("k")
            .get((1, 2), "b", 2)
            .unknown(3, put("b"))
            .offending()
            .is_empty()
    );
}

#[test]
fn seen_unknown_put_must_stay_seen() {
    let window = Script::on("k")
        .put((0, 1), "a", 2)
        .unknown(2, put("b"))
        .get((3, 4), "b", 3)
        .get((5, 6), "a", 2)
        .offending();
    // The write stays: whoever reads the report wants to see where the value came from.
    assert_eq!(window, [2, 3, 5]);
}

#[test]
fn unknown_delete_may_happen_late_or_never() {
    let unknown = || Script::on("k").put((0, 1), "a", 2).unknown(2, delete());
    unknown().get((3, 4), "a", 2).get_nothing((5, 6)).passes();
    unknown().get((3, 4), "a", 2).get((5, 6), "a", 2).passes();
    // Once it has happened there is no second one.
    let window = unknown()
        .get_nothing((3, 4))
        .put((5, 6), "b", 4)
        .get_nothing((7, 8))
        .offending();
    assert!(window.ends_with(&[7]), "{window:?}");
}

#[test]
fn unknown_change_takes_a_revision_of_its_own() {
    // Between 2 and 4 there is room for the unknown delete at 3; between 2 and 3 there is none.
    let unknown = || Script::on("k").put((0, 1), "a", 2).unknown(2, delete());
    unknown().put_if((3, 4), "b", Condition::Absent, 4).passes();
    assert!(
        !unknown()
            .put_if((3, 4), "b", Condition::Absent, 3)
            .offending()
            .is_empty()
    );
}

#[test]
fn conditions_hold_at_one_moment() {
    Script::on("k")
        .put_if((0, 1), "a", Condition::Absent, 2)
        .refused((2, 3), Condition::Absent, Some(2))
        .put_if((4, 5), "b", at(2), 3)
        .refused((6, 7), at(2), Some(3))
        .delete((8, 9), 4)
        .refused((10, 11), at(3), None)
        .passes();
}

#[test]
fn two_conditional_writes_on_one_revision_can_not_both_succeed() {
    let window = Script::on("k")
        .put((0, 1), "a", 2)
        .put_if((2, 9), "b", at(2), 3)
        .put_if((3, 8), "c", at(2), 4)
        .offending();
    assert_eq!(window, [2, 3]);
}

#[test]
fn condition_that_held_must_not_be_refused() {
    assert!(
        !Script::on("k")
            .put((0, 1), "a", 2)
            .refused((2, 3), at(2), Some(2))
            .offending()
            .is_empty()
    );
    assert!(
        !Script::on("k")
            .refused((2, 3), Condition::Absent, None)
            .offending()
            .is_empty()
    );
}

#[test]
fn failed_and_unanswered_reads_are_absent() {
    let mut recorder = Recorder::default();
    let key = || Bytes::from("k");
    let failed = recorder.invoke(ClientId(1), key(), put("a"), Moment(0));
    recorder.failed(failed);
    recorder.invoke(ClientId(2), key(), Action::Get, Moment(1));
    assert!(recorder.history().operations().is_empty());
    // A trace of what failed is a violation.
    let read = recorder.invoke(ClientId(3), key(), Action::Get, Moment(2));
    let found = Outcome::Found {
        value: Bytes::from("a"),
        mod_revision: Revision(2),
    };
    recorder.answered(read, found, Moment(3));
    assert!(matches!(
        check(&recorder.history(), StepLimit::default()),
        Verdict::Violated(_)
    ));
}

#[test]
fn limit_makes_undecided_which_is_an_error() {
    let history = History::new(Script::on("k").put((0, 1), "a", 2).get((2, 3), "a", 2).operations);
    let verdict = check(&history, StepLimit(1));
    assert!(matches!(verdict, Verdict::Undecided { .. }), "{verdict:?}");
    assert!(verdict.into_result().is_err());
}

#[test]
fn report_names_key_operations_and_answers() {
    let verdict = Script::on("k").put((0, 1), "a", 2).get_nothing((2, 3)).verdict();
    let text = verdict.into_result().expect_err("a lost write").to_string();
    let expected = "\
not linearizable: no order of these 2 operations on key \"k\" explains their answers
  0 .. 1                           client 0   put \"k\" = \"a\"                                    -> done at revision 2
  2 .. 3                           client 1   get \"k\"                                          -> not found";
    assert_eq!(text, expected);
}

#[test]
fn long_histories_are_checked_in_little_time() {
    for (keys, unknown_percent) in [(1, 0), (1, 5), (64, 5), (1000, 20)] {
        let plan = Plan {
            operations: 10_000,
            keys,
            clients: 16,
            unknown_percent,
        };
        let history = generate(plan, 7);
        let start = Instant::now();
        let verdict = check(&history, StepLimit::default());
        let Verdict::Linearizable { steps } = verdict else {
            panic!("{keys} keys, {unknown_percent} % unknown: {verdict:?}");
        };
        let took = start.elapsed();
        println!("{keys} keys, {unknown_percent} % unknown: {steps} steps, {took:?}");
        assert!(
            steps < 500_000,
            "{keys} keys, {unknown_percent} % unknown: {steps} steps"
        );
        assert!(took < Duration::from_secs(20), "{took:?}");
    }
}

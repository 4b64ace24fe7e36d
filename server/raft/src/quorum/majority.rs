//! One set of voters.

use std::collections::BTreeSet;

use crate::NodeId;

/// Voter sets up to this size are judged without allocating; larger ones work and allocate.
const USUAL_VOTERS: usize = 15;

/// The greatest value that a majority has reached; `None` while a majority has none at all.
///
/// The same question serves the commit index (match indices), read rounds (acknowledged rounds) and check-quorum (the
/// times voters were last heard).
pub(crate) fn reached<T: Ord + Copy>(
    voters: &BTreeSet<NodeId>,
    value: impl Fn(NodeId) -> Option<T>,
) -> Option<T> {
    let values = voters.iter().map(|voter| value(*voter));
    if voters.len() <= USUAL_VOTERS {
        let mut few = [None; USUAL_VOTERS];
        for (place, value) in few.iter_mut().zip(values) {
            *place = value;
        }
        middle(&mut few[..voters.len()])
    } else {
        middle(&mut values.collect::<Vec<_>>())
    }
}

/// With n values in descending order, n/2 + 1 of them are at least the one at place n/2.
fn middle<T: Ord + Copy>(values: &mut [Option<T>]) -> Option<T> {
    assert!(!values.is_empty(), "a configuration has at least one voter");
    values.sort_unstable_by(|left, right| right.cmp(left));
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_has_reached_the_lower_middle() {
        let table: &[(&[Option<u64>], Option<u64>)] = &[
            (&[Some(4)], Some(4)),
            (&[None], None),
            (&[Some(4), Some(9)], Some(4)),
            (&[Some(4), None], None),
            (&[Some(4), Some(9), None], Some(4)),
            (&[Some(4), Some(9), Some(7)], Some(7)),
            (&[Some(1), Some(2), Some(3), Some(4)], Some(2)),
            (&[Some(5), None, None, Some(6), Some(7)], Some(5)),
        ];
        for (values, expected) in table {
            let voters = (0..values.len() as u64).map(NodeId).collect();
            assert_eq!(
                reached(&voters, |node| values[usize::try_from(node.0).unwrap()]),
                *expected,
                "{values:?}"
            );
        }
    }

    #[test]
    fn many_voters_are_judged_like_few() {
        for count in 1..40_u64 {
            let voters = (1..=count).map(NodeId).collect();
            let expected = count - count / 2;
            assert_eq!(
                reached(&voters, |node| Some(node.0)),
                Some(expected),
                "{count} voters"
            );
        }
    }
}

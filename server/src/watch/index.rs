//! Which ranges hold a key: an interval tree, balanced as a treap.
//!
//! Nodes are ordered by where their range begins; each knows the range of its subtree that reaches furthest. So a search
//! leaves out what begins behind the key, and subtrees that end before it: O(log n) for each range found. Priorities are
//! a hash of the range's number, so the tree is as balanced as a random one, and the same in every run.

use bytes::Bytes;
use raftkv_protocol::KeySpan;

/// No node.
const NONE: u32 = u32::MAX;

#[derive(Clone, Debug)]
struct Node {
    span: KeySpan,
    number: u32,
    priority: u64,
    left: u32,
    right: u32,
    /// The node of this subtree whose range ends last.
    furthest: u32,
}

/// See the module. Ranges are told apart by number; two may be equal.
#[derive(Clone, Debug)]
pub(super) struct SpanIndex {
    nodes: Vec<Node>,
    free: Vec<u32>,
    root: u32,
}

impl Default for SpanIndex {
    fn default() -> SpanIndex {
        SpanIndex {
            nodes: Vec::new(),
            free: Vec::new(),
            root: NONE,
        }
    }
}

/// Spreads numbers over all 64 bits (splitmix64).
fn priority(number: u32) -> u64 {
    let mut mixed = u64::from(number)
        .wrapping_add(1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Does one end come after the other? `None` is behind all.
fn ends_later(one: Option<&Bytes>, other: Option<&Bytes>) -> bool {
    match (one, other) {
        (None, Some(_)) => true,
        (Some(one), Some(other)) => one > other,
        (_, None) => false,
    }
}

impl SpanIndex {
    /// Adds a range under a number that is not in it.
    pub(super) fn insert(&mut self, span: KeySpan, number: u32) {
        let node = Node {
            span,
            number,
            priority: priority(number),
            left: NONE,
            right: NONE,
            furthest: NONE,
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.nodes[at as usize] = node;
                at
            }
            None => {
                self.nodes.push(node);
                u32::try_from(self.nodes.len() - 1).expect("ranges are bounded far below 2^32")
            }
        };
        self.update(at);
        self.root = self.insert_at(self.root, at);
    }

    /// Removes the range of that number, which is `span`.
    pub(super) fn remove(&mut self, span: &KeySpan, number: u32) {
        self.root = self.remove_at(self.root, span, number);
    }

    /// Tells the number of each range that holds `key`.
    pub(super) fn holding(&self, key: &[u8], found: &mut impl FnMut(u32)) {
        self.search(self.root, key, found);
    }

    fn search(&self, at: u32, key: &[u8], found: &mut impl FnMut(u32)) {
        if at == NONE {
            return;
        }
        let node = &self.nodes[at as usize];
        let furthest = &self.nodes[node.furthest as usize].span;
        if furthest.to.as_ref().is_some_and(|to| &to[..] <= key) {
            return;
        }
        self.search(node.left, key, found);
        if &node.span.from[..] <= key {
            if node.span.contains(key) {
                found(node.number);
            }
            self.search(node.right, key, found);
        }
    }

    fn is_before(&self, one: u32, other: u32) -> bool {
        let (one, other) = (&self.nodes[one as usize], &self.nodes[other as usize]);
        (&one.span.from, one.number) < (&other.span.from, other.number)
    }

    fn update(&mut self, at: u32) {
        let mut furthest = at;
        let node = &self.nodes[at as usize];
        for child in [node.left, node.right] {
            if child == NONE {
                continue;
            }
            let of_child = self.nodes[child as usize].furthest;
            let (one, other) = (
                &self.nodes[of_child as usize].span,
                &self.nodes[furthest as usize].span,
            );
            if ends_later(one.to.as_ref(), other.to.as_ref()) {
                furthest = of_child;
            }
        }
        self.nodes[at as usize].furthest = furthest;
    }

    fn insert_at(&mut self, root: u32, new: u32) -> u32 {
        if root == NONE {
            return new;
        }
        if self.nodes[new as usize].priority > self.nodes[root as usize].priority {
            let (left, right) = self.split(root, new);
            self.nodes[new as usize].left = left;
            self.nodes[new as usize].right = right;
            self.update(new);
            return new;
        }
        if self.is_before(new, root) {
            let left = self.insert_at(self.nodes[root as usize].left, new);
            self.nodes[root as usize].left = left;
        } else {
            let right = self.insert_at(self.nodes[root as usize].right, new);
            self.nodes[root as usize].right = right;
        }
        self.update(root);
        root
    }

    /// Those before `pivot`, and those behind it.
    fn split(&mut self, root: u32, pivot: u32) -> (u32, u32) {
        if root == NONE {
            return (NONE, NONE);
        }
        if self.is_before(root, pivot) {
            let (left, right) = self.split(self.nodes[root as usize].right, pivot);
            self.nodes[root as usize].right = left;
            self.update(root);
            (root, right)
        } else {
            let (left, right) = self.split(self.nodes[root as usize].left, pivot);
            self.nodes[root as usize].left = right;
            self.update(root);
            (left, root)
        }
    }

    fn remove_at(&mut self, root: u32, span: &KeySpan, number: u32) -> u32 {
        if root == NONE {
            return NONE;
        }
        let node = &self.nodes[root as usize];
        let (left, right) = (node.left, node.right);
        match (&span.from, number).cmp(&(&node.span.from, node.number)) {
            std::cmp::Ordering::Equal => {
                self.nodes[root as usize].span = KeySpan::all();
                self.free.push(root);
                return self.merge(left, right);
            }
            std::cmp::Ordering::Less => {
                let left = self.remove_at(left, span, number);
                self.nodes[root as usize].left = left;
            }
            std::cmp::Ordering::Greater => {
                let right = self.remove_at(right, span, number);
                self.nodes[root as usize].right = right;
            }
        }
        self.update(root);
        root
    }

    /// One tree of two, all of `left` before all of `right`.
    fn merge(&mut self, left: u32, right: u32) -> u32 {
        if left == NONE || right == NONE {
            return if left == NONE { right } else { left };
        }
        if self.nodes[left as usize].priority > self.nodes[right as usize].priority {
            let merged = self.merge(self.nodes[left as usize].right, right);
            self.nodes[left as usize].right = merged;
            self.update(left);
            left
        } else {
            let merged = self.merge(left, self.nodes[right as usize].left);
            self.nodes[right as usize].left = merged;
            self.update(right);
            right
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(rng: &mut fastrand::Rng) -> KeySpan {
        let mut end = || {
            let length = rng.usize(0..3);
            Bytes::from((0..length).map(|_| rng.u8(b'a'..b'e')).collect::<Vec<_>>())
        };
        let from = end();
        let to = end();
        match rng.u8(0..4) {
            0 => KeySpan { from, to: None },
            1 => KeySpan::one(&from),
            2 => KeySpan::prefix(&from),
            _ => KeySpan { from, to: Some(to) },
        }
    }

    #[test]
    fn it_finds_what_looking_at_each_range_finds() {
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let mut index = SpanIndex::default();
            let mut plain: Vec<(u32, KeySpan)> = Vec::new();
            for number in 0..60 {
                let span = span(&mut rng);
                index.insert(span.clone(), number);
                plain.push((number, span));
                if rng.u8(0..3) == 0 {
                    let (number, span) = plain.swap_remove(rng.usize(..plain.len()));
                    index.remove(&span, number);
                }
                let key: Vec<u8> = (0..rng.usize(0..4)).map(|_| rng.u8(b'a'..b'f')).collect();
                let mut found = Vec::new();
                index.holding(&key, &mut |number| found.push(number));
                found.sort_unstable();
                let holding = plain.iter().filter(|(_, span)| span.contains(&key));
                let mut expected: Vec<u32> = holding.map(|(number, _)| *number).collect();
                expected.sort_unstable();
                assert_eq!(found, expected, "key {key:?}");
            }
        }
    }

    #[test]
    fn a_key_among_ten_thousand_ranges_is_found_in_few_steps() {
        fn depth(index: &SpanIndex, at: u32) -> usize {
            if at == NONE {
                return 0;
            }
            let node = &index.nodes[at as usize];
            1 + depth(index, node.left).max(depth(index, node.right))
        }
        let mut index = SpanIndex::default();
        for number in 0..10_000_u32 {
            index.insert(KeySpan::one(format!("key{number:06}").as_bytes()), number);
        }
        assert!(depth(&index, index.root) < 50, "{}", depth(&index, index.root));
        let mut found = Vec::new();
        index.holding(b"key004711", &mut |number| found.push(number));
        assert_eq!(found, [4711]);
    }
}

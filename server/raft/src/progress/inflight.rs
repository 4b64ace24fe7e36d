//! The appends under way to one follower, bounded in number and bytes (R77, R78).

use std::collections::VecDeque;

use crate::{Config, Index};

#[derive(Debug, Default)]
pub(crate) struct Inflight {
    /// Last index and size of each append, in the order sent.
    appends: VecDeque<(Index, usize)>,
    size_bytes: usize,
}

impl Inflight {
    pub(crate) fn is_full(&self, config: &Config) -> bool {
        self.appends.len() >= config.max_inflight_appends || self.size_bytes >= config.max_inflight_bytes
    }

    pub(super) fn add(&mut self, last: Index, size_bytes: usize) {
        self.appends.push_back((last, size_bytes));
        self.size_bytes += size_bytes;
    }

    /// Everything up to `matched` has arrived. An append that is durable in part stays under way.
    pub(super) fn free_through(&mut self, matched: Index) {
        while let Some((last, size_bytes)) = self.appends.front() {
            if *last > matched {
                return;
            }
            self.size_bytes -= size_bytes;
            self.appends.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(number: u64) -> Index {
        Index::new(number).unwrap()
    }

    fn config(max_inflight_appends: usize, max_inflight_bytes: usize) -> Config {
        Config {
            max_inflight_appends,
            max_inflight_bytes,
            ..Config::default()
        }
    }

    #[test]
    fn the_window_closes_by_count_and_by_bytes_and_opens_by_acks() {
        let mut inflight = Inflight::default();
        inflight.add(index(3), 10);
        assert!(!inflight.is_full(&config(2, 20)));
        inflight.add(index(5), 10);
        assert!(inflight.is_full(&config(2, 1000)));
        assert!(inflight.is_full(&config(9, 20)));
        inflight.free_through(index(4));
        assert!(!inflight.is_full(&config(2, 20)));
        inflight.free_through(index(5));
        assert!(!inflight.is_full(&config(1, 1)));
    }
}

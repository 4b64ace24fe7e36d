//! In unit tests the process "crashes" between two calls to the real disk: from some call on none works, on the thread that
//! asked for it. What was written before stays, as it does when a process dies and the system lives.

/// Comes first in each call that changes something.
#[cfg(not(test))]
#[inline(always)]
pub(super) const fn call() -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub(crate) use planned::{after, call, never};

#[cfg(test)]
mod planned {
    use std::cell::Cell;
    use std::io;

    thread_local! {
        static CALLS: Cell<u64> = const { Cell::new(0) };
        static LAST: Cell<u64> = const { Cell::new(u64::MAX) };
    }

    /// From now on so many calls of this thread work, and none after them.
    pub(crate) fn after(calls: u64) {
        CALLS.set(0);
        LAST.set(calls);
    }

    /// All calls work again. How many there were since [`after`]?
    pub(crate) fn never() -> u64 {
        LAST.set(u64::MAX);
        CALLS.replace(0)
    }

    /// Comes first in each call that changes something.
    pub(crate) fn call() -> io::Result<()> {
        CALLS.set(CALLS.get() + 1);
        if CALLS.get() > LAST.get() {
            return Err(io::Error::other("the process has crashed"));
        }
        Ok(())
    }
}

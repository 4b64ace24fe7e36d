//! Which threads go first when the processors are all busy.

/// Lowers the calling thread's share of a busy processor to about a third of what a usual thread gets. For work that can wait a
/// moment: who stands behind it is held back evenly by the overlay's bound (`replica/throttle.rs`), while requests that wait
/// behind a drain's long turn are the worst of all latencies.
pub(super) fn let_requests_go_first() {
    const NICE: i32 = 5;
    // Where the system refuses, it is as it would be without.
    let _ = rustix::process::nice(NICE);
}

//! When to stop.

use std::io::Read;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Waits for SIGTERM or SIGINT. Where the system gives no signal handler, for ever: it then stops the process by itself.
pub(super) async fn stop_requested() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::warn!("signals can not be handled on this system: SIGTERM will end the process at once");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Waits for the end of standard input.
pub(super) async fn input_ended() {
    let (ended, wait) = oneshot::channel::<()>();
    let read = move || {
        let mut ignored = [0; 1024];
        while std::io::stdin().read(&mut ignored).is_ok_and(|count| count > 0) {}
        drop(ended);
    };
    // A thread of its own: a blocked read of the runtime's pool would keep the runtime from ending.
    if std::thread::Builder::new()
        .name("input".into())
        .spawn(read)
        .is_ok()
    {
        let _ = wait.await;
    } else {
        std::future::pending::<()>().await;
    }
}

//! What is shown while the load runs, if someone looks.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::work::Work;

/// Twice a second: often enough to see a stall, seldom enough to cost nothing.
const INTERVAL: Duration = Duration::from_millis(500);

/// Shows a line on standard error until it is cancelled; nothing, if that is no terminal.
pub(crate) async fn show<W: Work>(work: Rc<RefCell<W>>) {
    let style = ProgressStyle::with_template("{spinner} {elapsed:>4} {msg}").expect("the template is valid");
    let bar = ProgressBar::new_spinner().with_style(style);
    let _cleared = ClearOnDrop(bar.clone());
    loop {
        tokio::time::sleep(INTERVAL).await;
        bar.set_message(work.borrow_mut().progress(Instant::now()));
        bar.tick();
    }
}

struct ClearOnDrop(ProgressBar);

impl Drop for ClearOnDrop {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

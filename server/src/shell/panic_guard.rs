//! A thread or task that the node can not do without must not vanish silently.

use super::inbox::{Letter, Mailbox};

/// Lives as long as its thread or task does. When a panic ends that, the node stops: without its log thread it would
/// go on for ever and confirm nothing, without the reader it would apply nothing.
pub(crate) struct PanicGuard {
    part: &'static str,
    mailbox: Mailbox,
}

impl PanicGuard {
    /// Watches over `part`, as it is called in the message for the operator.
    pub(super) fn new(part: &'static str, mailbox: Mailbox) -> PanicGuard {
        PanicGuard { part, mailbox }
    }
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.mailbox.send(Letter::Panicked { part: self.part });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters_of(end: impl FnOnce() + Send + 'static) -> Vec<Letter> {
        let mailbox = Mailbox::default();
        let guard = PanicGuard::new("log", mailbox.clone());
        let thread = std::thread::spawn(move || {
            let _guard = guard;
            end();
        });
        // It may have panicked: that is what is tested.
        let _ = thread.join();
        let mut letters = Vec::new();
        mailbox.take_into(&mut letters);
        letters
    }

    #[test]
    fn a_panic_reaches_the_loop_and_a_quiet_end_does_not() {
        let letters = letters_of(|| panic!("on purpose"));
        assert!(matches!(letters[..], [Letter::Panicked { part: "log" }]));
        assert!(letters_of(|| {}).is_empty());
    }
}

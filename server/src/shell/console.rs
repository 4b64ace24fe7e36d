//! What the program says beside its log lines, and its last words.
//!
//! Who reads may be gone (a pipe whose reader ended, a full disk): `println!` then panics, and a store must not fail
//! because nobody listens.

use std::fmt;
use std::io::{self, Write};
use std::panic;

/// A line on standard output.
pub(super) fn tell(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// A line on standard error.
pub fn complain(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// From now on a panic of any thread ends this process at once, after the panic's own message. For programs only: who
/// embeds a server decides that for themselves.
///
/// A panic means that what this process believes is wrong. Without this it would end one thread or one task alone, and
/// leave a node that looks alive to its peers and clients but, say, never writes its log again.
pub fn end_process_on_panic() {
    let say_where = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        say_where(panic);
        complain(format_args!(
            "server: this is a defect of the server, which stops rather than go on with a part of it gone; what it \
             acknowledged is on disk: start it again, and report the lines above"
        ));
        std::process::abort();
    }));
}

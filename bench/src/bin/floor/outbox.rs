//! What is to leave by a connection: sent at once as far as the socket takes it, the rest by a task.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use bytes::{Buf, BytesMut};
use raftkv_tls::Stream;
use tokio::task::spawn_local;

/// One connection's.
pub(crate) struct Outbox {
    stream: Rc<Stream>,
    waiting: RefCell<BytesMut>,
    has_task: Cell<bool>,
}

impl Outbox {
    pub(crate) fn new(stream: Rc<Stream>) -> Rc<Outbox> {
        Rc::new(Outbox {
            stream,
            waiting: RefCell::default(),
            has_task: Cell::new(false),
        })
    }

    /// Adds to what leaves with the next [`Outbox::send`].
    pub(crate) fn add(&self, add: impl FnOnce(&mut BytesMut)) {
        add(&mut self.waiting.borrow_mut());
    }

    /// Sends. Whoever reads from the connection notices when it is lost.
    pub(crate) fn send(self: &Rc<Outbox>) {
        if self.has_task.get() || self.try_send().is_err() || self.waiting.borrow().is_empty() {
            return;
        }
        self.has_task.set(true);
        let outbox = Rc::clone(self);
        spawn_local(async move {
            while !outbox.waiting.borrow().is_empty() {
                if outbox.stream.writable().await.is_err() || outbox.try_send().is_err() {
                    break;
                }
            }
            outbox.has_task.set(false);
        });
    }

    fn try_send(&self) -> io::Result<()> {
        let mut waiting = self.waiting.borrow_mut();
        while !waiting.is_empty() {
            match self.stream.try_write(&waiting) {
                Ok(sent) => waiting.advance(sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Reads what there is; false at the end of the connection.
pub(crate) async fn read(stream: &Stream, buffer: &mut BytesMut) -> io::Result<bool> {
    const READ_BYTES: usize = 64 << 10;
    buffer.reserve(READ_BYTES);
    Ok(stream.read(buffer).await? > 0)
}

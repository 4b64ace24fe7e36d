//! A copy: keeps each batch, says so, applies what is committed.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;

use bytes::{BufMut, BytesMut};
use raftkv_tls::Stream;
use tokio::net::TcpStream;
use tokio::task::spawn_local;

use crate::frames::{Frame, Number, take_frame};
use crate::log::Log;
use crate::map::Map;
use crate::outbox::{Outbox, read};

/// Batches that are not applied yet.
#[derive(Default)]
struct Copy {
    map: Map,
    waiting: VecDeque<Frame>,
}

impl Copy {
    fn take(&mut self, frame: Frame) {
        let committed = frame.committed;
        self.waiting.push_back(frame);
        while let Some(frame) = self.waiting.pop_front_if(|frame| frame.number <= committed) {
            self.map.apply(&frame.records);
        }
    }
}

/// Until the leader is gone.
pub(crate) async fn run(leader: SocketAddr, directory: &Path) -> Result<(), Box<dyn Error>> {
    let log = Log::create(directory)?;
    let stream = TcpStream::connect(leader).await?;
    stream.set_nodelay(true)?;
    let stream = Rc::new(Stream::from(stream));
    let outbox = Outbox::new(Rc::clone(&stream));
    let mut synced = log.synced();
    spawn_local(async move {
        while synced.changed().await.is_ok() {
            let kept: Number = *synced.borrow_and_update();
            outbox.add(|out| out.put_u64_le(kept));
            outbox.send();
        }
    });
    let copy = RefCell::new(Copy::default());
    let mut buffer = BytesMut::new();
    while read(&stream, &mut buffer).await? {
        while let Some(frame) = take_frame(&mut buffer) {
            log.append(frame.number, frame.records.clone());
            copy.borrow_mut().take(frame);
        }
    }
    Ok(())
}

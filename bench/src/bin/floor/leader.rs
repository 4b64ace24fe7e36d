//! Gathers what clients ask, hands it on as batches, answers what two of three have.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::error::Error;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::process::{Child, Command};
use std::rc::Rc;

use bytes::{Buf, Bytes, BytesMut};
use raftkv_tls::Stream;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::spawn_local;

use crate::frames::{KEPT_BYTES, Number, put_header};
use crate::log::Log;
use crate::map::{Map, put_record};
use crate::outbox::{Outbox, read};
use crate::resp::{self, take_commands};

/// Itself and the two others.
const COPIES: usize = 3;

/// What is to be answered once its batch is kept.
struct Answer {
    to: Rc<Outbox>,
    asked: Asked,
}

enum Asked {
    Set,
    /// Where in the batch's keys.
    Get(Range<usize>),
}

/// What came since the last batch.
#[derive(Default)]
struct Gathered {
    records: BytesMut,
    keys: BytesMut,
    answers: Vec<Answer>,
}

/// A batch under way.
struct Batch {
    number: Number,
    records: Bytes,
    keys: BytesMut,
    answers: Vec<Answer>,
}

struct Leader {
    gathered: RefCell<Gathered>,
    /// The last number that each copy keeps, itself first.
    kept: RefCell<[Number; COPIES]>,
    has_news: Notify,
}

/// Until it is killed; the followers go with it.
pub(crate) async fn run(listen: SocketAddr, directory: &Path) -> Result<(), Box<dyn Error>> {
    let log = Log::create(&directory.join("0"))?;
    let (followers, children) = start_followers(directory).await?;
    let leader = Rc::new(Leader {
        gathered: RefCell::default(),
        kept: RefCell::default(),
        has_news: Notify::new(),
    });
    let mut outboxes = Vec::new();
    for (place, stream) in followers.into_iter().enumerate() {
        let stream = Rc::new(Stream::from(stream));
        outboxes.push(Outbox::new(Rc::clone(&stream)));
        spawn_local(hear_follower(Rc::clone(&leader), stream, place + 1));
    }
    let listener = TcpListener::bind(listen).await?;
    let pids: Vec<u32> = std::iter::once(std::process::id())
        .chain(children.iter().map(Child::id))
        .collect();
    println!("ready at {listen}, processes {pids:?}");
    spawn_local(accept(Rc::clone(&leader), listener));
    let mut synced = log.synced();
    let waker = Rc::clone(&leader);
    spawn_local(async move {
        while synced.changed().await.is_ok() {
            waker.keep(0, *synced.borrow_and_update());
        }
    });
    lead(&leader, &log, &outboxes).await
}

async fn lead(leader: &Leader, log: &Log, followers: &[Rc<Outbox>]) -> Result<(), Box<dyn Error>> {
    let mut map = Map::default();
    let mut under_way: VecDeque<Batch> = VecDeque::new();
    let (mut number, mut committed) = (0, 0);
    loop {
        leader.has_news.notified().await;
        let gathered = std::mem::take(&mut *leader.gathered.borrow_mut());
        if !gathered.answers.is_empty() {
            number += 1;
            let records = gathered.records.freeze();
            log.append(number, records.clone());
            for follower in followers {
                follower.add(|out| {
                    put_header(out, number, committed, records.len());
                    out.extend_from_slice(&records);
                });
                follower.send();
            }
            under_way.push_back(Batch {
                number,
                records,
                keys: gathered.keys,
                answers: gathered.answers,
            });
        }
        let mut kept = *leader.kept.borrow();
        kept.sort_unstable();
        committed = kept[COPIES / 2];
        let mut to_send: Vec<Rc<Outbox>> = Vec::new();
        while let Some(batch) = under_way.pop_front_if(|batch| batch.number <= committed) {
            map.apply(&batch.records);
            for answer in batch.answers {
                answer.to.add(|out| match answer.asked {
                    Asked::Set => resp::put_done(out),
                    Asked::Get(key) => resp::put_value(out, map.get(&batch.keys[key])),
                });
                if !to_send.last().is_some_and(|last| Rc::ptr_eq(last, &answer.to)) {
                    to_send.push(answer.to);
                }
            }
        }
        for outbox in to_send {
            outbox.send();
        }
    }
}

impl Leader {
    fn keep(&self, copy: usize, number: Number) {
        self.kept.borrow_mut()[copy] = number;
        self.has_news.notify_one();
    }

    fn gather(&self, from: &Rc<Outbox>, command: &resp::Command<'_>) {
        let mut gathered = self.gathered.borrow_mut();
        let asked = match command {
            resp::Command::Set { key, value } => {
                put_record(&mut gathered.records, key, value);
                Asked::Set
            }
            resp::Command::Get { key } => {
                let start = gathered.keys.len();
                gathered.keys.extend_from_slice(key);
                Asked::Get(start..start + key.len())
            }
            resp::Command::Info => {
                from.add(|out| resp::put_value(out, Some(b"redis_version:floor")));
                return from.send();
            }
        };
        gathered.answers.push(Answer {
            to: Rc::clone(from),
            asked,
        });
    }
}

async fn accept(leader: Rc<Leader>, listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        spawn_local(serve(Rc::clone(&leader), stream));
    }
}

async fn serve(leader: Rc<Leader>, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let stream = Rc::new(Stream::from(stream));
    let outbox = Outbox::new(Rc::clone(&stream));
    let mut buffer = BytesMut::new();
    while matches!(read(&stream, &mut buffer).await, Ok(true)) {
        let understood = take_commands(&mut buffer, |command| leader.gather(&outbox, &command));
        leader.has_news.notify_one();
        if understood.is_err() {
            return eprintln!("a command that is neither SET nor GET");
        }
    }
}

/// Ends the process with the follower's connection: what is measured is three copies.
async fn hear_follower(leader: Rc<Leader>, stream: Rc<Stream>, place: usize) {
    let mut buffer = BytesMut::new();
    while matches!(read(&stream, &mut buffer).await, Ok(true)) {
        let mut kept = None;
        while buffer.len() >= KEPT_BYTES {
            kept = Some(buffer.get_u64_le());
        }
        if let Some(kept) = kept {
            leader.keep(place, kept);
        }
    }
    eprintln!("a follower is gone");
    std::process::exit(1);
}

async fn start_followers(directory: &Path) -> Result<(Vec<TcpStream>, Vec<Child>), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (mut streams, mut children) = (Vec::new(), Vec::new());
    for place in 1..COPIES {
        let child = Command::new(std::env::current_exe()?)
            .arg("--follow")
            .arg(listener.local_addr()?.to_string())
            .arg("--directory")
            .arg(directory.join(place.to_string()))
            .spawn()?;
        children.push(child);
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    Ok((streams, children))
}

//! Many watches of few connections, and one writer: how fast a change reaches all of them.
//!
//! Speaks the protocol itself, as the loads do: a stream per watch would cost more than what it is told.

use std::cell::{Cell, RefCell};
use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use raftkv_client::command_line::{DEFAULT_ENDPOINT, ENDPOINTS_VARIABLE, TlsOptions, parse_duration};
use raftkv_client::connection::Connection;
use raftkv_client::{Client, KeySpan, WatchEvent};
use raftkv_protocol::{
    Address, Answer, PartKind, Request, RequestId, Revision, WatchControl, WatchPart, WatchRequest,
};
use tokio::task::spawn_local;

use crate::cpu::cpu_of;
use crate::recorder::{Latencies, latencies, percentile_us, record};
use crate::trouble::Trouble;

/// How long connecting, beginning all watches, and the last parts may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What each watch may have on its way, bytes of keys and values.
const CREDIT_BYTES: u32 = 1 << 20;

/// Watches that were asked for and have not begun, of one connection.
const ASKED_AT_ONCE: u32 = 1000;

/// What is watched, and what is written.
#[derive(Args, Debug)]
pub(crate) struct WatchArguments {
    /// The server whose watches they are, the first of them; writes find their way
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',', env = ENDPOINTS_VARIABLE,
          default_value = DEFAULT_ENDPOINT)]
    endpoints: Vec<String>,
    /// Watches, all together
    #[arg(long, default_value = "10000")]
    watchers: NonZeroU32,
    /// Connections that they share
    #[arg(long, default_value = "16")]
    connections: NonZeroU32,
    /// What each of them watches
    #[arg(long, value_enum, default_value_t = Spans::Same)]
    spans: Spans,
    /// Writes due per second
    #[arg(long, default_value = "20")]
    rate: NonZeroU32,
    /// How long it writes
    #[arg(long, value_parser = parse_duration, default_value = "10s")]
    duration: Duration,
    /// Length of each value, at least 8: it tells when it was written
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(8..))]
    value_bytes: u64,
    /// The server's process: its memory per watch and its CPU time per event are told
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
    #[command(flatten)]
    tls: TlsOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Spans {
    /// One prefix: each write is told to all of them
    Same,
    /// A key of its own: each write is told to one of them
    Distinct,
}

/// What all connections count together.
#[derive(Debug)]
struct Told {
    begun: Cell<u64>,
    events: Cell<u64>,
    /// Events that came again, or out of order.
    wrong: Cell<u64>,
    latencies: RefCell<Latencies>,
    epoch: Instant,
}

/// A watch.
#[derive(Clone, Copy, Debug)]
struct Watch {
    last: Revision,
    owed_bytes: u64,
}

/// Runs it, and returns what it has to say.
pub(crate) async fn run(arguments: &WatchArguments) -> Result<String, Trouble> {
    let told = Rc::new(Told {
        begun: Cell::new(0),
        events: Cell::new(0),
        wrong: Cell::new(0),
        latencies: RefCell::new(latencies()),
        epoch: Instant::now(),
    });
    let builder = Client::builder().endpoints(&arguments.endpoints);
    let client = arguments
        .tls
        .apply(builder)
        .build()
        .map_err(|error| Trouble::Usage(error.to_string()))?;
    let memory_before = memory(arguments)?;
    let begun = Instant::now();
    let watchers = u64::from(arguments.watchers.get());
    begin_all(arguments, &told).await?;
    wait_until("the watches did not begin", || told.begun.get() >= watchers).await?;
    let took = begun.elapsed();
    let memory_after = memory(arguments)?;
    let cpu_before = cpu(arguments)?;
    let writing = Instant::now();
    let writes = write(arguments, &client, &told).await?;
    let wanted = match arguments.spans {
        Spans::Same => writes * watchers,
        Spans::Distinct => writes,
    };
    wait_until("not every watch was told everything", || {
        told.events.get() >= wanted
    })
    .await?;
    let seconds = writing.elapsed().as_secs_f64();
    let cpu_after = cpu(arguments)?;
    let events = told.events.get();
    let latencies = told.latencies.borrow();
    let mut text = format!(
        "{watchers} watches ({:?}) on {} connections, begun in {:.2} s\n\
         {writes} writes of {} bytes, {events} events told ({:.0} per second), {} again or out of order\n\
         from write to watch: p50 {:.2} ms, p99 {:.2} ms, worst {:.2} ms\n",
        arguments.spans,
        arguments.connections,
        took.as_secs_f64(),
        arguments.value_bytes,
        events as f64 / seconds,
        told.wrong.get(),
        percentile_us(&latencies, 50.0) / 1000.0,
        percentile_us(&latencies, 99.0) / 1000.0,
        percentile_us(&latencies, 100.0) / 1000.0,
    );
    if let (Some(before), Some(after), Some(cpu_before), Some(cpu_after)) =
        (memory_before, memory_after, cpu_before, cpu_after)
    {
        let each = after.saturating_sub(before) as f64 / watchers as f64;
        let cpu = cpu_after.saturating_sub(cpu_before).as_secs_f64() * 1e6 / events.max(1) as f64;
        text += &format!("server: {each:.0} bytes of memory per watch, {cpu:.2} us of CPU per event\n");
    }
    Ok(text)
}

async fn wait_until(what: &str, mut holds: impl FnMut() -> bool) -> Result<(), Trouble> {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        if Instant::now() >= until {
            return Err(Trouble::Unavailable(format!("{what} within {PATIENCE:?}")));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

fn key(number: u64) -> String {
    format!("watched/{number:08}")
}

/// Opens the connections, each with its share of the watches.
async fn begin_all(arguments: &WatchArguments, told: &Rc<Told>) -> Result<(), Trouble> {
    let address = Address::from(arguments.endpoints[0].as_str());
    let tls = arguments.tls.dialler();
    let tls = tls.map_err(|error| Trouble::Usage(error.to_string()))?;
    let (watchers, connections) = (arguments.watchers.get(), arguments.connections.get());
    for connection in 0..connections {
        let numbers: Vec<u32> = (connection..watchers).step_by(connections as usize).collect();
        let opened = Connection::open(address.clone(), tls.as_ref(), PATIENCE).await;
        let opened = opened.map_err(|error| Trouble::Unavailable(error.to_string()))?;
        let spans = arguments.spans;
        let told = told.clone();
        spawn_local(async move {
            if let Err(error) = follow(opened, &numbers, spans, &told).await {
                eprintln!("kvbench: a connection ended: {error}");
            }
        });
    }
    Ok(())
}

async fn follow(
    mut connection: Connection,
    numbers: &[u32],
    spans: Spans,
    told: &Told,
) -> Result<(), Box<dyn std::error::Error>> {
    let watch = Watch {
        last: Revision(0),
        owed_bytes: 0,
    };
    let mut watches = vec![watch; numbers.len()];
    let (mut asked, mut begun) = (0, 0);
    loop {
        while asked < numbers.len() && asked - begun < ASKED_AT_ONCE as usize {
            let span = match spans {
                Spans::Same => KeySpan::prefix(b"watched/"),
                Spans::Distinct => KeySpan::one(key(numbers[asked].into()).as_bytes()),
            };
            let request = Request::Watch(WatchRequest {
                credit_bytes: CREDIT_BYTES,
                ..WatchRequest::new(span)
            });
            connection.enqueue(RequestId(asked as u64), PATIENCE, &request)?;
            asked += 1;
        }
        connection.send()?;
        connection.drive().await?;
        let now = told.epoch.elapsed();
        while let Some((id, response)) = connection.next_response()? {
            let Answer::Watch(part) = response.outcome? else {
                return Err("an answer that is no part of a watch".into());
            };
            let watch = &mut watches[usize::try_from(id.0)?];
            if part.kind == PartKind::Progress {
                begun += 1;
                told.begun.set(told.begun.get() + 1);
            }
            if take(watch, &part, now, told) {
                let bytes = u32::try_from(std::mem::take(&mut watch.owed_bytes))?;
                let credit = Request::WatchControl(WatchControl::Credit { bytes });
                connection.enqueue(id, PATIENCE, &credit)?;
            }
        }
    }
}

/// Counts what a part tells; is it time for more credit?
fn take(watch: &mut Watch, part: &WatchPart, now: Duration, told: &Told) -> bool {
    for event in &part.events {
        told.events.set(told.events.get() + 1);
        if event.revision() <= watch.last {
            told.wrong.set(told.wrong.get() + 1);
        }
        watch.last = event.revision();
        if let WatchEvent::Put { kv, .. } = event
            && let Some(written) = kv.record.value.first_chunk::<8>()
        {
            let written = Duration::from_nanos(u64::from_le_bytes(*written));
            record(&mut told.latencies.borrow_mut(), now.saturating_sub(written));
        }
    }
    watch.owed_bytes += part.credit_bytes();
    watch.owed_bytes * 2 >= u64::from(CREDIT_BYTES)
}

/// Writes at the rate that is due, whether earlier writes are answered or not; how many were acknowledged.
async fn write(arguments: &WatchArguments, client: &Client, told: &Rc<Told>) -> Result<u64, Trouble> {
    let pause = Duration::from_secs(1) / arguments.rate.get();
    let end = Instant::now() + arguments.duration;
    let mut due = tokio::time::Instant::now();
    let mut writes = Vec::new();
    let value_bytes = usize::try_from(arguments.value_bytes).unwrap_or(usize::MAX);
    for number in 0_u64.. {
        if Instant::now() >= end {
            break;
        }
        tokio::time::sleep_until(due).await;
        due += pause;
        let nanos = u64::try_from(told.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut value = nanos.to_le_bytes().to_vec();
        value.resize(value_bytes, b'.');
        let (client, key) = (client.clone(), key(number % u64::from(arguments.watchers.get())));
        writes.push(spawn_local(async move { client.set(key, value).await }));
    }
    let count = writes.len() as u64;
    for write in writes {
        let written = write
            .await
            .map_err(|error| Trouble::Unavailable(error.to_string()))?;
        written.map_err(|error| Trouble::Unavailable(error.to_string()))?;
    }
    Ok(count)
}

fn cpu(arguments: &WatchArguments) -> Result<Option<Duration>, Trouble> {
    let read = |pid| cpu_of(pid).map_err(|source| Trouble::Cpu { pid, source });
    arguments.server_pid.map(read).transpose()
}

/// Resident memory of the server, bytes.
fn memory(arguments: &WatchArguments) -> Result<Option<u64>, Trouble> {
    let Some(pid) = arguments.server_pid else {
        return Ok(None);
    };
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    let status = status.map_err(|source| Trouble::Cpu { pid, source })?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    Ok(kib.map(|kib| kib * 1024))
}

//! A benchmark from begin to end: preload, measurement, reading back.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::cpu::Meter;
use crate::driver::{Driver, Pace};
use crate::ledger::Ledger;
use crate::load::Encoding;
use crate::machine::Machine;
use crate::measured::Measured;
use crate::once::{History, Preload, Verify};
use crate::pacer::Pacer;
use crate::progress;
use crate::report::Report;
use crate::schedule::Schedule;
use crate::settings::{Length, Settings};
#[cfg(feature = "etcd")]
use crate::target::Etcd;
#[cfg(feature = "redis")]
use crate::target::Redis;
use crate::target::{Http, Native, Target, TargetName};
use crate::trouble::Trouble;
use crate::work::Work;

/// Requests in flight while keys are written or read once, if there are fewer clients: nothing is measured there.
const BULK_CLIENTS: usize = 256;

/// Runs within a `LocalSet`.
pub(crate) async fn run(settings: Settings) -> Result<Report, Trouble> {
    let (endpoints, route, promise) = (&settings.endpoints, settings.route, settings.promise);
    match settings.target {
        TargetName::Native => {
            let native = Native::new(endpoints, route, promise, settings.writes, &settings.tls);
            let native = native.map_err(|error| Trouble::Usage(error.to_string()))?;
            measure(native, settings).await
        }
        TargetName::Http => measure(Http::new(endpoints, route), settings).await,
        #[cfg(feature = "etcd")]
        TargetName::Etcd => measure(Etcd::new(endpoints, route, promise), settings).await,
        #[cfg(feature = "redis")]
        TargetName::Redis => measure(Redis::new(endpoints), settings).await,
    }
}

async fn measure<T: Target + 'static>(target: T, settings: Settings) -> Result<Report, Trouble> {
    let target = Rc::new(target);
    let version = target.version().await;
    let server_version = version.map_err(|error| Trouble::Unavailable(error.to_string()))?;

    let ledger = settings
        .verify
        .then(|| Ledger::new(settings.keys, settings.target.order()));
    let mut history = History::new(ledger);
    let bulk = Settings {
        clients: settings.clients.max(BULK_CLIENTS),
        ..settings.clone()
    };
    if settings.preload {
        let (preload, _) = drive(&target, Preload::new(&settings, history), &bulk, None).await?;
        history = preload.finish()?;
    }

    let begin = Instant::now() + settings.warmup;
    let end = match settings.length {
        Length::Time(duration) => Some(begin + duration),
        Length::Operations(_) => None,
    };
    let meter = Meter::run(settings.server_pids.clone(), begin, end);
    let work = Measured::new(&settings, history, begin);
    let measuring = drive(&target, work, &settings, settings.rate);
    let ((measured, paces), meter) = tokio::try_join!(measuring, meter)?;
    let cpu = meter.spent()?;
    let measurement = measured.finish();

    let unstarted = paces.iter().map(|pace| unstarted(pace, end)).sum();
    let ledger = match measurement.history.ledger {
        Some(ledger) => Some(verify(&target, &bulk, ledger).await?),
        None => None,
    };
    Ok(Report {
        settings,
        server_version,
        machine: Machine::here(),
        recorder: measurement.recorder,
        series: measurement.series,
        elapsed: measurement.elapsed,
        cpu,
        unstarted,
        ledger,
    })
}

/// Operations of an open loop for which there was no free client before the end.
fn unstarted(pace: &Pace, end: Option<Instant>) -> u64 {
    match (pace, end) {
        (Pace::Open { schedule, .. }, Some(end)) => schedule.untaken_before(end),
        (Pace::Open { .. }, None) | (Pace::Closed, _) => 0,
    }
}

async fn verify<T: Target + 'static>(
    target: &Rc<T>,
    bulk: &Settings,
    ledger: Ledger,
) -> Result<Ledger, Trouble> {
    let (verify, _) = drive(target, Verify::new(bulk, ledger), bulk, None).await?;
    verify.finish()
}

/// Spreads work over the connections, and waits until it is done.
async fn drive<T: Target + 'static, W: Work + 'static>(
    target: &Rc<T>,
    work: W,
    settings: &Settings,
    rate: Option<std::num::NonZeroU32>,
) -> Result<(W, Vec<Pace>), Trouble> {
    let work = Rc::new(RefCell::new(work));
    let begin = Instant::now();
    let pacer = rate.map(|rate| (rate, Pacer::start(begin, rate, settings.connections)));
    let mut drivers = JoinSet::new();
    for index in 0..settings.connections {
        let pace = match &pacer {
            None => Pace::Closed,
            Some((rate, pacer)) => Pace::Open {
                schedule: Schedule::new(begin, *rate, index, settings.connections),
                due: pacer.due(index),
            },
        };
        let clients = share(settings.clients, settings.connections, index);
        let (target, work) = (Rc::clone(target), Rc::clone(&work));
        let driver = Driver::new(
            target,
            work,
            Encoding::new(settings),
            pace,
            clients,
            settings.timeout,
        );
        drivers.spawn_local(driver.run());
    }
    let mut shown = JoinSet::new();
    shown.spawn_local(progress::show(Rc::clone(&work)));
    let mut paces = Vec::new();
    while let Some(ended) = drivers.join_next().await {
        paces.push(ended.expect("a driver neither panics nor is cancelled")?);
    }
    shown.shutdown().await;
    let work = Rc::into_inner(work).expect("all who shared it have ended");
    Ok((work.into_inner(), paces))
}

/// How many of `clients` connection `index` carries.
fn share(clients: usize, connections: usize, index: usize) -> usize {
    clients / connections + usize::from(index < clients % connections)
}

/// Operations per second, or anything else per second.
pub(crate) fn per_second(count: u64, elapsed: Duration) -> f64 {
    match elapsed.is_zero() {
        true => 0.0,
        false => count as f64 / elapsed.as_secs_f64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_has_a_connection() {
        for (clients, connections) in [(1, 1), (16, 16), (17, 16), (1000, 7)] {
            let shares: Vec<usize> = (0..connections)
                .map(|index| share(clients, connections, index))
                .collect();
            assert_eq!(shares.iter().sum::<usize>(), clients);
            assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1);
        }
    }
}

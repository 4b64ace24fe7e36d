//! How long nobody can write after the leader's end.

use std::time::{Duration, Instant};

use raftkv_client::command_line::TlsOptions;
use raftkv_client::{Client, Error, Writes};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::store::Running;
use crate::settings::{Promise, Route, WriteOnce};
use crate::target::Native;
use crate::trouble::Trouble;

/// Between two attempts to write: the resolution of the result.
const ATTEMPT_EVERY: Duration = Duration::from_millis(5);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
const GIVE_UP: Duration = Duration::from_secs(30);

/// After a node came back: it catches up, and the cluster is as it was.
const REST: Duration = Duration::from_secs(1);

/// The gap of each trial.
pub(super) async fn gaps(running: &mut Running, trials: u32) -> Result<Vec<Duration>, Trouble> {
    let mut gaps = Vec::new();
    for _ in 0..trials {
        gaps.push(gap(running).await?);
        running.wait_until_ready().await?;
        sleep(REST).await;
    }
    Ok(gaps)
}

/// Kills the leader, and starts it anew once a write was acknowledged without it.
async fn gap(running: &mut Running) -> Result<Duration, Trouble> {
    let unavailable = |error: &dyn std::error::Error| Trouble::Unavailable(error.to_string());
    let endpoints = running.endpoints();
    let native = Native::new(
        &endpoints,
        Route::Leader,
        Promise::Linearizable,
        WriteOnce::AtMostOnce,
        &TlsOptions::default(),
    );
    let native = native.map_err(|error| unavailable(&error))?;
    let leader = native
        .leader()
        .await
        .map_err(|error| unavailable(&error))?
        .to_string();
    let survivors = endpoints.into_iter().filter(|address| *address != leader);
    let clients = survivors.map(client).collect::<Result<Vec<_>, _>>();
    let clients = clients.map_err(|error| unavailable(&error))?;
    for client in &clients {
        // They are connected when it counts.
        write(client.clone()).await.map_err(|error| unavailable(&error))?;
    }
    let node = running.node_at(&leader);
    let node =
        node.ok_or_else(|| Trouble::Unavailable(format!("the leader {leader} is none of the nodes")))?;
    let begin = Instant::now();
    node.kill();
    let gap = first_write(&clients, begin).await?;
    node.restart()?;
    Ok(gap)
}

fn client(address: String) -> Result<Client, Error> {
    let once = std::num::NonZeroUsize::MIN;
    Client::builder()
        .writes(Writes::AtMostOnce)
        .endpoints([address])
        .attempts(once)
        .timeout(ATTEMPT_TIMEOUT)
        .build()
}

async fn write(client: Client) -> Result<(), Error> {
    client.set("fail-over", "written").await.map(drop)
}

/// Tries again and again, each survivor in turn, without waiting for attempts before: one that hangs must not count.
async fn first_write(clients: &[Client], begin: Instant) -> Result<Duration, Trouble> {
    let mut ticks = interval(ATTEMPT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut attempts = JoinSet::new();
    let mut turn = clients.iter().cycle();
    loop {
        tokio::select! {
            Some(Ok(Ok(()))) = attempts.join_next() => return Ok(begin.elapsed()),
            _ = ticks.tick() => {
                if let Some(client) = turn.next() {
                    attempts.spawn_local(write(client.clone()));
                }
            }
        }
        if begin.elapsed() > GIVE_UP {
            return Err(Trouble::NoFailOver { after: GIVE_UP });
        }
    }
}

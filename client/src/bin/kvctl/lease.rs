//! `kvctl lease`

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use raftkv_client::command_line::parse_duration;
use raftkv_client::{Client, Lease, LeaseId, LeaseState};
use serde_json::{Map, Value, json};

use crate::arguments::{Format, Options};
use crate::escape::escaped;
use crate::outcome::{Outcome, Trouble};
use crate::output::{self, Printed};
use crate::running::signals::Signals;
use crate::table::Table;

/// Leases: keys that hang on one are deleted when it ends
#[derive(Args, Debug)]
pub(crate) struct LeaseArguments {
    #[command(subcommand)]
    pub(crate) action: Action,
}

/// Ids are hexadecimal.
#[derive(Subcommand, Debug)]
pub(crate) enum Action {
    /// Makes a lease and prints its id
    Grant {
        /// How long it lives without renewal, such as 30s
        #[arg(value_name = "TTL", value_parser = parse_duration)]
        ttl: Duration,
    },
    /// Lets it live its whole time again
    Renew {
        /// Its id
        id: LeaseId,
    },
    /// Ends it, and deletes the keys that hang on it
    Revoke {
        /// Its id
        id: LeaseId,
    },
    /// Prints a line with its id, its time to live, how much of that is left and how many keys hang on it; then a line per key
    Get {
        /// Its id
        id: LeaseId,
    },
    /// Prints such a line for every lease
    List,
    /// Renews it in time, again and again, until it is interrupted or the lease has ended
    KeepAlive {
        /// Its id
        id: LeaseId,
    },
}

impl LeaseArguments {
    pub(crate) async fn run(&self, options: &Options) -> Result<Outcome, Trouble> {
        let client = options.client()?;
        match self.action {
            Action::Grant { ttl } => {
                let lease = client.grant_lease(ttl).await?;
                output::write_change(&granted(options.output, lease))?;
                Ok(Outcome::Done)
            }
            Action::Renew { id } => match client.renew_lease(id).await? {
                Some(ttl) => {
                    output::write_change(&renewed(options.output, Lease { id, ttl }))?;
                    Ok(Outcome::Done)
                }
                None => Ok(unknown(id)),
            },
            Action::Revoke { id } => {
                let deleted = client.revoke_lease(id).await?;
                output::write_change(&revoked(options.output, id, deleted))?;
                Ok(Outcome::Done)
            }
            Action::Get { id } => match client.lease(id).await? {
                Some(state) => {
                    output::write(&one(options.output, &state))?;
                    Ok(Outcome::Done)
                }
                None => Ok(unknown(id)),
            },
            Action::List => list(&client, options.output).await,
            Action::KeepAlive { id } => keep_alive(&options.lasting_client()?, id, options.output).await,
        }
    }
}

fn unknown(id: LeaseId) -> Outcome {
    eprintln!("kvctl: there is no lease {id}: it was revoked or has expired");
    Outcome::NotFound
}

async fn list(client: &Client, format: Format) -> Result<Outcome, Trouble> {
    let mut printed = Printed::default();
    let mut table = header();
    let mut documents = Vec::new();
    let mut after = LeaseId(0);
    loop {
        let leases = client.leases(after).await?;
        let Some(last) = leases.last() else { break };
        after = last.id;
        for lease in &leases {
            match format {
                Format::Text => printed.push(&line(lease)),
                Format::Table => table.push(row(lease)),
                Format::Json => documents.push(Value::Object(document(lease))),
            }
        }
        printed.write_full()?;
    }
    match format {
        Format::Text => {}
        Format::Table => printed.push(&table.take()),
        Format::Json => printed.push(&output::document(&json!({ "leases": documents }))),
    }
    printed.write()?;
    Ok(Outcome::Done)
}

async fn keep_alive(client: &Client, id: LeaseId, format: Format) -> Result<Outcome, Trouble> {
    // Heard from the first line on that is printed.
    let mut signals = Signals::listen().map_err(Trouble::Runtime)?;
    let begun = Instant::now();
    let Some(ttl) = client.renew_lease(id).await? else {
        return Ok(unknown(id));
    };
    let lease = Lease { id, ttl };
    let kept = client.keep_alive(lease, begun);
    output::write_change(&renewed(format, lease))?;
    tokio::select! {
        _asked = signals.next() => return Ok(Outcome::Done),
        () = kept.lost() => {}
    }
    match client.lease(id).await {
        Ok(None) => Ok(unknown(id)),
        Ok(Some(_)) | Err(_) => Err(Trouble::LeaseLost { lease: id }),
    }
}

fn granted(format: Format, lease: Lease) -> Vec<u8> {
    match format {
        Format::Text | Format::Table => format!("{}\n", lease.id).into_bytes(),
        Format::Json => output::document(&ttl_document(lease)),
    }
}

fn renewed(format: Format, lease: Lease) -> Vec<u8> {
    match format {
        Format::Text | Format::Table => format!("renewed, ttl {:?}\n", lease.ttl).into_bytes(),
        Format::Json => output::document(&ttl_document(lease)),
    }
}

fn revoked(format: Format, id: LeaseId, deleted: u64) -> Vec<u8> {
    match format {
        Format::Text | Format::Table => format!("revoked, {deleted} keys deleted\n").into_bytes(),
        Format::Json => output::document(&json!({ "id": id.to_string(), "deleted": deleted })),
    }
}

fn ttl_document(lease: Lease) -> Value {
    json!({ "id": lease.id.to_string(), "ttl_seconds": lease.ttl.as_secs_f64() })
}

fn one(format: Format, lease: &LeaseState) -> Vec<u8> {
    let keys = || {
        let lines = lease.keys.iter().map(|key| format!("{}\n", escaped(key)));
        lines.collect::<String>().into_bytes()
    };
    match format {
        Format::Text => [line(lease), keys()].concat(),
        Format::Table => {
            let mut table = header();
            table.push(row(lease));
            [table.take(), keys()].concat()
        }
        Format::Json => {
            let mut object = document(lease);
            let keys: Vec<Value> = lease.keys.iter().map(|key| key_document(key)).collect();
            object.insert("keys".to_owned(), keys.into());
            output::document(&object.into())
        }
    }
}

fn key_document(key: &[u8]) -> Value {
    let mut object = Map::new();
    output::insert_bytes(&mut object, "key", key);
    object.into()
}

fn header() -> Table {
    Table::new(&["LEASE", "TTL", "REMAINING", "KEYS"])
}

fn row(lease: &LeaseState) -> Vec<String> {
    vec![
        lease.id.to_string(),
        format!("{:?}", Duration::from_millis(lease.ttl_ms)),
        format!("{:?}", Duration::from_millis(lease.remaining_ms)),
        lease.key_count.to_string(),
    ]
}

fn line(lease: &LeaseState) -> Vec<u8> {
    format!("{}\n", row(lease).join("\t")).into_bytes()
}

/// The fields of `GET /v1/leases/{id}`, but for the keys.
fn document(lease: &LeaseState) -> Map<String, Value> {
    let seconds = |ms: u64| Duration::from_millis(ms).as_secs_f64();
    let mut object = Map::new();
    object.insert("id".to_owned(), lease.id.to_string().into());
    object.insert("ttl_seconds".to_owned(), seconds(lease.ttl_ms).into());
    object.insert("remaining_seconds".to_owned(), seconds(lease.remaining_ms).into());
    object.insert("key_count".to_owned(), lease.key_count.into());
    object
}

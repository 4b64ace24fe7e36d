//! `kvctl elect`

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use raftkv_client::command_line::parse_duration;
use raftkv_client::{Election, Leader};
use serde_json::{Map, Value, json};

use crate::arguments::{Format, Options};
use crate::escape::escaped;
use crate::outcome::{Outcome, Trouble};
use crate::output;
use crate::running::signals::Signals;

/// Stands for election with a value, and leads until it is interrupted; without a value it prints each leader
///
/// As text a leader is a line: the word leader, its fencing token and its value, with tabs between; none, when nobody leads.
/// With --output json each is a document. A candidate prints the line when it is elected.
#[derive(Args, Debug)]
pub(crate) struct Elect {
    /// The election's name; its keys are NAME/ and the ids of leases
    pub(crate) name: OsString,
    /// What the leader proclaims, such as its address; without it nobody stands for election, the leaders are observed
    pub(crate) value: Option<OsString>,
    /// How long a leader that dies or can not reach the cluster still counts as leader
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "10s")]
    pub(crate) ttl: Duration,
}

impl Elect {
    pub(crate) async fn run(&self, options: &Options) -> Result<Outcome, Trouble> {
        let signals = Signals::listen().map_err(Trouble::Runtime)?;
        let client = options.lasting_client()?;
        let election = client.election(output::argument_bytes(&self.name)).ttl(self.ttl);
        match &self.value {
            Some(value) => lead(&election, value, options.output, signals).await,
            None => observe(&election, options.output, signals).await,
        }
    }
}

async fn lead(
    election: &Election,
    value: &OsString,
    format: Format,
    mut signals: Signals,
) -> Result<Outcome, Trouble> {
    let value = output::argument_bytes(value);
    let asked = async {
        signals.next().await;
    };
    let Some(leadership) = election.campaign_unless(value.clone(), asked).await? else {
        return Ok(Outcome::Done);
    };
    let leader = Leader {
        token: leadership.token().clone(),
        value,
    };
    output::write_change(&printed(format, Some(&leader)))?;
    tokio::select! {
        _asked = signals.next() => {}
        () = leadership.lost() => return Err(Trouble::LeadershipLost),
    }
    leadership.resign().await?;
    Ok(Outcome::Done)
}

async fn observe(election: &Election, format: Format, mut signals: Signals) -> Result<Outcome, Trouble> {
    let mut leaders = election.observe();
    loop {
        let leader = tokio::select! {
            _asked = signals.next() => return Ok(Outcome::Done),
            leader = leaders.next() => leader,
        };
        let Some(leader) = leader else {
            return Ok(Outcome::Done);
        };
        output::write(&printed(format, leader?.as_ref()))?;
    }
}

fn printed(format: Format, leader: Option<&Leader>) -> Vec<u8> {
    match (format, leader) {
        (Format::Json, leader) => output::document(&json!({ "leader": leader.map(document) })),
        (Format::Text | Format::Table, None) => b"none\n".to_vec(),
        (Format::Text | Format::Table, Some(leader)) => {
            let (token, value) = (leader.token.revision(), escaped(&leader.value));
            format!("leader\t{token}\t{value}\n").into_bytes()
        }
    }
}

fn document(leader: &Leader) -> Value {
    let mut object = Map::new();
    output::insert_bytes(&mut object, "key", leader.token.key());
    object.insert("token".to_owned(), leader.token.revision().0.into());
    output::insert_bytes(&mut object, "value", &leader.value);
    object.into()
}

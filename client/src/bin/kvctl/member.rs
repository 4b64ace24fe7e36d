//! `kvctl member`

use clap::{Args, Subcommand};
use raftkv_client::{Address, Force, Member, MemberCommand, NodeName, Promotion};
use serde_json::json;

use crate::arguments::{Format, Options};
use crate::outcome::{Outcome, Trouble};
use crate::output;
use crate::status::member_json;
use crate::table::{Table, columns};

/// Looks at the cluster's members, changes them, and moves leadership
#[derive(Args, Debug)]
pub(crate) struct MemberArguments {
    #[command(subcommand)]
    pub(crate) action: Action,
}

/// Each prints the members as they are afterwards.
#[derive(Subcommand, Debug)]
pub(crate) enum Action {
    /// Prints the members
    List,
    /// Lets a new node in that was started with --join; it votes by itself once it has caught up
    Add {
        /// Its name, as it was given by --id
        name: String,
        /// Where it listens, if it does not knock by itself
        #[arg(long, value_name = "HOST:PORT")]
        address: Option<String>,
        /// Keeps it from voting until it is promoted
        #[arg(long)]
        learner: bool,
    },
    /// Makes a learner a voter
    Promote {
        /// Its name
        name: String,
        /// Even if it has not caught up
        #[arg(long)]
        force: bool,
    },
    /// Takes a member out for good
    Remove {
        /// Its name
        name: String,
        /// Even if no majority of those left is alive
        #[arg(long)]
        force: bool,
    },
    /// Puts a new node, that knocks under a member's name, in its place: after a lost disk
    Replace {
        /// Their name
        name: String,
        /// Even if the member is alive
        #[arg(long)]
        force: bool,
    },
    /// Hands leadership over
    TransferLeader {
        /// To this member; else to the one that can take over soonest
        name: Option<String>,
    },
}

impl MemberArguments {
    pub(crate) async fn run(&self, options: &Options) -> Result<Outcome, Trouble> {
        let client = options.client()?;
        match self.action.command() {
            None => output::write(&printed(options.output, &client.members().await?))?,
            Some(command) => {
                let members = client.change_members(command).await?;
                output::write_change(&printed(options.output, &members))?;
            }
        }
        Ok(Outcome::Done)
    }
}

impl Action {
    /// What is asked of the cluster; `None`: only to tell.
    fn command(&self) -> Option<MemberCommand> {
        let node = |name: &String| NodeName::from(name.as_str());
        Some(match self {
            Action::List => return None,
            Action::Add {
                name,
                address,
                learner,
            } => MemberCommand::Add {
                name: node(name),
                address: address.as_deref().map(Address::from),
                promotion: if *learner {
                    Promotion::Asked
                } else {
                    Promotion::CaughtUp
                },
            },
            Action::Promote { name, force } => MemberCommand::Promote {
                name: node(name),
                force: forced(*force),
            },
            Action::Remove { name, force } => MemberCommand::Remove {
                name: node(name),
                force: forced(*force),
            },
            Action::Replace { name, force } => MemberCommand::Replace {
                name: node(name),
                force: forced(*force),
            },
            Action::TransferLeader { name } => MemberCommand::TransferLeader {
                to: name.as_ref().map(node),
            },
        })
    }
}

fn forced(force: bool) -> Force {
    match force {
        true => Force::Yes,
        false => Force::No,
    }
}

fn printed(format: Format, members: &[Member]) -> Vec<u8> {
    let http = |member: &Member| member.http.as_ref().map_or("-".to_owned(), ToString::to_string);
    let row = |member: &Member| {
        vec![
            member.name.to_string(),
            if member.voter { "voter" } else { "learner" }.to_owned(),
            member.address.to_string(),
            http(member),
        ]
    };
    let rows = members.iter().map(row);
    match format {
        Format::Text => columns(&rows.collect::<Vec<_>>()).into_bytes(),
        Format::Table => {
            let mut table = Table::new(&["NAME", "ROLE", "ADDRESS", "HTTP"]);
            rows.for_each(|row| table.push(row));
            table.take()
        }
        Format::Json => {
            let members: Vec<_> = members.iter().map(member_json).collect();
            output::document(&json!({ "members": members }))
        }
    }
}

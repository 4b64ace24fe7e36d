//! The commands of scenario scripts, over a [`Group`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use raftkv_raft::{
    Campaign, ChangeChecks, Config, Configuration, EntryId, EntryKind, Envelope, Index, Message, NodeId,
    Proposal, ReadOutcome, RoleName, Transition, Verdict,
};

use super::{Durable, Group, command, voters};

pub(crate) struct Script {
    group: Group,
    founding: Configuration,
    held_links: Vec<(u64, u64)>,
    /// How much of each node's lists was printed already.
    printed: BTreeMap<u64, Printed>,
    output: String,
}

#[derive(Default)]
struct Printed {
    transitions: usize,
    applied: usize,
    reads: usize,
    /// The last entry of the snapshot that was printed.
    installed: u64,
}

fn numbers<'a>(words: impl Iterator<Item = &'a str>) -> Vec<u64> {
    words
        .map(|word| word.parse().unwrap_or_else(|_| panic!("a number, not {word}")))
        .collect()
}

impl Script {
    pub(crate) fn new() -> Script {
        Script {
            group: Group::with(Config::default(), []),
            founding: voters(3),
            held_links: Vec::new(),
            printed: BTreeMap::new(),
            output: String::new(),
        }
    }

    pub(crate) fn execute(&mut self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let name = words.next().expect("a command");
        let arguments: Vec<&str> = words.collect();
        match name {
            "config" => self.configure(&arguments),
            "voters" | "learners" | "outgoing" => self.found(name, &arguments),
            "node" => self.start_node(&arguments),
            "propose" => self.propose(&arguments),
            "change" => self.change(&arguments),
            "status" => self.status(),
            _ => self.act(name, &numbers(arguments.into_iter())),
        }
        self.print_events();
        std::mem::take(&mut self.output)
    }

    fn act(&mut self, name: &str, arguments: &[u64]) {
        match (name, arguments) {
            ("timeout", [node]) => {
                let deadline = self.group.nodes[node].raft.next_deadline();
                self.group.now = self.group.now.max(deadline);
                let now = self.group.now;
                self.group.raft(*node).tick(now);
                self.collect();
            }
            ("nodes", nodes) => {
                for node in nodes {
                    self.group.start(*node, Durable::founded(self.founding.clone()));
                }
            }
            ("elect", [node]) => {
                let deadline = self.group.nodes[node].raft.next_deadline();
                self.group.now = self.group.now.max(deadline);
                let now = self.group.now;
                self.group.raft(*node).tick(now);
                self.settle();
            }
            ("run", [millis]) => self.run(Duration::from_millis(*millis)),
            ("settle", []) => self.settle(),
            ("deliver", []) => self.deliver(|_| true),
            ("deliver", [from, to]) => self.deliver(|sent| (sent.from.0, sent.to.0) == (*from, *to)),
            ("drop", []) => self.group.network.clear(),
            ("drop", [from, to]) => {
                self.group
                    .network
                    .retain(|sent| (sent.from.0, sent.to.0) != (*from, *to));
            }
            ("duplicate", [from, to]) => {
                let again = self.take_link(*from, *to);
                self.group.network.extend(again.iter().cloned());
                self.group.network.extend(again);
            }
            ("reverse", [from, to]) => {
                let sent = self.take_link(*from, *to);
                self.group.network.extend(sent.into_iter().rev());
            }
            ("hold", [from, to]) => self.held_links.push((*from, *to)),
            ("release", [from, to]) => self.held_links.retain(|link| link != &(*from, *to)),
            ("persist", [node]) => {
                let now = self.group.now;
                assert!(
                    self.group.node(*node).persist_one(now),
                    "node {node} writes nothing"
                );
                self.collect();
            }
            ("stall", [node]) => self.group.stalled.push(*node),
            ("resume", [node]) => self.group.stalled.retain(|stalled| stalled != node),
            ("cut", [from, to]) => self.group.cut.push((*from, *to)),
            ("isolate", [node]) => {
                let others: Vec<u64> = self
                    .group
                    .nodes
                    .keys()
                    .copied()
                    .filter(|other| other != node)
                    .collect();
                self.group.partition(&[*node], &others);
            }
            ("heal", []) => self.group.heal(),
            ("read", [node]) => {
                let read = self.group.read(*node);
                writeln!(self.output, "{node} asks for read {}", read.0).expect("a string takes all");
                self.collect();
            }
            ("restart", [node]) => {
                self.group.restart(*node);
                self.printed.remove(node);
            }
            ("keep-joint", []) => self.group.keeps_joint = true,
            ("transfer", [node, target]) => {
                let now = self.group.now;
                if let Err(error) = self.group.raft(*node).transfer(now, NodeId(*target)) {
                    writeln!(self.output, "{node} refuses: {error}").expect("a string takes all");
                }
                self.collect();
            }
            ("compact", [node, keep]) => {
                self.group.node(*node).compact(*keep);
                self.collect();
            }
            ("hold-snapshots", []) => self.group.holds_transfers = true,
            ("release-snapshots", []) => self.group.holds_transfers = false,
            ("lose-snapshots", []) => {
                for transfer in std::mem::take(&mut self.group.transfers) {
                    self.group.fail(&transfer);
                }
            }
            ("duplicate-snapshots", []) => {
                let again = self.group.transfers.clone();
                self.group.transfers.extend(again);
            }
            ("reset", [node, peer]) => {
                let now = self.group.now;
                self.group.raft(*node).peer_reset(now, NodeId(*peer));
            }
            _ => panic!("no such command: {name} {arguments:?}"),
        }
    }

    fn configure(&mut self, arguments: &[&str]) {
        for argument in arguments {
            let (key, value) = argument.split_once('=').expect("KEY=N");
            let value: usize = value.parse().expect("a number");
            let config = &mut self.group.config;
            match key {
                "max_append_entries" => config.max_append_entries = value,
                "max_inflight_appends" => config.max_inflight_appends = value,
                "max_uncommitted_bytes" => config.max_uncommitted_bytes = value,
                "tail_bytes" => config.tail_bytes = value,
                other => panic!("no such setting: {other}"),
            }
        }
    }

    fn found(&mut self, half: &str, arguments: &[&str]) {
        let nodes: BTreeSet<NodeId> = numbers(arguments.iter().copied())
            .into_iter()
            .map(NodeId)
            .collect();
        match half {
            "voters" => self.founding.voters = nodes,
            "learners" => self.founding.learners = nodes,
            _ => self.founding.outgoing = Some(nodes),
        }
    }

    fn start_node(&mut self, arguments: &[&str]) {
        let node = arguments[0].parse().expect("a node");
        let mut disk = Durable::founded(self.founding.clone());
        for argument in &arguments[1..] {
            let (key, value) = argument.split_once('=').expect("KEY=VALUE");
            disk = match key {
                "log" => disk.with_terms(&numbers(value.split(','))),
                "term" => disk.at_term(value.parse().expect("a term")),
                "vote" => disk.voted_for(value.parse().expect("a node")),
                "commit" => disk.committed(value.parse().expect("an index")),
                other => panic!("no such field: {other}"),
            };
        }
        self.group.start(node, disk);
    }

    fn propose(&mut self, arguments: &[&str]) {
        let node = arguments[0].parse().expect("a node");
        let proposals: Vec<Proposal> = arguments[1..].iter().map(|text| command(text)).collect();
        let now = self.group.now;
        match self.group.raft(node).propose(now, proposals) {
            Ok(first) => writeln!(self.output, "{node} accepts from {first}"),
            Err(error) => writeln!(self.output, "{node} refuses: {error}"),
        }
        .expect("a string takes all");
        self.collect();
    }

    /// `change N VOTERS.. [/ LEARNERS..]`
    fn change(&mut self, arguments: &[&str]) {
        let node = arguments[0].parse().expect("a node");
        let mut halves = arguments[1..].split(|word| *word == "/");
        let mut half = || numbers(halves.next().unwrap_or_default().iter().copied());
        let (voters, learners) = (half(), half());
        match self
            .group
            .change(node, &voters, &learners, ChangeChecks::SafetyAlone)
        {
            Ok(at) => writeln!(self.output, "{node} accepts the change as {at}"),
            Err(error) => writeln!(self.output, "{node} refuses: {error}"),
        }
        .expect("a string takes all");
        self.collect();
    }

    /// Takes new messages out of the nodes, and prints them.
    fn collect(&mut self) {
        let already = self.group.network.len();
        let under_way = self.group.transfers.len();
        self.group.drain();
        for transfer in self.group.transfers.iter().skip(under_way) {
            let (asked, offer) = (&transfer.asked, &transfer.offer);
            writeln!(
                self.output,
                "{}->{} t{} snapshot up to {}",
                offer.from.0, asked.to.0, offer.term, offer.last
            )
            .expect("a string takes all");
        }
        let sent: Vec<String> = self.group.network.iter().skip(already).map(describe).collect();
        for line in sent {
            writeln!(self.output, "{line}").expect("a string takes all");
        }
    }

    fn take_link(&mut self, from: u64, to: u64) -> VecDeque<Envelope> {
        let (taken, rest) = std::mem::take(&mut self.group.network)
            .into_iter()
            .partition(|sent| (sent.from.0, sent.to.0) == (from, to));
        self.group.network = rest;
        taken
    }

    fn deliver(&mut self, chosen: impl Fn(&Envelope) -> bool) {
        let (taken, rest): (VecDeque<_>, _) = std::mem::take(&mut self.group.network)
            .into_iter()
            .partition(chosen);
        self.group.network = rest;
        let now = self.group.now;
        for envelope in taken {
            // A node that was never started is a node that is down.
            if let Some(node) = self.group.nodes.get_mut(&envelope.to.0) {
                node.raft.step(now, envelope);
            }
        }
        self.collect();
    }

    fn settle(&mut self) {
        let held = std::mem::take(&mut self.held_links);
        let mut aside: Vec<Envelope> = Vec::new();
        loop {
            self.group.drain();
            let (kept, rest) = std::mem::take(&mut self.group.network)
                .into_iter()
                .partition::<Vec<_>, _>(|sent| held.contains(&(sent.from.0, sent.to.0)));
            aside.extend(kept);
            self.group.network = rest.into();
            if !self.group.move_once() {
                break;
            }
        }
        self.group.network.extend(aside);
        self.held_links = held;
    }

    fn run(&mut self, duration: Duration) {
        let end = self.group.now.after(duration);
        self.settle();
        while let Some(deadline) = self.group.next_deadline().filter(|deadline| *deadline <= end) {
            self.group.now = self.group.now.max(deadline);
            self.group.tick_due();
            self.settle();
        }
        self.group.now = end;
    }

    fn print_events(&mut self) {
        for (name, node) in &self.group.nodes {
            let printed = self.printed.entry(*name).or_default();
            for transition in &node.transitions[printed.transitions..] {
                writeln!(self.output, "{name} {}", describe_transition(transition))
                    .expect("a string takes all");
            }
            if node.disk.snapshot.last.index.get() > printed.installed {
                let base = node.disk.snapshot.last;
                let count = node.disk.snapshot.applied.len();
                if count > printed.applied {
                    writeln!(self.output, "{name} has installed a snapshot up to {base}")
                        .expect("a string takes all");
                    printed.applied = count;
                }
                printed.installed = base.index.get();
            }
            if node.applied.len() > printed.applied {
                let applied: Vec<String> = node.applied[printed.applied..]
                    .iter()
                    .map(describe_entry)
                    .collect();
                writeln!(self.output, "{name} applies {}", applied.join(" ")).expect("a string takes all");
            }
            for outcome in &node.reads[printed.reads..] {
                match outcome {
                    ReadOutcome::Confirmed { id, index } => {
                        writeln!(self.output, "{name} may serve read {} at {index}", id.0)
                    }
                    ReadOutcome::Dropped { id } => writeln!(self.output, "{name} drops read {}", id.0),
                }
                .expect("a string takes all");
            }
            *printed = Printed {
                transitions: node.transitions.len(),
                applied: node.applied.len(),
                reads: node.reads.len(),
                installed: printed.installed,
            };
        }
    }

    fn status(&mut self) {
        for (name, node) in &self.group.nodes {
            let raft = &node.raft;
            let role = match raft.role() {
                RoleName::Follower => "follows",
                RoleName::PreCandidate => "asks for pre-votes",
                RoleName::Candidate => "asks for votes",
                RoleName::Leader => "leads",
            };
            let leader = match raft.leader() {
                Some(leader) if leader != raft.id() => format!(" {}", leader.0),
                Some(_) => String::new(),
                None if raft.role() == RoleName::Follower => " nobody".to_owned(),
                None => String::new(),
            };
            writeln!(
                self.output,
                "{name} {role}{leader} in term {}, last {}, durable {}, commit {}",
                raft.term(),
                raft.last(),
                raft.persisted_index(),
                raft.commit()
            )
            .expect("a string takes all");
        }
    }
}

fn describe(envelope: &Envelope) -> String {
    format!(
        "{}->{} t{} {}",
        envelope.from.0,
        envelope.to.0,
        envelope.term,
        describe_message(&envelope.message)
    )
}

fn describe_message(message: &Message) -> String {
    let verdict_name = |verdict: &Verdict| match verdict {
        Verdict::Granted => "granted",
        Verdict::Refused => "refused",
    };
    match message {
        Message::PreVoteRequest { campaign_term, last } => {
            format!("pre-vote for term {campaign_term}? last {last}")
        }
        Message::PreVoteReply {
            campaign_term,
            verdict,
        } => format!("pre-vote for term {campaign_term} {}", verdict_name(verdict)),
        Message::VoteRequest { last, campaign } => match campaign {
            Campaign::Election => format!("vote? last {last}"),
            Campaign::Transfer => format!("vote, handed over? last {last}"),
        },
        Message::VoteReply { verdict } => format!("vote {}", verdict_name(verdict)),
        Message::Append {
            prev,
            commit,
            entries,
            ..
        } => format!(
            "append after {prev}, commit {commit}: {}",
            describe_ids(entries.iter().map(|entry| entry.id))
        ),
        Message::AppendAccepted { matched, .. } => format!("accepted up to {matched}"),
        Message::AppendRefused { refused, hint, .. } => format!("refused at {refused}, hint {hint}"),
        Message::Heartbeat { commit, round, .. } => {
            format!("heartbeat {}, commit {}", round.0, describe_index(*commit))
        }
        Message::HeartbeatReply { round, .. } => format!("heartbeat {} answered", round.0),
        Message::ReadIndexRequest { .. } => "read index?".to_owned(),
        Message::ReadIndexReply { index, .. } => format!("read index {}", describe_index(*index)),
        Message::TimeoutNow => "campaign now".to_owned(),
    }
}

fn describe_index(index: Option<Index>) -> String {
    index.map_or("none".to_owned(), |index| index.to_string())
}

fn describe_ids(ids: impl Iterator<Item = EntryId>) -> String {
    let ids: Vec<String> = ids.map(|id| id.to_string()).collect();
    match &ids[..] {
        [] => "nothing".to_owned(),
        [only] => only.clone(),
        [first, .., last] => format!("{first}..{last}"),
    }
}

fn describe_entry(entry: &raftkv_raft::Entry) -> String {
    match entry.kind {
        EntryKind::Noop => format!("{}(no-op)", entry.id),
        EntryKind::Command => format!("{}({})", entry.id, String::from_utf8_lossy(&entry.payload)),
        EntryKind::Configuration => format!("{}(configuration)", entry.id),
    }
}

fn describe_transition(transition: &Transition) -> String {
    match transition {
        Transition::PreCampaign { campaign_term } => format!("asks for pre-votes for term {campaign_term}"),
        Transition::Campaign { term } => format!("campaigns in term {term}"),
        Transition::Elected { term, noop } => format!("leads term {term}, no-op at {noop}"),
        Transition::SteppedDown { term, reason } => format!("leads term {term} no more: {reason:?}"),
        Transition::Follows { term, leader } => match leader {
            Some(leader) => format!("follows {} in term {term}", leader.0),
            None => format!("follows nobody in term {term}"),
        },
        Transition::TransferStarted { target } => format!("hands over to {}", target.0),
        Transition::TransferAborted { target } => format!("goes on, {} did not take over", target.0),
        Transition::LeaseDropped => "drops its lease".to_owned(),
    }
}

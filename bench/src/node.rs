//! A whole node of a group of one: from the request to its answer, without disk and sockets.

use std::hint::black_box;
use std::time::Duration;

use raftkv_protocol::{Address, CheckedCommand, Introduction, Limits, NodeId, NodeName, Request};
use raftkv_raft::{Config, Time};
use raftkv_server::replica::{Effect, Event, Hop, Node, NodeConfig, RetentionConfig, ScrubConfig, Token};
use raftkv_server::store::StoreConfig;

use crate::commands::{put as put_command, scattered};
use crate::{BATCH, Operation};

const SEED: u64 = 7;
const TIMEOUT: Duration = Duration::from_secs(5);

/// A batch of puts that arrive together: proposed, "durable", applied, answered.
#[must_use]
pub fn put() -> Operation {
    let mut single = Single::new();
    let commands: Vec<CheckedCommand> = (0..BATCH as u64)
        .map(|number| put_command(scattered(number)))
        .collect();
    Box::new(move || single.put(&commands))
}

struct Single {
    node: Node,
    now: Time,
    tokens: u64,
    effects: Vec<Effect>,
}

impl Single {
    /// Formed, and ready to take writes.
    fn new() -> Single {
        let node = Node::new(config(), None, SEED, Time(0)).expect("the settings are valid");
        let mut single = Single {
            node,
            now: Time(0),
            tokens: 0,
            effects: Vec::new(),
        };
        while !single.node.status(single.now).ready {
            let next = single.node.next_deadline();
            assert!(
                next != Time::NEVER,
                "it has something left to do until it is ready"
            );
            single.now = next.max(single.now);
            single.work();
        }
        single
    }

    fn put(&mut self, commands: &[CheckedCommand]) {
        self.now = self.now.after(Duration::from_micros(100));
        for command in commands {
            self.tokens += 1;
            let request = Event::Request {
                token: Token(self.tokens),
                request: Request::Write(command.clone()),
                hop: Hop::First,
                deadline: self.now.after(TIMEOUT),
            };
            self.node.handle(self.now, request);
        }
        assert_eq!(self.work(), commands.len(), "every request is answered");
    }

    /// Polls and carries out until nothing is left, and counts answers.
    fn work(&mut self) -> usize {
        let mut answers = 0;
        loop {
            self.node.poll(self.now, &mut self.effects);
            if self.effects.is_empty() {
                return answers;
            }
            for effect in self.effects.drain(..) {
                match effect {
                    Effect::Write(write) => self.node.handle(self.now, Event::Persisted(write.number)),
                    Effect::CreateLog { .. } => self.node.handle(self.now, Event::LogCreated),
                    Effect::Answer { response, .. } => {
                        assert!(black_box(response).outcome.is_ok(), "a put succeeds");
                        answers += 1;
                    }
                    // Nobody else is there, everything is in memory, and nothing ever drains.
                    other => drop(black_box(other)),
                }
            }
        }
    }
}

fn config() -> NodeConfig {
    let (name, address) = (NodeName::from("node1"), Address::from("127.0.0.1:7001"));
    NodeConfig {
        introduction: Introduction {
            name: name.clone(),
            identity: NodeId(1),
            address: address.clone(),
            http: None,
            peers: vec![(name, address)],
            heard: Vec::new(),
            formed: None,
        },
        raft: Config::default(),
        limits: Limits::default(),
        max_pending_requests: 2 * BATCH,
        join: None,
        leader_wait: Duration::from_secs(1),
        store: StoreConfig {
            overlay_bytes: u64::MAX,
            ..StoreConfig::default()
        },
        retention: RetentionConfig {
            freeze_log_bytes: u64::MAX,
            freeze_age: Duration::MAX,
            ..RetentionConfig::default()
        },
        scrub: ScrubConfig::default(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

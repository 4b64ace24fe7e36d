//! Which servers are known, which of them leads, and whom to ask next.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use raftkv_protocol::{Address, Status};
use raftkv_tls::ClientTls;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::call::{Call, Delivery, Undelivered, Waiter};
use crate::lane;

/// An endpoint that failed is passed over for so long while there are others; twice as long after each further failure,
/// up to [`AVOID_LONGEST`]: one that hangs costs those who try it a time-out each.
const AVOID: Duration = Duration::from_millis(500);
const AVOID_LONGEST: Duration = Duration::from_secs(8);

/// A leader that is not known is asked for no more often.
const ASK_INTERVAL: Duration = Duration::from_millis(200);

/// While the client is used, it asks for the members so often: those that joined since are wanted when those that are
/// known stop.
const MEMBERS_INTERVAL: Duration = Duration::from_secs(1);

/// How each server is connected to.
#[derive(Clone, Debug)]
pub(crate) struct Dialling {
    /// How often.
    pub(crate) connections: NonZeroUsize,
    /// `None`: plain.
    pub(crate) tls: Option<Arc<ClientTls>>,
}

/// One server's address and the connections to it, made when they are first needed.
#[derive(Debug)]
pub(crate) struct Endpoint {
    address: Address,
    tls: Option<Arc<ClientTls>>,
    lanes: Box<[OnceLock<mpsc::Sender<Call>>]>,
    next: AtomicUsize,
}

impl Endpoint {
    fn new(address: Address, dialling: &Dialling) -> Arc<Endpoint> {
        let lanes = (0..dialling.connections.get()).map(|_| OnceLock::new()).collect();
        Arc::new(Endpoint {
            address,
            tls: dialling.tls.clone(),
            lanes,
            next: AtomicUsize::new(0),
        })
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Makes one attempt of one request.
    pub(crate) async fn call(&self, request: raftkv_protocol::Request, deadline: Instant) -> Delivery {
        let (answer, delivery) = oneshot::channel();
        let call = Call {
            request,
            deadline,
            waiter: Waiter::One(answer),
        };
        let lane = self.lane();
        if let Err(full) = lane.try_send(call) {
            let mpsc::error::TrySendError::Full(call) = full else {
                return Err(Undelivered::Closed);
            };
            match tokio::time::timeout_at(deadline, lane.send(call)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Undelivered::Closed),
                Err(_) => return Err(Undelivered::ExpiredUnsent),
            }
        }
        delivery.await.unwrap_or(Err(Undelivered::Abandoned))
    }

    /// The connections take turns.
    pub(crate) fn lane(&self) -> &mpsc::Sender<Call> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.lanes.len();
        self.lanes[turn].get_or_init(|| {
            let (sender, calls) = mpsc::channel(lane::QUEUE_LIMIT);
            tokio::spawn(lane::run(self.address.clone(), self.tls.clone(), calls));
            sender
        })
    }
}

/// Whom a request wants to meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Preference {
    /// The leader, as any other node has to ask it; if it is not known, anyone.
    Leader,
    /// The endpoints the user named, in their order: a stale read or a status is about the node that answers.
    AsGiven,
}

/// The servers that were named by the user or learnt from one.
///
/// Invariants: `known` is never empty; the endpoints that the user named stand first and stay.
#[derive(Debug)]
pub(crate) struct Endpoints {
    known: Vec<Known>,
    given: usize,
    leader: Option<Address>,
    /// The newest term that an answer named: an older one does not change the leader.
    term: u64,
    /// The term whose leader was asked for last, and when.
    asked: Option<(u64, Instant)>,
    /// When the members were learnt last.
    learnt_at: Option<Instant>,
    dialling: Dialling,
}

#[derive(Debug)]
struct Known {
    endpoint: Arc<Endpoint>,
    avoid_until: Option<Instant>,
    /// How long it was last avoided for a failure; `None`: it answered since.
    avoided: Option<Duration>,
    /// When it was last of no use.
    useless_at: Option<Instant>,
}

impl Known {
    fn new(address: Address, dialling: &Dialling) -> Known {
        Known {
            endpoint: Endpoint::new(address, dialling),
            avoid_until: None,
            avoided: None,
            useless_at: None,
        }
    }

    fn is_free(&self, now: Instant) -> bool {
        self.avoid_until.is_none_or(|until| until <= now)
    }

    /// Many requests fail with one connection: that is one failure. Says whether this was the first that told of it.
    fn failed(&mut self, now: Instant) -> bool {
        self.useless_at = Some(now);
        let is_first = self.is_free(now);
        if is_first {
            let longer = self
                .avoided
                .map_or(AVOID, |avoided| (avoided * 2).min(AVOID_LONGEST));
            self.avoided = Some(longer);
            self.avoid_until = Some(now + longer);
        }
        is_first
    }
}

impl Endpoints {
    /// # Panics
    /// If `given` is empty.
    pub(crate) fn new(given: &[Address], dialling: Dialling) -> Endpoints {
        assert!(!given.is_empty(), "expected at least one endpoint");
        Endpoints {
            known: given
                .iter()
                .map(|address| Known::new(address.clone(), &dialling))
                .collect(),
            given: given.len(),
            leader: None,
            term: 0,
            asked: None,
            learnt_at: None,
            dialling,
        }
    }

    /// Whom to ask now: by preference, but not one that failed a moment ago while there are others.
    pub(crate) fn choose(&self, preference: Preference, now: Instant) -> Arc<Endpoint> {
        let mut in_order = self.known.iter();
        let is_free = |known: &&Known| known.is_free(now);
        let first_free = match preference {
            Preference::Leader => {
                let leads = |known: &&Known| Some(known.endpoint.address()) == self.leader.as_ref();
                // Who failed and has not answered since may hang: others are asked before.
                let answers = |known: &&Known| known.avoided.is_none();
                let leader = in_order.clone().filter(leads);
                let sound = in_order.clone().filter(answers);
                leader.chain(sound).chain(in_order.clone()).find(is_free)
            }
            Preference::AsGiven => in_order.clone().find(is_free),
        };
        // They take turns: the one whose last failure is longest ago has had most time to recover.
        let chosen = first_free.or_else(|| in_order.by_ref().min_by_key(|known| known.useless_at));
        Arc::clone(
            &chosen
                .expect("at least one endpoint is known, by construction")
                .endpoint,
        )
    }

    /// Is there someone to ask who did not fail a moment ago?
    pub(crate) fn has_free(&self, now: Instant) -> bool {
        self.known.iter().any(|known| known.is_free(now))
    }

    /// An attempt at `address` failed.
    pub(crate) fn failed(&mut self, address: &Address, now: Instant) {
        if self.known(address).is_some_and(|known| known.failed(now)) {
            // Those who were asked last may not have known what is now.
            self.asked = None;
        }
        if self.leader.as_ref() == Some(address) {
            self.leader = None;
        }
    }

    /// The node at `address` answers that it knows no leader: it may be cut off, or without a cluster, so others are asked
    /// meanwhile.
    pub(crate) fn knows_no_leader(&mut self, address: &Address, now: Instant) {
        if let Some(known) = self.known(address) {
            (known.avoid_until, known.useless_at) = (Some(now + AVOID), Some(now));
        }
        if self.leader.as_ref() == Some(address) {
            self.leader = None;
        }
    }

    /// An attempt at `address` was answered, in `term`.
    pub(crate) fn answered(&mut self, address: &Address, term: u64) {
        if let Some(known) = self.known(address) {
            (known.avoid_until, known.avoided) = (None, None);
        }
        if term > self.term {
            self.term = term;
            self.leader = None;
        }
    }

    fn known(&mut self, address: &Address) -> Option<&mut Known> {
        self.known
            .iter_mut()
            .find(|known| known.endpoint.address() == address)
    }

    /// Someone says that `address` leads. Is it to be asked at once? Not if it was of no use a moment ago: a leader that
    /// stops names itself until it has handed over, and others name one that died until they have noticed.
    pub(crate) fn leads(&mut self, address: Address, now: Instant) -> bool {
        match self.known(&address) {
            Some(known) if known.useless_at.is_some_and(|at| now - at < AVOID) => return false,
            Some(known) => known.avoid_until = None,
            None => self.known.push(Known::new(address.clone(), &self.dialling)),
        }
        self.leader = Some(address);
        true
    }

    /// Is it time to ask who leads and who is there? Says so to one caller per interval.
    pub(crate) fn should_ask(&mut self, now: Instant) -> bool {
        let is_due = self
            .asked
            .is_none_or(|(term, at)| term < self.term || now - at >= ASK_INTERVAL);
        let is_old = self
            .learnt_at
            .is_none_or(|learnt_at| now - learnt_at >= MEMBERS_INTERVAL);
        let ask = is_due && (self.leader.is_none() || is_old);
        if ask {
            self.asked = Some((self.term, now));
        }
        ask
    }

    /// A node told about its cluster: its members take the place of those learnt before.
    pub(crate) fn learn(&mut self, status: &Status, now: Instant) {
        // A node without members is in no cluster yet, and knows of nobody.
        if status.term < self.term || status.members.is_empty() {
            return;
        }
        (self.term, self.learnt_at) = (status.term, Some(now));
        let mut learnt: BTreeMap<Address, Known> = self
            .known
            .drain(self.given..)
            .map(|known| (known.endpoint.address().clone(), known))
            .collect();
        for member in &status.members {
            if self
                .known
                .iter()
                .any(|known| *known.endpoint.address() == member.address)
            {
                continue;
            }
            let known = learnt.remove(&member.address);
            self.known
                .push(known.unwrap_or_else(|| Known::new(member.address.clone(), &self.dialling)));
        }
        let leader = status
            .members
            .iter()
            .find(|member| Some(&member.name) == status.leader.as_ref());
        self.leader = leader.map(|member| member.address.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv_protocol::{Member, NodeId, NodeName, Revision, RoleName};

    fn endpoints(given: &[&str]) -> Endpoints {
        let given: Vec<Address> = given.iter().map(|text| Address::from(*text)).collect();
        Endpoints::new(
            &given,
            Dialling {
                connections: NonZeroUsize::MIN,
                tls: None,
            },
        )
    }

    fn status(term: u64, leader: &str, members: &[&str]) -> Status {
        let member = |text: &&str| Member {
            name: NodeName::from(*text),
            identity: NodeId(1),
            address: Address::from(*text),
            http: None,
            voter: true,
        };
        Status {
            name: NodeName::from("a:1"),
            role: RoleName::Follower,
            leader: Some(NodeName::from(leader)),
            term,
            commit_index: 1,
            applied_index: 1,
            revision: Revision(1),
            cluster: None,
            version: String::new(),
            members: members.iter().map(member).collect(),
            ready: true,
            not_ready_because: None,
        }
    }

    fn chosen(endpoints: &Endpoints, preference: Preference, now: Instant) -> String {
        endpoints.choose(preference, now).address().to_string()
    }

    #[test]
    fn writes_go_to_the_leader_and_stale_reads_to_the_node_that_was_named() {
        let mut endpoints = endpoints(&["a:1", "b:1"]);
        let now = Instant::now();
        assert_eq!(chosen(&endpoints, Preference::Leader, now), "a:1");
        endpoints.learn(&status(2, "c:1", &["a:1", "b:1", "c:1"]), Instant::now());
        assert_eq!(chosen(&endpoints, Preference::Leader, now), "c:1");
        assert_eq!(chosen(&endpoints, Preference::AsGiven, now), "a:1");
    }

    #[test]
    fn an_endpoint_that_failed_is_passed_over_for_a_while_and_forgotten_as_leader() {
        let mut endpoints = endpoints(&["a:1", "b:1"]);
        let now = Instant::now();
        assert!(endpoints.leads(Address::from("b:1"), now));
        endpoints.failed(&Address::from("b:1"), now);
        assert_eq!(chosen(&endpoints, Preference::Leader, now), "a:1");
        endpoints.failed(&Address::from("a:1"), now + Duration::from_millis(1));
        assert_eq!(
            chosen(&endpoints, Preference::Leader, now),
            "b:1",
            "all failed, this one first"
        );
        assert!(!endpoints.has_free(now));
        assert!(endpoints.has_free(now + AVOID));
    }

    #[test]
    fn an_endpoint_that_goes_on_failing_is_tried_less_and_less_often_until_it_answers() {
        let mut endpoints = endpoints(&["a:1"]);
        let address = Address::from("a:1");
        let mut now = Instant::now();
        for expected in [1, 2, 4, 8, 16, 16] {
            endpoints.failed(&address, now);
            endpoints.failed(&address, now);
            let until = now + AVOID * expected;
            assert!(
                !endpoints.has_free(until - Duration::from_millis(1)),
                "{expected}"
            );
            assert!(endpoints.has_free(until), "{expected}");
            now = until;
        }
        endpoints.answered(&address, 1);
        endpoints.failed(&address, now);
        assert!(endpoints.has_free(now + AVOID));
    }

    #[test]
    fn a_newer_term_makes_the_leader_unknown_and_an_older_status_changes_nothing() {
        let mut endpoints = endpoints(&["a:1"]);
        let now = Instant::now();
        endpoints.learn(&status(2, "b:1", &["a:1", "b:1"]), Instant::now());
        assert!(!endpoints.should_ask(now), "the leader is known");
        endpoints.answered(&Address::from("a:1"), 3);
        assert!(endpoints.should_ask(now));
        assert!(!endpoints.should_ask(now), "someone else asks already");
        endpoints.learn(&status(2, "b:1", &["a:1", "b:1"]), Instant::now());
        assert_eq!(chosen(&endpoints, Preference::Leader, now), "a:1");
    }

    #[test]
    fn members_that_left_are_forgotten_and_those_that_stay_keep_their_connections() {
        let mut endpoints = endpoints(&["a:1"]);
        endpoints.learn(&status(2, "b:1", &["a:1", "b:1", "c:1"]), Instant::now());
        let before = endpoints.choose(Preference::Leader, Instant::now());
        endpoints.learn(&status(3, "b:1", &["b:1"]), Instant::now());
        let after = endpoints.choose(Preference::Leader, Instant::now());
        assert!(Arc::ptr_eq(&before, &after));
        assert_eq!(endpoints.known.len(), 2, "the endpoint that the user named stays");
    }

    #[test]
    fn where_all_have_failed_they_take_turns() {
        let mut endpoints = endpoints(&["a:1", "b:1"]);
        let mut now = Instant::now();
        // It hung for long, and is avoided for longer than the other.
        for _ in 0..4 {
            endpoints.failed(&Address::from("b:1"), now);
            now += AVOID_LONGEST;
        }
        let mut turns = Vec::new();
        for _ in 0..4 {
            let chosen = chosen(&endpoints, Preference::Leader, now);
            endpoints.failed(&Address::from(&*chosen), now);
            turns.push(chosen);
            now += Duration::from_millis(1);
        }
        assert_eq!(turns, ["a:1", "b:1", "a:1", "b:1"]);
    }

    #[test]
    fn who_was_of_no_use_a_moment_ago_is_not_believed_to_lead() {
        let mut endpoints = endpoints(&["a:1"]);
        let (address, now) = (Address::from("a:1"), Instant::now());
        assert!(endpoints.leads(address.clone(), now));
        endpoints.failed(&address, now);
        assert!(!endpoints.leads(address.clone(), now), "it names itself");
        assert!(endpoints.should_ask(now), "so it is not known who leads");
        assert!(endpoints.leads(address, now + AVOID), "it may be back");
    }

    #[test]
    fn who_knows_no_leader_is_passed_over_for_a_while_and_who_hangs_is_asked_last() {
        let mut endpoints = endpoints(&["a:1", "b:1", "c:1"]);
        let now = Instant::now();
        endpoints.failed(&Address::from("a:1"), now);
        let later = now + AVOID;
        assert_eq!(chosen(&endpoints, Preference::Leader, later), "b:1");
        endpoints.knows_no_leader(&Address::from("b:1"), later);
        assert_eq!(chosen(&endpoints, Preference::Leader, later), "c:1");
        endpoints.knows_no_leader(&Address::from("c:1"), later);
        assert_eq!(chosen(&endpoints, Preference::Leader, later), "a:1");
        assert_eq!(chosen(&endpoints, Preference::Leader, later + AVOID), "b:1");
    }
}

//! The voter's side of elections, alike in all roles (paper §5.2, §5.4.1; thesis 9.6 and 4.2.3).

use crate::raft::Raft;
use crate::role::Role;
use crate::simulation::{mark, mutant};
use crate::{Campaign, EntryId, Message, NodeId, Term, Time, Verdict};

impl Raft {
    /// Would this node vote for `from` in `campaign_term`? Answering changes nothing here (R8).
    pub(crate) fn answer_pre_vote(&mut self, now: Time, from: NodeId, campaign_term: Term, last: EntryId) {
        let verdict = self.pre_verdict(now, from, campaign_term, last);
        if mutant("X05_timer_restarted_by_pre_vote_grant") && verdict == Verdict::Granted {
            self.shared.restart_election_timer(now);
        }
        let reply = Message::PreVoteReply {
            campaign_term,
            verdict,
        };
        self.shared.send(from, reply);
    }

    fn pre_verdict(&self, now: Time, from: NodeId, campaign_term: Term, last: EntryId) -> Verdict {
        if campaign_term <= self.shared.term() {
            mark("pre-vote refused for its term");
            Verdict::Refused
        } else if self.clings_to_leader(now, from) {
            mark("pre-vote refused by stickiness");
            Verdict::Refused
        } else if !self.is_up_to_date(last) {
            mark("pre-vote refused for its log");
            Verdict::Refused
        } else {
            Verdict::Granted
        }
    }

    /// Must a real vote request of a higher term be ignored, its term with it (R10)?
    pub(crate) fn ignores_vote_request(&self, now: Time, from: NodeId, campaign: Campaign) -> bool {
        match campaign {
            Campaign::Transfer if !mutant("X27_transfer_flag_ignored") => false,
            Campaign::Election | Campaign::Transfer => self.clings_to_leader(now, from),
        }
    }

    /// Was a live leader heard from within the least election time-out (R9, R10)? If `asker` is that leader, it leads no
    /// more, and nobody clings to it.
    fn clings_to_leader(&self, now: Time, asker: NodeId) -> bool {
        let is_promised = self.shared.keeps_lease_promise(now);
        match &self.role {
            Role::Follower(follower) => {
                follower.leader() != Some(asker)
                    && (follower.heard_within(now, self.shared.config.election_timeout) || is_promised)
            }
            // Check-quorum ends the rule of a leader that nobody hears (R12).
            Role::Leader(_) => true,
            Role::PreCandidate(_) | Role::Candidate(_) => is_promised,
        }
    }

    /// A request for this term's vote.
    pub(crate) fn answer_vote(&mut self, now: Time, from: NodeId, last: EntryId, campaign: Campaign) {
        let verdict = self.verdict(now, from, last, campaign);
        if verdict == Verdict::Granted {
            self.shared.cast_vote(from);
        }
        if verdict == Verdict::Granted || mutant("X05_timer_restarted_by_refused_vote") {
            self.shared.restart_election_timer(now);
        }
        let reply = Message::VoteReply { verdict };
        if mutant("X02_vote_before_sync") {
            self.shared.send_at_once(from, reply);
        } else {
            self.shared.send(from, reply);
        }
    }

    fn verdict(&self, now: Time, from: NodeId, last: EntryId, campaign: Campaign) -> Verdict {
        match self.shared.vote() {
            // The same answer to the same request (R2).
            Some(vote) if vote == from => Verdict::Granted,
            Some(_) => {
                mark("vote refused, it is cast");
                Verdict::Refused
            }
            // This term has its leader: nobody else can win in it.
            None if self.leader().is_some() => {
                mark("vote refused, the term has a leader");
                Verdict::Refused
            }
            None if campaign == Campaign::Election && self.shared.keeps_lease_promise(now) => {
                mark("vote refused for a lease");
                Verdict::Refused
            }
            None if self.is_up_to_date(last) => Verdict::Granted,
            None => {
                mark("vote refused for its log");
                Verdict::Refused
            }
        }
    }

    /// Is a log that ends with `last` at least as up-to-date as ours (R3, paper §5.4.1)?
    fn is_up_to_date(&self, last: EntryId) -> bool {
        let own = self.shared.log.last();
        if mutant("X04_log_check_skipped") {
            return true;
        }
        if mutant("X04_log_check_by_index_first") {
            return (last.index, last.term) >= (own.index, own.term);
        }
        last >= own
    }
}

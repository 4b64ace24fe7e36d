//! What a formed node tells about itself: status, headers of answers, refusals.

use raftkv_protocol::{Answer, ErrorCode, Failure, Header, NodeName, Response, RoleName, Status};
use raftkv_raft as raft;

use super::formed::Formed;

impl Formed {
    pub(super) fn header(&self) -> Header {
        Header {
            cluster: Some(self.members.current().cluster),
            node: self.config.introduction.identity,
            term: self.raft.term().0,
            revision: self.store.revision(),
            epoch: self.members.current().epoch,
        }
    }

    pub(super) fn respond(&self, outcome: Result<Answer, Failure>) -> Response {
        let header = self.header();
        Response { header, outcome }
    }

    /// A failure with what is known of the leader.
    pub(super) fn refusal(&self, code: ErrorCode, message: &str) -> Response {
        self.respond(Err(Failure {
            code,
            message: message.to_owned(),
            leader: self.members.hint(self.raft.leader()),
        }))
    }

    /// The write may or may not have happened, or may yet.
    pub(super) fn unknown(&self, why: &str) -> Response {
        let message =
            format!("the write may or may not have happened: {why}; read the key before you send it again");
        self.refusal(ErrorCode::OutcomeUnknown, &message)
    }

    /// No leader took the write within the time it may wait.
    pub(super) fn no_leader_in_time(&self) -> Response {
        let message = match self.leader_name() {
            Some(leader) => format!("the leader {leader} was not reached in time; nothing was proposed, retry"),
            None => "no leader is known, a majority of the nodes may be down or cut off; nothing was proposed, retry"
                .to_owned(),
        };
        self.refusal(ErrorCode::NoLeader, &message)
    }

    pub(super) fn status(&self) -> Status {
        let not_ready_because = self.not_ready_because();
        Status {
            name: self.config.introduction.name.clone(),
            role: self.role(),
            leader: self.leader_name(),
            term: self.raft.term().0,
            commit_index: self.raft.commit().get(),
            applied_index: self.applied().get(),
            revision: self.store.revision(),
            cluster: Some(self.members.current().cluster),
            version: self.config.version.clone(),
            members: self.members.current().everyone().cloned().collect(),
            ready: not_ready_because.is_none(),
            not_ready_because,
        }
    }

    fn role(&self) -> RoleName {
        match self.raft.role() {
            raft::RoleName::Leader => RoleName::Leader,
            raft::RoleName::PreCandidate | raft::RoleName::Candidate => RoleName::Candidate,
            raft::RoleName::Follower if self.is_voter() => RoleName::Follower,
            raft::RoleName::Follower => RoleName::Learner,
        }
    }

    fn is_voter(&self) -> bool {
        let id = self.raft.id();
        let configuration = self.raft.configuration();
        let in_outgoing = configuration
            .outgoing
            .as_ref()
            .is_some_and(|voters| voters.contains(&id));
        configuration.voters.contains(&id) || in_outgoing
    }

    /// Was this node let into a running cluster, whose log it has not read up to there?
    fn has_joined(&self) -> bool {
        let identity = self.config.introduction.identity;
        !self.members.current().was_removed(identity) && !self.members.ever_named(self.raft.id())
    }

    fn leader_name(&self) -> Option<NodeName> {
        self.members.hint(self.raft.leader()).map(|hint| hint.name)
    }

    /// Ready: a member that knows a leader and has applied what that leader had committed when it was met.
    fn not_ready_because(&self) -> Option<String> {
        if let Some(quarantine) = self.divergence.quarantine() {
            return Some(quarantine.explanation());
        }
        let membership = self.members.current();
        if let Some(explanation) = self.presences.explanation() {
            return Some(explanation);
        }
        if membership.member(self.raft.id()).is_none() && self.has_joined() {
            return Some("joining: the log that names this node as a member is being fetched".to_owned());
        }
        if membership.member(self.raft.id()).is_none() {
            let name = &self.config.introduction.name;
            return Some(format!(
                "cluster {} does not name this node any more; to admit it again run: kvctl member replace {name}",
                membership.cluster
            ));
        }
        let Some(leader) = self.leader_name() else {
            let voters = self.raft.configuration().voters.len();
            return Some(format!(
                "no leader is known; {} of {voters} voters must be up and reach each other",
                voters / 2 + 1
            ));
        };
        (!self.reads.is_caught_up()).then(|| {
            let (applied, commit) = (self.applied(), self.raft.commit());
            format!("catching up with the leader {leader}: applied index {applied}, known committed {commit}")
        })
    }
}

//! Sending the log to followers, and taking their answers (paper §5.3; R21 to R25, R77).

use super::Leader;
use crate::log::{Batch, Limits};
use crate::progress::{Progress, State};
use crate::shared::Shared;
use crate::simulation::{buggify, mark, mutant};
use crate::{
    Entry, EntryId, Fetch, FetchPurpose, Index, Message, NodeId, ReplicationSession, SendSnapshot, Term, Time,
};

impl Leader {
    /// Sends every peer what its state and window allow. Called once all events of a moment are in, so that what several
    /// of them appended leaves as one append.
    pub(crate) fn replicate(&mut self, shared: &mut Shared) {
        self.find_who_needs_a_snapshot(shared);
        for (peer, progress) in &mut self.peers {
            match progress.state() {
                State::Probe(probe) if probe.outstanding.is_some() => {}
                State::Probe(_) => send_probe(shared, *peer, progress),
                State::Replicate(_) => fill_window(shared, *peer, progress),
                State::Snapshot(_) => {}
            }
        }
    }

    /// The log's base may have moved past a peer, or a refusal has led a peer down to the base.
    pub(crate) fn find_who_needs_a_snapshot(&mut self, shared: &Shared) {
        let base = shared.log.base().index;
        let behind = self
            .peers
            .values_mut()
            .filter(|progress| progress.is_behind(base));
        behind.for_each(Progress::need_snapshot);
    }

    /// What the caller is asked for, once for each transfer.
    pub(crate) fn snapshots_to_send(&mut self, term: Term) -> Vec<SendSnapshot> {
        let peers = self.peers.iter_mut();
        let due = peers.filter_map(|(peer, progress)| progress.take_transfer().then_some((peer, progress)));
        due.map(|(peer, progress)| SendSnapshot {
            to: *peer,
            term,
            session: progress.session,
        })
        .collect()
    }

    pub(crate) fn snapshot_sent(&mut self, shared: &Shared, sent: SendSnapshot, last: Index) {
        if let Some(progress) = self.receiving(sent) {
            progress.snapshot_sent(last.min(shared.log.last().index));
        }
    }

    pub(crate) fn snapshot_failed(&mut self, sent: SendSnapshot) {
        if let Some(progress) = self.receiving(sent) {
            progress.snapshot_failed();
        }
    }

    fn receiving(&mut self, sent: SendSnapshot) -> Option<&mut Progress> {
        let peer = self.peers.get_mut(&sent.to);
        let peer = peer.filter(|progress| progress.session == sent.session);
        if peer.is_none() {
            mark("snapshot report of another session dropped");
        }
        peer
    }

    pub(crate) fn accepted(
        &mut self,
        shared: &mut Shared,
        now: Time,
        from: NodeId,
        (session, matched): (ReplicationSession, Index),
    ) {
        // A match beyond our log can only be garbage: what a follower verifies, we have sent.
        if matched > shared.log.last().index {
            mark("ack beyond the log dropped");
            return;
        }
        let base = shared.log.base().index;
        let Some(progress) = self.answering(from, session, now) else {
            return;
        };
        let rises = progress.accepted(matched, base);
        progress.measure(now, shared.log.last().index, shared.config.election_timeout);
        if rises {
            self.advance_commit(shared);
            if self.transfer_target() == Some(from) {
                self.hand_over_if_level(shared);
            }
        }
    }

    pub(crate) fn refused(
        &mut self,
        shared: &mut Shared,
        now: Time,
        from: NodeId,
        (session, refused, hint): (ReplicationSession, Index, EntryId),
    ) {
        let Some(progress) = self.answering(from, session, now) else {
            return;
        };
        // Our own greatest entry that could be in the peer's log up to its hint: skips whole terms of ours, as the hint
        // skipped whole terms of the peer's (R24).
        // A hint below our base says that the peer does not hold the base: it needs a snapshot, and no further question.
        let common = if hint.index < shared.log.base().index {
            hint
        } else {
            shared.log.greatest_up_to(hint.index, hint.term)
        };
        let is_news = progress.refused(refused, common.index.next());
        if is_news && mutant("X08_hint_taken_for_match") && hint.index <= shared.log.last().index {
            progress.take_hint_for_match(hint.index);
            self.advance_commit(shared);
        }
    }

    /// Entries that were read back for a peer. They fit only if the peer still waits for just them, and the log still
    /// holds them.
    pub(crate) fn fetched(&mut self, shared: &mut Shared, peer: NodeId, entries: Vec<Entry>) {
        let Some(progress) = self.peers.get_mut(&peer) else {
            mark("stale fetch dropped");
            return;
        };
        let fits = entries
            .first()
            .is_some_and(|first| first.id.index == progress.next())
            && entries.iter().all(|entry| shared.log.holds(entry.id));
        let has_room =
            matches!(progress.state(), State::Replicate(inflight) if !inflight.is_full(&shared.config));
        if !fits || !has_room {
            mark("stale fetch dropped");
            return;
        }
        mark("fetched for a peer");
        let size_bytes = entries.iter().map(Entry::size_bytes).sum();
        send_entries(shared, peer, progress, Batch { entries, size_bytes });
    }

    pub(crate) fn peer_reset(&mut self, peer: NodeId) {
        if let Some(progress) = self.peers.get_mut(&peer) {
            progress.connection_lost();
        }
    }

    /// A heartbeat was answered: the peer lives, so what got no answer since the last heartbeat may be asked again (R77).
    pub(super) fn resume(shared: &mut Shared, peer: NodeId, progress: &mut Progress) {
        if !std::mem::take(&mut progress.may_resume) {
            return;
        }
        match progress.state() {
            State::Probe(_) => {
                if !mutant("X28_probe_never_left") {
                    progress.probe_again();
                }
            }
            State::Replicate(inflight) => {
                let sent = progress.next().previous().expect("next is past the first index");
                if progress.matched() >= Some(sent) || mutant("X28_full_window_never_reopened") {
                    return;
                }
                if inflight.is_full(&shared.config) {
                    mark("full window asked about");
                }
                // Asks where the peer stands: its refusal leads to probing, its ack frees the window.
                let prev = shared.log.id_at(sent).expect("what was sent is in the log");
                send_append(shared, peer, progress, prev, Vec::new());
            }
            State::Snapshot(_) => progress.transfer_again(),
        }
    }
}

/// One append, to find the match. The first one carries entries in the hope that it fits.
fn send_probe(shared: &mut Shared, peer: NodeId, progress: &mut Progress) {
    let State::Probe(probe) = progress.state() else {
        return;
    };
    let next = progress.next();
    let prev_index = next.previous().expect("next is past the base");
    let prev = shared
        .log
        .id_at(prev_index)
        .expect("next is at most one past the log's end");
    let entries = if probe.is_first && !buggify("empty probe") {
        shared
            .log
            .slice(next, append_limits(shared))
            .map_or_else(Vec::new, |batch| batch.entries)
    } else {
        Vec::new()
    };
    send_append(shared, peer, progress, prev, entries);
    progress.probe_sent(prev_index);
}

/// Appends in a row, until the window is full or the log's end is sent (R77).
fn fill_window(shared: &mut Shared, peer: NodeId, progress: &mut Progress) {
    while progress.next() <= shared.log.last().index {
        if matches!(progress.state(), State::Replicate(inflight) if inflight.is_full(&shared.config)) {
            mark("window full");
            return;
        }
        match shared.log.slice(progress.next(), append_limits(shared)) {
            Some(batch) => send_entries(shared, peer, progress, batch),
            None => return fetch_for(shared, peer, progress),
        }
    }
}

/// The follower is behind what is in memory: its entries are read back (one request at a time).
fn fetch_for(shared: &mut Shared, peer: NodeId, progress: &Progress) {
    let purpose = FetchPurpose::Peer(peer);
    if shared.has_open_fetch(purpose) {
        return;
    }
    mark("fetch for a peer");
    let below_tail = shared
        .log
        .tail_first()
        .previous()
        .expect("the tail starts past the base");
    let most = progress.next().plus(shared.config.max_append_entries as u64 - 1);
    shared.fetch(Fetch {
        purpose,
        from: progress.next(),
        to: most.min(below_tail),
        max_bytes: shared.config.max_append_bytes,
    });
}

fn append_limits(shared: &Shared) -> Limits {
    let max_entries = if buggify("one entry per append") {
        1
    } else {
        shared.config.max_append_entries
    };
    Limits {
        last: shared.log.last().index,
        max_entries,
        max_bytes: shared.config.max_append_bytes,
    }
}

fn send_entries(shared: &mut Shared, peer: NodeId, progress: &mut Progress, batch: Batch) {
    let prev_index = progress.next().previous().expect("next is past the first index");
    let prev = shared
        .log
        .id_at(prev_index)
        .expect("what precedes next is in the log");
    let last = batch
        .entries
        .last()
        .expect("a batch holds at least one entry")
        .id
        .index;
    send_append(shared, peer, progress, prev, batch.entries);
    progress.append_sent(last, batch.size_bytes);
}

fn send_append(shared: &mut Shared, peer: NodeId, progress: &Progress, prev: EntryId, entries: Vec<Entry>) {
    if let Some(first) = entries.first() {
        assert!(
            first.id.index == prev.index.next(),
            "an append's first entry {} follows prev {prev} (R25)",
            first.id
        );
    }
    let append = Message::Append {
        session: progress.session,
        prev,
        commit: shared.commit(),
        entries,
    };
    shared.send(peer, append);
}

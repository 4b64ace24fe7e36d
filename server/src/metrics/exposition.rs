//! Figures as text, in Prometheus' format (0.0.4), which all that scrapes can read. A name that was told once keeps its meaning.

use std::fmt;
use std::time::{Duration, SystemTime};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text};
use prometheus_client::registry::Registry;
use raftkv_protocol::{ErrorCode, RoleName};

use super::process::Process;
use super::writer::Writer;
use super::{EventCounts, Figures, HttpFigures, Requests, StoreFigures, WorkFigures};
use crate::replica::{FollowerFigures, FormedFigures, NodeFigures};

/// Of what [`text`] makes.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Everything that is told, as text.
#[must_use]
pub(crate) fn text(figures: Figures, http: HttpFigures) -> String {
    let told = Told {
        figures,
        http,
        process: Process::look(),
    };
    let mut registry = Registry::default();
    registry.register_collector(Box::new(told));
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry).expect("a string takes everything");
    text
}

#[derive(Debug)]
struct Told {
    figures: Figures,
    http: HttpFigures,
    process: Process,
}

impl Collector for Told {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut to = Writer(encoder);
        let figures = &self.figures;
        to.node(&figures.node)?;
        if let Some(formed) = &figures.node.formed {
            to.consensus(formed)?;
            to.followers(&formed.followers)?;
            to.state(formed)?;
        }
        to.events(&figures.events)?;
        to.requests(&figures.requests)?;
        to.waiting(figures)?;
        to.connections(figures, self.http.connections)?;
        to.http(&self.http)?;
        to.certificate(self.http.certificate_expires)?;
        to.work(&figures.work)?;
        to.files(&figures.store)?;
        to.process(&self.process)
    }
}

/// One or none.
fn flag(holds: bool) -> u64 {
    u64::from(holds)
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

impl Writer<'_> {
    fn node(&mut self, node: &NodeFigures) -> fmt::Result {
        let status = &node.status;
        let cluster = status.cluster.map(|cluster| cluster.to_string());
        let labels = [
            ("id", &*status.name.0),
            ("version", &status.version),
            ("cluster_id", cluster.as_deref().unwrap_or_default()),
        ];
        self.gauges(
            "raftkv_info",
            "Always 1; the labels say which node this is.",
            [(labels, 1_u64)],
        )?;
        self.gauge(
            "raftkv_ready",
            "1: a member that knows a leader and has caught up.",
            flag(status.ready),
        )?;
        self.gauge(
            "raftkv_is_leader",
            "1: this node leads.",
            flag(status.role == RoleName::Leader),
        )?;
        self.gauge(
            "raftkv_has_leader",
            "1: this node knows a leader.",
            flag(status.leader.is_some()),
        )?;
        let votes = !matches!(status.role, RoleName::Learner);
        self.gauge("raftkv_is_voter", "1: this node votes.", flag(votes))?;
        let voters = status.members.iter().filter(|member| member.voter).count();
        self.gauge("raftkv_voters", "Members that vote.", voters)?;
        let learners = status.members.len() - voters;
        self.gauge("raftkv_learners", "Members that do not vote (yet).", learners)?;
        self.gauge("raftkv_term", "Consensus term.", status.term)?;
        self.gauge(
            "raftkv_commit_index",
            "The last log entry known to be on a majority.",
            status.commit_index,
        )?;
        self.gauge(
            "raftkv_applied_index",
            "The last log entry that is part of this node's state.",
            status.applied_index,
        )?;
        self.gauge(
            "raftkv_revision",
            "The store's counter of changes.",
            status.revision.0,
        )
    }

    fn consensus(&mut self, formed: &FormedFigures) -> fmt::Result {
        let log = formed.log;
        self.gauge(
            "raftkv_log_first_index",
            "The first entry that the log holds.",
            log.first.get(),
        )?;
        self.gauge(
            "raftkv_log_last_index",
            "The last entry of the log, durable or not.",
            log.last.get(),
        )?;
        self.gauge(
            "raftkv_log_durable_index",
            "The last entry of the log that is durable here.",
            log.durable.get(),
        )?;
        self.gauge(
            "raftkv_is_quarantined",
            "1: this node was found to differ from the others and serves no more; replace it.",
            flag(formed.is_quarantined),
        )?;
        let Some(contact) = formed.leader_contact else {
            return Ok(());
        };
        self.gauge(
            "raftkv_leader_contact_seconds",
            "How long ago this node heard from a leader; 0 where it leads.",
            seconds(contact),
        )
    }

    fn followers(&mut self, followers: &[FollowerFigures]) -> fmt::Result {
        let member = |follower: &FollowerFigures| [("member", follower.name.to_string())];
        self.gauges(
            "raftkv_follower_match_index",
            "Of a leader: the last entry that this member holds durably.",
            followers
                .iter()
                .map(|follower| (member(follower), follower.matched.map_or(0, |index| index.get()))),
        )?;
        self.gauges(
            "raftkv_follower_contact_seconds",
            "Of a leader: how long ago this member answered.",
            followers
                .iter()
                .filter_map(|follower| Some((member(follower), seconds(follower.silence?)))),
        )?;
        self.gauges(
            "raftkv_follower_needs_snapshot",
            "Of a leader, 1: this member is behind what the log still holds.",
            followers
                .iter()
                .map(|follower| (member(follower), flag(follower.needs_snapshot))),
        )
    }

    fn state(&mut self, formed: &FormedFigures) -> fmt::Result {
        self.gauge(
            "raftkv_oldest_revision",
            "The oldest revision that reads in the past and watches can begin with.",
            formed.oldest_revision.0,
        )?;
        self.gauge("raftkv_leases", "Leases that have not ended.", formed.leases)?;
        self.gauge(
            "raftkv_sessions",
            "Sessions of clients that have not ended.",
            formed.sessions,
        )?;
        let overlay = formed.overlay;
        self.gauge(
            "raftkv_overlay_bytes",
            "Memory of what was written lately, about.",
            overlay.bytes,
        )?;
        self.gauge(
            "raftkv_overlay_limit_bytes",
            "What it may take (--overlay-mib).",
            overlay.limit_bytes,
        )?;
        self.gauge(
            "raftkv_overlay_undrained",
            "Parts of it that wait to be written to the base, the one under way included.",
            overlay.undrained,
        )?;
        self.gauge(
            "raftkv_writes_slowed",
            "Writes that wait because the base does not keep up.",
            formed.slowed_writes,
        )?;
        let disk = formed.disk;
        self.gauge(
            "raftkv_disk_reserve_bytes",
            "Puts are refused while the disk has less (--disk-reserve-mib).",
            disk.reserve_bytes,
        )?;
        self.gauge(
            "raftkv_disk_is_low",
            "1: puts are refused for that.",
            flag(disk.is_low),
        )?;
        disk.free_bytes.map_or(Ok(()), |free| {
            self.gauge(
                "raftkv_disk_free_bytes",
                "What the disk of the data directory has left.",
                free,
            )
        })
    }

    fn events(&mut self, events: &EventCounts) -> fmt::Result {
        self.counter(
            "raftkv_leader_changes_total",
            "How often this node met another leader than before, the first one included.",
            events.leader_changes,
        )?;
        self.counter(
            "raftkv_elections_won_total",
            "How often this node was elected.",
            events.elections_won,
        )?;
        self.counter(
            "raftkv_leaderships_lost_total",
            "How often this node led and then did no more.",
            events.leaderships_lost,
        )?;
        self.counter(
            "raftkv_snapshots_sent_total",
            "Snapshots that other nodes took from this one.",
            events.snapshots_sent,
        )?;
        self.counter(
            "raftkv_snapshots_received_total",
            "Snapshots that this node took over.",
            events.snapshots_received,
        )?;
        self.counter(
            "raftkv_differences_total",
            "How often another node was seen to have made something else of the same log.",
            events.differences,
        )?;
        self.counter(
            "raftkv_damaged_files_total",
            "Damaged files of log or history that were found.",
            events.damaged_files,
        )
    }

    fn requests(&mut self, requests: &Requests) -> fmt::Result {
        let endings = requests.endings().map(|(kind, from, ending, count)| {
            let code = ending.map_or("ok", ErrorCode::name);
            ([("kind", kind.name()), ("from", from), ("code", code)], count)
        });
        self.counters(
            "raftkv_requests_total",
            "Requests that were answered; from another node where that passed them on.",
            endings,
        )?;
        let took = requests
            .durations()
            .map(|(kind, from, durations)| ([("kind", kind.name()), ("from", from)], durations));
        self.histograms(
            "raftkv_request_duration_seconds",
            "From when the node read a request to when its answer was ready.",
            took,
        )
    }

    fn waiting(&mut self, figures: &Figures) -> fmt::Result {
        self.gauge(
            "raftkv_requests_waiting",
            "Requests that were taken and not answered yet.",
            figures.node.waiting_requests,
        )?;
        self.gauge(
            "raftkv_requests_waiting_bytes",
            "Bytes of those.",
            figures.waiting_bytes,
        )
    }

    fn connections(&mut self, figures: &Figures, http: usize) -> fmt::Result {
        let counts = [("native", figures.native_clients), ("http", http)];
        self.gauges(
            "raftkv_connections",
            "Open connections of clients, and of nodes that pass requests on.",
            counts.map(|(protocol, count)| ([("protocol", protocol)], count)),
        )?;
        self.gauge("raftkv_watches", "Watches that go on.", figures.watches)
    }

    fn http(&mut self, http: &HttpFigures) -> fmt::Result {
        self.counters(
            "raftkv_http_responses_total",
            "Answers to HTTP requests, by status.",
            http.answers
                .iter()
                .map(|(status, count)| ([("status", status.to_string())], *count)),
        )
    }

    fn certificate(&mut self, expires: Option<SystemTime>) -> fmt::Result {
        let since_1970 = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).ok();
        match expires.and_then(since_1970) {
            None => Ok(()),
            Some(expires) => self.gauge(
                "raftkv_certificate_expires_timestamp_seconds",
                "When this node's certificate expires, or one between it and its authority, in seconds since 1970.",
                expires.as_secs(),
            ),
        }
    }

    fn work(&mut self, work: &WorkFigures) -> fmt::Result {
        self.histogram(
            "raftkv_log_write_duration_seconds",
            "Writing a batch of entries to the log and syncing it.",
            &work.log_writes,
        )?;
        self.histogram(
            "raftkv_drain_duration_seconds",
            "Putting a part of what memory holds into the base, pauses included.",
            &work.drains,
        )?;
        self.histogram(
            "raftkv_compaction_duration_seconds",
            "Merging tables of the base, a piece at a time.",
            &work.compactions,
        )
    }

    fn files(&mut self, store: &StoreFigures) -> fmt::Result {
        self.gauge("raftkv_base_bytes", "The base's tables, about.", store.base_bytes)?;
        self.gauge(
            "raftkv_base_waiting_tables",
            "Tables of the base that wait to be merged; growing, compaction falls behind.",
            store.waiting_tables,
        )?;
        self.gauge("raftkv_history_bytes", "Files of history.", store.history_bytes)?;
        self.gauge(
            "raftkv_history_events",
            "Changes that history holds.",
            store.history_events,
        )
    }

    fn process(&mut self, process: &Process) -> fmt::Result {
        self.counter(
            "process_cpu_seconds_total",
            "Processor time, user and system.",
            seconds(process.cpu),
        )?;
        let gauges = [
            (
                "process_resident_memory_bytes",
                "Memory that is resident.",
                process.resident_bytes,
            ),
            ("process_threads", "Threads.", process.threads),
            ("process_open_fds", "Open files and sockets.", process.open_files),
            (
                "process_max_fds",
                "How many there may be.",
                process.most_open_files,
            ),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value {
                self.gauge(name, help, value)?;
            }
        }
        process.started_s.map_or(Ok(()), |started| {
            self.gauge(
                "process_start_time_seconds",
                "When it began, seconds since 1970.",
                started,
            )
        })
    }
}

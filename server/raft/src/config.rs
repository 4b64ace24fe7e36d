//! Settings of the core. Valid by construction; no zero means "default" or "unlimited".

use std::time::Duration;

use thiserror::Error;

use crate::LeaderLeases;

/// Settings of one group on one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Time between a leader's heartbeats. Must agree across the cluster.
    pub heartbeat_interval: Duration,
    /// Least election time-out T; each is drawn from [T, 2T) (R7). Must agree across the cluster.
    pub election_timeout: Duration,
    /// A follower whose connection to the leader's process was reset asks for pre-votes after a delay drawn from
    /// [0, this): long enough that two followers rarely collide, short against the time-out.
    pub reset_campaign_jitter: Duration,
    /// Most entries in one append.
    pub max_append_entries: usize,
    /// An append is closed once it passes this size in bytes (one entry is always sent).
    pub max_append_bytes: usize,
    /// Most appends under way to one follower.
    pub max_inflight_appends: usize,
    /// Most bytes of entries under way to one follower.
    pub max_inflight_bytes: usize,
    /// Most bytes of accepted, uncommitted entries on the leader; beyond: [`ProposeError::Overloaded`](crate::ProposeError).
    pub max_uncommitted_bytes: usize,
    /// Bytes of the log's tail kept in memory for followers. Entries not yet durable or not yet applied stay besides.
    pub tail_bytes: usize,
    /// Most bytes of entries in one [`Ready::committed`](crate::Ready). No further batch is handed out while this much is
    /// handed out and not reported as applied (R78).
    pub max_apply_bytes: usize,
    /// Most read batches that wait for a confirmation at once.
    pub max_pending_reads: usize,
    /// Reads by lease. Must agree across the cluster.
    pub leader_leases: LeaderLeases,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            heartbeat_interval: Duration::from_millis(50),
            election_timeout: Duration::from_millis(300),
            reset_campaign_jitter: Duration::from_millis(20),
            max_append_entries: 4096,
            max_append_bytes: 1 << 20,
            max_inflight_appends: 64,
            max_inflight_bytes: 16 << 20,
            max_uncommitted_bytes: 64 << 20,
            tail_bytes: 32 << 20,
            max_apply_bytes: 4 << 20,
            max_pending_reads: 4096,
            leader_leases: LeaderLeases::Off,
        }
    }
}

impl Config {
    /// Is every setting usable, and do they fit together?
    ///
    /// # Errors
    /// Says which setting can not work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let settings = [
            ("heartbeat_interval", self.heartbeat_interval.is_zero()),
            ("election_timeout", self.election_timeout.is_zero()),
            ("reset_campaign_jitter", self.reset_campaign_jitter.is_zero()),
            ("max_append_entries", self.max_append_entries == 0),
            ("max_append_bytes", self.max_append_bytes == 0),
            ("max_inflight_appends", self.max_inflight_appends == 0),
            ("max_inflight_bytes", self.max_inflight_bytes == 0),
            ("max_uncommitted_bytes", self.max_uncommitted_bytes == 0),
            ("tail_bytes", self.tail_bytes == 0),
            ("max_apply_bytes", self.max_apply_bytes == 0),
            ("max_pending_reads", self.max_pending_reads == 0),
        ];
        if let Some((setting, _)) = settings.into_iter().find(|(_, is_zero)| *is_zero) {
            return Err(ConfigError::Zero { setting });
        }
        if let LeaderLeases::On { max_clock_drift_ppm } = self.leader_leases
            && !(1..=LeaderLeases::MOST_DRIFT_PPM).contains(&max_clock_drift_ppm)
        {
            return Err(ConfigError::ClockDrift {
                max_clock_drift_ppm,
                most: LeaderLeases::MOST_DRIFT_PPM,
            });
        }
        if self.election_timeout < self.heartbeat_interval * 3 {
            return Err(ConfigError::TimeoutTooShort {
                election: self.election_timeout,
                heartbeat: self.heartbeat_interval,
            });
        }
        Ok(())
    }
}

/// A [`Config`] that can not work.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// A limit or duration is zero.
    #[error("{setting} is 0; it must be at least 1")]
    Zero {
        /// Which.
        setting: &'static str,
    },
    /// No clock is exact, and none is off by so much.
    #[error("the bound on clock drift ({max_clock_drift_ppm} ppm) must be from 1 to {most}")]
    ClockDrift {
        /// The setting.
        max_clock_drift_ppm: u32,
        /// The most it may be.
        most: u32,
    },
    /// A follower would time out between two heartbeats.
    #[error(
        "the election time-out ({election:?}) must be at least three heartbeat intervals ({heartbeat:?})"
    )]
    TimeoutTooShort {
        /// Election time-out.
        election: Duration,
        /// Heartbeat interval.
        heartbeat: Duration,
    },
}

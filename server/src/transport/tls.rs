//! TLS around the connections of this node, whichever port they come to.

use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use raftkv_protocol::Address;
use raftkv_tls::{CertificateDer, ClientCertificates, Reload, ServerTls, TlsError, TlsFiles};
use tokio::sync::watch;

/// So long before a certificate expires its operator is told, and then every day.
const WARN_BEFORE: Duration = Duration::from_secs(14 * 86_400);
const WARN_INTERVAL: Duration = Duration::from_secs(86_400);

/// The files are looked at so often even if nobody connects: what is wrong with them is better known early.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// Where certificates are, and who must have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// This node's certificate and key, and the authorities it trusts.
    pub files: TlsFiles,
    /// Must clients have one? Other nodes must in any case.
    pub clients: ClientCertificates,
}

/// How this node accepts and dials.
#[derive(Debug)]
pub(crate) struct Tls {
    node: ServerTls,
    /// Told when the files were read again.
    renewals: watch::Sender<()>,
    warned_at: Mutex<Option<Instant>>,
}

impl Tls {
    /// # Errors
    /// When a file can not be used.
    pub(crate) fn new(config: &TlsConfig) -> Result<Tls, TlsError> {
        Ok(Tls {
            node: ServerTls::new(config.files.clone(), config.clients)?,
            renewals: watch::Sender::new(()),
            warned_at: Mutex::default(),
        })
    }

    /// For a new connection: with what the certificate files hold now.
    pub(crate) fn renewed(&self) -> &ServerTls {
        match self.node.look() {
            Reload::Same => {}
            Reload::Renewed => {
                tracing::info!("the certificate files have changed: connections use what they hold now");
                self.renewals.send_replace(());
            }
            Reload::Failed(error) => tracing::error!(
                %error,
                "the certificate files have changed and can not be used: new connections use what they held before"
            ),
        }
        &self.node
    }

    /// Is the other side of this connection a node?
    pub(crate) fn is_node(&self, stream: &raftkv_tls::Stream) -> bool {
        self.node.is_node(stream)
    }

    /// Tells the operator if those who dial one of these addresses will refuse this node's certificate.
    pub(crate) fn warn_of_names<'a>(&self, addresses: impl IntoIterator<Item = &'a Address>) {
        for address in addresses {
            if !self.node.names(&address.0) {
                tracing::warn!(
                    %address,
                    "this node's certificate does not name the host at which others reach it: they will refuse it; make one that does, or see --advertise and --advertise-http"
                );
            }
        }
    }

    /// When this node's certificate expires.
    pub(crate) fn expires(&self) -> SystemTime {
        self.node.expires()
    }

    /// Looks after the certificate files for as long as the node's thread lives.
    pub(crate) async fn tend(&self) {
        loop {
            self.renewed();
            self.warn_before_expiry(Instant::now(), SystemTime::now());
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    fn warn_before_expiry(&self, now: Instant, today: SystemTime) {
        let left = self.expires().duration_since(today).unwrap_or_default();
        let warned_at = &mut *self.warned_at.lock().unwrap_or_else(PoisonError::into_inner);
        if is_to_warn(left, warned_at, now) {
            tracing::warn!(
                days_left = left.as_secs() / 86_400,
                "this node's certificate expires soon, and nobody connects then: renew its files, they are read by themselves"
            );
        }
    }
}

/// The trust in whoever is at the other side of one connection. Begins before their certificate is judged, so that no change of
/// the files falls between.
#[derive(Debug)]
pub(crate) struct Trust(Option<(Arc<Tls>, watch::Receiver<()>)>);

impl Trust {
    /// Without TLS everybody is trusted for ever.
    pub(crate) fn begin(tls: Option<&Arc<Tls>>) -> Trust {
        Trust(tls.map(|tls| (tls.clone(), tls.renewals.subscribe())))
    }

    /// Waits until who has presented `chain` would not be accepted any more.
    pub(crate) async fn lost(self, chain: Option<Vec<CertificateDer<'static>>>) -> io::Error {
        if let (Trust(Some((tls, mut renewals))), Some(chain)) = (self, chain) {
            while renewals.changed().await.is_ok() {
                if !tls.node.still_accepts(&chain) {
                    let reason = "the other side's certificate is not accepted any more";
                    return io::Error::new(io::ErrorKind::PermissionDenied, reason);
                }
            }
        }
        pending().await
    }
}

/// Is the operator to be told that the certificate lives for no more than `left`?
fn is_to_warn(left: Duration, warned_at: &mut Option<Instant>, now: Instant) -> bool {
    if left > WARN_BEFORE {
        *warned_at = None;
        return false;
    }
    let is_due = warned_at.is_none_or(|at| now.saturating_duration_since(at) >= WARN_INTERVAL);
    if is_due {
        *warned_at = Some(now);
    }
    is_due
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_told_two_weeks_before_and_each_day_until_it_is_renewed() {
        let day = Duration::from_secs(86_400);
        let begin = Instant::now();
        let mut warned_at = None;
        let mut is_told =
            |left: u32, hours: u32| is_to_warn(day * left, &mut warned_at, begin + day / 24 * hours);
        assert!(!is_told(15, 0));
        assert!(is_told(14, 24));
        assert!(!is_told(14, 47));
        assert!(is_told(13, 48));
        assert!(!is_told(365, 49));
        assert!(is_told(0, 50), "a renewed one that expires at once is news");
    }
}

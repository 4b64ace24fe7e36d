//! What a read asks for beside its key: which promise, and as of when.

use bytes::Bytes;
use raftkv_protocol::{
    Answer, At, Consistency, Header, KeySpan, RangeRequest, ReadBasis, Record, Request, Revision,
};

use super::api::{Api, unexpected};
use super::error::HttpError;
use super::parameter;
use super::query::{Query, refused};

/// Of which state a read is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReadOf {
    pub(super) at: At,
    pub(super) consistency: Consistency,
}

impl ReadOf {
    /// Reads it from the query.
    pub(super) fn parse(query: &Query<'_>) -> Result<ReadOf, HttpError> {
        Ok(ReadOf {
            at: at(query)?,
            consistency: consistency(query)?,
        })
    }
}

fn at(query: &Query<'_>) -> Result<At, HttpError> {
    let revision = query.whole(&parameter::REVISION)?;
    let ago_ms = query.duration_ms(&parameter::AGO)?;
    match (revision, ago_ms) {
        (None, None) => Ok(At::Latest),
        (Some(0), None) => Err(refused(
            &parameter::REVISION,
            "is 0; the empty store has revision 1",
        )),
        (Some(revision), None) => Ok(At::Revision(Revision(revision))),
        (None, Some(ago_ms)) => Ok(At::Ago { ago_ms }),
        (Some(_), Some(_)) => Err(HttpError::bad_request(
            "revision and ago exclude each other: give one",
        )),
    }
}

fn consistency(query: &Query<'_>) -> Result<Consistency, HttpError> {
    let max_staleness_ms = query.whole(&parameter::MAX_STALENESS_MS)?;
    let consistency = match query.get(&parameter::CONSISTENCY) {
        None | Some(b"linearizable") => Consistency::Linearizable,
        Some(b"leader_lease") => Consistency::LeaderLease,
        Some(b"stale") => Consistency::Stale,
        Some(_) => {
            let problem = "is none of linearizable, leader_lease and stale";
            return Err(refused(&parameter::CONSISTENCY, problem));
        }
    };
    // A bound belongs to a stale read alone.
    match (consistency, max_staleness_ms) {
        (consistency, None) => Ok(consistency),
        (Consistency::Stale, Some(max_staleness_ms)) => Ok(Consistency::StaleWithin { max_staleness_ms }),
        (_, Some(_)) => Err(HttpError::bad_request(
            "max_staleness_ms goes with consistency=stale alone; other reads are never stale",
        )),
    }
}

/// What a read of one key found.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) header: Header,
    /// `None`: the key does not exist.
    pub(super) record: Option<Record>,
    /// What the answer rests on, where that is not simply "linearizable".
    pub(super) basis: Option<ReadBasis>,
    /// The state that it is of, where that is not the latest.
    pub(super) at: Option<Revision>,
}

impl Api {
    /// Reads one key.
    pub(super) async fn read(&self, key: &Bytes, of: ReadOf) -> Result<Reading, HttpError> {
        self.limits.check_key(key)?;
        let request = match of.at {
            At::Latest => Request::Get {
                key: key.clone(),
                consistency: of.consistency,
            },
            at => Request::Range(RangeRequest {
                at,
                consistency: of.consistency,
                ..RangeRequest::new(KeySpan::one(key))
            }),
        };
        let (header, answer) = self.ask(request).await?;
        let (record, basis, at) = match answer {
            Answer::Found(record) => (Some(record), None, None),
            Answer::NotFound => (None, None, None),
            Answer::Read { record, basis } => (record, Some(basis), None),
            Answer::Range(page) => {
                let record = page.kvs.into_iter().next().map(|kv| kv.record);
                (record, page.basis, Some(page.at))
            }
            other => return Err(unexpected(&other)),
        };
        Ok(Reading {
            header,
            record,
            basis,
            at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<ReadOf> {
        let query = Query::parse(Some(text), &super::super::handlers::GET).expect(text);
        ReadOf::parse(&query).ok()
    }

    #[test]
    fn a_read_says_what_it_wants_to_be_promised() {
        let consistency = |text| parse(text).map(|of| of.consistency);
        assert_eq!(consistency(""), Some(Consistency::Linearizable));
        assert_eq!(
            consistency("consistency=leader_lease"),
            Some(Consistency::LeaderLease)
        );
        assert_eq!(
            consistency("max_staleness_ms=50&consistency=stale"),
            Some(Consistency::StaleWithin { max_staleness_ms: 50 })
        );
        for wrong in [
            "consistency=eventual",
            "max_staleness_ms=50",
            "consistency=stale&max_staleness_ms=x",
        ] {
            assert_eq!(consistency(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_read_may_be_of_the_past() {
        let at = |text| parse(text).map(|of| of.at);
        assert_eq!(at(""), Some(At::Latest));
        assert_eq!(at("revision=7"), Some(At::Revision(Revision(7))));
        assert_eq!(at("ago=5m"), Some(At::Ago { ago_ms: 300_000 }));
        for wrong in ["revision=0", "revision=x", "ago=5", "revision=7&ago=5m"] {
            assert_eq!(at(wrong), None, "{wrong}");
        }
    }
}

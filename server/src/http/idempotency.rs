//! `Idempotency-Key`: what a client names a write by, so that sending it again is safe.

use axum::http::{HeaderMap, HeaderValue};
use raftkv_protocol::MAX_IDEMPOTENCY_KEY_BYTES;

use super::error::HttpError;

/// The name of the header field.
pub(super) const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The value of the header field, 1 to [`MAX_IDEMPOTENCY_KEY_BYTES`] bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IdempotencyKey(HeaderValue);

impl IdempotencyKey {
    /// What a request names itself by, if it does.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, HttpError> {
        let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) if (1..=MAX_IDEMPOTENCY_KEY_BYTES).contains(&value.len()) => {
                Ok(Some(IdempotencyKey(value.clone())))
            }
            (Some(value), None) => Err(HttpError::bad_request(format!(
                "the Idempotency-Key has {} bytes; it has 1 to {MAX_IDEMPOTENCY_KEY_BYTES}",
                value.len()
            ))),
            (Some(_), Some(_)) => Err(HttpError::bad_request(
                "there are two Idempotency-Key headers; it is not clear which one is meant",
            )),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_of_a_bounded_length_is_taken() {
        let mut headers = HeaderMap::new();
        assert_eq!(IdempotencyKey::of(&headers).ok(), Some(None));
        headers.append(IDEMPOTENCY_KEY, HeaderValue::from_static("a-1"));
        let key = IdempotencyKey::of(&headers).unwrap().expect("there is one");
        assert_eq!(key.bytes(), b"a-1");
        headers.append(IDEMPOTENCY_KEY, HeaderValue::from_static("a-2"));
        assert!(IdempotencyKey::of(&headers).is_err());
        for wrong in [String::new(), "k".repeat(256)] {
            headers.insert(IDEMPOTENCY_KEY, HeaderValue::try_from(wrong).unwrap());
            assert!(IdempotencyKey::of(&headers).is_err());
        }
    }
}

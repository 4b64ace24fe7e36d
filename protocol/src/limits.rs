//! Sizes that requests must keep to, checked in one place for every door.

use crate::{ErrorCode, Failure};

/// Sizes that requests must keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest key, bytes.
    pub key_bytes: usize,
    /// Longest value, bytes.
    pub value_bytes: usize,
    /// Longest key, or encoded command, of one request, bytes.
    pub request_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            key_bytes: 4 << 10,
            value_bytes: 2 << 20,
            request_bytes: 8 << 20,
        }
    }
}

/// More than the header of any request needs, bytes.
const REQUEST_HEADER_BYTES: usize = 64;

impl Limits {
    /// The longest body of a frame that a request within the limits can need: for the decoder of a client's frames.
    #[must_use]
    pub fn max_frame_bytes(&self) -> usize {
        self.request_bytes.saturating_add(REQUEST_HEADER_BYTES)
    }

    /// Checks a key.
    ///
    /// # Errors
    /// `bad_request` if it is empty, `too_large` if it is over-long.
    pub fn check_key(&self, key: &[u8]) -> Result<(), Failure> {
        if key.is_empty() {
            return Err(Failure::new(
                ErrorCode::BadRequest,
                format!("the key is empty; a key has 1 to {} bytes", self.key_bytes),
            ));
        }
        check_length("key", key.len(), self.key_bytes)
    }

    /// Checks a value.
    ///
    /// # Errors
    /// `too_large` if it is over-long.
    pub fn check_value(&self, value: &[u8]) -> Result<(), Failure> {
        check_length("value", value.len(), self.value_bytes)
    }

    /// Checks a whole encoded request.
    ///
    /// # Errors
    /// `too_large` if it is over-long.
    pub fn check_request(&self, encoded: &[u8]) -> Result<(), Failure> {
        check_length("request", encoded.len(), self.request_bytes)
    }
}

fn check_length(what: &str, length: usize, limit: usize) -> Result<(), Failure> {
    if length <= limit {
        return Ok(());
    }
    let message = format!("the {what} has {length} bytes, the limit is {limit} bytes");
    Err(Failure::new(ErrorCode::TooLarge, message))
}

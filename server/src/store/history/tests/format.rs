//! The bytes of format version 1 do not change.

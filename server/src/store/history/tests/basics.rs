//! Single situations.

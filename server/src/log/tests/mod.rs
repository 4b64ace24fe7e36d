//! The log keeps what it synced, and says what it lost.

mod basics;
mod model;
mod threaded;

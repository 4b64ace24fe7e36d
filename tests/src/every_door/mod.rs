//! One sequence of operations through every way into the store: the answers must be the same.
//!
//! ```text
//! ask.rs        what is asked, whatever the door            drawing.rs   random sequences of it
//! told.rs       what is told, in one form                   doors.rs     what a door is
//! native.rs     the client library, to a server process
//! http.rs       the HTTP API v1 of a server process         json.rs      its bodies
//! embedded.rs   the state machine in this process: no log, no network, no clock
//! ```
//! Each door leads to a store of its own that begins empty, so revisions agree from the first write on. Opaque values do not
//! agree, and are told by the order in which they came: leases, and the cursors of listings.
//!
//! Left out, because they depend on the clocks of three stores: what expires (every time to live is an hour or none at all),
//! reads by age, and watches. A lease's remaining time is checked against its time to live by each door, and not compared.

mod ask;
mod doors;
mod drawing;
mod embedded;
mod http;
mod json;
mod native;
mod told;

pub use ask::{Ask, Keys, LeaseName, Life, Listing, Operation, Test, Transaction};
pub use doors::{Cursors, Door, Leases};
pub use drawing::Drawing;
pub use embedded::EmbeddedDoor;
pub use http::HttpDoor;
pub use native::NativeDoor;
pub use told::{Branch, Done, Row, Told, ToldLease};

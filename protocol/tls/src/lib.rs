//! TLS around raftkv's connections (TLS 1.3, RFC 8446), for servers and clients alike.
//!
//! - [`TlsFiles`]: certificates, keys and authorities as PEM files, read again when they change.
//! - [`ServerTls`]: how a node accepts, and how it dials other nodes. [`ClientTls`]: how everybody else dials.
//! - [`Stream`]: a connection that is plain or within TLS, read and written without waiting.
//! - `session` is what of TLS needs no socket: bytes that arrived in, bytes to send out.
//! - `mint` (a feature): makes certificates, for those who have no authority of their own.
//!
//! Who may do what is decided by certificates alone: a node proves to another that it is one by a certificate of the same
//! authority that allows both ends of TLS (extended key usage `serverAuth` beside `clientAuth`); a client's allows `clientAuth`.

mod error;
mod files;
#[cfg(feature = "mint")]
pub mod mint;
mod read_size;
mod reload;
mod session;
mod settings;
mod stream;

pub use error::{HandshakeError, TlsError};
pub use files::TlsFiles;
pub use read_size::ReadSize;
pub use reload::Reload;
pub use rustls::pki_types::CertificateDer;
pub use settings::{ClientCertificates, ClientTls, ServerTls};
pub use stream::{Flushed, Stream};

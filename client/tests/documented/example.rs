// What the examples in this crate's documentation begin with, on lines that readers do not see: a server of their own. It is
// included by each of them, so that they show what a program would contain and yet run.

/// A server of one node in a directory of its own; both are gone when it is dropped.
struct Example {
    server: Option<raftkv_server::ServerHandle>,
    _directory: tempfile::TempDir,
}

impl Example {
    fn start() -> Example {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut config = raftkv_server::config::Config::local("node1", directory.path().join("node1"));
        // Log segments are allocated ahead: an example needs few bytes.
        config.log.segment_size_bytes = 1 << 20;
        Example {
            server: Some(raftkv_server::Server::start(&config).expect("the server starts")),
            _directory: directory,
        }
    }

    /// In place of the client that the reader sees, who has a server at a port that is known.
    fn client(&self) -> raftkv_client::Client {
        let server = self.server.as_ref().expect("it runs");
        let builder = raftkv_client::Client::builder().endpoints([server.native_address().to_string()]);
        builder.timeout(std::time::Duration::from_secs(30)).build().expect("an endpoint")
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop().expect("the server stops");
        }
    }
}

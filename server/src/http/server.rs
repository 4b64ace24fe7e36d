//! The HTTP thread: accepts, bounds and ends connections.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use raftkv_protocol::Limits;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::api::Api;
use super::calls::{Served, router};
use super::counts::Counts;
use crate::shell::{AnswerRound, Door};
use crate::transport::{Tls, Trust, socket};

/// A request's header is complete within this time, or its connection is closed: what a slow client costs is bounded.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// A client that takes nothing of its answer for so long is gone, or wants only to hold a place.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Requests under way at a stop get this long; the node itself has stopped answering by then.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// After a failed accept (too many open files, mostly): trying again at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the HTTP API is told at its start.
#[derive(Clone, Debug)]
pub(crate) struct HttpSettings {
    pub(crate) limits: Limits,
    pub(crate) request_timeout: Duration,
    /// A request's body is complete within this time, or the request is refused.
    pub(crate) body_timeout: Duration,
    /// `None`: connections are plain.
    pub(crate) tls: Option<Arc<Tls>>,
}

/// A port that is served.
#[derive(Debug)]
pub(crate) struct HttpPort {
    pub(crate) listener: StdListener,
    pub(crate) served: Served,
    pub(crate) max_connections: usize,
}

/// The running HTTP thread.
#[derive(Debug)]
pub(crate) struct HttpServer {
    /// Dropped to stop.
    running: watch::Sender<()>,
    thread: JoinHandle<()>,
}

impl HttpServer {
    /// Serves on `ports` until stopped. Whoever probes is answered without TLS, for it may have no certificate.
    ///
    /// # Errors
    /// When the system gives no thread or no poller.
    pub(crate) fn start(
        ports: Vec<HttpPort>,
        settings: HttpSettings,
        door: Door,
        answers: AnswerRound,
    ) -> io::Result<HttpServer> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (running, stopped) = watch::channel(());
        let api = Arc::new(Api {
            door,
            limits: settings.limits,
            request_timeout: settings.request_timeout,
            body_timeout: settings.body_timeout,
            counts: Counts::default(),
            tls: settings.tls,
        });
        runtime.spawn(answers.pass_on());
        runtime.spawn(api.door.clone().wake_the_node());
        let mut served = JoinSet::new();
        for port in ports {
            let listener = listen(&runtime, port.listener)?;
            let tls = api.tls.clone().filter(|_| port.served == Served::All);
            let router = router(Arc::clone(&api), port.served);
            let serve = serve(
                listener,
                port.max_connections,
                tls,
                router,
                api.counts.clone(),
                stopped.clone(),
            );
            served.spawn_on(serve, runtime.handle());
        }
        let thread = std::thread::Builder::new()
            .name("http".into())
            .spawn(move || drop(runtime.block_on(served.join_all())))?;
        Ok(HttpServer { running, thread })
    }

    /// Takes no more connections, lets requests under way end, and returns when the thread is gone.
    pub(crate) fn stop(self) {
        drop(self.running);
        if self.thread.join().is_err() {
            tracing::error!("the HTTP thread had panicked");
        }
    }
}

fn listen(runtime: &Runtime, listener: StdListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    let _inside = runtime.enter();
    TcpListener::from_std(listener)
}

async fn serve(
    listener: TcpListener,
    max_connections: usize,
    tls: Option<Arc<Tls>>,
    router: Router,
    counts: Counts,
    mut stopped: watch::Receiver<()>,
) {
    let service = TowerToHyperService::new(router);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let places = Arc::new(Semaphore::new(max_connections));
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = async {
            // Never closed, so a place always comes.
            let place = places.clone().acquire_owned().await.ok();
            (place, accept(&listener).await)
        };
        let (place, stream) = tokio::select! {
            accepted = accepted => accepted,
            // Nothing is ever sent.
            _ = stopped.changed() => break,
        };
        let counted = counted(service.clone(), counts.clone());
        let (http, watcher) = (http.clone(), graceful.watcher());
        let tls = tls.clone();
        let open = counts.connection();
        tokio::spawn(async move {
            let ended = match tls {
                None => converse(&http, stream, counted, watcher).await,
                Some(tls) => within_tls(&tls, &http, stream, counted, watcher).await,
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "an HTTP connection ended early");
            }
            drop((place, open));
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(STOP_TIMEOUT, graceful.shutdown()).await;
}

/// As [`converse`], for as long as the client's certificate is accepted.
async fn within_tls(
    tls: &Arc<Tls>,
    http: &http1::Builder,
    stream: TcpStream,
    service: impl Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send> + 'static,
    watcher: Watcher,
) -> io::Result<()> {
    let trust = Trust::begin(Some(tls));
    let stream = super::tls::accept(stream, tls).await?;
    let presented = stream.get_ref().1.peer_certificates().map(Vec::from);
    tokio::select! {
        ended = converse(http, stream, service, watcher) => ended,
        error = trust.lost(presented) => Err(error),
    }
}

/// Answers the requests of one connection until it ends, or the server does.
async fn converse(
    http: &http1::Builder,
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    service: impl Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send> + 'static,
    watcher: Watcher,
) -> io::Result<()> {
    let connection = http.serve_connection(TokioIo::new(stream), service);
    watcher.watch(connection).await.map_err(io::Error::other)
}

/// The service of one connection, which counts what it answers.
fn counted(
    service: TowerToHyperService<Router>,
    counts: Counts,
) -> impl Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send> {
    service_fn(move |request| {
        let answered = service.call(request);
        let counts = counts.clone();
        async move {
            let response = answered.await?;
            counts.answered(response.status());
            Ok(response)
        }
    })
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Without them it is slower, or holds its place longer: no reason to refuse it.
                let _ = socket::configure(&stream);
                let _ = socket::expect_reader(&stream, ANSWER_TIMEOUT);
                return stream;
            }
            Err(error) => {
                tracing::warn!(%error, "an HTTP connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

//! Connections: TLS, HTTP/1.1 and HTTP/2, limits, and letting clients go.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, Version, header::CONNECTION},
};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::certs::client_name;

use super::{life::Life, routes::Client};

/// Connections at once. Each API server holds a few; probes and people come on top.
const MAX_CONNECTIONS: usize = 1024;
/// For a TLS handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// For the head of a request to arrive.
const HEADER_DEADLINE: Duration = Duration::from_secs(10);
/// Between two tries after the system refused a connection (no file descriptors left, for example).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Streams at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 256;

/// What runs below HTTP.
#[derive(Clone)]
pub enum Transport {
    /// Nothing, for metrics.
    Plain,
    /// TLS.
    Tls(TlsAcceptor),
}

impl Transport {
    /// TLS with these settings.
    #[must_use]
    pub fn tls(config: ServerConfig) -> Self {
        Self::Tls(TlsAcceptor::from(Arc::new(config)))
    }
}

/// A bound port.
pub struct Port {
    listener: TcpListener,
    /// Its address, with the port that the system chose where none was named.
    pub address: SocketAddr,
}

impl Port {
    /// Binds an address.
    ///
    /// # Errors
    /// Where it cannot be had.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Serves until told to stop, then gives running requests `drain` to end.
    pub async fn serve(self, transport: Transport, router: Router, life: Arc<Life>, drain: Duration) {
        let graceful = GracefulShutdown::new();
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                () = life.stopped() => break,
                accepted = accept(&self.listener, &room) => accepted,
            };
            let Some((stream, permit)) = accepted else { continue };
            let (transport, router, watcher) = (transport.clone(), router.clone(), graceful.watcher());
            let life = Arc::clone(&life);
            tokio::spawn(async move {
                let _permit = permit;
                // Without it small answers wait for an acknowledgement, some 40 ms.
                let _ = stream.set_nodelay(true);
                match transport {
                    Transport::Plain => converse(stream, Client::default(), router, life, watcher).await,
                    Transport::Tls(acceptor) => {
                        let Ok(Ok(stream)) = timeout(HANDSHAKE_DEADLINE, acceptor.accept(stream)).await else { return };
                        let client = Client(stream.get_ref().1.peer_certificates().and_then(client_name));
                        converse(stream, client, router, life, watcher).await;
                    }
                }
            });
        }
        drop(self.listener);
        let _ = timeout(drain, graceful.shutdown()).await;
    }
}

/// One connection, to its end.
async fn converse<S>(stream: S, client: Client, router: Router, life: Arc<Life>, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(client.clone());
        let is_http1 = request.version() < Version::HTTP_2;
        let (answer, life) = (router.clone().oneshot(request), Arc::clone(&life));
        async move {
            let mut response = answer.await?;
            // The API server keeps its connections to a pod that goes down, unless it is told to close them.
            if is_http1 && life.is_draining() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_DEADLINE);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(MAX_STREAMS);
    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    // A client that goes away or talks nonsense ends its own connection only.
    let _ = watcher.watch(connection).await;
}

async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.ok()?;
    let Ok((stream, _)) = listener.accept().await else {
        tokio::time::sleep(ACCEPT_PAUSE).await;
        return None;
    };
    Some((stream, permit))
}

//! Accepts connections: TLS, HTTP/1.1 and HTTP/2, limits, draining.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, Method, Version, header::CONNECTION},
};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::certs::client_name;

use super::{
    connections::{Connection, ConnectionGuard, Connections, NEXT_REQUEST},
    lifecycle::Lifecycle,
    routes::Client,
};

/// Most connections at the same time. Each API server has a few; others are probes and people.
const MAX_CONNECTIONS: usize = 512;
/// Pause after the system refused to accept a connection (for example without file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Most streams at the same time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 256;
/// Most bytes that a connection may have sent before the server reads them. With HTTP/2, one stream
/// never takes all of it from the others.
const MAX_BUFFER: usize = 64 * 1024;
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// Limit for a connection to end normally after it was told to close.
const FAREWELL: Duration = Duration::from_secs(1);

/// The layer below HTTP.
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
    /// Its address; the system has chosen the port if none was named.
    pub address: SocketAddr,
}

impl Port {
    /// Binds an address.
    ///
    /// # Errors
    /// If it cannot be bound.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Serves until it must stop, then gives running requests `drain` to end.
    pub async fn serve(
        self,
        transport: Transport,
        router: Router,
        life: Arc<Lifecycle>,
        drain: Duration,
    ) {
        let connections = Connections::new(MAX_CONNECTIONS);
        loop {
            let accepted = tokio::select! {
                () = life.stopped() => break,
                accepted = accept(&self.listener, &connections) => accepted,
            };
            let Some((stream, stay)) = accepted else {
                continue;
            };
            let (transport, router, life) = (transport.clone(), router.clone(), Arc::clone(&life));
            tokio::spawn(async move {
                // Otherwise small answers wait about 40 ms for an acknowledgement.
                let _ = stream.set_nodelay(true);
                match transport {
                    Transport::Plain => {
                        converse(stream, Client::default(), router, &life, stay.guest()).await;
                    }
                    Transport::Tls(acceptor) => {
                        let handshake = tokio::select! {
                            handshake = acceptor.accept(stream) => handshake,
                            () = stay.guest().overstays() => return,
                            () = life.stopped() => return,
                        };
                        let Ok(stream) = handshake else { return };
                        let client =
                            Client(stream.get_ref().1.peer_certificates().and_then(client_name));
                        converse(stream, client, router, &life, stay.guest()).await;
                    }
                }
            });
        }
        drop(self.listener);
        let _ = timeout(drain, connections.gone()).await;
    }
}

/// Serves one connection until its end.
async fn converse<S>(
    stream: S,
    client: Client,
    router: Router,
    life: &Arc<Lifecycle>,
    guest: &Arc<Connection>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (known, living) = (Arc::clone(guest), Arc::clone(life));
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        let (guest, life) = (Arc::clone(&known), Arc::clone(&living));
        let visit = guest.ask();
        request.extensions_mut().insert(client.clone());
        request.extensions_mut().insert(Arc::clone(&visit));
        let is_http1 = request.version() < Version::HTTP_2;
        let asks = request.method() == Method::POST;
        let answer = router.clone().oneshot(request);
        async move {
            let mut response = answer.await?;
            if asks && response.status().is_success() {
                guest.served();
            }
            // The API server keeps its connections to a pod that is not ready, unless it is told to
            // close them. A new connection reaches a ready replica.
            if is_http1 && !life.is_ready() {
                response
                    .headers_mut()
                    .insert(CONNECTION, HeaderValue::from_static("close"));
            }
            drop(visit);
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // This counts from the end of the previous request. A connection without a complete request
    // has less time (see `connections`).
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(NEXT_REQUEST)
        .max_buf_size(MAX_BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    let mut connection = std::pin::pin!(
        builder
            .serve_connection(TokioIo::new(stream), service)
            .into_owned()
    );
    // A client that disconnects or sends invalid data ends only its own connection.
    let farewell = tokio::select! {
        _ = connection.as_mut() => return,
        () = guest.overstays() => Some(FAREWELL),
        () = life.stopped() => None,
    };
    connection.as_mut().graceful_shutdown();
    match farewell {
        Some(farewell) => {
            let _ = timeout(farewell, connection).await;
        }
        // On shutdown the caller limits the time.
        None => {
            let _ = connection.await;
        }
    }
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Connections>,
) -> Option<(TcpStream, ConnectionGuard)> {
    let Ok((stream, peer)) = listener.accept().await else {
        tokio::time::sleep(ACCEPT_PAUSE).await;
        return None;
    };
    Some((stream, connections.admit(peer.ip()).await))
}

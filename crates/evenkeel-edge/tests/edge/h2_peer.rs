//! Clients and instances that speak HTTP/2, each on a thread of its own.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsAcceptor;

/// What an instance does with one request: whatever it likes.
type Handler = dyn Fn(Request<RecvStream>, SendResponse<Bytes>) + Send + Sync;

/// An instance; lives as long as its test.
pub(crate) struct H2Instance {
    pub(crate) addr: SocketAddr,
    requests: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

impl H2Instance {
    /// Calls `handler` for each request on a task of its own.
    pub(crate) fn new(
        handler: impl Fn(Request<RecvStream>, SendResponse<Bytes>) + Send + Sync + 'static,
    ) -> Self {
        Self::start(None, Arc::new(handler))
    }

    /// The same behind TLS, with whoever asks for HTTP/2 and nobody else, as servers of gRPC do.
    pub(crate) fn behind_tls(
        mut config: ServerConfig,
        handler: impl Fn(Request<RecvStream>, SendResponse<Bytes>) + Send + Sync + 'static,
    ) -> Self {
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self::start(Some(TlsAcceptor::from(Arc::new(config))), Arc::new(handler))
    }

    fn start(tls: Option<TlsAcceptor>, handler: Arc<Handler>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let [requests, connections]: [Arc<AtomicUsize>; 2] = Default::default();
        let (counted, connected) = (Arc::clone(&requests), Arc::clone(&connections));
        thread::spawn(move || {
            runtime().block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    connected.fetch_add(1, Ordering::SeqCst);
                    let (handler, counted) = (Arc::clone(&handler), Arc::clone(&counted));
                    let tls = tls.clone();
                    tokio::spawn(async move {
                        let Some(tls) = tls else {
                            return serve(stream, &*handler, &counted).await;
                        };
                        let Ok(stream) = tls.accept(stream).await else { return };
                        if stream.get_ref().1.alpn_protocol() == Some(b"h2".as_slice()) {
                            serve(stream, &*handler, &counted).await;
                        }
                    });
                }
            });
        });
        Self { addr, requests, connections }
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Connections so far, also of probes.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    handler: &Handler,
    counted: &AtomicUsize,
) {
    // Somebody may only look whether it listens.
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        counted.fetch_add(1, Ordering::SeqCst);
        handler(request, respond);
    }
}

/// Sends back what comes as it comes, and then trailers.
pub(crate) fn echo(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    tokio::spawn(async move {
        let mut body = request.into_body();
        let head = Response::builder().header("content-type", "application/grpc");
        let mut send = respond.send_response(head.body(()).unwrap(), false).unwrap();
        while let Some(Ok(data)) = body.data().await {
            body.flow_control().release_capacity(data.len()).unwrap();
            send.send_data(data, false).unwrap();
        }
        send.send_trailers(trailers("0")).unwrap();
    });
}

/// Ends a call at once, without a message.
pub(crate) fn ends_with(status: &'static str) -> impl Fn(Request<RecvStream>, SendResponse<Bytes>) {
    move |_, mut respond| {
        let head = Response::builder().header("content-type", "application/grpc");
        let mut send = respond.send_response(head.body(()).unwrap(), false).unwrap();
        send.send_trailers(trailers(status)).unwrap();
    }
}

/// Refuses to begin with a request.
pub(crate) fn refuse(respond: &mut SendResponse<Bytes>) {
    respond.send_reset(Reason::REFUSED_STREAM);
}

pub(crate) fn trailers(status: &'static str) -> HeaderMap {
    HeaderMap::from_iter([("grpc-status".parse().unwrap(), status.parse().unwrap())])
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// A connection to the edge.
pub(crate) struct H2Client {
    runtime: Runtime,
    send: SendRequest<Bytes>,
}

/// A whole answer.
pub(crate) struct H2Answer {
    pub(crate) head: http::response::Parts,
    pub(crate) body: String,
    pub(crate) trailers: Option<HeaderMap>,
}

impl H2Client {
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        let runtime = runtime();
        let send = runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(addr).await.unwrap();
            let builder = h2::client::Builder::new();
            let (send, connection) = builder.handshake::<_, Bytes>(stream).await.unwrap();
            tokio::spawn(connection);
            send
        });
        Self { runtime, send }
    }

    /// Runs `work` beside the connection.
    pub(crate) fn run<T>(&mut self, work: impl AsyncFnOnce(SendRequest<Bytes>) -> T) -> T {
        let send = self.send.clone();
        self.runtime.block_on(work(send))
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, request: Request<()>, body: &str) -> H2Answer {
        self.try_ask(request, body).unwrap()
    }

    /// Sends a request and reads its answer.
    pub(crate) fn try_ask(
        &mut self,
        request: Request<()>,
        body: &str,
    ) -> Result<H2Answer, h2::Error> {
        let body = Bytes::from(body.to_owned());
        self.run(async move |send| whole(send, request, body).await)
    }

    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) -> H2Answer {
        self.ask(request("GET", path, ""), "")
    }
}

/// A request of this content type; of none where that is empty.
pub(crate) fn request(method: &str, path: &str, kind: &str) -> Request<()> {
    let mut request = Request::builder().method(method).uri(format!("http://test{path}"));
    if !kind.is_empty() {
        request = request.header("content-type", kind);
    }
    request.body(()).unwrap()
}

/// One whole exchange.
pub(crate) async fn whole(
    send: SendRequest<Bytes>,
    request: Request<()>,
    body: Bytes,
) -> Result<H2Answer, h2::Error> {
    let mut send = send.ready().await?;
    let empty = body.is_empty();
    let (response, mut stream) = send.send_request(request, empty)?;
    if !empty {
        stream.send_data(body, true)?;
    }
    let (head, mut body) = response.await?.into_parts();
    let mut text = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        text.extend_from_slice(&data);
    }
    let trailers = body.trailers().await?;
    Ok(H2Answer { head, body: String::from_utf8(text).unwrap(), trailers })
}

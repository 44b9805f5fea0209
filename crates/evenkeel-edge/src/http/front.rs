//! What comes before HTTP on a client's connection: for whom it is, and TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::server::{Acceptor, ClientHello};
use tokio_rustls::server::TlsStream;

use super::connection::{self, while_wanted};
use super::relay;
use super::tcp;
use super::watch::Watched;
use super::worker::{Kind, Place, Worker};
use crate::acme;
use crate::proxy_protocol::{self, HEAD_MAX, Head};

/// Between two looks at a head of which only a part has come.
const HEAD_PAUSE: Duration = Duration::from_millis(1);

/// Serves one client connection to its end.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    watched: Rc<Watched>,
    place: Rc<Place>,
    mut stream: TcpStream,
    mut peer: SocketAddr,
) {
    let _nagle = stream.set_nodelay(true);
    let limit = worker.shared.around.limits.head;
    if place.kind != Kind::Internal && is_proxy(&worker, peer.ip()) {
        let client = while_wanted(&watched, timeout(limit, client_of(&mut stream))).await;
        match client {
            Some(Ok(Ok(Some(client)))) => peer.set_ip(client),
            // The proxy speaks for itself: it looks whether somebody is there.
            Some(Ok(Ok(None))) => {}
            Some(Ok(Err(_)) | Err(_)) => {
                worker.shared.rejections.rejected.fetch_add(1, Ordering::Relaxed);
                return;
            }
            None => return,
        }
    }
    match place.kind {
        Kind::Tcp => tcp::serve(worker, watched, &place, stream, peer).await,
        Kind::Plain | Kind::Internal => {
            relay::serve(worker, watched, place, stream, peer.ip()).await;
        }
        Kind::Tls => {
            let Some(Ok(tls)) =
                while_wanted(&watched, timeout(limit, shake(&worker, stream))).await
            else {
                return;
            };
            let stream = match tls {
                Ok(Some(stream)) => stream,
                // An issuer has seen what it wanted to see.
                Ok(None) => return,
                Err(_) => {
                    // Scanners do this all day; it is counted and not told.
                    worker.shared.rejections.rejected.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            };
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                connection::serve(worker, watched, place, stream, peer.ip(), true).await;
            } else {
                relay::serve(worker, watched, place, stream, peer.ip()).await;
            }
        }
    }
}

fn is_proxy(worker: &Worker, peer: IpAddr) -> bool {
    let table = worker.shared.table.load();
    table.source.shown.proxies.iter().any(|network| network.contains(peer))
}

/// Reads for whom a proxy opened a connection.
async fn client_of(stream: &mut TcpStream) -> io::Result<Option<IpAddr>> {
    let mut bytes = [0; HEAD_MAX];
    loop {
        let length = stream.peek(&mut bytes).await?;
        match proxy_protocol::read(bytes.get(..length).unwrap_or_default()) {
            Head::Whole(length, client) => {
                let head = bytes.get_mut(..length).unwrap_or_default();
                stream.read_exact(head).await?;
                return Ok(client);
            }
            Head::Unfinished if length > 0 => sleep(HEAD_PAUSE).await,
            Head::Unfinished | Head::None => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Agrees on TLS; `None` when all was said by that (RFC 8737, 3).
async fn shake(worker: &Worker, stream: TcpStream) -> io::Result<Option<TlsStream<TcpStream>>> {
    let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    if let Some(config) = asked(worker, &hello.client_hello()) {
        // Whoever asked may have hung up already.
        let _gone = hello.into_stream(config).await?.shutdown().await;
        return Ok(None);
    }
    let config = worker.shared.certificates.config();
    let config = config.ok_or_else(|| io::Error::other("there is no certificate"))?;
    hello.into_stream(config).await.map(Some)
}

/// What to show to an issuer of certificates, if one asks.
fn asked(worker: &Worker, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
    let asks = hello.alpn()?.any(|it| it == acme::ALPN);
    asks.then(|| worker.shared.challenges.tls(hello.server_name()?))?
}

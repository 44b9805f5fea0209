//! A connection to an instance, with TLS or without.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::certificates::Certificates;
use crate::instance::Instance;
use crate::limits::{CONNECT_TIMEOUT, TLS_TIMEOUT};
use crate::table::Pool;

/// The connection.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Opens one.
    pub(crate) async fn open(
        known: &Certificates,
        pool: &Pool,
        instance: &Instance,
    ) -> io::Result<Self> {
        Self::over(connect(instance).await?, known, pool).await
    }

    /// Opens one for HTTP/2.
    pub(crate) async fn open_multiplexed(
        known: &Certificates,
        pool: &Pool,
        instance: &Instance,
    ) -> io::Result<Self> {
        Self::multiplexed_over(connect(instance).await?, known, pool).await
    }

    /// Makes one of a socket that is connected.
    pub(crate) async fn over(
        stream: TcpStream,
        known: &Certificates,
        pool: &Pool,
    ) -> io::Result<Self> {
        Self::agreed(stream, known, pool, false).await
    }

    /// The same for HTTP/2.
    pub(crate) async fn multiplexed_over(
        stream: TcpStream,
        known: &Certificates,
        pool: &Pool,
    ) -> io::Result<Self> {
        Self::agreed(stream, known, pool, true).await
    }

    async fn agreed(
        stream: TcpStream,
        known: &Certificates,
        pool: &Pool,
        multiplexed: bool,
    ) -> io::Result<Self> {
        let Some(tls) = &pool.tls else { return Ok(Self::Plain(stream)) };
        let upstream = known.upstream(tls)?;
        let config = if multiplexed { &upstream.multiplexed } else { &upstream.config };
        let connector = TlsConnector::from(Arc::clone(config));
        let stream = timeout(TLS_TIMEOUT, connector.connect(upstream.name.clone(), stream));
        let stream = stream.await.map_err(|_elapsed| io::ErrorKind::TimedOut)??;
        Ok(Self::Tls(Box::new(stream)))
    }

    /// Whether the instance has closed it, or sent something that nobody asked for.
    pub(crate) fn is_over(&self) -> bool {
        let socket = match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        };
        let mut byte = [0; 1];
        let seen = recv(socket, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT);
        !matches!(seen, Err(rustix::io::Errno::AGAIN))
    }
}

async fn connect(instance: &Instance) -> io::Result<TcpStream> {
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(instance.addr));
    let stream = stream.await.map_err(|_elapsed| io::ErrorKind::TimedOut)??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

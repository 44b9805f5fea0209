//! One connection to an instance, and how it is opened.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::outgoing::Outgoing;
use super::worker::Worker;
use crate::clock::now_ms;
use crate::instance::Instance;
use crate::lanes::Kind;
use crate::limits::{CONNECT_TIMEOUT, HEAD_BYTES};

/// A connection to an instance that can take one request now.
pub(crate) struct Link {
    pub(crate) sender: SendRequest<Outgoing>,
    /// It was idle before this request, so the instance may have closed it meanwhile.
    pub(crate) reused: bool,
    socket: Socket,
    driver: AbortHandle,
}

impl Link {
    /// A link for the next request: the one that was idle for the shortest time, or a new one.
    pub(crate) async fn get(
        worker: &Rc<Worker>,
        instance: &Arc<Instance>,
        idle_ms_max: u64,
        once: bool,
    ) -> io::Result<Self> {
        while let Some(mut link) = worker.lanes.take(instance.key, idle_ms_max, now_ms()) {
            let open = link.sender.ready().await.is_ok() && !(once && link.socket.is_over());
            if open {
                link.reused = true;
                return Ok(link);
            }
        }
        Self::open(worker, instance).await
    }

    async fn open(worker: &Rc<Worker>, instance: &Arc<Instance>) -> io::Result<Self> {
        let connect = timeout(CONNECT_TIMEOUT, TcpStream::connect(instance.addr));
        let stream = connect.await.map_err(|_elapsed| io::ErrorKind::TimedOut)??;
        stream.set_nodelay(true)?;
        let socket = Socket(Arc::new(Mutex::new(stream)));
        let (mut sender, connection) = Builder::new()
            .preserve_header_case(true)
            .max_buf_size(HEAD_BYTES)
            .handshake(TokioIo::new(socket.clone()))
            .await
            .map_err(io::Error::other)?;
        let id = worker.next_id();
        let registered = Registered { worker: Rc::clone(worker), key: instance.key, id };
        let driver = tokio::task::spawn_local(async move {
            let _registered = registered;
            // How it ends is seen by whoever waits for an answer on it.
            let _ended = connection.with_upgrades().await;
        });
        let driver = driver.abort_handle();
        worker.lanes.driven(instance, id, driver.clone(), Kind::Requests);
        sender.ready().await.map_err(io::Error::other)?;
        Ok(Self { sender, reused: false, socket, driver })
    }

    /// Keeps it for the next request.
    pub(crate) fn keep(self, worker: &Worker, key: u64) {
        if !self.sender.is_closed() {
            worker.lanes.put(key, self, now_ms());
        }
    }

    /// Closes it at once, whatever is under way on it.
    pub(crate) fn cut(&self) {
        self.driver.abort();
    }
}

/// The driver's entry among the lanes.
struct Registered {
    worker: Rc<Worker>,
    key: u64,
    id: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.worker.lanes.ended(self.key, self.id);
    }
}

/// A socket that can be looked at while hyper owns it.
#[derive(Clone, Debug)]
struct Socket(Arc<Mutex<TcpStream>>);

impl Socket {
    fn lock(&self) -> MutexGuard<'_, TcpStream> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the instance has closed it, or sent something that nobody asked for.
    fn is_over(&self) -> bool {
        let mut byte = [0; 1];
        let seen = recv(&*self.lock(), &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT);
        !matches!(seen, Err(rustix::io::Errno::AGAIN))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.lock()).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.lock()).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_shutdown(cx)
    }
}

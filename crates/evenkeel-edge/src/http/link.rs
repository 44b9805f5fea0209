//! One connection to an instance, and how it is opened.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::AbortHandle;

use super::outgoing::Outgoing;
use super::share::Stream;
use super::worker::Worker;
use crate::clock::now_ms;
use crate::instance::Instance;
use crate::lanes::Kind;
use crate::limits::HEAD_BYTES;
use crate::stream as upstream;
use crate::table::Pool;

/// A connection to an instance that can take one request now.
pub(crate) struct Link {
    wire: Wire,
    /// It was there before this request, so the instance may have closed it meanwhile.
    pub(crate) reused: bool,
}

/// What is spoken on it.
enum Wire {
    /// HTTP/1.1: one request at a time.
    Own(Own),
    /// HTTP/2: one of many streams.
    Shared(Stream),
}

/// How a request should be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// It can be sent only once: a connection that was idle is looked at first.
    pub(crate) once: bool,
    /// The longest a connection may have been idle.
    pub(crate) idle_ms_max: u64,
    /// By HTTP/2.
    pub(crate) multiplexed: bool,
}

impl Link {
    /// A link for the next request: for HTTP/1.1 the one that was idle for the shortest time or a
    /// new one, for HTTP/2 a stream of one that is there or of a new one.
    pub(crate) async fn get(
        worker: &Rc<Worker>,
        pool: &Arc<Pool>,
        instance: &Arc<Instance>,
        manner: Manner,
    ) -> io::Result<Self> {
        if manner.multiplexed {
            let (stream, reused) = worker.shares.get(worker, pool, instance).await?;
            return Ok(Self { wire: Wire::Shared(stream), reused });
        }
        while let Some(own) = worker.lanes.take(instance.key, manner.idle_ms_max, now_ms()) {
            if let Some(own) = own.still_open(manner.once).await {
                return Ok(Self { wire: Wire::Own(own), reused: true });
            }
        }
        Ok(Self { wire: Wire::Own(Own::open(worker, pool, instance).await?), reused: false })
    }

    /// Whether HTTP/2 is spoken on it.
    pub(crate) fn is_multiplexed(&self) -> bool {
        matches!(self.wire, Wire::Shared(_))
    }

    /// Sends a request on it.
    pub(crate) fn send(
        &mut self,
        request: Request<Outgoing>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Outgoing>>>> + use<>
    {
        let (own, shared) = match &mut self.wire {
            Wire::Own(own) => (Some(own.sender.try_send_request(request)), None),
            Wire::Shared(stream) => (None, Some(stream.send(request))),
        };
        async move {
            match (own, shared) {
                (Some(answer), _) => answer.await,
                (None, Some(answer)) => answer.await,
                (None, None) => std::future::pending().await,
            }
        }
    }

    /// Keeps it for the next request.
    pub(crate) fn keep(self, worker: &Worker, key: u64) {
        match self.wire {
            Wire::Own(own) if !own.sender.is_closed() => worker.lanes.put(key, own, now_ms()),
            // A shared one is kept by those who share it.
            Wire::Own(_) | Wire::Shared(_) => {}
        }
    }

    /// Ends what is under way on it for this request. A stream ends by itself when nobody reads
    /// it any more.
    pub(crate) fn cut(&self) {
        match &self.wire {
            Wire::Own(own) => own.driver.abort(),
            Wire::Shared(_) => {}
        }
    }
}

/// A connection of one request at a time.
pub(crate) struct Own {
    sender: SendRequest<Outgoing>,
    socket: Socket,
    driver: AbortHandle,
}

impl Own {
    async fn open(worker: &Rc<Worker>, pool: &Pool, instance: &Arc<Instance>) -> io::Result<Self> {
        let stream = upstream::Stream::open(&worker.shared.certificates, pool, instance).await?;
        let socket = Socket(Arc::new(Mutex::new(stream)));
        let (mut sender, connection) = Builder::new()
            .preserve_header_case(true)
            .max_buf_size(HEAD_BYTES)
            .handshake(TokioIo::new(socket.clone()))
            .await
            .map_err(io::Error::other)?;
        let driver = drive(worker, instance, async move {
            // How it ends is seen by whoever waits for an answer on it.
            let _ended = connection.with_upgrades().await;
        });
        sender.ready().await.map_err(io::Error::other)?;
        Ok(Self { sender, socket, driver })
    }

    async fn still_open(mut self, once: bool) -> Option<Self> {
        let open = self.sender.ready().await.is_ok() && !(once && self.socket.lock().is_over());
        open.then_some(self)
    }
}

/// Drives a connection to an instance to its end, unless it is cut.
pub(super) fn drive(
    worker: &Rc<Worker>,
    instance: &Arc<Instance>,
    connection: impl Future<Output = ()> + 'static,
) -> AbortHandle {
    let id = worker.next_id();
    let registered = Registered { worker: Rc::clone(worker), key: instance.key, id };
    let driver = tokio::task::spawn_local(async move {
        let _registered = registered;
        connection.await;
    });
    let driver = driver.abort_handle();
    worker.lanes.driven(instance, id, driver.clone(), Kind::Requests);
    driver
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
struct Socket(Arc<Mutex<upstream::Stream>>);

impl Socket {
    fn lock(&self) -> MutexGuard<'_, upstream::Stream> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

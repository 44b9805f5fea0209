//! A connection to an instance on which bytes are written and read.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;

use crate::clock::now_ms;
use crate::http::worker::Worker;
use crate::instance::Instance;
use crate::limits::RELAY_BUFFER;
use crate::stream::Stream;
use crate::table::Pool;

/// The connection, and what was read of it and not used yet.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(super) stream: Stream,
    pub(super) bytes: BytesMut,
}

impl Raw {
    /// The one that was idle for the shortest time, or a new one; and whether it was there before.
    pub(super) async fn get(
        worker: &Rc<Worker>,
        pool: &Pool,
        instance: &Arc<Instance>,
        once: bool,
        idle_ms_max: u64,
    ) -> io::Result<(Self, bool)> {
        while let Some(raw) = worker.raws.take(instance.key, idle_ms_max, now_ms()) {
            // What can be sent only once gets a connection that is surely open.
            if !(once && raw.stream.is_over()) {
                return Ok((raw, true));
            }
        }
        let stream = Stream::open(&worker.shared.certificates, pool, instance).await?;
        Ok((Self { stream, bytes: BytesMut::with_capacity(RELAY_BUFFER) }, false))
    }

    /// Keeps it for the next request. What has said something that nobody asked for is closed.
    pub(super) fn keep(mut self, worker: &Worker, instance: &Arc<Instance>) {
        if self.bytes.is_empty() {
            // A long answer must not keep its memory.
            if self.bytes.capacity() > 2 * RELAY_BUFFER {
                self.bytes = BytesMut::with_capacity(RELAY_BUFFER);
            }
            worker.raws.keep(instance, self, now_ms());
        }
    }
}

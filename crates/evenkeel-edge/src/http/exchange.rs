//! One request at one instance: what it holds there, and how it ends in the counts.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::link::Link;
use super::outgoing::Progress;
use super::worker::Worker;
use crate::counts::{Ending, Pace};
use crate::instance::{Claim, Instance};
use crate::log;
use crate::pick::Picked;
use crate::table::Pool;

/// One request at one instance, from the claim to the end, counted exactly once.
pub(crate) struct Exchange {
    worker: Rc<Worker>,
    pool: Arc<Pool>,
    instance: Arc<Instance>,
    claim: Option<Claim>,
    link: Option<Link>,
    body: Option<Rc<Progress>>,
    status: u16,
    /// The request went out on a connection.
    sent: bool,
    ended: bool,
}

impl Exchange {
    pub(crate) fn new(worker: &Rc<Worker>, picked: Picked) -> Self {
        Self {
            worker: Rc::clone(worker),
            pool: picked.pool,
            instance: Arc::clone(picked.claim.instance()),
            claim: Some(picked.claim),
            link: None,
            body: None,
            status: 0,
            sent: false,
            ended: false,
        }
    }

    pub(crate) fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    /// The instance it is at.
    pub(crate) fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }

    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// It is sent.
    pub(crate) fn goes_out(&mut self) {
        self.sent = true;
    }

    /// The connection it uses, and how far the request body has come.
    pub(crate) fn uses(&mut self, link: Link, body: Option<Rc<Progress>>) {
        self.link = Some(link);
        self.body = body;
        self.sent = true;
    }

    /// The answer has begun.
    pub(crate) fn answered(&mut self, status: u16, after: Duration) {
        self.status = status;
        self.pool.counts.answered_after(self.worker.index, after);
        if let Some(claim) = &self.claim {
            let ms = after.as_secs_f32() * 1_000.0;
            let instance = claim.instance();
            instance.answered(ms, Ending::Status(self.status).is_failure());
            if let Some(slow) = &self.pool.slow
                && instance.has_warmed_up(slow.warm_up)
            {
                let pace = Pace::of(after, slow);
                self.pool.counts.warm(self.worker.index, pace);
                instance.tallies.warm(self.worker.index, pace);
            }
        }
    }

    /// The call of gRPC that it carried has ended with what would be this HTTP status.
    pub(crate) fn call_ended(&mut self, status: u16) {
        self.status = status;
    }

    /// It failed, and is made again elsewhere: not counted as a request.
    pub(crate) fn give_up_for_retry(mut self) {
        self.pool.counts.retried(self.worker.index, self.sent);
        self.tried(true);
        self.ended = true;
    }

    /// It failed, and waits for an instance: what it has there is given up.
    pub(crate) fn let_go(&mut self) {
        self.link = None;
        self.body = None;
        self.release();
    }

    /// Gives its place to whoever waits for one.
    fn release(&mut self) {
        if self.claim.take().is_some() {
            self.pool.queue.wake_one();
        }
    }

    /// It failed for good, or ended before it had an answer.
    pub(crate) fn fail(mut self, ending: Ending) {
        self.end(ending);
    }

    /// It has become an upgraded connection.
    pub(crate) fn upgrade(mut self) -> Option<Claim> {
        self.end(Ending::Status(self.status));
        let claim = self.claim.take().map(Claim::into_long_lived);
        self.pool.queue.wake_one();
        claim
    }

    /// It has been answered to its end.
    pub(crate) fn complete(&mut self) {
        if self.ended {
            return;
        }
        self.end(Ending::Status(self.status));
        let sent = self.body.as_ref().is_none_or(|body| body.finished.get());
        if let (Some(link), Some(claim), true) = (self.link.take(), &self.claim, sent) {
            link.keep(&self.worker, claim.instance().key);
        }
        self.release();
    }

    /// The instance broke off within its answer.
    pub(crate) fn broke(&mut self) {
        if let Some(claim) = &self.claim {
            self.worker.shared.connection_failed(&self.pool, claim.instance());
        }
        self.end(Ending::Reset);
    }

    /// Notes with its instance how a try ended.
    fn tried(&self, failed: bool) {
        if let Some(claim) = &self.claim {
            claim.instance().tallies.tried(self.worker.index, failed);
        }
    }

    fn end(&mut self, ending: Ending) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        if ending != Ending::ClientGone {
            self.tried(ending.is_failure());
        }
        if self.pool.counts.ended(self.worker.index, ending) {
            log::warn(format_args!("ten requests in a row failed on {}", self.pool.id));
            self.worker.shared.around.wake.call();
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.end(Ending::ClientGone);
        if let Some(link) = &self.link
            && self.status != StatusCode::SWITCHING_PROTOCOLS.as_u16()
        {
            // Nobody reads what is still to come on it.
            link.cut();
        }
        self.release();
    }
}

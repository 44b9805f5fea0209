//! Connections that stop being HTTP: bytes both ways until one side ends, or the instance does.

use std::rc::Rc;

use http::Response;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::answer::Answer;
use super::exchange::Exchange;
use super::headers;
use super::watch::Turn;
use super::worker::Worker;
use crate::lanes::Kind;

/// Passes an instance's consent on, and joins the two connections once it is sent.
pub(crate) fn join(
    worker: &Rc<Worker>,
    client: OnUpgrade,
    mut response: Response<Incoming>,
    exchange: Exchange,
    turn: &Turn,
) -> Response<Answer> {
    let instance = hyper::upgrade::on(&mut response);
    let watched = turn.watched();
    if let Some(claim) = exchange.upgrade() {
        let at = std::sync::Arc::clone(claim.instance());
        let id = worker.next_id();
        let joined = Rc::clone(worker);
        let task = tokio::task::spawn_local(async move {
            let _counted =
                (watched, Ended { worker: joined, key: claim.instance().key, id }, claim);
            if let Ok((client, instance)) = tokio::try_join!(client, instance) {
                let (mut client, mut instance) = (TokioIo::new(client), TokioIo::new(instance));
                // Either side may break off at any time; there is nobody to tell.
                let _ended = tokio::io::copy_bidirectional(&mut client, &mut instance).await;
            }
        });
        let kind = Kind::LongLived { jitter: fastrand::f32() };
        worker.lanes.driven(&at, id, task.abort_handle(), kind);
    }
    let (mut parts, _no_body) = response.into_parts();
    headers::strip_hop_by_hop(&mut parts.headers);
    headers::keep_upgrade(&mut parts.headers);
    Response::from_parts(parts, Answer::upgraded())
}

/// The joined pair's entry among the lanes.
struct Ended {
    worker: Rc<Worker>,
    key: u64,
    id: u64,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.worker.lanes.ended(self.key, self.id);
    }
}

//! Copies of requests for a new revision. Nobody waits for them, and their answers are thrown away.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use evenkeel_kernel::model::{PoolId, Protocol, Weight};
use http::{HeaderName, HeaderValue, Request};
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use super::destination::Destination;
use super::form;
use super::link::{Link, Manner};
use super::payload;
use super::worker::Worker;
use crate::limits::{MIRROR_TIMEOUT, MIRRORS_MAX, UPSTREAM_IDLE_MS};
use crate::pick::{Picked, Wish};
use crate::shared::Shared;

const MIRRORED: HeaderName = HeaderName::from_static("x-evenkeel-mirror");

/// Sends a copy of a request to the revision that gets copies, if it is one of those that are
/// copied and goes elsewhere itself.
pub(crate) fn copy(
    worker: &Rc<Worker>,
    destination: &Destination,
    goes_to: &PoolId,
    head: &Request<()>,
    body: Option<&Bytes>,
) {
    let Ok(routed) = destination.service(&worker.shared.table.load()) else { return };
    let Some((mirror, revision)) = &routed.service.mirror else { return };
    let drawn = fastrand::u16(..Weight::ALL.0) < mirror.share.0;
    if !drawn || goes_to.revision == *revision || !mirror.methods.contains(head.method().as_str()) {
        return;
    }
    let Some(place) = Place::take(&worker.shared) else { return };
    let wish = Wish { revision: Some(*revision), ..Wish::default() };
    let Some(picked) = routed.service.pick(&wish) else { return };
    let mut request = payload::copy(head, body.cloned());
    request.headers_mut().insert(MIRRORED, HeaderValue::from_static("1"));
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        let _place = place;
        let pool = Arc::clone(&picked.pool);
        let well = timeout(MIRROR_TIMEOUT, send(&worker, picked, request)).await;
        pool.counts.mirrored(worker.index, well == Ok(true));
    });
}

/// Sends it and reads its answer to the end. Returns whether that was one.
async fn send(
    worker: &Rc<Worker>,
    picked: Picked,
    mut request: Request<super::outgoing::Outgoing>,
) -> bool {
    let instance = Arc::clone(picked.claim.instance());
    let multiplexed = picked.pool.protocol == Protocol::H2c;
    let manner = Manner { once: false, idle_ms_max: UPSTREAM_IDLE_MS, multiplexed };
    let Ok(mut link) = Link::get(worker, &picked.pool, &instance, manner).await else {
        return false;
    };
    if multiplexed {
        form::to_absolute(&mut request);
    }
    let Ok(response) = link.send(request).await else { return false };
    let well = !response.status().is_server_error();
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        if frame.is_err() {
            return false;
        }
    }
    link.keep(worker, instance.key);
    well
}

/// One of the copies that may be under way.
struct Place(Arc<Shared>);

impl Place {
    fn take(shared: &Arc<Shared>) -> Option<Self> {
        let more = |n: usize| (n < MIRRORS_MAX).then_some(n + 1);
        shared.mirrors.try_update(Ordering::AcqRel, Ordering::Relaxed, more).ok()?;
        Some(Self(Arc::clone(shared)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.mirrors.fetch_sub(1, Ordering::AcqRel);
    }
}

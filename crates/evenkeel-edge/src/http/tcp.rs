//! Connections that are not HTTP: each goes to one instance, and stays with it to its end.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::upgrade::Ended;
use super::watch::Watched;
use super::worker::{Place, Worker};
use crate::counts::Ending;
use crate::instance::Claim;
use crate::knock::Knock;
use crate::lanes::Kind;
use crate::pick::{Picked, Wish};
use crate::proxy_protocol;
use crate::stream::Stream;
use crate::table::Pool;

/// Between two looks for an instance when nothing said that something changed.
const LOOK: Duration = Duration::from_millis(100);

/// Serves one connection to its end.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    watched: Rc<Watched>,
    place: &Place,
    mut client: TcpStream,
    peer: SocketAddr,
) {
    let Some((picked, mut instance)) = reach(&worker, place).await else { return };
    let table = worker.shared.table.load();
    let told = table.by_tcp(&place.name).is_some_and(|(_, told)| told);
    drop(table);
    if told && let Ok(own) = client.local_addr() {
        let head = proxy_protocol::write(peer, own);
        if instance.write_all(&head).await.is_err() {
            return;
        }
    }
    let Picked { pool, claim } = picked;
    pool.counts.ended(worker.index, Ending::Status(101));
    let claim = claim.into_long_lived();
    let at = Arc::clone(claim.instance());
    let id = worker.next_id();
    let turn = watched.begin(None);
    let driven = Rc::clone(&worker);
    let task = tokio::task::spawn_local(async move {
        let _counted = (turn, Ended::new(driven, claim.instance().key, id), claim);
        // Either side may break off at any time; there is nobody to tell.
        let _ended = tokio::io::copy_bidirectional(&mut client, &mut instance).await;
    });
    let kind = Kind::LongLived { jitter: fastrand::f32() };
    worker.lanes.driven(&at, id, task.abort_handle(), kind);
    // It ends with its task, or with the instance.
    let _ended = task.await;
}

/// Connects to an instance; waits for one as long as the service says, and while it is held.
async fn reach(worker: &Rc<Worker>, place: &Place) -> Option<(Picked, Stream)> {
    let limits = &worker.shared.around.limits;
    let mut tried = Vec::new();
    let (mut waited, mut deadline, mut held_until) = (false, None, None);
    let mut seat = None;
    loop {
        let table = worker.shared.table.load_full();
        let (service, affine) = match table.by_tcp(&place.name) {
            Some((service, _)) => (service, None),
            None => table.by_listener(&place.name)?,
        };
        let changed = service.queue.changed();
        let held = service.held();
        let wish = Wish { affine, tried: &tried, waited, ..Wish::default() };
        if let Some(picked) = service.pick(&wish) {
            let instance = Arc::clone(picked.claim.instance());
            let knock = waited.then(|| Knock::at(&instance, &service.queue));
            if knock.as_ref().is_none_or(Option::is_some) {
                match connect(worker, &picked.pool, &picked.claim).await {
                    Some(stream) => return Some((picked, stream)),
                    None if !waited => {
                        picked.pool.counts.retried(worker.index, false);
                        tried.push(instance.key);
                        continue;
                    }
                    None => {}
                }
            }
        }
        tried.clear();
        waited = true;
        if seat.is_none() {
            let most = held.map_or(service.traffic.queue_max, |_| limits.held_max);
            // What it says waits in the system's buffers.
            let Some(taken) = service.queue.sit(most, 0) else {
                worker.shared.rejections.overloaded.fetch_add(1, Ordering::Relaxed);
                return None;
            };
            seat = Some(taken);
            worker.shared.waits_for(service);
        }
        let now = Instant::now();
        let latest = match held {
            Some(_) => *held_until.get_or_insert(now + limits.held),
            None => *deadline.get_or_insert(now + service.traffic.queue_wait),
        };
        if now >= latest {
            let rejections = &worker.shared.rejections;
            let count =
                if held.is_some() { &rejections.overloaded } else { &rejections.no_instance };
            count.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let look = held.unwrap_or(now + LOOK);
        let _look_again = timeout_at(latest.min(look), changed).await;
    }
}

async fn connect(worker: &Rc<Worker>, pool: &Pool, claim: &Claim) -> Option<Stream> {
    match Stream::open(&worker.shared.certificates, pool, claim.instance()).await {
        Ok(stream) => {
            worker.shared.reached(pool, claim.instance());
            Some(stream)
        }
        Err(_unreachable) => {
            worker.shared.connection_failed(pool, claim.instance());
            None
        }
    }
}

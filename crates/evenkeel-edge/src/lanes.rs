//! One thread's connections to instances: the idle ones for reuse, the busy ones so that they can
//! be cut. It knows nothing of what is spoken on them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::clock::ms;
use crate::instance::Instance;
use crate::limits::{UPSTREAM_IDLE_MAX, UPSTREAM_IDLE_MS};

/// The connections of one thread, by instance.
#[derive(Debug)]
pub(crate) struct Lanes<C> {
    lanes: RefCell<BTreeMap<u64, Lane<C>>>,
}

#[derive(Debug)]
struct Lane<C> {
    instance: Arc<Instance>,
    /// Oldest first.
    idle: Vec<(C, u64)>,
    /// What drives each connection, and whether it is an upgraded one, with its jitter.
    drivers: BTreeMap<u64, (Driver, Kind)>,
}

/// How long one that is told to end has for that before it is cut: a farewell takes two seconds.
const TOLD_WAIT: Duration = Duration::from_secs(3);

/// What drives a connection, and how it is ended.
#[derive(Debug)]
pub(crate) struct Driver {
    cut: AbortHandle,
    /// It ends by itself when it is told to.
    tell: Option<Rc<Notify>>,
    /// When it was told.
    told_ms: Option<u64>,
}

impl From<AbortHandle> for Driver {
    fn from(cut: AbortHandle) -> Self {
        Self { cut, tell: None, told_ms: None }
    }
}

impl Driver {
    /// One that is told to end before it is cut.
    pub(crate) fn told(cut: AbortHandle, tell: Rc<Notify>) -> Self {
        Self { cut, tell: Some(tell), told_ms: None }
    }

    /// Its time is over. Returns what is to be cut.
    fn end(&mut self, now_ms: u64) -> Option<AbortHandle> {
        let Some(tell) = &self.tell else { return Some(self.cut.clone()) };
        let told_ms = *self.told_ms.get_or_insert_with(|| {
            tell.notify_one();
            now_ms
        });
        (now_ms.saturating_sub(told_ms) >= ms(TOLD_WAIT)).then(|| self.cut.clone())
    }
}

/// What a connection is used for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Requests,
    LongLived { jitter: f32 },
}

impl<C> Lanes<C> {
    pub(crate) fn new() -> Self {
        Self { lanes: RefCell::new(BTreeMap::new()) }
    }

    /// The connection used last, if it has been idle for at most `idle_ms_max`.
    pub(crate) fn take(&self, key: u64, idle_ms_max: u64, now_ms: u64) -> Option<C> {
        let mut lanes = self.lanes.borrow_mut();
        let lane = lanes.get_mut(&key)?;
        let (_, since) = lane.idle.last()?;
        if now_ms.saturating_sub(*since) >= idle_ms_max {
            return None;
        }
        lane.idle.pop().map(|(connection, _)| connection)
    }

    /// Keeps a connection for the next request. Without a lane (nothing drives it) it is closed.
    pub(crate) fn put(&self, key: u64, connection: C, now_ms: u64) {
        let mut lanes = self.lanes.borrow_mut();
        let Some(lane) = lanes.get_mut(&key) else { return };
        if lane.idle.len() < UPSTREAM_IDLE_MAX && !lane.instance.is_draining() {
            lane.idle.push((connection, now_ms));
        }
    }

    /// Keeps a connection that nothing drives for the next request.
    pub(crate) fn keep(&self, instance: &Arc<Instance>, connection: C, now_ms: u64) {
        let new =
            || Lane { instance: Arc::clone(instance), idle: Vec::new(), drivers: BTreeMap::new() };
        self.lanes.borrow_mut().entry(instance.key).or_insert_with(new);
        self.put(instance.key, connection, now_ms);
    }

    /// Notes what drives a connection.
    pub(crate) fn driven(
        &self,
        instance: &Arc<Instance>,
        id: u64,
        by: impl Into<Driver>,
        kind: Kind,
    ) {
        let new =
            || Lane { instance: Arc::clone(instance), idle: Vec::new(), drivers: BTreeMap::new() };
        let mut lanes = self.lanes.borrow_mut();
        lanes.entry(instance.key).or_insert_with(new).drivers.insert(id, (by.into(), kind));
    }

    /// Forgets what drove a connection that ended.
    pub(crate) fn ended(&self, key: u64, id: u64) {
        if let Some(lane) = self.lanes.borrow_mut().get_mut(&key) {
            lane.drivers.remove(&id);
        }
    }

    /// Closes what was idle too long, and cuts what a draining instance has had time for.
    /// `is_over` says by its jitter whether an upgraded connection has had the time that the edge
    /// itself has left.
    pub(crate) fn sweep(&self, now_ms: u64, is_over: impl Fn(f32) -> bool) {
        let mut cut = Vec::new();
        let mut closed = Vec::new();
        self.lanes.borrow_mut().retain(|_, lane| {
            let draining = lane.instance.is_draining();
            let old = |since: &u64| now_ms.saturating_sub(*since) >= UPSTREAM_IDLE_MS;
            let stale = lane.idle.partition_point(|(_, since)| draining || old(since));
            closed.extend(lane.idle.drain(..stale));
            let overdue = |kind: &Kind| match kind {
                Kind::Requests => lane.instance.requests_overdue(now_ms),
                Kind::LongLived { jitter } => {
                    lane.instance.long_lived_overdue(now_ms, *jitter) || is_over(*jitter)
                }
            };
            let ending = lane.drivers.values_mut().filter(|(_, kind)| overdue(kind));
            cut.extend(ending.filter_map(|(driver, _)| driver.end(now_ms)));
            !lane.idle.is_empty() || !lane.drivers.is_empty()
        });
        // Outside of the borrow: what is closed may come back here.
        cut.iter().for_each(AbortHandle::abort);
        drop(closed);
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::instance::Patience;
    use crate::table::Surroundings;

    #[test]
    fn the_last_used_comes_back_and_the_old_are_closed() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let addr = "127.0.0.1:1".parse().unwrap();
        let id = "web.r1.1".parse().unwrap();
        let instance = Arc::new(Instance::new(id, addr, true, &Surroundings::plain()));
        let key = instance.key;
        let lanes = Lanes::new();
        let driver = runtime.spawn(std::future::pending::<()>());
        lanes.driven(&instance, 1, driver.abort_handle(), Kind::Requests);
        lanes.put(key, "a", 1_000);
        lanes.put(key, "b", 2_000);
        assert_eq!(lanes.take(key, 3_000, 5_000), None, "too long for this request");
        assert_eq!(lanes.take(key, 4_000, 5_000), Some("b"));
        lanes.put(key, "b", 5_000);
        lanes.sweep(5_000, |_| false);
        assert_eq!(lanes.take(key, 4_000, 5_000), Some("b"));
        assert_eq!(lanes.take(key, 4_000, 5_000), None, "a was closed");

        lanes.put(key, "c", 5_000);
        instance.set_draining(true, Patience { requests_ms: 0, long_lived_ms: 0 });
        lanes.sweep(u64::MAX, |_| false);
        assert_eq!(lanes.take(key, 4_000, 5_000), None);
        let ended = async { tokio::time::timeout(Duration::from_secs(5), driver).await };
        let ended = runtime.block_on(ended).expect("it is cut");
        assert!(ended.is_err_and(|error| error.is_cancelled()));
    }
}

//! One thread of the edge: its listeners, its client connections, its connections to instances.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use evenkeel_kernel::layout;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::front;
use super::link::Own;
use super::relay::Raw;
use super::share::Shares;
use super::watch::Watched;
use crate::clock::now_ms;
use crate::directory::is_discovery;
use crate::lanes::Lanes;
use crate::limits::SWEEP;
use crate::log;
use crate::shared::{Listener, Shared};
use crate::telemetry::is_metrics;

/// Between two looks whether there is room, or whether accepting works again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// One thread's world.
pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) lanes: Lanes<Own>,
    pub(crate) shares: Shares,
    pub(crate) raws: Lanes<Raw>,
    date: RefCell<(u64, Rc<str>)>,
    watched: RefCell<BTreeMap<u64, Weak<Watched>>>,
    last_id: Cell<u64>,
}

impl Worker {
    pub(crate) fn new(index: usize, shared: Arc<Shared>) -> Rc<Self> {
        Rc::new(Self {
            index,
            shared,
            lanes: Lanes::new(),
            shares: Shares::default(),
            raws: Lanes::new(),
            date: RefCell::new((0, Rc::from(""))),
            watched: RefCell::new(BTreeMap::new()),
            last_id: Cell::new(0),
        })
    }

    /// Whether the edge ends, or has a successor: no connection gets another request.
    pub(crate) fn is_closing(&self) -> bool {
        self.shared.closing.load(Ordering::Relaxed)
    }

    /// What clocks say, as HTTP writes it.
    pub(crate) fn date(&self) -> Rc<str> {
        let now = SystemTime::now();
        let second = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |it| it.as_secs());
        let mut date = self.date.borrow_mut();
        if date.0 != second {
            *date = (second, Rc::from(httpdate::fmt_http_date(now)));
        }
        Rc::clone(&date.1)
    }

    /// A number that no other connection of this thread has.
    pub(crate) fn next_id(&self) -> u64 {
        self.last_id.set(self.last_id.get() + 1);
        self.last_id.get()
    }

    /// Watches a new client connection until it is dropped.
    fn watch(&self) -> Rc<Watched> {
        let watched = Watched::new(&self.shared, now_ms());
        self.watched.borrow_mut().insert(self.next_id(), Rc::downgrade(&watched));
        watched
    }

    /// Serves until the edge ends and its requests have, or have had their time.
    pub(crate) async fn run(self: Rc<Self>) {
        self.shared.succession.opened().await;
        let sweeping = tokio::task::spawn_local(Rc::clone(&self).sweep());
        let mut listeners = self.shared.listeners.subscribe();
        let mut accepting: BTreeMap<String, (Arc<OwnedFd>, AbortHandle)> = BTreeMap::new();
        while !self.shared.closing.load(Ordering::Relaxed) {
            let mut wanted = listeners.borrow_and_update().clone();
            wanted.retain(|name, _| !is_discovery(name) && !is_metrics(name));
            accepting.retain(|name, (socket, task)| {
                let keep = wanted.get(name).is_some_and(|it| Arc::ptr_eq(&it.socket, socket));
                if !keep {
                    task.abort();
                }
                keep
            });
            for (name, listener) in wanted {
                if let Entry::Vacant(place) = accepting.entry(name) {
                    match self.accept_on(place.key(), &listener) {
                        Ok(task) => drop(place.insert((listener.socket, task))),
                        Err(error) => log::error(format_args!(
                            "could not listen as {} on {}: {error}",
                            place.key(),
                            listener.addr
                        )),
                    }
                }
            }
            if listeners.changed().await.is_err() {
                break;
            }
        }
        accepting.values().for_each(|(_, task)| task.abort());
        drop(accepting);
        tokio::select! {
            () = self.emptied() => {}
            () = self.shared.succession.time_is_up(&self.shared.around.limits) => {}
        }
        sweeping.abort();
    }

    async fn emptied(&self) {
        while self.watched.borrow().values().any(|it| it.strong_count() > 0) {
            sleep(ACCEPT_PAUSE).await;
        }
    }

    fn accept_on(self: &Rc<Self>, name: &str, listener: &Listener) -> io::Result<AbortHandle> {
        let socket = std::net::TcpListener::from(listener.socket.try_clone()?);
        socket.set_nonblocking(true)?;
        let socket = TcpListener::from_std(socket)?;
        let place = Place::new(name);
        let task = tokio::task::spawn_local(Rc::clone(self).accept(socket, Rc::new(place)));
        Ok(task.abort_handle())
    }

    async fn accept(self: Rc<Self>, listener: TcpListener, place: Rc<Place>) {
        loop {
            // Beyond the bound connections wait in the kernel's queue, which is lossless.
            while self.shared.connections.load(Ordering::Relaxed) >= self.shared.connections_max {
                sleep(ACCEPT_PAUSE).await;
            }
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let (worker, place) = (Rc::clone(&self), Rc::clone(&place));
                    let served = front::serve(worker, self.watch(), place, stream, peer);
                    tokio::task::spawn_local(served);
                    // The other threads get their share of a burst.
                    tokio::task::yield_now().await;
                }
                Err(error) => {
                    log::warn(format_args!("could not accept a connection: {error}"));
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn sweep(self: Rc<Self>) {
        let mut ticks = interval(SWEEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            let now = now_ms();
            let (succession, limits) = (&self.shared.succession, &self.shared.around.limits);
            self.lanes.sweep(now, |jitter| succession.is_over(limits, jitter, now));
            self.shares.sweep(now);
            self.raws.sweep(now, |_| false);
            let open = self.shared.connections.load(Ordering::Relaxed);
            let crowded = open.saturating_mul(10) >= self.shared.connections_max.saturating_mul(9);
            // The list is left before anybody is told: who ends takes itself off.
            let mut alive = Vec::new();
            self.watched.borrow_mut().retain(|_, it| match it.upgrade() {
                Some(it) => {
                    alive.push(it);
                    true
                }
                None => false,
            });
            for it in alive {
                it.sweep(now, crowded);
            }
        }
    }
}

/// The listener a connection came in by.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// What comes in by a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// HTTP from outside.
    Plain,
    /// The same within TLS.
    Tls,
    /// Anything from outside.
    Tcp,
    /// Requests from other services of the stack, whose word is taken for where they come from.
    Internal,
}

impl Place {
    fn new(name: &str) -> Self {
        let kinds = [
            (INTERNAL_PREFIX, Kind::Internal),
            (layout::TLS_LISTENERS, Kind::Tls),
            (layout::TCP_LISTENERS, Kind::Tcp),
        ];
        let kind = kinds.iter().find(|(prefix, _)| name.starts_with(prefix));
        Self { name: name.to_owned(), kind: kind.map_or(Kind::Plain, |(_, kind)| *kind) }
    }
}

/// What the names of internal listeners start with.
pub(crate) const INTERNAL_PREFIX: &str = "svc-";

//! What all threads of the edge share: the table, the counters beside it, and who is to be told
//! when something changes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use evenkeel_kernel::model::InstanceId;
use evenkeel_kernel::routing::RoutingTable;
use evenkeel_kernel::world::{Health, Unrouted};
use tokio::sync::{Notify, watch};

use crate::acme::{Attempts, Challenges};
use crate::certificates::Certificates;
use crate::directory::Current;
use crate::instance::{Instance, Probed};
use crate::log;
use crate::sanity;
use crate::saved::Saved;
use crate::succession::Succession;
use crate::suspects::Suspects;
use crate::table::{Pool, Service, Surroundings, Table};
use crate::telemetry::Telemetry;

/// A socket that requests come in by.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    pub(crate) addr: SocketAddr,
    pub(crate) socket: Arc<OwnedFd>,
}

/// The listeners by name.
pub(crate) type Listeners = BTreeMap<String, Listener>;

/// Everything the threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) home: PathBuf,
    pub(crate) table: ArcSwap<Table>,
    pub(crate) rejections: Rejections,
    pub(crate) listeners: watch::Sender<Listeners>,
    /// Client connections, and how many there may be.
    pub(crate) connections: AtomicUsize,
    pub(crate) connections_max: usize,
    /// Copies of requests under way.
    pub(crate) mirrors: AtomicUsize,
    /// By what it proves that it is a host.
    pub(crate) certificates: Certificates,
    /// What issuers of certificates may ask now, and what became of the last orders.
    pub(crate) challenges: Challenges,
    pub(crate) attempts: Attempts,
    /// What is shown should be looked at again.
    pub(crate) reshow: Notify,
    /// The edge ends: answers carry `Connection: close`.
    pub(crate) closing: AtomicBool,
    /// The prober should look at the table again.
    pub(crate) reprobe: Notify,
    /// Instances, by key, whose connections failed: the prober asks them at once.
    pub(crate) suspects: Suspects,
    /// Health changed: what is on disk is out of date.
    pub(crate) outdated: Notify,
    /// What discovery tells of.
    pub(crate) directory: Current,
    pub(crate) around: Surroundings,
    pub(crate) telemetry: Telemetry,
    /// What is told of requests may be another.
    pub(crate) retell: Notify,
    /// Where it stands between its predecessor and its successor.
    pub(crate) succession: Succession,
    applying: Mutex<()>,
    saving: Mutex<()>,
}

/// Requests that the edge answered itself, by cause.
#[derive(Debug, Default)]
pub(crate) struct Rejections {
    pub(crate) no_route: AtomicU64,
    pub(crate) no_instance: AtomicU64,
    pub(crate) overloaded: AtomicU64,
    pub(crate) rejected: AtomicU64,
}

impl Rejections {
    pub(crate) fn read(&self) -> Unrouted {
        Unrouted {
            no_route: self.no_route.load(Ordering::Relaxed),
            no_instance: self.no_instance.load(Ordering::Relaxed),
            overloaded: self.overloaded.load(Ordering::Relaxed),
            rejected: self.rejected.load(Ordering::Relaxed),
        }
    }
}

impl Shared {
    pub(crate) fn new(home: &Path, around: Surroundings, connections_max: usize) -> Self {
        Self {
            home: home.to_owned(),
            table: ArcSwap::default(),
            rejections: Rejections::default(),
            listeners: watch::Sender::default(),
            connections: AtomicUsize::new(0),
            connections_max,
            mirrors: AtomicUsize::new(0),
            certificates: Certificates::default(),
            challenges: Challenges::default(),
            attempts: Attempts::default(),
            reshow: Notify::new(),
            closing: AtomicBool::new(false),
            reprobe: Notify::new(),
            suspects: Suspects::default(),
            outdated: Notify::new(),
            directory: Current::default(),
            telemetry: Telemetry::new(around.threads),
            retell: Notify::new(),
            around,
            succession: Succession::new(),
            applying: Mutex::new(()),
            saving: Mutex::new(()),
        }
    }

    /// Serves what an earlier process saved, if that can be read.
    pub(crate) fn load(&self) {
        match Saved::read(&self.home) {
            Ok(Some(saved)) => {
                let (fence, healthy) = (saved.table.fence, saved.healthy);
                match self.apply(saved.table, &|id| healthy.contains(id)) {
                    Ok(()) => log::info(format_args!(
                        "serves the table of {} {} from disk",
                        fence.epoch, fence.generation
                    )),
                    Err(why) => log::error(format_args!("the table on disk is refused: {why}")),
                }
            }
            Ok(None) => log::info(format_args!("no table on disk yet")),
            Err(error) => log::error(format_args!("could not read the table on disk: {error}")),
        }
    }

    /// Serves `source` from now on: every request accepted after this returns uses it.
    pub(crate) fn apply(
        &self,
        source: RoutingTable,
        assumed: &dyn Fn(&InstanceId) -> bool,
    ) -> Result<(), String> {
        let _one_at_a_time = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.table.load_full();
        sanity::check(&source, &before.source)?;
        let next = before.next(source, &self.around, assumed);
        next.settle(&before);
        let next = Arc::new(next);
        self.table.store(Arc::clone(&next));
        self.directory.follow(&next);
        self.succession.elders().keep(&|pool| next.has_pool(pool));
        self.reprobe.notify_one();
        self.retell.notify_one();
        self.reshow.notify_one();
        before.wake_waiting();
        next.wake_waiting();
        Ok(())
    }

    /// Puts the table that is served, and who is well, on disk.
    pub(crate) fn save(&self) -> io::Result<()> {
        // One after the other, so that what was served last is what stays.
        let _one_at_a_time = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.succession.is_the_edge() {
            // What is on disk is the predecessor's, or the successor's.
            return Ok(());
        }
        self.snapshot().write(&self.home)
    }

    fn snapshot(&self) -> Saved {
        let table = self.table.load();
        let healthy: BTreeSet<InstanceId> = table
            .instances
            .values()
            .filter(|it| it.believed() == Health::Healthy)
            .map(|it| it.id.clone())
            .collect();
        Saved::new(table.source.clone(), healthy)
    }

    /// Takes a probe's answer in.
    pub(crate) fn probed(&self, pool: &Pool, instance: &Instance, well: bool) {
        if well {
            self.reached(pool, instance);
        }
        let health = &pool.health;
        match instance.probed(well, health.healthy_after, health.unhealthy_after) {
            Probed::Same => return,
            Probed::Changed => {}
            Probed::Admitted => instance.admit(pool.seed_ms(crate::clock::now_ms())),
        }
        log::info(format_args!("{} is {:?}", instance.id, instance.reported()));
        self.health_changed(pool, instance);
    }

    /// Takes note of a connection that was made.
    pub(crate) fn reached(&self, pool: &Pool, instance: &Instance) {
        if instance.knocks.reached() {
            instance.hold_again();
            pool.queue.wake_all();
        }
    }

    /// Takes note of a connection that failed, and of the instance's health if there were many.
    pub(crate) fn connection_failed(&self, pool: &Pool, instance: &Instance) {
        self.suspects.add(instance.key);
        if instance.failed() && pool.may_eject() && instance.eject() {
            pool.counts.ejected();
            log::warn(format_args!("{} is taken out: its connections fail", instance.id));
            self.health_changed(pool, instance);
        }
    }

    /// Takes note of a request that waits. Where nobody could ever answer it, control is told at
    /// once: it may be what somebody is started for.
    pub(crate) fn waits_for(&self, service: &Service) {
        service.asked.now();
        if service.is_empty() {
            self.around.wake.call();
        }
    }

    fn health_changed(&self, pool: &Pool, instance: &Instance) {
        self.directory.outdate(&instance.id);
        pool.queue.wake_all();
        self.outdated.notify_one();
        self.around.wake.call();
    }
}

//! Keeps the directory: what discovery tells of services follows the table and the health at once.
//!
//! Nothing of it is on the way of a request: a thread that sees an instance change leaves its name
//! here, and the manager's thread makes the next directory.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use evenkeel_kernel::layout;
use evenkeel_kernel::model::{InstanceId, ServiceName};
use evenkeel_kernel::routing::directory::{Directory, Seen};
use evenkeel_kernel::world::Readers;
use tokio::sync::{Notify, watch};

use crate::instance::Instance;
use crate::shared::{Listeners, Shared};
use crate::table::Table;

/// What the edge shows to whoever tells others of it.
#[derive(Clone, Debug)]
pub struct Outlook {
    /// What there is, as of now.
    pub directory: watch::Receiver<Arc<Directory>>,
    /// Where whoever tells others says of whom; nothing as long as that is not known.
    pub readers: watch::Sender<Option<Arc<BTreeMap<ServiceName, Readers>>>>,
    listeners: watch::Receiver<Listeners>,
}

impl Outlook {
    pub(crate) fn new(shared: &Shared) -> Self {
        Self {
            directory: shared.directory.current.subscribe(),
            readers: shared.directory.readers.clone(),
            listeners: shared.listeners.subscribe(),
        }
    }

    /// The listening sockets that are discovery's, with their names.
    #[must_use]
    pub fn sockets(&mut self) -> Vec<(String, SocketAddr, Arc<OwnedFd>)> {
        let listeners = self.listeners.borrow_and_update();
        let own = listeners.iter().filter(|(name, _)| is_discovery(name));
        own.map(|(name, it)| (name.clone(), it.addr, Arc::clone(&it.socket))).collect()
    }

    /// Waits until they may be others. Returns false when the edge has ended.
    pub async fn sockets_changed(&mut self) -> bool {
        self.listeners.changed().await.is_ok()
    }
}

/// Whether the listener of this name is discovery's, so that no request comes in by it.
pub(crate) fn is_discovery(listener: &str) -> bool {
    listener.starts_with(layout::DISCOVERY_LISTENERS)
}

/// The directory, and the instances whose entries are out of date.
#[derive(Debug, Default)]
pub(crate) struct Current {
    current: watch::Sender<Arc<Directory>>,
    /// Who goes by it; nothing as long as that is not known.
    readers: watch::Sender<Option<Arc<BTreeMap<ServiceName, Readers>>>>,
    /// Each once, so never more than there are instances.
    outdated: Mutex<BTreeSet<InstanceId>>,
    added: Notify,
}

impl Current {
    /// Takes over the table that is served from now on.
    pub(crate) fn follow(&self, table: &Table) {
        let next = |it: &mut Arc<Directory>| {
            let seen = |id: &InstanceId| table.instances.get(id).map_or(Seen::NOTHING, seen);
            *it = Arc::new(it.next(&table.source, &seen));
        };
        self.current.send_modify(next);
    }

    /// The services whose instances clients may go to by themselves. As long as it is not known,
    /// that is all of them, unless nobody can ask.
    pub(crate) fn readers(&self, table: &Table) -> BTreeMap<ServiceName, Readers> {
        if table.source.discovery.addresses().next().is_none() {
            return BTreeMap::new();
        }
        if let Some(known) = &*self.readers.borrow() {
            return BTreeMap::clone(known);
        }
        let all = table.source.services.keys();
        all.map(|it| (it.clone(), Readers::default())).collect()
    }

    /// Notes that the instance is no longer as it was.
    pub(crate) fn outdate(&self, id: &InstanceId) {
        let mut outdated = self.outdated.lock().unwrap_or_else(PoisonError::into_inner);
        if outdated.insert(id.clone()) {
            self.added.notify_one();
        }
    }
}

fn seen(instance: &Arc<Instance>) -> Seen {
    Seen { health: instance.believed(), once: instance.was_healthy() }
}

/// Makes the next directory whenever an instance has changed, for ever.
pub(crate) async fn keep(shared: Arc<Shared>) {
    let it = &shared.directory;
    loop {
        it.added.notified().await;
        let ids = std::mem::take(&mut *it.outdated.lock().unwrap_or_else(PoisonError::into_inner));
        it.current.send_if_modified(|directory| {
            // Read in here, so that this can never undo what a later table has said.
            let table = shared.table.load();
            let seen = |id: InstanceId| {
                let seen = seen(table.instances.get(&id)?);
                Some((id, seen))
            };
            let next = directory.with(ids.into_iter().filter_map(seen));
            let changed = next.is_some();
            if let Some(next) = next {
                *directory = Arc::new(next);
            }
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use evenkeel_kernel::model::{Discovery, Weight};

    use super::*;
    use crate::fixtures::{pool, service_table};
    use crate::table::Surroundings;

    #[test]
    fn as_long_as_it_is_not_known_who_reads_everybody_may_unless_nobody_can() {
        let current = Current::default();
        let table = |discovery| {
            let mut source = service_table(1, vec![(1, Weight::ALL, pool(Vec::new()))]);
            source.discovery = discovery;
            Table::default().next(source, &Surroundings::plain(), &|_| true)
        };
        let off = table(Discovery::default());
        let on =
            table(Discovery { dns: vec!["127.0.0.1:53".parse().unwrap()], ..Discovery::default() });
        let all: BTreeMap<ServiceName, Readers> =
            [("web".parse().unwrap(), Readers::default())].into();
        assert_eq!((current.readers(&off), current.readers(&on)), (BTreeMap::new(), all.clone()));
        current.readers.send_replace(Some(Arc::default()));
        assert_eq!(current.readers(&on), BTreeMap::new());
        current.readers.send_replace(Some(Arc::new(all.clone())));
        assert_eq!((current.readers(&off), current.readers(&on)), (BTreeMap::new(), all));
    }
}

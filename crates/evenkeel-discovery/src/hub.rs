//! The one place where the faces of discovery see what is now, and wait for what comes next.
//!
//! Who waits for one service is woken by that service only, so a change costs those whom it
//! concerns. All of it is of one thread.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use evenkeel_kernel::routing::directory::Directory;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::catalog::{ByName, Catalog, changed};
use crate::registry::Registered;

/// What somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest<'a> {
    /// One service, also when there is none yet.
    Service(&'a str),
    /// Which services there are, and their tags.
    Names,
    /// Anything.
    Any,
    /// What never changes.
    Nothing,
}

/// The catalogue of now, and who waits for the next.
#[derive(Debug)]
pub(crate) struct Hub {
    catalog: RefCell<Arc<Catalog>>,
    waiting: RefCell<ByName<Rc<Notify>>>,
    names: Notify,
    any: Notify,
    /// The end has come: nobody is kept waiting any more.
    ending: Cell<bool>,
    /// What all indexes begin with: the time of the start, so that they never repeat what an
    /// earlier process said.
    first: u64,
}

impl Default for Hub {
    fn default() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            catalog: RefCell::default(),
            waiting: RefCell::default(),
            names: Notify::new(),
            any: Notify::new(),
            ending: Cell::new(false),
            first: u64::try_from(since.as_millis()).unwrap_or(1),
        }
    }
}

impl Hub {
    /// What is now.
    pub(crate) fn now(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.borrow())
    }

    /// Takes over what the stack has.
    pub(crate) fn follow(&self, directory: Arc<Directory>) {
        let next = Catalog { directory, ..Catalog::clone(&self.now()) };
        self.publish(next);
    }

    /// Takes over what others have registered.
    pub(crate) fn registered(&self, registered: Arc<Registered>) {
        let next = Catalog { registered, ..Catalog::clone(&self.now()) };
        self.publish(next);
    }

    /// Puts the next in its place, and wakes whom it concerns.
    fn publish(&self, mut next: Catalog) {
        let before = self.now();
        let names = changed(&next, &before);
        if names.iter().any(|name| next.tags(name) != before.tags(name)) {
            next.names_index += 1;
        }
        let other_names = next.names_index != before.names_index;
        self.catalog.replace(Arc::new(next));
        {
            let waiting = self.waiting.borrow();
            let concerned = names.iter().filter_map(|name| waiting.get(name.as_str()));
            concerned.for_each(|it| it.notify_waiters());
        }
        if other_names {
            self.names.notify_waiters();
        }
        self.any.notify_waiters();
    }

    /// The index of what somebody is interested in: another one whenever it is another.
    pub(crate) fn index(&self, interest: Interest<'_>) -> u64 {
        let catalog = self.now();
        let since = match interest {
            Interest::Service(name) => catalog.index_of(name),
            Interest::Names => catalog.names_index,
            Interest::Any => catalog.index(),
            Interest::Nothing => 0,
        };
        self.first + since
    }

    /// Waits until the index is another one, or for so long.
    pub(crate) async fn wait(&self, interest: Interest<'_>, index: u64, until: Instant) {
        let own = match interest {
            Interest::Service(name) => {
                Some(Rc::clone(self.waiting.borrow_mut().entry(name.into()).or_default()))
            }
            Interest::Names | Interest::Any | Interest::Nothing => None,
        };
        loop {
            let notify = match (&own, interest) {
                (Some(own), _) => own,
                (None, Interest::Names) => &self.names,
                (None, _) => &self.any,
            };
            let mut changed = std::pin::pin!(notify.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            if self.ending.get() || self.index(interest) != index {
                break;
            }
            if timeout_at(until, changed).await.is_err() {
                break;
            }
        }
        if let (Some(own), Interest::Service(name)) = (own, interest) {
            // The last one who waited takes the place away: one here, one in the map.
            if Rc::strong_count(&own) <= 2 {
                self.waiting.borrow_mut().remove(name);
            }
        }
    }

    /// Whether the end has come.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.get()
    }

    /// Lets everybody who waits go on, to an end.
    pub(crate) fn end(&self) {
        self.ending.set(true);
        self.waiting.borrow().values().for_each(|it| it.notify_waiters());
        self.names.notify_waiters();
        self.any.notify_waiters();
    }
}

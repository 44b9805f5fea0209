//! Where others register: takes what they say, keeps it, and lets go of who says nothing.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::check;
use super::disk::{self, Kept};
use super::entry::{Checked, Entry, External, Kind, Registered, Status};
use crate::hub::Hub;
use crate::log;

/// Services of others at most.
const REGISTERED_MAX: usize = 1_000;
/// Between two looks at who is overdue, and at what another process has written.
const LOOK: Duration = Duration::from_millis(250);
/// Bytes that are kept of what somebody says of itself.
const OUTPUT_MAX: usize = 4_096;

/// Why something is not done.
#[derive(Debug)]
pub(crate) enum Refused {
    /// It cannot be had.
    Wrong(String),
    /// There is no such thing.
    Unknown(String),
    /// It could not be kept.
    Disk(io::Error),
}

/// What is known beyond the values, by test.
#[derive(Debug)]
struct Watched {
    /// When somebody must have said something again.
    due: Option<Instant>,
    critical_since: Option<Instant>,
    task: Option<AbortHandle>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

#[derive(Debug)]
struct Record {
    entry: Arc<Entry>,
    watched: Vec<Watched>,
}

/// The desk.
#[derive(Debug)]
pub(crate) struct Desk {
    home: PathBuf,
    hub: Rc<Hub>,
    records: RefCell<BTreeMap<String, Record>>,
    touched: Cell<Option<SystemTime>>,
}

impl Desk {
    pub(crate) fn new(home: PathBuf, hub: Rc<Hub>) -> Rc<Self> {
        let it = Rc::new(Self { home, hub, records: RefCell::default(), touched: Cell::new(None) });
        it.read_again();
        it
    }

    /// Looks after what is registered, for ever.
    pub(crate) async fn run(self: Rc<Self>) {
        loop {
            sleep(LOOK).await;
            if disk::touched(&self.home) != self.touched.get() {
                self.read_again();
            }
            self.expire().await;
        }
    }

    /// Registers, in place of whoever has this id.
    pub(crate) async fn register(self: &Rc<Self>, service: External) -> Result<(), Refused> {
        if self.hub.now().own(&service.name).is_some() {
            let wrong = format!("the name `{}` belongs to the stack", service.name);
            return Err(Refused::Wrong(wrong));
        }
        let known = self.records.borrow().contains_key(&service.id);
        if !known && self.records.borrow().len() >= REGISTERED_MAX {
            let wrong = format!("{REGISTERED_MAX} services are registered, and no more may be");
            return Err(Refused::Wrong(wrong));
        }
        // Who registers the same again, as many do at every start, is as well as before.
        let same = {
            let records = self.records.borrow();
            let known = records.get(&service.id);
            known.filter(|it| *it.entry.service == service).map(|it| it.entry.checked.clone())
        };
        let checked = same.unwrap_or_else(|| first(&service));
        self.keep(&service, &checked).await?;
        self.put(service, checked);
        Ok(())
    }

    /// Takes one away.
    pub(crate) async fn deregister(&self, id: &str) -> Result<(), Refused> {
        let home = self.home.clone();
        let gone = self.records.borrow_mut().remove(id);
        let Some(gone) = gone else {
            return Err(Refused::Unknown(format!("Unknown service ID \"{id}\"")));
        };
        self.publish(&gone.entry.service.name);
        let id = id.to_owned();
        let removed = tokio::task::spawn_blocking(move || disk::remove(&home, &id)).await;
        removed.map_err(io::Error::other).flatten().map_err(Refused::Disk)
    }

    /// Takes in what somebody says of a check of its own.
    pub(crate) async fn say(
        &self,
        check: &str,
        status: Status,
        mut output: String,
    ) -> Result<(), Refused> {
        output.truncate(output.floor_char_boundary(OUTPUT_MAX));
        let found = {
            let records = self.records.borrow();
            let place = |(id, record): (&String, &Record)| {
                let tests = &record.entry.service.tests;
                let at = tests.iter().position(|it| it.id == check)?;
                Some((id.clone(), at, matches!(tests.get(at)?.kind, Kind::Ttl(_))))
            };
            records.iter().find_map(place)
        };
        match found {
            None => Err(Refused::Unknown(format!("Unknown check ID \"{check}\""))),
            Some((_, _, false)) => Err(Refused::Wrong(format!("the check `{check}` has no TTL"))),
            Some((id, at, true)) => self.checked(&id, at, Checked { status, output }).await,
        }
    }

    /// Takes in what is known by a test.
    async fn checked(&self, id: &str, at: usize, checked: Checked) -> Result<(), Refused> {
        let news = {
            let mut records = self.records.borrow_mut();
            let Some(record) = records.get_mut(id) else { return Ok(()) };
            let Some(test) = record.entry.service.tests.get(at) else { return Ok(()) };
            let now = Instant::now();
            let critical = checked.status == Status::Critical;
            if let Some(watched) = record.watched.get_mut(at) {
                if let Kind::Ttl(ttl) = test.kind {
                    watched.due = Some(now + ttl);
                }
                let since = watched.critical_since.filter(|_| critical);
                watched.critical_since = since.or(critical.then_some(now));
            }
            let before = record.entry.checked.get(at).cloned().unwrap_or_default();
            if before == checked {
                return Ok(());
            }
            let moved = before.status != checked.status;
            let mut entry = Entry::clone(&record.entry);
            if let Some(place) = entry.checked.get_mut(at) {
                *place = checked;
            }
            record.entry = Arc::new(entry);
            (Arc::clone(&record.entry), moved)
        };
        let (entry, moved) = news;
        self.publish(&entry.service.name);
        if moved { self.keep(&entry.service, &entry.checked).await } else { Ok(()) }
    }

    async fn keep(&self, service: &External, checked: &[Checked]) -> Result<(), Refused> {
        let statuses = checked.iter().map(|it| it.status).collect();
        let (home, kept) = (self.home.clone(), Kept::new(service.clone(), statuses));
        let written = tokio::task::spawn_blocking(move || disk::write(&home, &kept)).await;
        written.map_err(io::Error::other).flatten().map_err(Refused::Disk)
    }

    /// Who has said nothing for too long is critical; who is so for too long is gone.
    async fn expire(&self) {
        let now = Instant::now();
        let (mut silent, mut gone) = (Vec::new(), Vec::new());
        for (id, record) in &*self.records.borrow() {
            let tests = record.entry.service.tests.iter().zip(&record.watched).enumerate();
            for (at, (test, watched)) in tests {
                if watched.due.is_some_and(|due| due <= now)
                    && record.entry.checked.get(at).is_some_and(|it| it.status != Status::Critical)
                {
                    silent.push((id.clone(), at));
                }
                let since = watched.critical_since.zip(test.gone_after);
                if since.is_some_and(|(since, after)| now >= since + after) {
                    gone.push(id.clone());
                }
            }
        }
        for (id, at) in silent {
            let output = "TTL expired".to_owned();
            let checked = Checked { status: Status::Critical, output };
            self.complain(self.checked(&id, at, checked).await);
        }
        for id in gone {
            self.complain(self.deregister(&id).await);
        }
    }

    fn complain(&self, done: Result<(), Refused>) {
        match done {
            Ok(()) | Err(Refused::Wrong(_) | Refused::Unknown(_)) => {}
            Err(Refused::Disk(error)) => {
                log::warn(format_args!("could not keep what is registered: {error}"));
            }
        }
    }

    fn put(self: &Rc<Self>, service: External, checked: Vec<Checked>) {
        let now = Instant::now();
        let watch = |(at, test): (usize, &super::entry::Test)| {
            let critical = checked.get(at).is_none_or(|it| it.status == Status::Critical);
            Watched {
                due: match test.kind {
                    Kind::Ttl(ttl) => Some(now + ttl),
                    Kind::Http { .. } | Kind::Tcp { .. } => None,
                },
                critical_since: critical.then_some(now),
                task: check::interval(&test.kind).map(|interval| {
                    let work =
                        Rc::clone(self).test(service.id.clone(), at, test.kind.clone(), interval);
                    tokio::task::spawn_local(work).abort_handle()
                }),
            }
        };
        let watched = service.tests.iter().enumerate().map(watch).collect();
        let (id, name) = (service.id.clone(), service.name.clone());
        let entry = Arc::new(Entry { service: Arc::new(service), checked });
        let before = self.records.borrow_mut().insert(id, Record { entry, watched });
        if let Some(before) = before.filter(|it| it.entry.service.name != name) {
            self.publish(&before.entry.service.name);
        }
        self.publish(&name);
    }

    async fn test(self: Rc<Self>, id: String, at: usize, kind: Kind, interval: Duration) {
        // Not all that start with us in the same moment.
        sleep(interval.mul_f64(fastrand::f64()).min(Duration::from_secs(1))).await;
        loop {
            let checked = check::once(&kind).await;
            self.complain(self.checked(&id, at, checked).await);
            sleep(interval).await;
        }
    }

    /// Tells everybody of the services of this name.
    fn publish(&self, name: &str) {
        let records = self.records.borrow();
        let entries = records.values().map(|it| &it.entry);
        let entries = entries.filter(|it| it.service.name == name).map(Arc::clone).collect();
        let next: Registered = self.hub.now().registered.with(name, entries);
        self.hub.registered(Arc::new(next));
    }

    /// Takes over what is on disk: at the start, and when another process has been told something.
    fn read_again(self: &Rc<Self>) {
        self.touched.set(disk::touched(&self.home));
        let kept = disk::read(&self.home, REGISTERED_MAX);
        let ids: Vec<String> = self.records.borrow().keys().cloned().collect();
        for id in ids {
            if !kept.iter().any(|it| it.service.id == id) {
                let gone = self.records.borrow_mut().remove(&id);
                gone.iter().for_each(|it| self.publish(&it.entry.service.name));
            }
        }
        for Kept { service, statuses, .. } in kept {
            let same = self
                .records
                .borrow()
                .get(&service.id)
                .is_some_and(|it| *it.entry.service == service);
            if !same {
                let checked = first(&service).into_iter().enumerate().map(|(at, it)| Checked {
                    status: statuses.get(at).copied().unwrap_or(it.status),
                    ..it
                });
                let checked = checked.collect();
                self.put(service, checked);
            }
        }
    }
}

/// What holds of one that has just been registered.
fn first(service: &External) -> Vec<Checked> {
    let checked = |it: &super::entry::Test| Checked { status: it.first, output: String::new() };
    service.tests.iter().map(checked).collect()
}

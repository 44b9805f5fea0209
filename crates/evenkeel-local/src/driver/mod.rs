//! The driver: what control uses to see and to shape the instances of this machine.
//!
//! It decides nothing about pools; it makes the latest want of each one true, and looks. All of
//! its knowledge can be read again from the instances' folders, so it may be dropped at any moment
//! and opened anew.

pub(crate) mod ask;
mod book;
mod due;
mod meter;
mod watch;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use evenkeel_kernel::model::{InstanceId, PoolId};
use evenkeel_kernel::time::Timestamp;
use evenkeel_kernel::want;
use evenkeel_kernel::world::{Observed, Platform};
use rustix::process::{Resource, Rlimit};

use crate::folder::{self, Folder};
use crate::nursery::Nursery;
use crate::process::{self, boot_id};
use book::{Book, Life};
use due::Due;
use watch::Watch;

/// How many instances are worked on at the same time: enough to start a thousand in seconds, and
/// few enough to leave the processors to what is started.
const WORKERS: usize = 8;
/// How often everything is looked at again, should a hint have been lost.
const RESYNC: Duration = Duration::from_secs(5);
/// What is taken from control's own environment into each instance's.
const PLATFORM_ENV: [&str; 5] = ["PATH", "HOME", "USER", "LANG", "TZ"];

/// Says whether the edge routes to an instance at this moment; `None` when nobody knows.
pub type Routed = Arc<dyn Fn(&InstanceId) -> Option<bool> + Send + Sync>;

/// What the driver is opened with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The home folder; absolute, and at most
    /// [`HOME_LENGTH_MAX`](evenkeel_kernel::layout::HOME_LENGTH_MAX) bytes long.
    pub home: PathBuf,
    /// Program and first arguments that start a shim; its own arguments are added.
    pub shim: Vec<OsString>,
    /// Environment that every instance gets.
    pub env: BTreeMap<String, String>,
}

impl Config {
    /// The usual: `PATH`, `HOME`, `USER`, `LANG` and `TZ` as this process has them.
    #[must_use]
    pub fn new(home: PathBuf, shim: Vec<OsString>) -> Self {
        let env = PLATFORM_ENV
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)))
            .collect();
        Self { home, shim, env }
    }
}

/// The platform "this machine". Dropping it leaves all instances as they are.
pub struct Local {
    shared: Arc<Shared>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

/// What the driver's threads share.
struct Shared {
    config: Config,
    boot_id: String,
    watch: Watch,
    /// Where shims come from; started with the first of them.
    nursery: Mutex<Option<Nursery>>,
    state: Mutex<State>,
    /// Something became due, or the driver is being dropped.
    due: Condvar,
    closing: AtomicBool,
}

struct State {
    wants: BTreeMap<PoolId, Wanted>,
    book: Book,
    /// Instances to be worked on, and when.
    due: Due,
    /// Instances that a worker has in hand: one worker each, ever.
    busy: BTreeSet<InstanceId>,
    dirty: BTreeSet<InstanceId>,
    looked_at: Instant,
    metered_at: Instant,
}

#[derive(Clone)]
struct Wanted {
    pool: Arc<want::Pool>,
    routed: Routed,
}

impl Local {
    /// Opens the platform: finds every instance that this machine has, and starts to watch.
    ///
    /// # Errors
    /// When the home folder cannot be read or written, or has too long a path.
    pub fn open(config: Config) -> io::Result<Self> {
        let too_long = config.home.as_os_str().len() > evenkeel_kernel::layout::HOME_LENGTH_MAX;
        if too_long || !config.home.is_absolute() || config.shim.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "the home folder must be an absolute path of at most {} bytes, and the shim a \
                     command",
                    evenkeel_kernel::layout::HOME_LENGTH_MAX
                ),
            ));
        }
        folder::private_dir(&config.home.join(evenkeel_kernel::layout::INSTANCES))?;
        folder::private_dir(&config.home.join(evenkeel_kernel::layout::SHIM_SOCKETS))?;
        allow_many_files();
        let state = State {
            wants: BTreeMap::new(),
            book: Book::default(),
            due: Due::default(),
            busy: BTreeSet::new(),
            dirty: folder::instances(&config.home)?.into_iter().collect(),
            looked_at: Instant::now(),
            metered_at: Instant::now(),
        };
        let shared = Arc::new(Shared {
            boot_id: boot_id()?,
            watch: Watch::new()?,
            nursery: Mutex::new(None),
            config,
            state: Mutex::new(state),
            due: Condvar::new(),
            closing: AtomicBool::new(false),
        });
        shared.read_dirty(&mut shared.lock());
        let mut local = Self { shared, threads: Vec::new() };
        local.spawn("shim-watch", Shared::watch)?;
        for number in 0..WORKERS {
            local.spawn(&format!("platform-{number}"), Shared::work)?;
        }
        Ok(local)
    }

    fn spawn(&mut self, name: &str, run: fn(&Shared)) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || run(&shared))?;
        self.threads.push(thread);
        Ok(())
    }

    /// What there is now. `now` also gives the moments of the past their place on the caller's
    /// clock.
    #[must_use]
    pub fn observe(&self, now: Timestamp) -> Observed<Platform> {
        let mut state = self.shared.lock();
        if state.looked_at.elapsed() >= RESYNC {
            state.looked_at = Instant::now();
            match folder::instances(&self.shared.config.home) {
                Ok(found) => state.dirty.extend(found),
                Err(error) => {
                    return Observed::Unknown(format!("the instances' folder: {error}"));
                }
            }
        }
        self.shared.read_dirty(&mut state);
        self.shared.read_meters(&mut state);
        Observed::Known(state.book.platform(now, process::now_ms()), now)
    }

    /// Makes a pool what it is wanted to be, in the background, until it is wanted otherwise. A
    /// want that is older than the latest one is ignored.
    ///
    /// `routed` is asked right before an instance is stopped: only `Some(false)` lets it happen.
    pub fn make_true(&self, want: want::Pool, routed: Routed) {
        let mut state = self.shared.lock();
        let known = state.wants.get(&want.id);
        if known.is_some_and(|known| want.fence < known.pool.fence) {
            return;
        }
        let (pool, is_new) = match known {
            Some(known) if *known.pool == want => (Arc::clone(&known.pool), false),
            Some(_) | None => (Arc::new(want), true),
        };
        let reshaped = known.is_none_or(|known| !same_instances(&known.pool, &pool));
        let mut instances: BTreeSet<InstanceId> = state.book.of_pool(&pool.id).collect();
        instances.extend(pool.slots.keys().map(|&slot| pool.id.instance(slot)));
        let wanted = Wanted { pool, routed };
        for id in instances {
            let needs_work = state.book.needs_work(&id, &wanted);
            if reshaped || is_new && needs_work {
                state.due.set(id, Instant::now());
            } else if needs_work {
                // Whatever it waits for, it goes on waiting.
                state.due.set_if_idle(id, Instant::now());
            }
        }
        state.wants.insert(wanted.pool.id.clone(), wanted);
        self.shared.due.notify_all();
    }

    /// Takes a hint: the status of `instance` has changed.
    pub fn dirty(&self, instance: &InstanceId) {
        let mut state = self.shared.lock();
        state.dirty.insert(instance.clone());
        self.shared.read_dirty(&mut state);
        self.shared.due.notify_all();
    }

    /// Takes a hint: anything may have changed.
    pub fn changed(&self) {
        let mut state = self.shared.lock();
        let all: Vec<InstanceId> = state.book.all().collect();
        state.dirty.extend(all);
        self.shared.read_dirty(&mut state);
        self.shared.due.notify_all();
    }

    /// Deletes what ended instances have left behind, logs included, unless they are kept or
    /// wanted. What lives is never touched. Returns how many were deleted.
    ///
    /// # Errors
    /// When a folder cannot be deleted; the others are deleted all the same.
    pub fn forget(&self, keep: impl Fn(&InstanceId) -> bool) -> io::Result<usize> {
        let mut state = self.shared.lock();
        let ended: Vec<InstanceId> = state
            .book
            .all()
            .filter(|id| !keep(id) && !state.busy.contains(id) && !state.is_wanted(id))
            .filter(|id| matches!(state.book.life(id), Life::Absent))
            .collect();
        let (mut deleted, mut result) = (0, Ok(()));
        for id in ended {
            let folder = Folder::new(&self.shared.config.home, &id);
            match delete(&folder) {
                Ok(true) => {
                    state.book.forget(&id);
                    deleted += 1;
                }
                // A shim has it after all.
                Ok(false) => {}
                Err(error) => result = Err(error),
            }
        }
        result.map(|()| deleted)
    }
}

/// Whether both wants describe each of their instances alike, whichever and how many they are.
fn same_instances(one: &want::Pool, other: &want::Pool) -> bool {
    one.probe == other.probe
        && one.surroundings == other.surroundings
        && one.workload == other.workload
}

/// Deletes a folder that no shim holds.
fn delete(folder: &Folder) -> io::Result<bool> {
    let lock = match folder.lock() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        other => other?,
    };
    let Some(_lock) = lock else { return Ok(false) };
    folder::remove_file(&folder.socket)?;
    folder::remove_file(&folder.notify)?;
    std::fs::remove_dir_all(folder.path())?;
    Ok(true)
}

/// Watching a shim takes one open file; the usual soft limit of 1,024 is for programs that use
/// `select`, which this one does not.
fn allow_many_files() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Without it a machine with many instances is looked at less often, not wrongly.
    let _best_effort = rustix::process::setrlimit(Resource::Nofile, raised);
}

impl Drop for Local {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        {
            // Taking the lock makes sure that nobody is between looking and waiting.
            let _state = self.shared.lock();
            self.shared.due.notify_all();
        }
        self.shared.watch.wake();
        for thread in self.threads.drain(..) {
            // A worker that panicked has been replaced by nobody, and is not missed now.
            let _ended = thread.join();
        }
    }
}

impl State {
    fn is_wanted(&self, id: &InstanceId) -> bool {
        self.wants.get(&id.pool).is_some_and(|wanted| wanted.pool.slots.contains_key(&id.slot))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state is complete before anything that might panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Reads what has changed on the disk, and schedules what that makes necessary.
    fn read_dirty(&self, state: &mut State) {
        for id in std::mem::take(&mut state.dirty) {
            self.read(state, &id);
        }
    }

    /// Reads the status of one instance.
    fn read(&self, state: &mut State, id: &InstanceId) {
        let folder = Folder::new(&self.config.home, id);
        state.book.read(id, &folder, &self.boot_id, &self.watch);
        let needs_work =
            state.wants.get(&id.pool).is_some_and(|wanted| state.book.needs_work(id, wanted));
        if needs_work {
            state.due.set_if_idle(id.clone(), Instant::now());
        }
    }
}

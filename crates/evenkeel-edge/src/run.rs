//! The edge as a process: its threads, its signals, its end.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use evenkeel_kernel::layout;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGINT, SIGTERM};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::Notify;

use crate::directory::{self, Outlook};
use crate::handover::{self, EDGE_LOCK};
use crate::http::Worker;
use crate::limits::{FDS_RESERVED, Limits};
use crate::shared::Shared;
use crate::table::Surroundings;
use crate::wake::Wake;
use crate::{door, load, log, probe};

/// Client connections there may always be, however few files the system allows.
const CONNECTIONS_MIN: u64 = 64;
/// Client connections there may be at most: at some 20 KiB each, 2 GiB.
const CONNECTIONS_MAX: u64 = 100_000;

/// How long a table that is being saved is waited for at the end. A disk that hangs must not keep
/// the edge from ending; what is half written is not looked at by the next.
const SAVED_WAIT: Duration = Duration::from_secs(1);
/// How long the lock is tried: long enough for any number of mere looks to pass.
const LOCK_WAIT: Duration = Duration::from_millis(200);
/// Time between two tries.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// How an edge is to run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The home folder; see [`layout`].
    pub home: PathBuf,
    /// Threads that serve requests; 0 is one per processor.
    pub threads: usize,
}

/// Why the edge could not run on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Another edge runs on this home.
    #[error("another edge runs on this home")]
    Running,
    /// The system did not let it.
    #[error("could not {doing}")]
    System {
        /// What it was doing.
        doing: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// One of its threads ended by a fault of its own.
    #[error("a thread of the edge died")]
    ThreadDied,
}

fn system(doing: &'static str) -> impl Fn(io::Error) -> RunError {
    move |source| RunError::System { doing, source }
}

/// A running edge.
#[derive(Debug)]
pub struct Edge {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    manager: JoinHandle<()>,
    end: Arc<Notify>,
    events: (mpsc::Sender<Event>, mpsc::Receiver<Event>),
    _lock: File,
}

/// What ends the waiting.
#[derive(Clone, Copy, Debug)]
enum Event {
    Stop,
    Died,
}

/// Runs an edge until a SIGTERM or SIGINT, then lets its requests end, and returns. `beside` is given
/// what it sees once it runs; it starts what is to run in the same process, and what it returns is
/// dropped when the edge begins to end.
pub fn run<T>(config: &Config, beside: impl FnOnce(Outlook) -> T) -> Result<(), RunError> {
    let edge = Edge::start(config)?;
    let beside = beside(edge.outlook());
    let stop = edge.events.0.clone();
    let mut signals =
        signal_hook::iterator::Signals::new([SIGTERM, SIGINT]).map_err(system("await signals"))?;
    let handle = signals.handle();
    let waiting = thread::spawn(move || {
        if signals.forever().next().is_some() {
            // Nobody listens any more: the edge ends already.
            let _ended = stop.send(Event::Stop);
        }
    });
    let event = edge.events.1.recv().unwrap_or(Event::Died);
    handle.close();
    drop(beside);
    let ended = edge.stop();
    let _waited = waiting.join();
    match event {
        Event::Stop => ended,
        Event::Died => Err(RunError::ThreadDied),
    }
}

impl Edge {
    /// Starts an edge in this process.
    pub fn start(config: &Config) -> Result<Self, RunError> {
        Self::start_within(config, Limits::default())
    }

    /// The same with other limits than the usual ones.
    pub fn start_within(config: &Config, limits: Limits) -> Result<Self, RunError> {
        let home = &config.home;
        for folder in [layout::RUN, "edge"] {
            fs::create_dir_all(home.join(folder)).map_err(system("make its folders"))?;
        }
        let lock = lock(home)?;
        let pid = format!("{}\n", std::process::id());
        fs::write(home.join(layout::pid_file("edge")), pid).map_err(system("write its pid"))?;
        let threads = match config.threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let around = Surroundings { threads, wake: Arc::new(Wake::default()), limits };
        let shared = Arc::new(Shared::new(home, around, connections_max()));
        shared.load();
        let door = door::open(home).map_err(system("open its door"))?;
        let events = mpsc::channel();
        let end = Arc::new(Notify::new());
        let manager = spawn("edge-manager", &events.0, {
            let (shared, end) = (Arc::clone(&shared), Arc::clone(&end));
            move || manage(&shared, door, &end)
        })?;
        let worker = |index| {
            let shared = Arc::clone(&shared);
            spawn(&format!("edge-{index}"), &events.0, move || {
                runtime().block_on(Worker::new(index, shared).run());
            })
        };
        let workers = (0..threads).map(worker).collect::<Result<Vec<_>, _>>()?;
        // It is not waited for: it may sleep, and holds nothing that must be given back.
        drop(spawn("edge-listeners", &events.0, {
            let shared = Arc::clone(&shared);
            move || handover::receive(&shared)
        })?);
        log::info(format_args!("runs with {threads} threads"));
        Ok(Self { shared, workers, manager, end, events, _lock: lock })
    }

    /// What it sees, for whoever tells others.
    #[must_use]
    pub fn outlook(&self) -> Outlook {
        Outlook::new(&self.shared)
    }

    /// Accepts nothing more, lets its requests end (ten seconds at most), and ends.
    pub fn stop(self) -> Result<(), RunError> {
        log::info(format_args!("ends"));
        self.shared.closing.store(true, Ordering::Relaxed);
        self.shared.listeners.send_modify(|_| {});
        let died = self.workers.into_iter().map(JoinHandle::join).filter(Result::is_err).count();
        self.end.notify_one();
        let managed = self.manager.join();
        let _removed = fs::remove_file(self.shared.home.join(layout::pid_file("edge")));
        if died == 0 && managed.is_ok() { Ok(()) } else { Err(RunError::ThreadDied) }
    }
}

/// Starts a thread that says when it ends.
fn spawn(
    name: &str,
    events: &mpsc::Sender<Event>,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, RunError> {
    struct Last(mpsc::Sender<Event>);
    impl Drop for Last {
        fn drop(&mut self) {
            // Whoever waited may be gone.
            let _told = self.0.send(Event::Died);
        }
    }
    let last = Last(events.clone());
    let body = move || {
        let _last = last;
        work();
    };
    thread::Builder::new().name(name.to_owned()).spawn(body).map_err(system("start a thread"))
}

fn runtime() -> LocalRuntime {
    let mut builder = Builder::new_current_thread();
    builder.enable_all();
    builder
        .build_local(LocalOptions::default())
        .expect("a runtime needs an epoll instance, and files were allowed for")
}

/// Everything that is not a request: the door, the probes, the wake-ups, the table on disk.
fn manage(shared: &Arc<Shared>, door: std::os::unix::net::UnixListener, end: &Notify) {
    let runtime = runtime();
    runtime.block_on(async {
        let door = tokio::net::UnixListener::from_std(door);
        let door = door.expect("the runtime takes a listening socket");
        let wake = Arc::clone(&shared.around.wake);
        tokio::select! {
            () = door::run(Arc::clone(shared), door) => {}
            () = probe::run(Arc::clone(shared)) => {}
            () = load::run(Arc::clone(shared)) => {}
            () = directory::keep(Arc::clone(shared)) => {}
            () = door::keep_saved(Arc::clone(shared)) => {}
            () = wake.send(shared.home.clone()) => {}
            () = end.notified() => {}
        }
    });
    runtime.shutdown_timeout(SAVED_WAIT);
}

/// Becomes the only edge of this home. Whoever only looks whether an edge lives holds the lock,
/// shared, for a moment.
fn lock(home: &Path) -> Result<File, RunError> {
    let path = home.join(EDGE_LOCK);
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
    let file = file.map_err(system("open its lock"))?;
    let until = Instant::now() + LOCK_WAIT;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(Errno::WOULDBLOCK) if Instant::now() < until => thread::sleep(LOCK_PAUSE),
            Err(Errno::WOULDBLOCK) => return Err(RunError::Running),
            Err(Errno::INTR) => {}
            Err(error) => return Err(system("take its lock")(error.into())),
        }
    }
}

/// Raises the limit of open files as far as it goes, and says how many connections fit: each needs
/// one file, and one more towards its instance.
fn connections_max() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let files = files.unwrap_or(u64::MAX);
    let fit = files.saturating_sub(FDS_RESERVED) / 2;
    usize::try_from(fit.clamp(CONNECTIONS_MIN, CONNECTIONS_MAX)).unwrap_or(usize::MAX)
}

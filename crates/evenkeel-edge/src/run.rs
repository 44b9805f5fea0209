//! The edge as a process: its threads, its signals, its end.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use evenkeel_kernel::layout;
use evenkeel_kernel::model::Discovery;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGINT, SIGTERM};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use crate::directory::{self, Outlook};
use crate::handover::{self, EDGE_LOCK};
use crate::http::Worker;
use crate::limits::{FDS_RESERVED, Limits, READ_OUT_WAIT};
use crate::protocol::Observation;
use crate::shared::Shared;
use crate::succession::{company, heir};
use crate::table::Surroundings;
use crate::wake::Wake;
use crate::{acme, certificates, door, load, log, outlier, probe, telemetry};

/// Client connections there may always be, however few files the system allows.
const CONNECTIONS_MIN: u64 = 64;
/// Client connections there may be at most: at some 20 KiB each, 2 GiB.
const CONNECTIONS_MAX: u64 = 100_000;

/// How long a table that is being saved is waited for at the end. A disk that hangs must not keep
/// the edge from ending; what is half written is not looked at by the next.
const SAVED_WAIT: Duration = Duration::from_secs(1);
/// How long the lock is tried: long enough for any number of mere looks to pass.
const LOCK_WAIT: Duration = Duration::from_millis(200);
/// How long one that knows nothing of successors may take to end: its requests have ten seconds.
const OLDER_WAIT: Duration = Duration::from_secs(15);
/// Time between two tries.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// How an edge is to run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The home folder; see [`layout`].
    pub home: PathBuf,
    /// Threads that serve requests; 0 is one per processor.
    pub threads: usize,
    /// Take the place of the edge that runs on this home, if there is one.
    pub succeed: bool,
    /// What this process is, for [`layout::about_file`].
    pub about: String,
}

/// Why the edge could not run on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Another edge runs on this home.
    #[error("another edge runs on this home")]
    Running,
    /// The edge that runs on this home goes on.
    #[error("could not take the place of the edge that runs")]
    NotSucceeded(#[source] io::Error),
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
}

/// What ends the waiting.
#[derive(Clone, Copy, Debug)]
enum Event {
    Stop,
    /// A successor has its place.
    Left,
    Died,
}

/// Runs an edge until a SIGTERM or SIGINT, or until a successor takes its place; then lets its
/// requests end, and returns. `beside` is given what it sees once it runs; it starts what is to run
/// in the same process, and what it returns is dropped when the edge begins to end.
pub fn run<T>(config: &Config, beside: impl FnOnce(Outlook) -> T) -> Result<(), RunError> {
    let edge = Edge::start(config)?;
    let beside = beside(edge.outlook());
    let (stop, shared) = (edge.events.0.clone(), Arc::clone(&edge.shared));
    let mut signals =
        signal_hook::iterator::Signals::new([SIGTERM, SIGINT]).map_err(system("await signals"))?;
    let handle = signals.handle();
    let waiting = thread::spawn(move || {
        for _signal in signals.forever() {
            if shared.succession.has_left() {
                shared.succession.hurry();
            }
            // Nobody listens any more: the edge ends already.
            let _ended = stop.send(Event::Stop);
        }
    });
    let died = match edge.events.1.recv() {
        Ok(Event::Stop | Event::Left) => false,
        // The threads of one that has left its place end with what they hold.
        Ok(Event::Died) | Err(_) => !edge.shared.succession.has_left(),
    };
    drop(beside);
    let ended = edge.end();
    handle.close();
    let _waited = waiting.join();
    if died { Err(RunError::ThreadDied) } else { ended }
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
        let (lock, predecessor) = place(config)?;
        let threads = match config.threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let around = Surroundings { threads, wake: Arc::new(Wake::default()), limits };
        let shared = Arc::new(Shared::new(home, around, connections_max()));
        shared.load();
        let (opened, door) = oneshot::channel();
        let edge = Self::spawn(shared, threads, door)?;
        match edge.take_place(lock, predecessor, &config.about) {
            Ok(door) => {
                let _ended = opened.send(door);
                edge.shared.succession.open();
                log::info(format_args!("runs with {threads} threads"));
                Ok(edge)
            }
            Err(error) => {
                edge.give_up();
                Err(error)
            }
        }
    }

    /// Starts all threads. They accept nothing yet, and the door is not open.
    fn spawn(
        shared: Arc<Shared>,
        threads: usize,
        door: oneshot::Receiver<UnixListener>,
    ) -> Result<Self, RunError> {
        let events = mpsc::channel();
        let end = Arc::new(Notify::new());
        let manager = spawn("edge-manager", &events.0, {
            let (shared, end, events) = (Arc::clone(&shared), Arc::clone(&end), events.0.clone());
            move || manage(&shared, door, &end, &events)
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
        acme::start(&shared).map_err(system("start a thread"))?;
        Ok(Self { shared, workers, manager, end, events })
    }

    /// What it sees, for whoever tells others.
    #[must_use]
    pub fn outlook(&self) -> Outlook {
        Outlook::new(&self.shared)
    }

    /// Becomes the edge of its home, and gives its door.
    fn take_place(
        &self,
        lock: Option<File>,
        predecessor: Option<Observation>,
        about: &str,
    ) -> Result<UnixListener, RunError> {
        let shared = &self.shared;
        let home = &shared.home;
        if let Some(seen) = predecessor {
            let taken = async {
                heir::ready(shared, &seen).await?;
                heir::take_over(shared).await
            };
            runtime().block_on(taken).map_err(RunError::NotSucceeded)?;
        }
        let lock = match lock {
            Some(lock) => lock,
            // The predecessor has given it up just now. If somebody else was quicker, that is the
            // edge.
            None => self::lock(home, LOCK_WAIT)?,
        };
        shared.succession.reigns(lock);
        company::meet(shared);
        // So that control never sees this edge without what the others hold.
        runtime().block_on(company::look(shared));
        shared.succession.company.notify_one();
        fs::write(home.join(layout::about_file("edge")), about).map_err(system("say who it is"))?;
        let pid = format!("{}\n", std::process::id());
        fs::write(home.join(layout::pid_file("edge")), pid).map_err(system("write its pid"))?;
        door::open(home).map_err(system("open its door"))
    }

    /// Ends without ever having been the edge.
    fn give_up(self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        self.shared.succession.closes();
        self.shared.succession.open();
        self.shared.listeners.send_modify(|_| {});
        self.end.notify_one();
        let threads = self.workers.into_iter().chain([self.manager]);
        // Why it ends is known already.
        threads.for_each(|thread| drop(thread.join()));
    }

    /// Accepts nothing more, lets its requests end (ten seconds at most), and ends; so do its
    /// elders, and so does it itself if it has left its place.
    pub fn stop(self) -> Result<(), RunError> {
        if self.shared.succession.has_left() {
            self.shared.succession.hurry();
        }
        self.end()
    }

    /// The same, but if it has left its place, it takes the time that it has for that.
    fn end(self) -> Result<(), RunError> {
        let shared = &self.shared;
        let left = shared.succession.has_left();
        if !left {
            log::info(format_args!("ends"));
            shared.succession.closes();
            shared.closing.store(true, Ordering::Relaxed);
            shared.listeners.send_modify(|_| {});
            runtime().block_on(company::end(shared));
        }
        let died = self.workers.into_iter().map(JoinHandle::join).filter(Result::is_err).count();
        if left {
            shared.succession.finishes();
            log::info(format_args!("holds nothing any more, and ends"));
            let read_out = shared.succession.read_out.notified();
            let _late = runtime().block_on(async { timeout(READ_OUT_WAIT, read_out).await });
            let door = layout::leaving_edge_socket(std::process::id());
            let _removed = fs::remove_file(shared.home.join(door));
        } else {
            let _removed = fs::remove_file(shared.home.join(layout::pid_file("edge")));
        }
        self.end.notify_one();
        let managed = self.manager.join();
        shared.telemetry.end();
        // A thread that sleeps may still hold what is shared.
        shared.succession.abdicates();
        if died == 0 && managed.is_ok() { Ok(()) } else { Err(RunError::ThreadDied) }
    }
}

/// The place of this edge: free, or that of a predecessor, who tells what it sees.
fn place(config: &Config) -> Result<(Option<File>, Option<Observation>), RunError> {
    match lock(&config.home, LOCK_WAIT) {
        Ok(lock) => return Ok((Some(lock), None)),
        Err(RunError::Running) if config.succeed => {}
        Err(error) => return Err(error),
    }
    let announced = runtime().block_on(heir::announce(&config.home));
    match announced {
        Ok(seen) => Ok((None, Some(seen))),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            log::warn(format_args!("the edge that runs is older and has to end first"));
            let dismissed = runtime().block_on(heir::dismiss(&config.home));
            dismissed.map_err(RunError::NotSucceeded)?;
            Ok((Some(lock(&config.home, OLDER_WAIT)?), None))
        }
        Err(error) => Err(RunError::NotSucceeded(error)),
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
fn manage(
    shared: &Arc<Shared>,
    door: oneshot::Receiver<UnixListener>,
    end: &Notify,
    events: &mpsc::Sender<Event>,
) {
    let runtime = runtime();
    runtime.block_on(async {
        let door = async {
            // One that never takes its place is told to end.
            let Ok(door) = door.await else { return std::future::pending().await };
            let door = tokio::net::UnixListener::from_std(door);
            let door = door.expect("the runtime takes a listening socket");
            door::run(Arc::clone(shared), door).await;
        };
        let left = async {
            shared.succession.left().await;
            // Whoever listened may end already.
            let _told = events.send(Event::Left);
            std::future::pending::<()>().await;
        };
        let wake = Arc::clone(&shared.around.wake);
        tokio::select! {
            () = door => {}
            () = left => {}
            () = probe::run(Arc::clone(shared)) => {}
            () = certificates::keep(Arc::clone(shared)) => {}
            () = outlier::keep(Arc::clone(shared)) => {}
            () = telemetry::serve(Arc::clone(shared)) => {}
            () = telemetry::keep(Arc::clone(shared)) => {}
            () = load::run(Arc::clone(shared)) => {}
            () = directory::keep(Arc::clone(shared)) => {}
            () = door::keep_saved(Arc::clone(shared)) => {}
            () = company::keep(Arc::clone(shared)) => {}
            () = wake.send(shared.home.clone()) => {}
            () = end.notified() => {}
        }
    });
    runtime.shutdown_timeout(SAVED_WAIT);
}

/// Becomes the only edge of this home. Whoever only looks whether an edge lives holds the lock,
/// shared, for a moment.
fn lock(home: &Path, wait: Duration) -> Result<File, RunError> {
    let path = home.join(EDGE_LOCK);
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
    let file = file.map_err(system("open its lock"))?;
    let until = Instant::now() + wait;
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
    let fit = files.saturating_sub(FDS_RESERVED + Discovery::files(files)) / 2;
    usize::try_from(fit.clamp(CONNECTIONS_MIN, CONNECTIONS_MAX)).unwrap_or(usize::MAX)
}

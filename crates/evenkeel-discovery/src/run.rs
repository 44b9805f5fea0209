//! The room as a thread: which faces are open, and what they are told.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use evenkeel_kernel::layout::discovery_listener;
use evenkeel_kernel::routing::directory::Directory;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use crate::bounds::Bounds;
use crate::dns::{self, Answers, Forwarder};
use crate::hub::Hub;
use crate::readers::{Readers, Report};
use crate::registry::Desk;
use crate::{http, log, xds};

/// Between two tries to open what could not be opened.
const RETRY: Duration = Duration::from_secs(1);
/// After a fault of our own: long enough that one which comes back does no harm.
const AGAIN: Duration = Duration::from_secs(1);

/// How long those who are being answered may take when the end has come; a second of it is for
/// requests that are on their way.
const END_WAIT: Duration = Duration::from_secs(2);

/// A listening socket that somebody else holds.
#[derive(Clone, Debug)]
pub struct Socket {
    /// Its name; see [`discovery_listener`].
    pub name: String,
    /// Where it listens.
    pub addr: SocketAddr,
    /// Itself.
    pub socket: Arc<OwnedFd>,
}

/// Where the listening sockets come from.
pub trait Sockets: Clone + Send + 'static {
    /// Those of now.
    fn now(&mut self) -> Vec<Socket>;
    /// Waits until they may be others; false when they never will.
    fn changed(&mut self) -> impl Future<Output = bool>;
}

/// What it is started with.
#[derive(Debug)]
pub struct Start<S> {
    /// The home folder; what others registered is kept below it.
    pub home: PathBuf,
    /// What there is, as of now.
    pub directory: watch::Receiver<Arc<Directory>>,
    /// Its listening sockets.
    pub sockets: S,
    /// Where it says who goes by what it tells; empty again when it has ended.
    pub readers: watch::Sender<Report>,
}

/// Discovery as it runs; it ends when this is dropped.
#[derive(Debug)]
pub struct Running {
    end: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // Its own faults are its own: the requests that the edge serves go on.
            drop(thread.join());
        }
    }
}

/// Starts it in a thread of its own. Should that die of a fault, another is started.
pub fn start<S: Sockets>(with: Start<S>) -> io::Result<Running> {
    let (end, ended) = watch::channel(false);
    let watching = move || {
        loop {
            let with = Start {
                home: with.home.clone(),
                directory: with.directory.clone(),
                sockets: with.sockets.clone(),
                readers: with.readers.clone(),
            };
            let inner = ended.clone();
            let thread = thread::Builder::new().name("discovery".to_owned());
            match thread.spawn(move || live(with, inner)).map(JoinHandle::join) {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(error))) => log::warn(format_args!("could not run: {error}")),
                Ok(Err(_panic)) => log::warn(format_args!("died of a fault and starts again")),
                Err(error) => log::warn(format_args!("could not start a thread: {error}")),
            }
            if *ended.borrow() {
                return;
            }
            thread::sleep(AGAIN);
        }
    };
    let thread = thread::Builder::new().name("discovery-watch".to_owned()).spawn(watching)?;
    Ok(Running { end, thread: Some(thread) })
}

fn live<S: Sockets>(with: Start<S>, mut ended: watch::Receiver<bool>) -> io::Result<()> {
    let mut builder = Builder::new_current_thread();
    builder.enable_all();
    let runtime = builder.build_local(LocalOptions::default())?;
    runtime.block_on(serve(with, &mut ended));
    runtime.shutdown_timeout(END_WAIT);
    Ok(())
}

/// What is open, by the listener's name: the socket, and what serves on it.
type Faces = BTreeMap<String, (Arc<OwnedFd>, Vec<Task>)>;

/// A task that ends when it is dropped.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn task(work: impl Future<Output = ()> + 'static) -> Task {
    Task(tokio::task::spawn_local(work).abort_handle())
}

async fn serve<S: Sockets>(with: Start<S>, ended: &mut watch::Receiver<bool>) {
    let Start { home, mut directory, mut sockets, readers } = with;
    let house = House::new(home);
    let desk = task(Rc::clone(&house.desk).run());
    let publish = Rc::clone(&house.readers).publish(Rc::clone(&house.hub), readers.clone());
    let publish = task(publish);
    let mut faces = Faces::new();
    loop {
        house.hub.follow(Arc::clone(&directory.borrow_and_update()));
        let missing = house.open(&mut faces, &sockets.now());
        let goes_on = tokio::select! {
            changed = directory.changed() => changed.is_ok(),
            changed = sockets.changed() => changed,
            () = sleep(RETRY), if missing => true,
            _ = ended.wait_for(|ended| *ended) => false,
        };
        if !goes_on {
            break;
        }
    }
    // Nobody new; who waits is answered, and who is answered may take it.
    drop(faces);
    drop(desk);
    house.hub.end();
    house.counted.end();
    let _in_time = timeout(END_WAIT, house.counted.emptied()).await;
    drop(publish);
    // Whoever goes on tells the same clients, and knows that it does not know them yet.
    readers.send_replace(Some(Arc::default()));
}

/// What all faces share.
struct House {
    bounds: Bounds,
    /// Whose failure was said already.
    failed: RefCell<BTreeSet<String>>,
    hub: Rc<Hub>,
    desk: Rc<Desk>,
    counted: Rc<http::Counted>,
    readers: Rc<Readers>,
    answers: Rc<Answers>,
    forwarder: Rc<Forwarder>,
}

impl House {
    fn new(home: PathBuf) -> Self {
        let hub = Rc::<Hub>::default();
        let readers = Readers::new();
        let answers = Rc::new(Answers::new(Rc::clone(&hub), Rc::clone(&readers)));
        let desk = Desk::new(home, Rc::clone(&hub));
        let (counted, bounds) = (Rc::default(), Bounds::of_this_process());
        let forwarder = Rc::new(Forwarder::new(bounds.forward));
        let failed = RefCell::default();
        Self { bounds, failed, hub, desk, counted, readers, answers, forwarder }
    }

    /// Opens what is wanted and not open, and closes what is no longer wanted. Returns whether
    /// something is missing.
    fn open(&self, faces: &mut Faces, sockets: &[Socket]) -> bool {
        let catalog = self.hub.now();
        let wanted: BTreeMap<String, (&'static str, SocketAddr)> = catalog
            .settings()
            .addresses()
            .map(|(what, addr)| (discovery_listener(what, &addr), (what, addr)))
            .collect();
        let held = |name: &str| sockets.iter().find(|it| it.name == name);
        faces.retain(|name, (socket, _)| {
            let same = held(name).is_some_and(|it| Arc::ptr_eq(&it.socket, socket));
            wanted.contains_key(name) && same
        });
        let mut missing = false;
        for (name, (what, _)) in wanted {
            if faces.contains_key(&name) {
                continue;
            }
            let Some(socket) = held(&name) else {
                missing = true;
                continue;
            };
            match self.face(what, socket) {
                Ok(tasks) => {
                    log::info(format_args!("speaks {what} on {}", socket.addr));
                    self.failed.borrow_mut().remove(&name);
                    faces.insert(name, (Arc::clone(&socket.socket), tasks));
                }
                Err(error) => {
                    missing = true;
                    if self.failed.borrow_mut().insert(name) {
                        let addr = socket.addr;
                        log::warn(format_args!("could not speak {what} on {addr}: {error}"));
                    }
                }
            }
        }
        missing
    }

    fn face(&self, what: &str, socket: &Socket) -> io::Result<Vec<Task>> {
        let listener = std::net::TcpListener::from(socket.socket.try_clone()?);
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        match what {
            "dns" => {
                // Whoever holds the one for TCP may answer beside another process of this home.
                let udp = dns::bind_udp(socket.addr)?;
                let over = |answers: &Rc<Answers>, forwarder: &Rc<Forwarder>| {
                    (Rc::clone(answers), Rc::clone(forwarder))
                };
                let (answers, forwarder) = over(&self.answers, &self.forwarder);
                let udp = task(dns::serve_udp(udp, answers, forwarder));
                let (answers, forwarder) = over(&self.answers, &self.forwarder);
                Ok(vec![udp, task(dns::serve_tcp(listener, answers, forwarder, self.bounds.tcp))])
            }
            "http" => {
                let with = http::Server::new(
                    Rc::clone(&self.hub),
                    Rc::clone(&self.desk),
                    Rc::clone(&self.readers),
                );
                let (counted, most) = (Rc::clone(&self.counted), self.bounds.http);
                Ok(vec![task(http::serve(listener, with, counted, most))])
            }
            "xds" => {
                let (hub, readers) = (Rc::clone(&self.hub), Rc::clone(&self.readers));
                let (counted, most) = (Rc::clone(&self.counted), self.bounds.xds);
                Ok(vec![task(xds::serve(listener, hub, readers, counted, most))])
            }
            other => Err(io::Error::other(format!("nobody speaks {other} here"))),
        }
    }
}

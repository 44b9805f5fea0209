//! The control role: takes its lock and its state, starts the engine and the API, and ends when
//! the engine does.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use evenkeel_journal::{Journal, Seq, Store, StoreError, Version};
use evenkeel_kernel::layout;
use evenkeel_kernel::model::{Digest, Epoch, InstanceId, Stack};
use evenkeel_kernel::release::{Ports, State};
use evenkeel_kernel::time::Timestamp;
use evenkeel_kernel::world::World;
use evenkeel_local::Local;
use evenkeel_postgres::execute::Driver;

use crate::clock::{Clock, wall_ms};
use crate::engine::Engine;
use crate::events::Events;
use crate::hands::Hands;
use crate::saved;
use crate::snapshot::{Latest, Snapshot};
use crate::{listen, log, notify, orders, wake};

/// Ports of instances: below the range from which the kernel takes ports for outgoing
/// connections (32768 and up on Linux), so that none of those is in the way.
const PORTS: (u16, u16) = (20_000, 29_999);
/// Journal rows read at start for those who follow the events.
const EVENTS_LOADED: u64 = 1_000;

/// What the control role is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// `$EVENKEEL_HOME`.
    pub home: PathBuf,
    /// The command by which a shim is started, before its own arguments.
    pub shim: Vec<std::ffi::OsString>,
    /// The command that runs [`evenkeel_local::hook::hold`], before its own arguments.
    pub holder: Vec<std::ffi::OsString>,
}

/// Why control ended.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The journal or the state.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The saved state.
    #[error("{0}")]
    Unreadable(String),
    /// Instances are there, and nothing is known of them.
    #[error(
        "the state is gone, but {} holds {instances} instances; `evenkeel down --keep-instances` \
         and `evenkeel restore` bring the newest backup back into {}, or remove both folders to \
         begin anew",
        .folder.display(),
        .state.display()
    )]
    Forgotten {
        /// Where the instances are.
        folder: PathBuf,
        /// How many.
        instances: usize,
        /// Where the state should be.
        state: PathBuf,
    },
    /// A file or a socket.
    #[error("could not {doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl ControlError {
    fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }
}

/// Runs control until it is told to end or something fails.
///
/// # Errors
///
/// When another control has the home, or the state cannot be read or written. The keeper starts a
/// new one, which reads what is really there.
pub fn run(config: &Config) -> Result<(), ControlError> {
    let home = config.home.as_path();
    let mut journal = Journal::open(&home.join(layout::STATE), saved::FORMAT)?;
    let epoch = journal.claim()?;
    let (found, version, head) = match journal.load()? {
        Some(found) => {
            let state = saved::decode(found.format, &found.body)
                .map_err(|error| ControlError::Unreadable(log::chain(&error)))?;
            (state, found.version, found.head)
        }
        None => {
            refuse_to_forget(home)?;
            (fresh(home), Version(0), Seq(0))
        }
    };
    let driver = Driver { home: name_of_home(&mut journal, epoch)?, epoch: epoch.0 };
    let clock = Clock::resume(&mut journal, epoch, latest_time(&found))?;
    let state = found.resumed(clock.now()).beside(instances(home)?);
    let entries = journal.tail(Seq(head.0.saturating_sub(EVENTS_LOADED)), usize::MAX)?;

    let platform = evenkeel_local::Config::new(home.to_owned(), config.shim.clone());
    let local = Local::open(platform).map_err(ControlError::io("open the platform"))?;
    let local = Arc::new(local);
    let (orders, inbox) = orders::door();
    wake::listen(home, Arc::clone(&local), orders.clone())
        .map_err(ControlError::io("listen for changes"))?;
    let latest = Latest::new(Snapshot {
        state: Arc::new(state.clone()),
        world: Arc::new(World::unknown()),
        epoch,
        now: clock.now(),
        wall_ms: wall_ms(),
    });
    let events = Events::load(entries);
    let news =
        notify::start(home, config.holder.clone(), latest.clone(), events.clone(), orders.clone())
            .map_err(ControlError::io("begin to tell receivers"))?;
    let api = listen::Api {
        latest: latest.clone(),
        orders: orders.clone(),
        events: events.clone(),
        news,
    };
    listen::start(home, api).map_err(ControlError::io("open the API's socket"))?;

    let verified = clock.now();
    let engine = Engine {
        home: home.to_owned(),
        journal,
        version,
        head,
        epoch,
        clock,
        verified,
        state,
        hands: Hands::new(home, Arc::clone(&local), config.holder.clone(), orders, driver),
        local,
        inbox,
        latest,
        events,
    };
    log::line(&format!("{epoch} begins"));
    engine.run()?;
    Ok(())
}

/// By what others tell this home from another: a name that it got by chance, and keeps in every copy
/// of its journal.
fn name_of_home(journal: &mut impl Store, epoch: Epoch) -> Result<String, StoreError> {
    const KEY: &str = "home";
    if let Some(name) = journal.meta(KEY)? {
        return Ok(name);
    }
    let name = format!("{:032x}", fastrand::u128(..));
    journal.set_meta(epoch, KEY, &name)?;
    Ok(name)
}

/// Without a state nothing would be wanted, and every door would be closed: that must not come of a
/// file that was lost.
fn refuse_to_forget(home: &Path) -> Result<(), ControlError> {
    let folder = home.join(layout::INSTANCES);
    match instances(home)?.len() {
        0 => Ok(()),
        instances => {
            let state = home.join(layout::STATE);
            Err(ControlError::Forgotten { folder, instances, state })
        }
    }
}

/// The instances that have a folder in this home, whether they run or not.
fn instances(home: &Path) -> Result<Vec<InstanceId>, ControlError> {
    match std::fs::read_dir(home.join(layout::INSTANCES)) {
        Ok(entries) => {
            let names = entries.flatten().map(|entry| entry.file_name());
            Ok(names.filter_map(|name| name.to_str()?.parse().ok()).collect())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(ControlError::io("look for instances")(error)),
    }
}

/// A machine on which nothing is released yet. Homes start at different ports, so that several
/// beside one another seldom try the same.
pub(crate) fn fresh(home: &Path) -> State {
    let name = "new".parse().expect("a word is a name");
    let digest = Digest::of(home.as_os_str().as_encoded_bytes());
    let spread = u32::from_str_radix(&digest.hex()[..6], 16).unwrap_or(0);
    let (first, last) = PORTS;
    let next = u32::from(first) + spread % u32::from(last - first);
    let next = u16::try_from(next).unwrap_or(first);
    State::new(Stack::empty(name), Ports { first, last, next })
}

/// The largest time in the state.
fn latest_time(state: &State) -> Timestamp {
    let release = state.release.iter().flat_map(|it| [it.started, it.since, it.progress]);
    let past = state.past.iter().map(|past| past.ended);
    release.chain(past).max().unwrap_or_default()
}

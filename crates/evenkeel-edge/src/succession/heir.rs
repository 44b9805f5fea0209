//! The successor's part: it gets ready while its predecessor serves, and then takes its place.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_kernel::layout;
use evenkeel_kernel::world::Health;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};

use super::dialect::{self, Answer, Ask, Bequest, pid_behind};
use crate::clock::now_ms;
use crate::log;
use crate::protocol::Observation;
use crate::shared::Shared;

/// How long the predecessor may take for an answer: it may write to a disk meanwhile.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How long the keeper may take to hand over every socket; a keeper that is restarted is back
/// within two.
const SOCKETS_MAX: Duration = Duration::from_secs(10);
/// How long probes may take to confirm what the predecessor believes. What they have not confirmed
/// by then is assumed, as it is by every edge that starts.
const CONFIRMED_MAX: Duration = Duration::from_secs(3);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// Tells the predecessor that somebody comes: what it serves is on disk then. `Unsupported`: it is
/// of a version that knows nothing of this.
pub(crate) async fn announce(home: &Path) -> io::Result<Observation> {
    let Answer::Saved(seen) = ask(home, Ask::Save).await? else { return Err(mixed_up()) };
    Ok(*seen)
}

/// Waits until this edge could serve all that `seen` tells of its predecessor.
pub(crate) async fn ready(shared: &Shared, seen: &Observation) -> io::Result<()> {
    let began = Instant::now();
    loop {
        let missing = {
            let have = shared.listeners.borrow();
            seen.listeners.iter().find(|name| !have.contains_key(*name)).cloned()
        };
        match missing {
            None => break,
            Some(name) if began.elapsed() >= SOCKETS_MAX => {
                let text = format!("the keeper has not handed over the listener {name}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            Some(_) => sleep(LOOK).await,
        }
    }
    let began = Instant::now();
    while began.elapsed() < CONFIRMED_MAX {
        let table = shared.table.load();
        let well = seen.instances.iter().filter(|it| it.health == Health::Healthy);
        let mut open = well.filter(|it| {
            table.instances.get(&it.id).is_some_and(|it| it.reported() == Health::Unknown)
        });
        if open.next().is_none() {
            return Ok(());
        }
        sleep(LOOK).await;
    }
    log::warn(format_args!("not every instance is probed; what the predecessor saw is assumed"));
    Ok(())
}

/// Makes the predecessor leave, and knows everything that it knew.
pub(crate) async fn take_over(shared: &Arc<Shared>) -> io::Result<()> {
    let stream = UnixStream::connect(shared.home.join(layout::EDGE_SOCKET)).await?;
    let pid = pid_behind(&stream).ok_or(io::ErrorKind::NotFound)?;
    drop(stream);
    let Answer::Left(bequest) = ask(&shared.home, Ask::Leave).await? else {
        return Err(mixed_up());
    };
    let Bequest { table, own, opinions, carried, elders } = *bequest;
    let succession = &shared.succession;
    succession.incarnation.store(own.incarnation, std::sync::atomic::Ordering::Relaxed);
    if table != shared.table.load().source
        && let Err(because) = shared.apply(table, &|_| false)
    {
        // What is on disk was saved a moment ago; control hands over the rest.
        log::error(format_args!("the predecessor's table is refused: {because}"));
    }
    let served = shared.table.load_full();
    for opinion in &opinions {
        if let Some(instance) = served.instances.get(&opinion.id) {
            instance.take_over(opinion);
        }
    }
    succession.elders().inherit(pid, own, carried, elders, now_ms());
    succession.elders().keep(&|pool| served.has_pool(pool));
    succession.company.notify_one();
    Ok(())
}

/// Ends a predecessor that knows nothing of successors: it accepts nothing more, and who comes
/// waits in the sockets' queues until it has ended.
pub(crate) async fn dismiss(home: &Path) -> io::Result<()> {
    let stream = UnixStream::connect(home.join(layout::EDGE_SOCKET)).await?;
    let pid = pid_behind(&stream).and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    let process = pidfd_open(pid.ok_or(io::ErrorKind::NotFound)?, PidfdFlags::empty())?;
    Ok(pidfd_send_signal(process, Signal::TERM)?)
}

async fn ask(home: &Path, ask: Ask) -> io::Result<Answer> {
    let door = home.join(layout::EDGE_SOCKET);
    let answer = timeout(ANSWER_MAX, dialect::ask(&door, None, ask)).await;
    match answer.unwrap_or_else(|_late| Err(io::ErrorKind::TimedOut.into()))? {
        Answer::Refused { because } => Err(io::Error::other(because)),
        answer @ (Answer::Saved(_)
        | Answer::Left(_)
        | Answer::Seen(_)
        | Answer::Serving(_)
        | Answer::RoutesTo(_)
        | Answer::Ending) => Ok(answer),
    }
}

fn mixed_up() -> io::Error {
    io::Error::other("the answer belongs to another question")
}
